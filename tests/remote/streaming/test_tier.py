"""Blocks that wait on the disk, below the RAM: they train what a resident model trains, and take what is counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remote.contract import CAPABILITIES, EndReason, arena_bytes, arenas, parted, staged, waiting_bytes
from remote.ends import Ended
from remote.measure.random_weights import random_model
from remote.streaming import streamed_of
from remote.streaming.tier import BlockFile, Extent, Reader
from tests.remote.streaming.test_streaming import CONFIG, QUANTS, STRATEGY, built, changed, stepped

pytestmark = [pytest.mark.torch]


def on_disk(number: int, *, resident: int = 0, slots: int = 2, **said: Any) -> Any:
    streaming = {"num_slots": slots, "num_resident_blocks": resident, "num_visits": 1, "num_blocks_without_recompute": 0}
    return changed(offload="stream", streaming=streaming | {"num_disk_blocks": number}, **said)


def strategy_of(asked: Any) -> Any:
    return msgspec.convert(msgspec.to_builtins(asked), type(STRATEGY))


@pytest.mark.parametrize(
    ("quant", "number", "resident", "slots"),
    [("double", 5, 0, 2), ("double", 4, 1, 3), ("double", 3, 0, 1), ("int8", 2, 2, 2), ("none", 2, 0, 2)],
)
def test_what_is_learned_is_what_is_learned_without(quant: str, number: int, resident: int, slots: int, tmp_path: Path) -> None:
    """After steps with accumulation, whichever blocks wait there: bit for bit."""
    streams = strategy_of(on_disk(number, resident=resident, slots=slots, **QUANTS[quant]))
    plain = strategy_of(on_disk(0, resident=resident, slots=slots, **QUANTS[quant]))
    there, here = stepped(built(plain), plain, 3), stepped(built(streams, disk=tmp_path), streams, 3)
    assert there.keys() == here.keys()
    assert all(here[name].equal(tensor) for name, tensor in there.items())


def test_without_a_folder_for_them_no_block_goes_to_whatever_folder_one_stands_in() -> None:
    with pytest.raises(Ended, match="nothing says in which folder; set num_disk_blocks 0"):
        built(strategy_of(on_disk(3)))


def test_bytes_in_ram_and_on_the_disk_are_those_that_both_sides_count(tmp_path: Path) -> None:
    """In RAM two buffers beside the blocks that stay there; on the disk the others, in a file without a name."""
    streams = strategy_of(on_disk(3))
    streamed = streamed_of(built(streams, disk=tmp_path))
    assert streamed is not None
    whole = strategy_of(on_disk(0))
    plain = streamed_of(built(whole))
    assert plain is not None
    sizes = [block.layout.size_bytes for block in plain._blocks.values()]
    in_ram, away = parted(sizes, 3)
    assert (len(in_ram), len(away)) == (2, 3)
    assert streamed.held.arenas == (*arenas(in_ram), *(arena_bytes(size, 1) for size in staged(away)))
    assert sum(streamed.held.arenas) == waiting_bytes(sizes, 3)
    assert sum(away) <= streamed.held.disk_bytes < sum(away) + 3 * 4096
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_waits_on_the_disk_is_read_there(tmp_path: Path) -> None:
    """A state dict is whole at any time."""
    from remote.adapters import base_of

    there = base_of(built(STRATEGY)).state_dict()
    streams = strategy_of(on_disk(4, resident=1))
    model = built(streams, disk=tmp_path)
    stepped(model, streams, 1)
    found = base_of(model).state_dict()
    frozen = [name for name in there if "lora" not in name]
    assert all(found[name].equal(there[name]) for name in frozen)


def test_a_block_is_read_once_a_fetch(tmp_path: Path) -> None:
    """What is read ahead is what is visited next, at the turn-around as well: nothing is read in vain in a training step."""
    streams = strategy_of(on_disk(5))
    model = built(streams, disk=tmp_path)
    streamed = streamed_of(model)
    assert streamed is not None
    assert streamed.reader is not None
    stepped(model, streams, 1)
    before, fetched = streamed.reader.read_bytes, streamed.fetched_bytes
    stepped(model, streams, 4)
    streamed.reader.rest()
    read, carried = streamed.reader.read_bytes - before, streamed.fetched_bytes - fetched
    assert carried <= read <= carried + 2 * max(size for size in map(extent_bytes, streamed._blocks.values()))
    assert streamed.reader.bytes_per_s is not None


def extent_bytes(block: Any) -> int:
    assert isinstance(block.source, Extent)
    return block.source.size_bytes


# ── the file and who reads it ──────────────────────────────────────────────────────────────────────────────────────


def filled(number: int, size: int = 8192) -> Any:
    import torch

    return torch.full((size,), number, dtype=torch.uint8)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Reader]:
    def made(num_blocks: int, file: type[BlockFile] = BlockFile) -> Reader:
        blocks = file(tmp_path)
        extents = {number: blocks.add(filled(number)) for number in range(num_blocks)}
        return Reader(blocks, extents, [filled(255), filled(255)])

    return made


def test_what_is_expected_is_read_before_it_is_asked_for(read: Callable[..., Reader]) -> None:
    """As far as there are buffers, nearest first; what is wanted later gives way to what is wanted now."""
    reader = read(5)
    reader.expect([3, 4, 0, 1])
    reader.rest()
    assert [block for block in range(5) if reader.is_read(block)] == [3, 4]
    reader.expect([4, 0])
    reader.rest()
    assert [block for block in range(5) if reader.is_read(block)] == [0, 4]
    for block in (2, 0, 4, 3):
        assert reader.take(block).equal(filled(block))
        reader.give_back(block, lambda: None)


def test_a_buffer_is_not_filled_anew_before_it_has_been_carried_on(read: Callable[..., Reader]) -> None:
    reader, carried = read(3), threading.Event()
    first = reader.take(0)

    def once_carried() -> None:
        carried.wait(60)

    reader.give_back(0, once_carried)
    reader.take(1)
    reader.expect([1, 2])
    assert not reader.is_read(2)
    assert first.equal(filled(0))
    carried.set()
    assert reader.take(2).equal(filled(2))


class CutOff(BlockFile):
    """A file of which somebody took the end."""

    def read(self, extent: Extent, into: Any) -> None:
        os.ftruncate(self._fd, extent.start)
        super().read(extent, into)


def test_a_disk_that_does_not_give_a_block_back_ends_the_run_by_one_sentence(read: Callable[..., Reader]) -> None:
    with pytest.raises(Ended, match=r"^blocks that wait on the disk at \S+ can't be had: their file was cut off$") as end:
        read(2, CutOff).take(1)
    assert end.value.reason == EndReason.CRASHED


def test_a_disk_without_room_ends_the_run_before_it_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(10, 10, 4096))
    with pytest.raises(Ended, match=r"^a block that RAM shall not hold takes \S+ GiB of disk at ") as end:
        BlockFile(tmp_path).add(filled(1))
    assert end.value.reason == EndReason.DISK_FULL


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    streams = strategy_of(on_disk(1))
    with pytest.raises(Ended, match=r"^blocks can't lie on the disk at \S+nowhere: ") as end:
        random_model(CONFIG, streams, "cpu", disk=tmp_path / "nowhere")
    assert end.value.reason == EndReason.BAD_JOB


def test_fewer_than_none_are_refused_by_name() -> None:
    assert CAPABILITIES.missing(strategy_of(on_disk(-1))) == ("num_disk_blocks=-1",)
