"""The seam to Pulumi: what comes back over it is ours, says why, and holds no secret."""

from __future__ import annotations

import inspect
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pulumi.automation import CommandResult, errors

from provision.clouds.engine.stack import HOSTS, Stack, note_host, read_hosts, remove_engine_files
from provision.errors import Declined, ProvisionError, RentuneError, WrongHostKey
from provision.home.processes import boot_id
from provision.redact import HIDDEN

FOREIGN = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]

# A command that keeps a state file as the engine would: enough for select, init, export and import.
FAKE = """#!{python} -S
import json, os, sys
state = os.environ.get("PULUMI_BACKEND_URL", "file://")[7:] + "/state.json"
verb = [word for word in sys.argv[1:] if not word.startswith("-")]
if verb[0] == "version": print("v3.274.1")
elif verb[:2] == ["stack", "export"]: print(open(state).read())
elif verb[:2] == ["stack", "import"]:
    if os.path.exists(state + ".refuse"): sys.exit(1)
    open(state, "w").write(open(verb[2]).read())
elif verb[:2] != ["stack", "select"]: sys.exit("unexpected " + " ".join(verb))
"""
INSTANCE = "aws:ec2/instance:Instance"
PENDING = {"type": "creating", "resource": {"urn": "urn:box", "type": INSTANCE, "inputs": {"ami": "a"}, "custom": True}}
KEY = {"urn": "urn:key", "type": "aws:ec2/keyPair:KeyPair", "id": "k", "outputs": {"keyName": "k"}}
DEPLOYMENT = {
    "version": 3,
    "deployment": {
        "resources": [
            {"urn": "urn:stack", "type": "pulumi:pulumi:Stack"},
            {"urn": "urn:p", "type": "pulumi:providers:aws"},
            KEY,
        ],
        "pending_operations": [PENDING],
    },
}


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    binary = tmp_path / "bin" / "pulumi"
    binary.parent.mkdir()
    binary.write_text(FAKE.format(python=sys.executable))
    binary.chmod(0o755)
    made = Stack(
        tmp_path / "engine",
        "rentune-r1",
        binary=binary,
        plugins=tmp_path / "plugins",
        environment={"PATH": "/usr/bin:/bin", "CLOUD_SECRET": "account-secret"},
    )
    state_file(made).write_text(json.dumps(DEPLOYMENT))
    return made


def state_file(stack: Stack) -> Path:
    return stack.folder / "state" / "state.json"


def raise_in(stack: Stack, error: BaseException) -> None:
    with stack._mapped("creating the box"):
        raise error


def foreign_error(kind: type[Exception]) -> Exception:
    text = CommandResult(stdout="the whole output with account-secret", stderr="", code=255)
    return kind(text) if issubclass(kind, errors.CommandError) else kind("text")


@pytest.mark.parametrize("kind", [*FOREIGN, RuntimeError, FileNotFoundError, KeyError, AssertionError, json.JSONDecodeError])
def test_every_foreign_exception_becomes_ours(stack: Stack, kind: type[Exception]) -> None:
    """All of the SDK's, and the plain ones that it lets through; without the output, which may hold secrets."""
    error = json.JSONDecodeError("bad", "{", 0) if kind is json.JSONDecodeError else foreign_error(kind)
    with pytest.raises(ProvisionError, match=r"^Creating the box failed") as caught:
        raise_in(stack, error)
    assert "whole output" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", [RuntimeError, FileNotFoundError, TypeError])
def test_what_the_engine_did_not_say_is_no_answer_of_the_cloud(stack: Stack, kind: type[Exception]) -> None:
    """A fault of the SDK or of ours would meet every offer: it is told, and nothing else is asked for."""
    with pytest.raises(ProvisionError, match=rf"failed: the engine gave no reason \({kind.__name__}\)\.$") as caught:
        raise_in(stack, foreign_error(kind))
    assert not isinstance(caught.value, Declined)


