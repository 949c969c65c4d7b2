"""The closed form beside the trace where LoRA's inputs are not cast to its fp32, and what that spares."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benchmarks.estimates.trace_cases import cut
from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from remote.contract import Strategy

pytestmark = pytest.mark.torch

FAMILIES = ("llama-3.2-1b", "qwen2.5-7b")
WAYS: dict[str, dict[str, Any]] = {
    "kept": {"gradient_checkpointing": "off"},
    "recomputed": {},
    "with dropout": {"dropout": 0.1},
    "lora_fa": {"optimizer": "lora_fa", "gradient_checkpointing": "off"},
}
# over these peft casts nothing in any case
PACKED: dict[str, dict[str, Any]] = {"nf4": {"quant": "nf4", "double_quant": True}, "int8": {"quant": "int8"}}


def peaks(family: str, said: dict[str, Any], *, casts: bool) -> tuple[int, int]:
    """Allocated bytes (traced, closed)."""
    config = cut(resolve_model(family, base=None).config, 3)
    shape = {"method": "lora", "rank": 16, "loss": "liger", "micro_batch_size": 2, "seq_len": 1024}
    strategy = msgspec.convert(shape | said | {"method_options": {"cast_input_dtype": casts}}, Strategy)
    closed = estimate_vram(resolve_model(config, base=None), strategy)
    return trace_vram(config, strategy).allocated_peak_bytes, closed.allocated_peak_bytes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_that_are_not_cast_take_what_the_closed_form_says_and_never_more(family: str, way: str) -> None:
    """Within half a per cent."""
    traced, closed = peaks(family, WAYS[way], casts=False)
    assert closed == pytest.approx(traced, rel=0.005)
    assert traced <= peaks(family, WAYS[way], casts=True)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recomputed_block_has_three_per_cent_less_at_its_peak(family: str) -> None:
    assert peaks(family, {}, casts=False)[0] < 0.97 * peaks(family, {}, casts=True)[0]


@pytest.mark.parametrize("quant", PACKED)
def test_over_packed_weights_it_changes_nothing(quant: str) -> None:
    assert peaks("llama-3.2-1b", PACKED[quant], casts=False) == peaks("llama-3.2-1b", PACKED[quant], casts=True)
