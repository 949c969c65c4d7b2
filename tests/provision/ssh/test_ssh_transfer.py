"""Files and folders there and back: whole, hashed on both sides, resumed where they stopped."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import ConnectionFailed, HomeFailed, TransferFailed
from provision.seam import Box
from provision.ssh import Shell
from provision.ssh.pieces import BLOCK_BYTES, PIECE_BYTES, Part, pieces
from tests.doubles.proxy import proxied
from tests.provision.rigs import Rig

pytestmark = pytest.mark.box


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@given(st.integers(min_value=0, max_value=10 * PIECE_BYTES))
def test_pieces_cover_a_file_without_gap_or_overlap(size_bytes: int) -> None:
    cut = pieces(size_bytes)
    assert sum(length for _, length in cut) == size_bytes
    assert all(0 < length <= PIECE_BYTES for _, length in cut)
    assert [offset for offset, _ in cut] == [index * PIECE_BYTES for index in range(len(cut))]
    assert all(offset % BLOCK_BYTES == 0 for offset, _ in cut)


@pytest.mark.parametrize("size_bytes", [0, 1, BLOCK_BYTES, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 17])
def test_a_file_of_any_size_travels_both_ways_unchanged(shell: Shell, place: str, source: Path, size_bytes: int) -> None:
    source.write_bytes(os.urandom(size_bytes))
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    assert shell.put(source, f"{place}/deep/er/file") == sha256
    assert Path(place, "deep/er/file").read_bytes() == source.read_bytes()
    home = source.with_name("home")
    assert shell.get(f"{place}/deep/er/file", home, sha256=sha256) == sha256
    assert home.read_bytes() == source.read_bytes()
    assert sorted(path.name for path in source.parent.iterdir()) == ["home", "source"]
    assert [path.name for path in Path(place, "deep/er").iterdir()] == ["file"]


def test_a_name_with_blanks_and_quotes_is_a_name(shell: Shell, place: str, source: Path) -> None:
    source.write_bytes(b"x")
    shell.put(source, f"{place}/it's a $(name)")
    assert Path(place, "it's a $(name)").read_bytes() == b"x"
    shell.get(f"{place}/it's a $(name)", source.with_name("home"))


def test_progress_runs_to_the_end(shell: Shell, place: str, source: Path) -> None:
    source.write_bytes(bytes(2 * PIECE_BYTES + 5))
    seen: list[tuple[int, int]] = []
    shell.put(source, f"{place}/file", progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (2 * PIECE_BYTES + 5, 2 * PIECE_BYTES + 5)


def test_an_upload_that_arrived_damaged_is_refused_and_leaves_nothing(shell: Shell, place: str, source: Path) -> None:
    source.write_bytes(b"precious")

    def damage(done: int, total: int) -> None:
        Path(place, "file.part").write_bytes(b"worthless")

    with pytest.raises(TransferFailed, match="arrived damaged"):
        shell.put(source, f"{place}/file", progress=damage)
    assert list(Path(place).iterdir()) == []


def test_an_upload_whose_source_shrinks_is_refused(shell: Shell, place: str, source: Path) -> None:
    source.write_bytes(bytes(8 * PIECE_BYTES))
    with pytest.raises(TransferFailed):
        shell.put(source, f"{place}/file", progress=lambda *_: os.truncate(source, 100))
    assert not Path(place, "file").exists()


def test_a_download_with_another_hash_than_promised_is_refused_and_leaves_nothing(
    shell: Shell, place: str, tmp_path: Path
) -> None:
    Path(place, "file").write_bytes(b"not what was promised")
    with pytest.raises(TransferFailed, match="is damaged on"):
        shell.get(f"{place}/file", tmp_path / "home", sha256=hashlib.sha256(b"promised").hexdigest())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("F20", tier="box")
def test_a_download_that_was_stopped_goes_on_with_the_missing_pieces(shell: Shell, place: str, tmp_path: Path) -> None:
    Path(place, "file").write_bytes(os.urandom(5 * PIECE_BYTES))
    home = tmp_path / "home"

    def stop_early(done: int, total: int) -> None:
        if done >= PIECE_BYTES:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shell.get(f"{place}/file", home, progress=stop_early)
    assert not home.exists()
    seen: list[int] = []
    shell.get(f"{place}/file", home, progress=lambda done, _: seen.append(done))
    assert seen[0] >= PIECE_BYTES
    assert home.read_bytes() == Path(place, "file").read_bytes()


@pytest.mark.fault("F20", tier="box")
def test_a_disk_at_home_that_takes_no_more_is_not_called_a_lost_line(shell: Shell, place: str, tmp_path: Path) -> None:
    """It fills up in the middle of a download: what is there is kept, and the rest is fetched once there is room."""
    Path(place, "file").write_bytes(os.urandom(8 * PIECE_BYTES))
    home = tmp_path / "home"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(_done: int, _total: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE_BYTES, hard))

    try:
        with pytest.raises(HomeFailed, match=f"{home} can't be written on this machine: File too large"):
            shell.get(f"{place}/file", home, progress=fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    shell.get(f"{place}/file", home)
    assert home.read_bytes() == Path(place, "file").read_bytes()


def test_a_place_at_home_that_is_not_ours_is_named(shell: Shell, place: str, tmp_path: Path) -> None:
    Path(place, "file").write_bytes(b"x")
    (tmp_path / "taken").touch()
    with pytest.raises(HomeFailed, match="taken/home can't be written on this machine: File exists"):
        shell.get(f"{place}/file", tmp_path / "taken/home")


@pytest.mark.parametrize("promised", [True, False], ids=["of a known hash", "of any hash"])
def test_what_another_file_of_the_same_size_has_left_is_not_mixed_in(
    shell: Shell, place: str, tmp_path: Path, promised: bool
) -> None:
    home, there = tmp_path / "home", Path(place, "file")

    def stop_early(done: int, total: int) -> None:
        if done >= PIECE_BYTES:
            raise KeyboardInterrupt

    for progress in (stop_early, None):
        content = os.urandom(3 * PIECE_BYTES)
        there.write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest() if promised else None
        with contextlib.suppress(KeyboardInterrupt):
            shell.get(str(there), home, sha256=sha256, progress=progress)
    assert home.read_bytes() == there.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_piece_that_was_half_noted_is_fetched_again(shell: Shell, place: str, tmp_path: Path) -> None:
    Path(place, "file").write_bytes(os.urandom(2 * PIECE_BYTES))
    home = tmp_path / "home"
    home.with_name("home.part").write_bytes(bytes(2 * PIECE_BYTES))
    home.with_name("home.part.pieces").write_text(f"{2 * PIECE_BYTES} any\n{PIECE_BYTES}")
    seen: list[int] = []
    shell.get(f"{place}/file", home, progress=lambda done, _: seen.append(done))
    assert seen[0] == 0
    assert seen[-1] == 2 * PIECE_BYTES


def test_what_is_not_there_is_told_in_one_sentence(shell: Shell, place: str, tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="No such file"):
        shell.get(f"{place}/nothing", tmp_path / "home")


def test_what_is_no_file_is_not_fetched(shell: Shell, place: str, tmp_path: Path) -> None:
    """A device says that it has no bytes, and hashing it never ends."""
    Path(place, "endless").symlink_to("/dev/zero")
    with pytest.raises(TransferFailed, match="it is no file"):
        shell.get(f"{place}/endless", tmp_path / "here")


def test_a_file_of_another_size_than_promised_is_refused_before_a_byte_of_it_comes(
    shell: Shell, place: str, tmp_path: Path
) -> None:
    with Path(place, "vast").open("wb") as vast:
        vast.truncate(200 * 2**30)
    with pytest.raises(TransferFailed, match="has 214,748,364,800 bytes instead of 7"):
        shell.get(f"{place}/vast", tmp_path / "here", num_bytes=7)
    assert list(tmp_path.glob("here*")) == []


def test_a_source_that_cannot_be_read_is_told_in_one_sentence(shell: Shell, place: str, source: Path) -> None:
    with pytest.raises(TransferFailed, match="source can't be read: No such file"):
        shell.put(source, f"{place}/file")


def test_a_folder_that_cannot_be_unpacked_is_told_with_the_boxs_reason(shell: Shell, place: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/large").write_bytes(bytes(PIECE_BYTES))  # more than a channel takes unread
    Path(place, "file").write_bytes(b"in the way")
    with pytest.raises(TransferFailed, match=r"could not unpack .*Not a directory|could not unpack .*File exists"):
        shell.put_tree(tmp_path / "tree", f"{place}/file/below")


def test_a_place_that_cannot_be_written_is_told_in_one_sentence(shell: Shell, place: str, source: Path) -> None:
    source.write_bytes(b"x")
    Path(place, "file").write_bytes(b"in the way")
    with pytest.raises(TransferFailed, match="can't be written"):
        shell.put(source, f"{place}/file/below")


@pytest.mark.fault("F18", tier="box")
def test_a_full_disk_is_told_in_one_sentence(shell: Shell, place: str, source: Path) -> None:
    source.write_bytes(bytes(PIECE_BYTES))
    Path(place, "file.part").symlink_to("/dev/full")
    with pytest.raises(TransferFailed, match="No space left on device"):
        shell.put(source, f"{place}/file")


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_transfer_outlives_a_cut(rig: Rig, box: Box, place: str, source: Path, direction: str) -> None:
    source.write_bytes(os.urandom(5 * PIECE_BYTES))
    Path(place, "there").write_bytes(source.read_bytes())
    with proxied(box.port) as line, rig.connect(msgspec.structs.replace(box, port=line.port), patience_s=20.0) as far:
        cuts: list[int] = []

        def cut_once(done: int, total: int) -> None:
            if not cuts:
                cuts.append(done)
                line.cut()
                threading.Timer(0.5, line.heal).start()

        if direction == "up":
            far.put(source, f"{place}/file", progress=cut_once)
            assert Path(place, "file").read_bytes() == source.read_bytes()
        else:
            far.get(f"{place}/there", source.with_name("home"), progress=cut_once)
            assert source.with_name("home").read_bytes() == source.read_bytes()
    assert cuts


def test_a_box_that_stays_away_ends_the_transfer_after_one_patience(rig: Rig, box: Box, place: str, source: Path) -> None:
    source.write_bytes(os.urandom(4 * PIECE_BYTES))
    with (
        proxied(box.port) as line,
        rig.connect(msgspec.structs.replace(box, port=line.port), patience_s=2.0) as far,
        pytest.raises(ConnectionFailed),
    ):
        far.put(source, f"{place}/file", progress=lambda *_: line.cut())
    assert not Path(place, "file").exists()


def test_a_line_that_breaks_under_a_folder_is_called_that(rig: Rig, box: Box, place: str, tmp_path: Path) -> None:
    """So that it is waited for: bytes that a box refuses are not."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in "ab":
        (tree / name).write_bytes(os.urandom(PIECE_BYTES))
    with proxied(box.port) as line, rig.connect(msgspec.structs.replace(box, port=line.port), patience_s=2.0) as far:

        def cut_before_b(path: Path) -> bool:
            if path.name == "b":
                line.cut()
            return False

        with pytest.raises(ConnectionFailed):
            far.put_tree(tree, f"{place}/tree", leave_out=cut_before_b)


