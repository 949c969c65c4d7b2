"""Closed form against trace of what is trained on a decoder beside an encoder other than adapters on linears."""

from __future__ import annotations

from typing import Any, Final

import pytest

from benchmarks.estimates.trace_cases import cut
from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_counted
from planner.methods import trainable_params

pytestmark = pytest.mark.torch

PLAIN: Final[dict[str, Any]] = {"param_dtype": "float32", "autocast": "none", "padded": True, "num_virtual_tokens": 20}
OFF: Final[dict[str, Any]] = {"gradient_checkpointing": "off"}
CASES: Final[tuple[tuple[str, str, dict[str, Any], float], ...]] = (  # how high the closed form may be
    ("t5-base", "prompt_tuning", {}, 0.02),
    ("t5-base", "prompt_tuning", OFF, 0.02),
    ("t5-base", "p_tuning", {}, 0.02),
    ("t5-base", "lora_prompt", {}, 0.02),
    ("t5-base", "lora_prompt", OFF, 0.02),
    ("t5-base", "prefix_tuning", OFF, 0.02),
    ("t5-base", "bottleneck", {}, 0.02),
    ("t5-base", "bottleneck", OFF, 0.045),
    ("t5-base", "freeze", {"trainable_layers": 2}, 0.02),
    ("t5-base", "freeze", OFF | {"trainable_layers": 2}, 0.02),
    ("mt5-small", "prompt_tuning", {}, 0.02),
    ("mt5-small", "prefix_tuning", OFF, 0.02),
)


@pytest.mark.parametrize(("family", "method", "said", "high"), CASES, ids=str)
def test_two_stacks_take_what_their_trace_takes(family: str, method: str, said: dict[str, Any], high: float) -> None:
    config = cut(resolve_model(family).config, 3)
    case = {"model": config, "micro_batch_size": 8, "seq_len": 256, "method": method} | PLAIN | said
    strategy = strategy_of(read_case(case))
    traced = trace_counted(config, strategy, task="seq2seq")
    assert traced.num_trained == trainable_params(resolve_model(config), strategy, task="seq2seq")
    closed = estimate_vram(resolve_model(config), strategy, task="seq2seq").allocated_peak_bytes
    assert -0.015 < closed / traced.vram.allocated_peak_bytes - 1 < high
