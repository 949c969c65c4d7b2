"""A rented container's start command, run by a shell: the deadline comes first, and asks until it is heard."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from provision.aboard.lease import CHECKPOINTS, FETCH_WAIT_S
from provision.aboard.marks import LEASE_ENDED_FILE
from provision.aboard.renewal import BEGUN_FILE, BOOT_ID, RENEWED_FILE
from provision.clouds.boot.bootstrap import UPTIME_MARGIN_S, FirstBoot
from provision.clouds.boot.container import (
    END_VARIABLE,
    ENTRYPOINT,
    LEASE_WATCHER,
    START_VARIABLE,
    WATCHER,
    render_look,
    render_start,
)
from provision.clouds.programs.runpod_pods import API_VARIABLE, ENDS_TRIED, SELF_END
from provision.errors import Refused
from tests.provision.rigs import await_true

KEY = "rpa_of_this_pod_alone"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc'$(false)`\ndef\n-----END OPENSSH PRIVATE KEY-----\n"
HOUR_S = 3600.0
IDLE_LIMIT_S = 600
BOOT = Path(BOOT_ID).read_text().strip()

# What a container's image brings, as far as the text calls it; each notes its call. `curl` says no as often as a file says.
PROGRAMS = {
    "curl": """#!/bin/sh
printf '%s | %s\\n' "$*" "$(cat)" >> "$NOTES/curl"
[ "$(wc -l < "$NOTES/curl")" -gt "$(cat "$NOTES/refusals" 2>/dev/null || echo 0)" ]
""",
    "sshd": """#!/bin/sh
echo "$*" >> "$NOTES/sshd"
[ -e "$NOTES/ends" ] || exec /bin/sleep 60
""",
    "sleep": """#!/bin/sh