def test_nobody_goes_on_hashing_what_is_not_wanted_any_more(tmp_path: Path) -> None:
    """Sixty gigabytes of an abandoned download take minutes to hash, while the box is paid."""
    part = Part(tmp_path / "home", 2 * PIECE_BYTES, None)
    part.abandon()
    with pytest.raises(TransferFailed, match="abandoned"):
        part.sha256()


def test_a_folder_travels_as_it_is_but_for_what_is_left_out(shell: Shell, place: str, tmp_path: Path) -> None:
    tree, there = tmp_path / "tree", Path(place, "tree")
    (tree / "sub/empty").mkdir(parents=True)
    (tree / "sub/run.sh").write_text("#!/bin/sh\n")
    (tree / "sub/run.sh").chmod(0o755)
    (tree / "run.sh").write_text("left out by its path, not by its name")
    (tree / "left").mkdir()
    (tree / "left/out").write_text("")
    shell.put_tree(tree, str(there), leave_out={tree / "run.sh", tree / "left"}.__contains__)
    names = sorted(path.relative_to(there).as_posix() for path in there.rglob("*"))
    assert names == ["sub", "sub/empty", "sub/run.sh"]
    assert (there / "sub/run.sh").stat().st_mode & 0o111


def test_links_travel_as_what_they_lead_to(shell: Shell, place: str, tmp_path: Path) -> None:
    store, tree, there = tmp_path / "store", tmp_path / "tree", Path(place, "tree")
    (store / "folder").mkdir(parents=True)
    (store / "blob").write_text("weights")
    (store / "folder/file").write_text("more")
    tree.mkdir()
    (tree / "model").symlink_to("../store/blob")
    (tree / "same").symlink_to("../store/blob")
    (tree / "folder").symlink_to(store / "folder")
    shell.put_tree(tree, str(there))
    assert [(there / name).read_text() for name in ("model", "same", "folder/file")] == ["weights", "weights", "more"]
    assert not [path for path in there.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(("target", "said"), [("nothing", "leads nowhere"), ("..", "leads back")])
def test_a_link_without_an_end_is_told(shell: Shell, place: str, tmp_path: Path, target: str, said: str) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/link").symlink_to(target)
    with pytest.raises(TransferFailed, match=said):
        shell.put_tree(tmp_path / "tree", f"{place}/tree")


def test_a_folder_that_is_not_there_is_told(shell: Shell, place: str, tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match="nothing can't be read: No such file"):
        shell.put_tree(tmp_path / "nothing", f"{place}/tree")