def test_our_own_errors_and_ctrl_c_pass_unchanged(stack: Stack) -> None:
    for error in (WrongHostKey("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            raise_in(stack, error)


@pytest.mark.parametrize(
    ("stderr", "sentence"),
    [
        ("error: the stack is currently locked by 1 lock(s)", "another process is working on this run"),
        ("error: incorrect passphrase", "the passphrase of this run's state is lost"),
        ("error: no resource plugin 'pulumi-resource-aws' found", "plugin of the right version is not installed"),
        ('error: write ".pulumi/meta.yaml": meta.yaml.tmp: no space left on device', "the run's state lies on is full"),
    ],
)
def test_what_we_know_has_a_sentence_and_a_next_step(stack: Stack, stderr: str, sentence: str) -> None:
    error = errors.create_command_error(CommandResult(stdout="", stderr=stderr, code=255))
    with pytest.raises(RentuneError, match=sentence) as caught:
        raise_in(stack, error)
    assert caught.value.hint
    assert not isinstance(caught.value, Declined), "what is wrong at home rules out no offer"


class Diagnostic:
    def __init__(self, message: str, severity: str) -> None:
        self.diagnostic_event = self
        self.message = message
        self.severity = severity


def fail_with_diagnostics(stack: Stack, *diagnostics: Diagnostic) -> None:
    with stack._mapped("creating the box") as reasons:
        for diagnostic in diagnostics:
            reasons.hear(diagnostic)
        raise errors.CommandError(CommandResult("", "", 1))


def test_the_reason_is_the_engine_s_diagnostic_without_secrets_colours_or_traceback(stack: Stack) -> None:
    preamble = "an unhandled error occurred: python inline source runtime error:"
    with pytest.raises(ProvisionError) as caught:
        fail_with_diagnostics(
            stack,
            Diagnostic("debugging account-secret", "debug"),
            Diagnostic("<{%fg 1%}>no capacity for account-secret\n<{%reset%}>", "error"),
            Diagnostic(f"{preamble} lost\nTraceback (most recent call last):\n  File secret.py", "error"),
        )
    assert str(caught.value) == f"Creating the box failed: no capacity for {HIDDEN}; lost"


def test_of_a_dynamic_provider_s_traceback_its_last_words_are_told(stack: Stack) -> None:
    """It runs in another process, so its exception comes as text; what the engine says after it is no reason."""
    place = '  File "/x/runpod_pods.py", line 7, in create\n    raise ProvisionError("nobody")\n'
    traceback = f"Traceback (most recent call last):\n{place}provision.errors.ProvisionError: account-secret was declined.\n"
    said = (f"Exception calling application: declined\n{traceback}", "update failed")
    with pytest.raises(ProvisionError) as caught:
        fail_with_diagnostics(stack, *(Diagnostic(text, "error") for text in said))
    assert str(caught.value) == f"Creating the box failed: {HIDDEN} was declined"


def test_state_is_what_was_made_and_what_was_left_half_done(stack: Stack) -> None:
    """The stack itself and its providers are nothing that bills."""
    state = stack.state()
    assert [(resource.type, resource.id) for resource in state.resources] == [("aws:ec2/keyPair:KeyPair", "k")]
    assert [(resource.type, resource.id) for resource in state.pending] == [(INSTANCE, "")]
    assert not state.empty


def test_a_pending_create_is_given_the_id_that_the_cloud_has(stack: Stack) -> None:
    """It becomes a resource that refresh and destroy can work on."""
    stack.adopt({INSTANCE: "i-1"})

    state = stack.state()
    assert state.pending == ()
    assert {resource.id for resource in state.resources} == {"k", "i-1"}
    [adopted] = [resource for resource in state.resources if resource.id == "i-1"]
    assert adopted.outputs == {"ami": "a"}


def test_a_pending_create_that_the_cloud_does_not_list_is_not_forgotten(stack: Stack) -> None:
    """Lists lag: what is not seen may still come."""
    stack.adopt({})
    assert len(stack.state().pending) == 1


def test_a_failed_repair_leaves_no_copy_of_the_state_behind(stack: Stack) -> None:
    (stack.folder / "state" / "state.json.refuse").touch()
    with pytest.raises(ProvisionError, match="Repairing the stack's state failed"):
        stack.adopt({INSTANCE: "i-1"})
    assert not (stack.folder / "import.json").exists()


def lock_of(stack: Stack, pid: int, host: str) -> Path:
    lock = stack.folder / "state" / ".pulumi" / "locks" / "organization" / "rentune" / "rentune-r1" / "one.json"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"pid": pid, "hostname": host, "username": "ada", "timestamp": "2026-11-25T12:00:00Z"}))
    return lock


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("host", "stays"), [(socket.gethostname(), False), ("another-machine", True)], ids=["dead", "elsewhere"]
)
@pytest.mark.fault("F6", tier="code")
def test_a_lock_is_dropped_only_when_its_owner_is_proven_dead(stack: Stack, host: str, *, stays: bool) -> None:
    lock = lock_of(stack, dead_pid(), host)
    stack.recover()
    assert lock.exists() is stays


