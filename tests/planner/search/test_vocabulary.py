"""Embedding and head in RAM beside streamed blocks: where a job fits by it alone, or gets quicker, and where RAM holds them."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from catalogs.catalog import Catalog
from planner.estimators.host import estimate_host, usable_ram_bytes
from planner.estimators.memory import estimate_vram
from planner.estimators.time.speed import StepTime, step_time
from planner.plan import Plan
from planner.strategy.stack import PINNED_STACK
from planner.strategy.words import describe
from planner.units import GB
from remote.contract import BY_TWO_SLOTS, PASSING_TOO, Strategy, passes_vocabulary
from tests.planner.builders import ask, make_catalog, make_gpu, make_offer, make_request

BASE: Final = resolve_model("32b")
MATRIX_BYTES: Final = 2 * BASE.vocabulary_size
STREAMED: Final = Strategy(
    method="lora", rank=16, quant="nf4", double_quant=True, micro_batch_size=4, gradient_accumulation_steps=4, seq_len=512,
    loss="liger", offload="stream", streaming=BY_TWO_SLOTS,
)  # fmt: skip
PASSING: Final = msgspec.structs.replace(STREAMED, streaming=PASSING_TOO)


def market(memory_gib: int, ram_gib: float) -> Catalog:
    card = make_gpu(f"Card {memory_gib}GB", memory_gib=float(memory_gib), driver_memory_mib=1024 * memory_gib - 512)
    return make_catalog(make_offer(gpu=card.name, ram_gib=ram_gib), gpus=(card,))


def planned(memory_gib: int, ram_gib: float = 64.0) -> Plan:
    return ask(make_request(model="32b"), market(memory_gib, ram_gib)).plans[0]


def test_a_card_on_which_nothing_else_fits_holds_the_job() -> None:
    strategy = planned(7).strategy
    assert passes_vocabulary(strategy)
    assert describe(strategy).endswith("streamed from RAM, embedding and head too")


def test_where_the_room_that_they_leave_makes_a_step_quicker_they_wait_in_ram() -> None:
    """On 12 GB more sequences go at once, on 16 GB the blocks are hidden anyhow: what waits for the head would only lose."""
    assert passes_vocabulary(planned(12).strategy)
    assert not passes_vocabulary(planned(16).strategy)


def test_a_machine_whose_ram_does_not_hold_them_streams_the_blocks_alone() -> None:
    wide = planned(12)
    short_gib = next(gib for gib in range(40, 16, -1) if usable_ram_bytes(gib) < wide.host.ram_peak_bytes)
    plan = planned(12, short_gib)
    assert plan.strategy.offload == "stream"
    assert not passes_vocabulary(plan.strategy)
    assert plan.host.ram_peak_bytes <= usable_ram_bytes(short_gib)


def test_they_are_off_the_card_in_every_instant_but_the_head_where_logits_are_made() -> None:
    staying, passing = (estimate_vram(BASE, each).by_instant for each in (STREAMED, PASSING))
    spared = {instant: staying[instant] - passing[instant] for instant in staying}
    assert spared.pop("loss") == MATRIX_BYTES
    assert MATRIX_BYTES <= spared.pop("evaluation") < 2 * MATRIX_BYTES
    assert set(spared.values()) == {2 * MATRIX_BYTES}


def test_their_ram_is_that_of_two_arenas() -> None:
    staying, passing = (estimate_host(BASE, each, num_gpus=1, on_cpu=False).ram_by_instant for each in (STREAMED, PASSING))
    assert passing["step"] - staying["step"] == 2 * 2**31


def test_a_step_waits_for_the_head_once_a_visit_and_for_the_rows_of_its_tokens() -> None:
    """What is waited for hides behind nothing, whatever the tokens."""

    def timed(strategy: Strategy) -> StepTime:
        return step_time(
            BASE, strategy, task="causal_lm", gpu=make_gpu(), stack=PINNED_STACK, mean_seq_len=512.0, interconnect="pcie"
        )  # fmt: skip

    shared = msgspec.structs.replace(PASSING, streaming=msgspec.structs.replace(PASSING_TOO, num_visits=4))
    staying, apart, together = map(timed, (STREAMED, PASSING, shared))
    rows_bytes = 4 * 512 * BASE.hidden_size * 2
    bytes_per_s = (MATRIX_BYTES + rows_bytes) / (apart.summed_s - staying.summed_s)
    assert 10 * GB < bytes_per_s < 32 * GB
    assert (together.summed_s - staying.summed_s) * bytes_per_s == pytest.approx(MATRIX_BYTES / 4 + rows_bytes)
    assert apart.link_s == staying.link_s
