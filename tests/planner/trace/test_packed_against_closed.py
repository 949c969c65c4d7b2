"""Closed form against trace of adapters on weights in 4 and 8 bits that peft's own layers can't hang there."""

from __future__ import annotations

import pytest

from benchmarks.estimates.trace_cases import cut
from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_counted
from planner.methods import trainable_params

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("checkpointing", ["off", "non_reentrant"])
@pytest.mark.parametrize(("method", "quant"), [("loha", "nf4"), ("lokr", "nf4"), ("lokr", "fp4"), ("dora", "int8")])
def test_an_adapter_on_packed_weights_takes_what_its_trace_takes(method: str, quant: str, checkpointing: str) -> None:
    config = cut(resolve_model("llama-3.2-1b").config, 4)
    said = {"model": config, "micro_batch_size": 4, "seq_len": 256, "method": method, "quant": quant}
    strategy = strategy_of(read_case(said | {"gradient_checkpointing": checkpointing}))
    traced = trace_counted(config, strategy)
    assert traced.num_trained == trainable_params(resolve_model(config), strategy)
    closed = estimate_vram(resolve_model(config), strategy).allocated_peak_bytes
    assert closed / traced.vram.allocated_peak_bytes == pytest.approx(1, abs=0.002)
