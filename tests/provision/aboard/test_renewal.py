"""The idle limit: a box for which nobody comes ends itself, one that has something of worth waits for its deadline."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import pytest

from provision.aboard.marks import LEASE_ENDED_FILE
from provision.aboard.renewal import (
    BEGUN_FILE,
    BOOT_ID,
    FETCHED_FILE,
    FUNCTIONS,
    RENEWED_FILE,
    SPARED_FILE,
    TOLD_AT,
    TOO_LATE,
    UNRENEWED_FILE,
    UNTOLD,
    attended,
    idle_s,
    mark_fetched,
    renew,
)
from provision.direct.here import local_offer
from provision.direct.local import LocalBox
from provision.errors import ConnectionFailed, ProvisionError
from provision.seam import Box
from provision.ssh import Completed, Shell
from tests.provision.rigs import await_true, rig_of

BOOT = Path(BOOT_ID).read_text().strip()
NOW_S, BEGAN_S, IDLE_LIMIT_S = 5000, 1000, 3600


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "alone_s"),
    [
        ({}, 4000),  # nobody ever came
        ({RENEWED_FILE: "4990\n"}, 4000),  # of no boot
        ({RENEWED_FILE: f"4990\n{BOOT}\n"}, 10),
        ({RENEWED_FILE: f"990\n{BOOT}\nan uptime with more digits stood here"}, 4000),
        ({RENEWED_FILE: "4990\nanother\n"}, 4000),  # of the boot before this one, which was up for longer
        ({RENEWED_FILE: f"9000\n{BOOT}\n"}, 4000),  # of the boot before this one
        ({RENEWED_FILE: f"500\n{BOOT}\n"}, 4000),  # likewise
        ({RENEWED_FILE: f"so\n{BOOT}\n"}, 4000),
        ({RENEWED_FILE: ""}, 4000),
        ({BEGUN_FILE: ""}, None),
        ({SPARED_FILE: ""}, None),
        ({BEGUN_FILE: "", RENEWED_FILE: f"1001\n{BOOT}\n"}, None),
        ({BEGUN_FILE: "", RENEWED_FILE: f"1001\n{BOOT}\n", FETCHED_FILE: ""}, 3999),  # its result is at home
        ({SPARED_FILE: "", FETCHED_FILE: ""}, 4000),
    ],
    ids=str,
)
def test_shell_and_python_read_it_alike(tmp_path: Path, files: dict[str, str], alone_s: int | None) -> None:
    """The one runs on rented boxes, the other in the local box's reaper."""
    box = written(tmp_path / "box", {"there": "", **files})
    assert idle_s(box, began_s=BEGAN_S, now_s=NOW_S) == alone_s
    (tmp_path / "uptime").write_text(f"{NOW_S}.77 1.00\n")
    functions = FUNCTIONS.replace("/proc/uptime", str(tmp_path / "uptime"))
    script = (
        f"box={box} began_s={BEGAN_S} idle_limit_s={IDLE_LIMIT_S}\n{functions}is_forsaken && echo forsaken; tell_idle_limit yes"
    )
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert said.stderr == ""
    *forsaken, told = said.stdout.splitlines()
    assert (forsaken == ["forsaken"]) == (alone_s is not None and alone_s >= IDLE_LIMIT_S)
    assert told.split("|")[2] == ("" if alone_s is None else str(IDLE_LIMIT_S - alone_s))


