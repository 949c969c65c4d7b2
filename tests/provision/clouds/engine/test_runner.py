"""The process around the engine: no output, deadline, signal or death of ours may lose the engine's work or hang us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pulumi.automation import errors

from provision.clouds.engine.runner import EngineCommand, living_engines, outwait
from provision.errors import Declined, MissingPart, ProvisionError, Reason
from provision.home.processes import boot_id, start_of

ROOT = Path(__file__).parents[4]
PATIENCE_S = 60.0
Patience = tuple[float, float, float]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


@pytest.fixture
def engine(tmp_path: Path, folder: Path) -> Callable[..., EngineCommand]:
    """A command whose binary is a Python script: it answers `version`, else runs the given body."""

    def make(body: str, *, deadline_s: float = PATIENCE_S, patience_s: Patience = (20, 20, 20)) -> EngineCommand:
        return EngineCommand(
            write_binary(tmp_path / "bin" / "pulumi", body),
            environment={"PATH": "/usr/bin:/bin", "OURS": "1"},
            folder=folder,
            deadline_s=deadline_s,
            patience_s=patience_s,
        )

    return make


def write_binary(path: Path, body: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    head = f"#!{sys.executable} -S\nimport os, signal, sys, time\nif sys.argv[2] == 'version': print('v3.274.1'); sys.exit()\n"
    path.write_text(head + textwrap.dedent(body))
    path.chmod(0o755)
    return path


@pytest.mark.fault("F7", tier="code")
def test_output_of_an_operation_is_whole_and_private(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """A megabyte on each stream arrives, every line of it reaches the callback, and the files are for our eyes only."""
    command = engine("for n in range(20000): print('line', n, 'x' * 50); print('aside', n, 'y' * 50, file=sys.stderr)")
    heard: list[str] = []

    result = command.run(["up"], str(folder), {}, on_output=heard.append)

    lines = result.stdout.split("\n")
    assert (len(lines), lines[-1].split()[1]) == (20000, "19999")
    assert len(result.stderr.split("\n")) == 20000
    assert heard == lines
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir() if file.suffix in (".out", ".err")} == {0o600}


@pytest.mark.fault("F7", tier="code")
def test_bytes_that_are_no_utf8_do_not_lose_the_rest(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """The SDK's own reader dies of the first one, and hangs for ever when more than a pipe's worth follows."""
    command = engine(r"sys.stdout.buffer.write(b'before\n\xff\xfe bad\n' + b'after\n' * 50000)")

    result = command.run(["up"], str(folder), {})

    assert result.stdout.startswith("before\n�� bad\nafter")
    assert result.stdout.count("after") == 50000


@pytest.mark.fault("F7", tier="code")
def test_a_callback_that_fails_fails_only_itself(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """The operation goes on and its output is whole."""

    def fail(line: str) -> None:
        raise ValueError(line)

    result = engine("print('one\\ntwo')").run(["up"], str(folder), {}, on_output=fail)

    assert result.stdout == "one\ntwo"


def test_output_is_shown_while_the_operation_runs(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """The operation waits for a file that the callback makes when it hears the first line."""
    go = folder / "go"
    command = engine(f"print('first', flush=True)\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\nprint('second')")

    result = command.run(["up"], str(folder), {}, on_output=lambda line: go.touch() if line == "first" else None)

    assert result.stdout == "first\nsecond"


def test_secrets_that_short_commands_print_reach_no_file(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """`stack output --show-secrets` and the like go through a pipe."""
    result = engine("print('hush')").run(["stack", "output", "--show-secrets"], str(folder), {})

    assert result.stdout == "hush"
    assert list(folder.iterdir()) == []


def test_the_environment_is_the_one_given(engine: Callable[..., EngineCommand], folder: Path, tmp_path: Path) -> None:
    """Nothing of our own process leaks in; the binary's folder comes first on PATH; no prompts, no update check."""
    command = engine("import json; print(json.dumps([dict(os.environ), sys.argv[1:]]))")

    environment, arguments = json.loads(command.run(["up", "--yes"], str(folder), {"MORE": "2"}).stdout)

    environment.pop("LC_CTYPE", None)  # Python's own
    assert environment == {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "OURS": "1",
        "MORE": "2",
        "PULUMI_AUTOMATION_API": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    assert arguments == ["--non-interactive", "up", "--yes"]


def test_a_code_other_than_zero_is_the_sdk_s_own_error(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """So the SDK goes on to tell a missing stack from a locked one."""
    command = engine("print('error: no stack named \\'r1\\' found', file=sys.stderr); sys.exit(255)")

    with pytest.raises(errors.StackNotFoundError):
        command.run(["stack", "select"], str(folder), {})


def test_the_deadline_asks_once_and_waits(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """An engine that ends in order at the first SIGINT is not struck again, and its success is not believed."""
    command = engine(
        """
        def stop(*_):
            print('in order'); sys.exit(0)
        signal.signal(signal.SIGINT, stop)
        print('going', flush=True)
        while True: time.sleep(0.05)
        """,
        deadline_s=1.0,
    )

    with pytest.raises(Declined, match=r"did not finish `destroy` within 1 s") as caught:
        command.run(["destroy"], str(folder), {})
    assert caught.value.reason is Reason.CAPACITY  # of an `up`: the next offer may come sooner
    assert "in order" in (folder / "001-destroy.out").read_text()


def test_what_does_not_end_is_asked_twice_and_then_killed(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """Two SIGINTs are seen, the third signal can't be."""
    command = engine(
        """
        signal.signal(signal.SIGINT, lambda *_: print('no', flush=True))
        print('going', flush=True)
        while True: time.sleep(0.05)
        """,
        deadline_s=1.0,
        patience_s=(0.5, 0.5, 20),
    )

    with pytest.raises(ProvisionError):
        command.run(["up"], str(folder), {})
    assert (folder / "001-up.out").read_text() == "going\nno\nno\n"
    assert living_engines(folder) == []


def test_a_folder_that_has_gone_is_not_told_as_a_missing_engine(engine: Callable[..., EngineCommand], folder: Path) -> None:
    """Whoever removed a run's directory would be sent to install what is there."""
    command = engine("pass")
    for words, gone in ((["stack", "export"], folder / "work"), (["up"], folder / "log")):
        command.folder = folder / "log"
        with pytest.raises(ProvisionError, match=rf"^{gone}\S* is gone, which the engine works in\.$"):
            command.run(words, str(gone), {})


def test_a_missing_or_foreign_binary_is_named(tmp_path: Path, folder: Path) -> None:
    """Neither is a traceback."""
    settings = {"environment": {}, "folder": folder, "deadline_s": 1.0}
    with pytest.raises(MissingPart, match="no engine at"):
        EngineCommand(tmp_path / "none", **settings)  # type: ignore[arg-type]
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(MissingPart, match="its version reads 'hello'"):
        EngineCommand(other, **settings)  # type: ignore[arg-type]


PARENT = """
import signal, sys
from pathlib import Path
from provision.clouds.engine.runner import EngineCommand
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup lets it be ignored, and that is inherited
command = EngineCommand(Path(sys.argv[1]), environment={"PATH": "/usr/bin:/bin"}, folder=Path(sys.argv[2]), deadline_s=60.0)
command.run(["up"], sys.argv[2], {})
"""
STEP = """
print('create', flush=True)
asked = []
signal.signal(signal.SIGINT, lambda *_: (asked.append(1), print('asked', flush=True)))
while not os.path.exists('go'): time.sleep(0.02)
for _ in range(200): print('recorded', 'x' * 1000, flush=True)
open('done', 'w').write(str(len(asked)))
"""


def in_mid_create(tmp_path: Path, folder: Path) -> subprocess.Popen[bytes]:
    binary = write_binary(tmp_path / "bin" / "pulumi", STEP)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(binary), str(folder)], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_until(lambda: "create" in read(folder / "001-up.out") and living_engines(folder))
    return parent


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def wait_until(there: Callable[[], object]) -> None:
    ends_at_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < ends_at_s, "it never came"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_engine_outlives_a_controller_that_dies(tmp_path: Path, folder: Path, number: signal.Signals) -> None:
    """With pipes it would die of SIGPIPE at its next line, in the middle of the create."""
    parent = in_mid_create(tmp_path, folder)
    parent.send_signal(number)
    parent.wait()
    (folder / "go").touch()

    wait_until(lambda: read(folder / "done"))
    assert read(folder / "001-up.out").count("recorded") == 200


def test_ctrl_c_is_one_sigint_to_the_engine_and_a_keyboardinterrupt_at_the_end(tmp_path: Path, folder: Path) -> None:
    """The step in flight is finished first."""
    parent = in_mid_create(tmp_path, folder)
    parent.send_signal(signal.SIGINT)
    wait_until(lambda: "asked" in read(folder / "001-up.out"))
    (folder / "go").touch()

    assert parent.wait(PATIENCE_S) == -signal.SIGINT
    assert read(folder / "done") == "1"


def test_an_engine_left_behind_is_waited_for_before_it_is_asked(tmp_path: Path, folder: Path) -> None:
    """The next controller finds it by its pid and start time, and lets it finish."""
    parent = in_mid_create(tmp_path, folder)
    parent.kill()
    parent.wait()
    [engine] = living_engines(folder)
    threading.Timer(0.3, (folder / "go").touch).start()

    outwait(engine, patience_s=(PATIENCE_S, 1, 1))

    assert read(folder / "done") == "0"
    assert living_engines(folder) == []


def test_a_reused_pid_is_not_taken_for_an_engine(folder: Path) -> None:
    """Another process with the noted pid started at another time."""
    start_ticks = start_of(os.getpid()) or 0
    (folder / "001-up.pid").write_text(json.dumps({"pid": os.getpid(), "boot_id": boot_id(), "start_ticks": start_ticks - 1}))
    (folder / "002-up.pid").write_text(json.dumps({"pid": os.getpid(), "boot_id": "another", "start_ticks": start_ticks}))

    assert living_engines(folder) == []


def test_an_older_note_is_still_understood(folder: Path) -> None:
    """It tells the start in Unix seconds alone."""
    started_s = psutil.Process().create_time()
    for number, second in enumerate((started_s, started_s - 60)):
        (folder / f"00{number}-up.pid").write_text(json.dumps({"pid": os.getpid(), "started_s": second}))

    assert [engine.pid for engine in living_engines(folder)] == [os.getpid()]