@pytest.mark.parametrize(
    ("boot", "stays"), [(boot_id(), False), ("another boot", True)], ids=["this machine", "another of that name"]
)
@pytest.mark.fault("F6", tier="code")
def test_a_machine_that_is_called_otherwise_by_now_drops_its_own_lock(stack: Stack, boot: str, *, stays: bool) -> None:
    """A laptop takes the name that the next network gives it, and would hold its run's stack for ever."""
    assert read_hosts(stack.folder) == {socket.gethostname(): boot_id()}
    (stack.folder / HOSTS).write_text(json.dumps({"laptop.at.home": boot}))
    lock = lock_of(stack, dead_pid(), "laptop.at.home")
    stack.recover()
    assert lock.exists() is stays


def test_two_machines_note_their_names_side_by_side_and_a_damaged_note_keeps_none_from_working(stack: Stack) -> None:
    (stack.folder / HOSTS).write_text(json.dumps({"laptop.at.home": "another boot"}))
    note_host(stack.folder)
    assert read_hosts(stack.folder) == {"laptop.at.home": "another boot", socket.gethostname(): boot_id()}
    (stack.folder / HOSTS).write_text("{")
    note_host(stack.folder)
    assert read_hosts(stack.folder) == {socket.gethostname(): boot_id()}


def test_a_passphrase_is_there_whole_or_not_at_all(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one that a kill has left would be taken for the run's, for ever."""

    def killed(*_: object) -> None:
        raise SystemExit(9)

    (stack.folder / "passphrase").unlink()
    with monkeypatch.context() as dying:
        dying.setattr(os, "fsync", killed)
        with pytest.raises(SystemExit):
            stack._prepare_folder(tmp_path / "plugins")
    assert not (stack.folder / "passphrase").exists()
    stack._prepare_folder(tmp_path / "plugins")
    assert len((stack.folder / "passphrase").read_text()) >= 32


def test_a_lock_cut_short_is_left_alone(stack: Stack) -> None:
    """It is being written this moment."""
    lock = lock_of(stack, dead_pid(), socket.gethostname())
    lock.write_text('{"pid": 12')
    stack.recover()
    assert lock.exists()


def test_an_engine_that_nobody_noted_is_found_by_its_lock_and_waited_for(stack: Stack) -> None:
    """Its controller was killed between starting it and writing down its pid."""
    with subprocess.Popen(["sleep", "0.5"], env={**os.environ, "PULUMI_HOME": str(stack.folder / "home")}) as engine:
        lock = lock_of(stack, engine.pid, socket.gethostname())
        stack.recover()
        assert not psutil.pid_exists(engine.pid)
    assert not lock.exists()


def test_a_process_that_is_no_engine_of_this_stack_does_not_hold_its_lock(stack: Stack) -> None:
    """It has only the pid of the engine that did, and is left alone, whatever the clock says of the two."""
    with subprocess.Popen(["sleep", "60"]) as other:
        lock = lock_of(stack, other.pid, socket.gethostname())
        stack.recover()
        assert other.poll() is None
        other.kill()
    assert not lock.exists()


def test_files_are_for_the_owner_and_go_at_the_end(stack: Stack) -> None:
    """A passphrase of the run's own; what a later look at the cloud needs stays."""
    passphrase = stack.folder / "passphrase"
    assert passphrase.stat().st_mode & 0o777 == 0o600
    assert len(passphrase.read_text()) >= 32
    (stack.folder / "region").touch()

    remove_engine_files(stack.folder)

    assert [file.name for file in stack.folder.iterdir()] == ["region"]
