"""RAM within the control groups, and how fast the disk writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote.machine import ram
from remote.machine.disk import (
    MOST_BYTES,
    PIECE_BYTES,
    READ_BYTES,
    read_bytes_per_s,
    slow_base_words,
    slow_read_words,
    slow_words,
    write_bytes_per_s,
)

MIB = 2**20


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


V2 = {
    "memory.max": "max\n",
    "box/memory.max": f"{100 * MIB}\n",
    "box/memory.current": f"{60 * MIB}\n",
    "box/memory.stat": f"anon {30 * MIB}\ninactive_file {20 * MIB}\n",
    "box/job/memory.max": f"{90 * MIB}\n",
    "box/job/memory.current": f"{10 * MIB}\n",
    "box/job/memory.stat": "inactive_file 0\n",
}
V1 = {
    "memory/memory.limit_in_bytes": f"{70 * MIB}\n",
    "memory/memory.usage_in_bytes": f"{50 * MIB}\n",
    "memory/memory.stat": f"total_inactive_file {5 * MIB}\n",
}


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/box/job\n", V2, 60 * MIB),  # the group around it has less left than its own
        ("0::/box\n", V2, 60 * MIB),
        ("4:memory:/docker/abc\n0::/\n", V1, 25 * MIB),  # in a container the path is the host's, and not there
        ("5:cpu,cpuacct:/\n4:pids,memory:/\n", V1, 25 * MIB),
    ],
)
def test_what_a_group_leaves_counts(groups: str, files: dict[str, str], left: int, tmp_path: Path) -> None:
    """Of both versions; what is only kept to be read again is given back."""
    write(tmp_path, files)
    (tmp_path / "groups").write_text(groups)
    assert ram.available_ram_bytes(mount=tmp_path, own_groups=tmp_path / "groups") == left


def test_without_a_limit_the_machine_s_own_figure_counts(tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("0::/box\n")
    for groups in (tmp_path / "groups", tmp_path / "none"):
        assert ram.available_ram_bytes(mount=tmp_path, own_groups=groups) > 50 * MIB


def test_a_disk_is_timed_until_it_has_shown_itself(tmp_path: Path) -> None:
    """A fast one takes all pieces; a slow one is left after a second, and its speed is right all the same."""
    ticks = iter(range(1000))
    assert write_bytes_per_s(tmp_path, clock=lambda: next(ticks) * 0.01) == pytest.approx(MOST_BYTES / 0.10, rel=0.2)
    slow = iter(range(1000))
    assert write_bytes_per_s(tmp_path, clock=lambda: next(slow) * 0.75) == pytest.approx(PIECE_BYTES / 2.25)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_nothing_has_no_speed(tmp_path: Path) -> None:
    assert write_bytes_per_s(tmp_path / "nowhere") is None


def test_only_a_disk_that_takes_long_for_checkpoints_is_told_of() -> None:
    said = slow_words(20e6, checkpoint_bytes=2 * 10**9, every_s=120.0, share=0.1)
    assert said is not None
    assert "the disk takes 20 MB/s, so a checkpoint of 2,000 MB takes about 100 s, one every 120 s" in said
    assert slow_words(200e6, checkpoint_bytes=2 * 10**9, every_s=120.0, share=0.1) is None


def test_a_disk_that_blocks_wait_on_is_read_from(tmp_path: Path) -> None:
    """One large piece, by a clock: what is read for a run that streams; the file is gone behind it."""
    ticks = iter((0.0, 0.5))
    assert read_bytes_per_s(tmp_path, clock=lambda: next(ticks)) == READ_BYTES / 0.5
    assert list(tmp_path.iterdir()) == []
    assert read_bytes_per_s(tmp_path / "nowhere") is None


def test_a_base_that_takes_minutes_to_be_read_is_told_of() -> None:
    assert slow_base_words(50e6, base_bytes=15 * 10**9) == (
        "the disk gives 50 MB/s, so a base of 15,000 MB takes about 300 s to be read before the first step; a faster disk "
        "begins sooner"
    )
    assert slow_base_words(500e6, base_bytes=15 * 10**9) is None
    assert slow_base_words(None, base_bytes=15 * 10**9) is None
    assert slow_base_words(50e6, base_bytes=None) is None


def test_a_disk_that_reads_slower_than_planned_is_told() -> None:
    assert slow_read_words(0.25e9, planned_bytes_per_s=1e9) == (
        "the disk gives 0.25 GB/s, the plan counts on 1.00: where the blocks that wait there decide, a step takes 4.0 times "
        "as long; the probe shows whether the job still ends in time, and a machine with more RAM or a drive of its own is the "
        "cure"
    )
    assert slow_read_words(0.9e9, planned_bytes_per_s=1e9) is None
    assert slow_read_words(0.1e9, planned_bytes_per_s=None) is None
    assert slow_read_words(None, planned_bytes_per_s=1e9) is None
