"""Who controls a run: one lock, and a pid that means something after a crash."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import threading
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from provision.account.ledger import Ledger
from provision.charge.controller import Hands, hands_of, in_control, is_alive, is_locked, this_process
from provision.errors import Refused
from provision.home import processes
from provision.home.clocks import CLOCKS
from provision.home.places import Places
from provision.home.processes import start_of
from provision.seam import DEADLINE_GRACE_S


@pytest.mark.fault("F15", tier="code")
def test_one_process_is_in_charge_and_the_next_is_refused(run_id: str, places: Places, ledger: Ledger) -> None:
    """The refusal names the process that holds the run."""
    folder = places.run(run_id)
    with in_control(run_id, folder, ledger, clocks=CLOCKS):
        assert is_locked(folder.lock)
        with pytest.raises(Refused, match="Another process controls run"), in_control(run_id, folder, ledger, clocks=CLOCKS):
            pass
    assert not is_locked(folder.lock)


@pytest.mark.fault("F15", tier="code")
def test_who_lives_is_in_charge_though_its_lock_was_deleted(
    run_id: str, places: Places, ledger: Ledger, other_process: psutil.Process
) -> None:
    """With the run's directory its lock goes, and a new one can be had: it made a second controller of whoever came."""
    line = msgspec.structs.replace(
        this_process(run_id, at_s=time.time(), detached=False),
        pid=other_process.pid,
        process_started_s=other_process.create_time(),
        start_ticks=start_of(other_process.pid),
    )
    ledger.append(line)
    folder = places.run(run_id)
    shutil.rmtree(folder.root)
    with (
        pytest.raises(Refused, match=rf"controls run {run_id} \(process {other_process.pid}\)"),
        in_control(run_id, folder, ledger, clocks=CLOCKS),
    ):
        pass
    other_process.kill()
    other_process.wait()
    with in_control(run_id, folder, ledger, clocks=CLOCKS):
        assert is_locked(folder.lock)


def test_a_pid_alone_means_nothing(other_process: psutil.Process) -> None:
    """The same pid with another start, or of another boot, is somebody else."""
    line = msgspec.structs.replace(
        this_process("r", at_s=0.0, detached=False),
        pid=other_process.pid,
        process_started_s=other_process.create_time(),
        start_ticks=start_of(other_process.pid),
    )
    assert is_alive(line)
    assert not is_alive(msgspec.structs.replace(line, start_ticks=(line.start_ticks or 0) - 1))
    assert not is_alive(msgspec.structs.replace(line, boot_id="another boot"))
    other_process.kill()
    other_process.wait()
    assert not is_alive(line)


@pytest.mark.parametrize("set_s", [-7200, 30, 7200])
def test_a_controller_lives_on_when_the_clock_is_set(set_s: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's time of boot moves with the clock, and with it every start that is told in Unix seconds."""
    line, booted_s = this_process("r", at_s=0.0), psutil.boot_time()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: booted_s + set_s)
    assert psutil.Process().create_time() != pytest.approx(line.process_started_s, abs=1.5)
    assert is_alive(line)


def test_an_older_line_is_still_understood(other_process: psutil.Process) -> None:
    """It tells the start in Unix seconds alone."""
    line = msgspec.structs.replace(
        this_process("r", at_s=0.0), pid=other_process.pid, process_started_s=other_process.create_time(), start_ticks=None
    )
    assert is_alive(line)
    assert not is_alive(msgspec.structs.replace(line, process_started_s=line.process_started_s - 60))


def test_a_look_at_the_lock_refuses_nobody(run_id: str, places: Places, ledger: Ledger) -> None:
    """Somebody who probes holds it for a moment; who takes charge in that moment waits."""
    folder = places.run(run_id)
    folder.lock.touch()
    with folder.lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.2, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with in_control(run_id, folder, ledger, clocks=CLOCKS):
            assert is_locked(folder.lock)


def named_as_before() -> str:
    """What lines of before 2026-11-27 call this computer: by its system's id and its name."""
    system = processes.MACHINE_ID.read_text().strip() if processes.MACHINE_ID.exists() else ""
    return hashlib.sha256(f"rentune\n{system}\n{platform.node()}".encode()).hexdigest()[:16]


def test_a_computer_that_is_renamed_stays_the_same_but_not_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run counted as another computer's until the deadline. Of an image's id there are as many as containers."""
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(processes, "MACHINE_ID", tmp_path / "machine-id")
    monkeypatch.setattr(processes, "CONTAINER_MARKS", (tmp_path / "is-container",))

    def both_names() -> list[str]:
        found = []
        for name in ("laptop", "laptop-of-ada"):
            monkeypatch.setattr(platform, "node", lambda name=name: name)
            found.append(processes.machine_id())
        return found

    assert len(set(both_names())) == 1
    (tmp_path / "is-container").touch()
    assert len(set(both_names())) == 2
    (tmp_path / "is-container").unlink()
    (tmp_path / "machine-id").write_text("")
    assert len(set(both_names())) == 2


@pytest.mark.parametrize(
    ("where", "hands"),
    [
        ({"boot_id": "another boot"}, Hands.NOBODY),  # this computer, started anew since
        ({"pid": 1, "start_ticks": 0}, Hands.NOBODY),
        ({"boot_id": "another boot", "machine": named_as_before()}, Hands.NOBODY),  # a line that counted its name
        ({"boot_id": "another boot", "machine": "another computer"}, Hands.UNKNOWN),
        ({"boot_id": "another boot", "machine": None}, Hands.UNKNOWN),  # a line of an older version does not tell
        ({}, Hands.HELD),
    ],
)
def test_only_of_this_computer_it_is_known_that_nobody_is_left(
    where: dict[str, object], hands: Hands, run_id: str, places: Places, ledger: Ledger
) -> None:
    """Another boot of another one says nothing, until the run's deadline and a grace have passed."""
    ledger.append(msgspec.structs.replace(this_process(run_id, at_s=0.0), **where))
    state, lock = ledger.runs()[run_id], places.run(run_id).lock
    assert hands_of(state, lock, now_s=state.deadline_at_s + DEADLINE_GRACE_S) is hands
    late = hands_of(state, lock, now_s=state.deadline_at_s + DEADLINE_GRACE_S + 1)
    assert late is (Hands.HELD if hands is Hands.HELD else Hands.NOBODY)
