"""The host's memory for blocks that pass by: looked at before it is taken, pinned unless it is asked otherwise."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from remote.contract import BY_TWO_SLOTS, EndReason
from remote.ends import Ended
from remote.machine.ram import available_ram_bytes
from remote.streaming.store import HostStore
from tests.remote.streaming.test_streaming import built, changed, stepped

pytestmark = pytest.mark.torch

MIB = 2**20


def test_too_little_ram_ends_the_run_before_any_of_it_is_taken() -> None:
    """By one sentence: how much more, how much there is, what to do."""
    store = HostStore(4, pinned=False, available_bytes=lambda: 100 * MIB)
    with pytest.raises(Ended) as end:
        store.room(200 * MIB)
    assert end.value.reason == EndReason.OUT_OF_MEMORY
    assert str(end.value) == (
        "streaming needs 0.5 GiB more of RAM for its blocks, pinned at once: 0.1 are free; take a machine with more, or let "
        "blocks wait on its disk (--offload-disk)"
    )
    assert store.arena_bytes == []


def test_a_container_s_limit_counts_however_much_the_machine_has(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    for name, content in {"max": f"{64 * MIB}", "current": f"{60 * MIB}", "stat": f"inactive_file {MIB}"}.items():
        (tmp_path / f"box/memory.{name}").write_text(content)
    (tmp_path / "groups").write_text("0::/box\n")
    store = HostStore(
        2, pinned=False, available_bytes=lambda: available_ram_bytes(mount=tmp_path, own_groups=tmp_path / "groups")
    )
    assert store.room(2 * MIB).numel() == 2 * MIB
    with pytest.raises(Ended, match=r"0\.0 are free"):
        store.room(8 * MIB)


def test_memory_that_cannot_be_pinned_is_refused_and_not_taken_unpinned() -> None:
    """There is no driver here that could; the sentence says what is to be asked for instead."""
    with pytest.raises(
        Ended, match=r"^streaming needs \S+ GiB more of RAM .*; pinned false in the strategy's streaming takes"
    ) as end:
        HostStore(1, pinned=True).room(MIB)
    assert end.value.reason == EndReason.OUT_OF_MEMORY


def test_pageable_memory_is_taken_where_it_is_asked_for_and_what_is_learned_is_the_same() -> None:
    asked = [changed(offload="stream", streaming=msgspec.structs.replace(BY_TWO_SLOTS, pinned=each)) for each in (True, False)]
    pinned, pageable = (stepped(built(strategy), strategy, 2) for strategy in asked)
    assert all(pageable[name].equal(tensor) for name, tensor in pinned.items())