echo >> "$NOTES/looks"
exec /bin/sleep 0.02
""",
}


@dataclass(frozen=True)
class Container:
    """A shell that is told what a container is told, in folders of its own."""

    folder: Path

    @property
    def notes(self) -> Path:
        return self.folder / "notes"

    @property
    def home(self) -> Path:
        return self.folder / "root"

    @property
    def keys(self) -> Path:
        return self.folder / "etc/ssh"

    @property
    def uptime(self) -> Path:
        return self.folder / "uptime"

    @property
    def watcher(self) -> Path:
        return self.folder / "watcher"

    @property
    def lease_watcher(self) -> Path:
        return self.folder / "lease-watcher"

    def look(self) -> str:
        """What its look says, asked as over SSH."""
        script = render_look(idle_limit=True)
        for there, here in (
            (LEASE_WATCHER, self.lease_watcher),
            (WATCHER, self.watcher),
            ("/proc/uptime", self.uptime),
        ):
            script = script.replace(there, str(here))
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout

    def boot(self, *, left_s: float = HOUR_S) -> FirstBoot:
        now_s = time.time()
        return FirstBoot(
            user="root",
            folder=f"{self.home}/rentune-r1",
            public_key="ssh-ed25519 AAAAclient run",
            host_key_private=PRIVATE,
            host_key_public="ssh-ed25519 AAAAhost run",
            deadline_at_s=now_s + left_s,
            now_s=now_s,
            idle_limit_s=IDLE_LIMIT_S,
        )

    def prepare(self, boot: FirstBoot) -> dict[str, str]:
        """Lay out what the image has; the environment that the cloud hands to the first process."""
        for folder in (self.notes, self.folder / "bin", self.keys):
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in PROGRAMS.items():
            program = self.folder / "bin" / name
            program.write_text(text)
            program.chmod(0o755)
        self.uptime.write_text("100.25 400.00\n")
        start = render_start(boot).replace(LEASE_WATCHER, str(self.lease_watcher))
        places = {"keys=/etc/ssh": f"keys={self.keys}", "home=/root\n": f"home={self.home}\n"}
        for there, here in (
            places | {"/proc/uptime": str(self.uptime), "/run/sshd": f"{self.folder}/run/sshd", WATCHER: str(self.watcher)}
        ).items():
            assert there in start
            start = start.replace(there, here)
        return {
            START_VARIABLE: start,
            END_VARIABLE: SELF_END,
            API_VARIABLE: "https://api.example/v2",
            "RUNPOD_POD_ID": "pod-1",
            "RUNPOD_API_KEY": KEY,
            "NOTES": str(self.notes),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }

    def noted(self, program: str) -> list[str]:
        file = self.notes / program
        return file.read_text().splitlines() if file.exists() else []

    def await_look(self) -> None:
        """Until what watches has looked once more from beginning to end: it sleeps after each look."""
        before = len(self.noted("looks"))
        await_true(lambda: len(self.noted("looks")) > before + 1)

    def asked(self) -> list[str]:
        """What RunPod was asked, by method and path."""
        words = [line.partition(" | ")[0].split() for line in self.noted("curl")]
        return [f"{each[each.index('-X') + 1]} {each[-1]}" for each in words]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


@contextlib.contextmanager
def started(container: Container, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (container.folder / "console").open("ab") as console:
        first = subprocess.Popen(ENTRYPOINT, env=environment, stdout=console, stderr=console, start_new_session=True)
        try:
            yield first
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()


def test_it_serves_ssh_with_our_keys_alone(container: Container) -> None:
    """Byte for byte those that we made, whatever the image had."""
    environment = container.prepare(container.boot())
    (container.keys / "ssh_host_rsa_key").write_text("everybody's")
    with started(container, environment):
        await_true(lambda: container.noted("sshd"))
        [options] = container.noted("sshd")
        assert not container.asked()
    assert sorted(file.name for file in container.keys.iterdir()) == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    assert (container.keys / "ssh_host_ed25519_key").read_text() == PRIVATE
    assert (container.keys / "ssh_host_ed25519_key.pub").read_text() == "ssh-ed25519 AAAAhost run\n"
    assert (container.home / ".ssh/authorized_keys").read_text() == "ssh-ed25519 AAAAclient run\n"
    assert {file.stat().st_mode & 0o077 for file in (container.home / ".ssh", container.home / "rentune-r1")} == {0}
    assert (container.keys / "ssh_host_ed25519_key").stat().st_mode & 0o077 == 0
    assert options.startswith(f"-D -e -o HostKey={container.keys}/ssh_host_ed25519_key ")
    assert "AuthenticationMethods=publickey" in options


def test_an_ssh_server_that_ends_is_started_again(container: Container) -> None:
    """The container would end with it, and whoever rents it out would start an empty one."""
    environment = container.prepare(container.boot())
    (container.notes / "ends").touch()
    with started(container, environment) as first:
        await_true(lambda: len(container.noted("sshd")) > 2)
        assert first.poll() is None


def test_at_the_deadline_it_asks_for_its_end_and_not_before(container: Container) -> None:
    """By wall clock; again and again, for an answer that it has been heard is no end."""
    boot = container.boot(left_s=2.0)
    with started(container, container.prepare(boot)):
        await_true(lambda: len(container.asked()) > 1)
        assert time.time() >= int(boot.deadline_at_s)
        await_true(lambda: container.noted("sshd"))
    assert set(container.asked()) == {"DELETE https://api.example/v2/pods/pod-1"}


def test_a_wrong_clock_is_overtaken_by_uptime(container: Container) -> None:
    """A clock that stands still would never come to the deadline."""
    environment = container.prepare(msgspec.structs.replace(container.boot(), idle_limit_s=None))
    date = container.folder / "bin/date"
    date.write_text("#!/bin/sh\necho 0\n")
    date.chmod(0o755)
    with started(container, environment):
        await_true(lambda: container.noted("sshd"))
        container.uptime.write_text(f"{100 + HOUR_S + UPTIME_MARGIN_S - 2:.2f} 400.00\n")
        container.await_look()
        assert not container.asked()
        container.uptime.write_text(f"{100 + HOUR_S + UPTIME_MARGIN_S + 1:.2f} 400.00\n")
        await_true(container.asked)


def test_a_container_that_is_started_again_after_its_deadline_ends_at_once(container: Container) -> None:
    """Its whole disk is new and its first process, too: the text is absolute, so nothing is armed anew."""
    environment = container.prepare(container.boot(left_s=1.0))
    time.sleep(1.1)
    with started(container, environment):
        await_true(container.asked)


@pytest.mark.parametrize("way", ["exit 1", "exec /bin/sleep 60"], ids=["fails", "hangs"])
def test_the_deadline_strikes_where_nothing_can_be_installed(container: Container, way: str) -> None:
    """A broken disk keeps nobody from ending: the deadline comes first, and is watched from a process of its own."""
    environment = container.prepare(container.boot(left_s=1.5))
    mkdir = container.folder / "bin/mkdir"
    mkdir.write_text(f"#!/bin/sh\n{way}\n")
    mkdir.chmod(0o755)
    with started(container, environment):
        await_true(container.asked)


def test_whether_the_deadline_is_watched_can_be_asked(container: Container) -> None:
    """Of the process itself: a note of one that is gone says nothing."""
    assert container.look().startswith("watcher|no||")
    with started(container, container.prepare(container.boot())):
        await_true(lambda: container.noted("sshd"))
        watched, limited = container.look().splitlines()
        name, there, left_s, _ = watched.split("|")
        assert (name, there) == ("watcher", "yes")
        assert limited == f"idle limit|yes|{IDLE_LIMIT_S}|renewed 0 s ago"
        assert HOUR_S - 60 < int(left_s) <= HOUR_S
        os.kill(int(container.watcher.read_text().split()[0]), signal.SIGKILL)
        gone = [["watcher", "no"], ["idle limit", "no"]]
        await_true(lambda: [line.split("|")[:2] for line in container.look().splitlines()] == gone)  # a kill takes a moment


def test_a_container_for_which_nobody_comes_asks_for_its_end(container: Container) -> None:
    """By uptime, and not while somebody puts off its idle limit."""
    with started(container, container.prepare(container.boot(left_s=10 * HOUR_S))):
        await_true(lambda: container.noted("sshd"))
        (container.home / "rentune-r1" / RENEWED_FILE).write_text(f"150\n{BOOT}\n")
        container.await_look()  # minutes pass in no moment of a real machine: whoever looks right now must have seen it
        container.uptime.write_text(f"{150 + IDLE_LIMIT_S - 1}.50 0\n")
        container.await_look()
        assert not container.asked()
        container.uptime.write_text(f"{150 + IDLE_LIMIT_S + 1}.50 0\n")
        await_true(container.asked)


def test_a_container_whose_trainer_has_begun_waits_for_its_deadline(container: Container) -> None:
    """Nobody else has what it has learned."""
    with started(container, container.prepare(container.boot(left_s=10 * HOUR_S))):
        await_true(lambda: container.noted("sshd"))
        begun = container.home / "rentune-r1" / BEGUN_FILE
        begun.parent.mkdir()
        begun.touch()
        container.await_look()  # whoever looks right now may have missed the file, and would see the later uptime
        container.uptime.write_text(f"{100 + 2 * IDLE_LIMIT_S}.00 0\n")
        container.await_look()
        assert not container.asked()


LEASE_S = 7200


def test_a_container_whose_lease_nobody_renews_asks_for_its_end_in_the_middle_of_its_training(container: Container) -> None:
    """Not while it is renewed; and the deadline is watched beside it, whatever the trainer takes to leave."""
    leased = msgspec.structs.replace(container.boot(left_s=10 * HOUR_S), lease_s=LEASE_S)
    with started(container, container.prepare(leased)):
        await_true(lambda: container.noted("sshd"))
        box = container.home / "rentune-r1"
        begun = box / BEGUN_FILE
        begun.parent.mkdir()
        begun.touch()
        (box / RENEWED_FILE).write_text(f"5000\n{BOOT}\n")
        container.await_look()  # minutes pass in no moment of a real machine: whoever looks right now must have seen it
        container.uptime.write_text(f"{5000 + LEASE_S - 1}.50 0\n")
        container.await_look()
        assert not container.asked()
        assert container.look().splitlines()[-1] == f"lease|yes|1|renewed {LEASE_S - 1} s ago"
        container.uptime.write_text(f"{5000 + LEASE_S + 1}.50 0\n")
        await_true(container.asked)
        assert (box / LEASE_ENDED_FILE).exists()
        assert container.look().splitlines()[-1] == "lease|yes|0|it has ended, as no renewal reached it"


def test_a_container_that_is_started_again_counts_on(container: Container) -> None:
    """As one that its cloud restarts by itself: its idle limit is no longer than before, and its deadline no sooner."""
    environment = container.prepare(container.boot(left_s=10 * HOUR_S))
    with started(container, environment):
        await_true(lambda: container.noted("sshd"))
        container.uptime.write_text(f"{100 + IDLE_LIMIT_S - 5}.50 0\n")
        container.await_look()
    with started(container, environment):
        container.await_look()
        assert not container.asked()
        container.uptime.write_text(f"{100 + IDLE_LIMIT_S}.50 0\n")
        await_true(container.asked)


def test_a_container_with_the_only_checkpoint_waits_for_a_fetch_before_it_ends(container: Container) -> None:
    leased = msgspec.structs.replace(container.boot(left_s=10 * HOUR_S), lease_s=LEASE_S)
    with started(container, container.prepare(leased)):
        await_true(lambda: container.noted("sshd"))
        box = container.home / "rentune-r1"
        (box / CHECKPOINTS / "step-00000004").mkdir(parents=True)
        (box / BEGUN_FILE).touch()
        container.uptime.write_text(f"{100 + LEASE_S}.50 0\n")
        await_true((box / LEASE_ENDED_FILE).exists)
        container.await_look()
        container.uptime.write_text(f"{100 + LEASE_S + FETCH_WAIT_S - 1:.0f}.50 0\n")
        container.await_look()
        assert not container.asked()
        container.uptime.write_text(f"{100 + LEASE_S + FETCH_WAIT_S + 1:.0f}.50 0\n")
        await_true(container.asked)


def test_whether_a_lease_is_watched_can_be_asked(container: Container) -> None:
    """Of the process itself, apart from that of the deadline."""
    leased = msgspec.structs.replace(container.boot(left_s=10 * HOUR_S), lease_s=LEASE_S)
    with started(container, container.prepare(leased)):
        await_true(lambda: container.noted("sshd"))
        os.kill(int(container.lease_watcher.read_text().split()[0]), signal.SIGKILL)
        gone = "lease|no||nothing ends the box early if nobody renews it"
        await_true(lambda: container.look().splitlines()[-1] == gone)
        assert container.look().startswith("watcher|yes|")


def test_a_watcher_that_a_signal_has_stopped_is_missing_until_it_is_woken(container: Container) -> None:
    """It is a process as before, and looks at no clock. Its pod is ended from home then, once its deadline has passed."""
    leased = msgspec.structs.replace(container.boot(left_s=10 * HOUR_S), lease_s=LEASE_S)
    with started(container, container.prepare(leased)):
        await_true(lambda: container.noted("sshd"))
        pids = [int(place.read_text().split()[0]) for place in (container.watcher, container.lease_watcher)]

        def told() -> set[str]:
            return {line.split("|")[1] for line in container.look().splitlines()}

        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await_true(lambda: told() == {"no"})
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        await_true(lambda: told() == {"yes"})


def test_a_key_that_may_not_delete_asks_for_a_stop(container: Container) -> None:
    """A pod without a volume that stands still costs nothing."""
    environment = container.prepare(container.boot(left_s=0.5))
    (container.notes / "refusals").write_text(f"{ENDS_TRIED}")
    with started(container, environment):
        await_true(lambda: len(container.asked()) > ENDS_TRIED)
    assert container.asked()[: ENDS_TRIED + 1] == [
        *["DELETE https://api.example/v2/pods/pod-1"] * ENDS_TRIED,
        "POST https://api.example/v2/pods/pod-1/action",
    ]
    words = container.noted("curl")[ENDS_TRIED].partition(" | ")[0]
    assert json.loads(words[words.index("{") : words.index("}") + 1]) == {"action": "stop"}


def test_a_refusal_of_the_moment_is_no_reason_to_stop(container: Container) -> None:
    """A pod that is stopped asks for nothing any more: it would stand until somebody looks."""
    environment = container.prepare(container.boot(left_s=0.5))
    (container.notes / "refusals").write_text(f"{ENDS_TRIED - 1}")
    with started(container, environment):
        await_true(lambda: len(container.asked()) > ENDS_TRIED)
    assert {each.split()[0] for each in container.asked()} == {"DELETE"}


@pytest.mark.parametrize("lacking", ["RUNPOD_API_KEY", "RUNPOD_POD_ID", END_VARIABLE])
def test_a_container_that_could_not_end_itself_serves_nobody(container: Container, lacking: str) -> None:
    """It never answers, so whoever rented it gives it back; it says why on its console."""
    environment = container.prepare(container.boot())
    del environment[lacking]
    with started(container, environment):
        await_true(lambda: "could not end itself" in (container.folder / "console").read_text())
        container.await_look()
    assert not container.noted("sshd")
    assert not container.keys.joinpath("ssh_host_ed25519_key").exists()


def test_no_secret_is_in_a_command_line(container: Container) -> None:
    """Everybody on a machine can read those: not the one-time host key, and not the pod's key."""
    environment = container.prepare(container.boot(left_s=0.5))
    with started(container, environment) as first:
        await_true(lambda: container.noted("sshd") and container.asked())
        command = Path(f"/proc/{first.pid}/cmdline").read_bytes()
    assert command == b"\0".join(each.encode() for each in ENTRYPOINT) + b"\0"
    [*_, call] = container.noted("curl")
    words, _, given = call.partition(" | ")
    assert KEY not in words
    assert given == f'header = "Authorization: Bearer {KEY}"'


def test_a_deadline_that_is_over_is_refused(container: Container) -> None:
    """What would end at once is not rented."""
    boot = container.boot()
    with pytest.raises(Refused, match="already over"):
        render_start(msgspec.structs.replace(boot, deadline_at_s=boot.now_s))