class Line:
    """A shell that notes what it is told, and is cut every other time."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def run(self, command: str) -> Completed:
        self.told.append(command)
        if len(self.told) % 2:
            raise ConnectionFailed("cut")
        return Completed(rc=0, out="", err="")


BOX = Box(run_id="r1", provider="aws", host="h", port=22, user="u", host_key="k", folder="/box")


def test_it_is_renewed_for_as_long_as_the_block_runs() -> None:
    """A line that is cut costs one renewal."""
    line = Line()
    with attended(cast("Shell", line), BOX, spare=False, every_s=0.01):
        await_true(lambda: len(line.told) > 3)
    await_true(lambda: "renewal" not in {thread.name for thread in threading.enumerate()})
    told = len(line.told)
    time.sleep(0.05)
    assert len(line.told) == told


class Here:
    """A shell of this machine, as the box would run it."""

    def run(self, command: str) -> Completed:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return Completed(rc=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize("is_full", [False, True], ids=["", "a disk that is full"])
def test_a_boot_begins_with_what_the_one_before_had_used(tmp_path: Path, *, is_full: bool) -> None:
    """A box that is rebooted again and again ends when one that is not would; and a renewal begins anew."""
    box, note = written(tmp_path / "box", {"there": "", UNRENEWED_FILE: "1000000\n"}), tmp_path / "box" / UNRENEWED_FILE
    if is_full:
        (tmp_path / "box" / f"{UNRENEWED_FILE}.new").mkdir()
    functions = FUNCTIONS.replace("/proc/uptime", str(tmp_path / "uptime"))

    def booted(up_s: int, *, before_s: int) -> int:
        """A boot that is up for so long when it is looked at last: for how long nobody has come by then."""
        (tmp_path / "uptime").write_text(f"{up_s}.50 1.00\n")
        script = f"box={box}\n{functions}began_s=$((20 - $(unrenewed_before_s))) && note_unrenewed && unrenewed_s"
        said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert said.stderr == ""
        assert note.read_text().split()[0] == said.stdout.strip()
        return int(said.stdout) - before_s

    assert booted(320, before_s=1_000_000) == 300
    note.write_text("0\n")
    assert booted(1020, before_s=0) == 1000
    assert booted(520, before_s=1000) == 500
    for damaged in ("", "so\n", "08\n", "-5\n", "1\n23", "99999999999999999999\n"):
        note.write_text(damaged)
        assert booted(120, before_s=int(damaged == "1\n23")) == 100
    renew(cast("Shell", Here()), msgspec.structs.replace(BOX, folder=str(box)))
    assert not note.exists()


def test_a_box_whose_result_is_at_home_is_told_so_and_that_somebody_is_there(tmp_path: Path) -> None:
    """It waits for whoever ends it as long as any box does, not for its deadline; and not at all for less than that."""
    box = written(tmp_path / "box", {BEGUN_FILE: ""})
    mark_fetched(cast("Shell", Here()), msgspec.structs.replace(BOX, folder=str(box)))
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    alone_s = idle_s(box, began_s=0.0, now_s=up_s)
    assert alone_s is not None
    assert alone_s < 30


def test_a_box_that_takes_no_new_file_is_renewed_in_the_place_of_the_last(tmp_path: Path) -> None:
    """As one whose disk is full: its controller lives, so it must not end."""
    (tmp_path / RENEWED_FILE).write_text("1000000000\nanother\n")
    (tmp_path / f"{RENEWED_FILE}.new").mkdir()
    assert renew(cast("Shell", Here()), msgspec.structs.replace(BOX, folder=str(tmp_path)))
    up_s, boot, *_ = (tmp_path / RENEWED_FILE).read_text().split("\n")
    assert 0 <= float(Path("/proc/uptime").read_text().split()[0]) - int(up_s) < 30
    assert boot == BOOT


def test_a_box_that_answers_and_can_not_be_renewed_is_told_of_once(tmp_path: Path) -> None:
    """A line that is cut is told elsewhere; and a box whose first boot has yet to make its folder takes the next."""
    (tmp_path / RENEWED_FILE).mkdir()
    (tmp_path / f"{RENEWED_FILE}.new").mkdir()
    told: list[tuple[int, str]] = []
    asked: list[str] = []

    class Asked(Here):
        def run(self, command: str) -> Completed:
            asked.append(command)
            return super().run(command)

    def noted(words: str) -> None:
        told.append((len(asked), words))

    box = msgspec.structs.replace(BOX, folder=str(tmp_path))
    with attended(cast("Shell", Asked()), box, spare=False, every_s=0.01, tell=noted):
        await_true(lambda: len(asked) > 2 * TOLD_AT)
    [(num_asked, words)] = told
    assert num_asked == TOLD_AT
    assert words.startswith("h could not be told that somebody is there: ")
    assert words.endswith(UNTOLD)
    with attended(cast("Shell", Line()), box, spare=False, every_s=0.01, tell=noted):
        await_true(lambda: "renewal" in {thread.name for thread in threading.enumerate()})
    assert len(told) == 1


def test_a_renewal_that_comes_once_the_lease_has_ended_is_none(tmp_path: Path) -> None:
    """The trainer is leaving: that somebody was there so lately would hide from him why his box goes."""
    box = msgspec.structs.replace(BOX, folder=str(tmp_path))
    renewed, told = list[float](), list[str]()
    sent = list[float]()

    def clock() -> float:
        sent.append(len(sent))
        return sent[-1]

    noted = partial(attended, spare=False, every_s=0.01, renewed=renewed.append, tell=told.append, clock=clock)
    with noted(cast("Shell", Here()), box):
        await_true(lambda: len(renewed) > 1)
        (tmp_path / LEASE_ENDED_FILE).touch()
        await_true(lambda: told)
        in_time, seen = list(renewed), len(sent)
        await_true(lambda: len(sent) > seen + 3)
    assert in_time[:2] == [0, 1], "as they were sent"
    assert (renewed, told) == (in_time, [TOO_LATE])
    assert (tmp_path / RENEWED_FILE).exists(), "the box sees that somebody is there, and may wait for what he fetches"


@pytest.fixture
def boxes(tmp_path: Path) -> Callable[[float], LocalBox]:
    return lambda idle_limit_s: LocalBox(tmp_path / "boxes", tmp_path / "cache", namespace=True, idle_limit_s=idle_limit_s)


@pytest.mark.box
def test_a_local_box_for_which_nobody_comes_is_gone_before_its_deadline(
    tmp_path: Path, boxes: Callable[[float], LocalBox]
) -> None:
    """Folder and all, like any that has ended."""
    with rig_of("local box in a PID namespace", tmp_path) as rig:
        box = boxes(2.0).up(local_offer(), rig.launch())
        await_true(lambda: not Path(box.folder).exists())
        assert time.time() < rig.launch().deadline_at_s - 60


@pytest.mark.box
@pytest.mark.parametrize("spare", [False, True], ids=["renewed", "spared on failure"])
def test_a_local_box_that_is_attended_lives(tmp_path: Path, boxes: Callable[[float], LocalBox], *, spare: bool) -> None:
    """For as long as somebody renews; one to be spared on failure, after that, too."""
    with rig_of("local box in a PID namespace", tmp_path) as rig:
        box = boxes(3.0).up(local_offer(), rig.launch())
        with rig.connect(box) as shell:
            with attended(shell, box, spare=spare, every_s=0.5):
                time.sleep(4.0)
                assert Path(box.folder).exists()
            time.sleep(4.0 if spare else 0.0)
            assert Path(box.folder).exists()


@pytest.mark.box
def test_a_renewal_that_fails_says_so_and_leaves_nothing_elsewhere(shell: Shell, box: Box, tmp_path: Path) -> None:
    """A folder that is gone: neither renewal nor mark is written where the user happens to be."""
    gone = msgspec.structs.replace(box, folder=str(tmp_path / "gone"))
    with pytest.raises(ProvisionError, match="could not be told that somebody is there"):
        renew(shell, gone, spare=True)
    assert shell.run(f"test -e {SPARED_FILE}").rc != 0


@pytest.mark.box
def test_a_renewal_is_the_uptime_of_the_box(shell: Shell, box: Box) -> None:
    """In whole seconds, whole or not at all."""
    renew(shell, box)
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= up_s - int((Path(box.folder) / RENEWED_FILE).read_text().split()[0]) < 30
    assert not (Path(box.folder) / f"{RENEWED_FILE}.new").exists()
