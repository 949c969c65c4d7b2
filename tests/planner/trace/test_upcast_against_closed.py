"""The closed form beside the trace where a base that is not quantized is cast to fp32 whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benchmarks.trace_cases import cut
from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from remote.contract import Strategy

pytestmark = pytest.mark.torch

CAST: dict[tuple[str, str], dict[str, Any]] = {
    ("llama-3.2-1b", "full"): {},  # 36 % low with gradients and states of what was loaded, and a fit that ran out of memory
    ("gpt2", "full"): {"autocast": "none"},
    ("pythia-1b", "full"): {},
    ("bloom-560m", "full"): {"attention": "eager"},
    ("falcon-rw-1b", "full"): {},
    ("llama-3.2-1b", "freeze"): {"trainable_layers": 1},
    ("llama-3.2-1b", "lora"): {"rank": 16, "autocast": "none", "gradient_checkpointing": "off"},
    ("llama-3.2-1b", "ln_tuning"): {},
}


@pytest.mark.parametrize(("family", "method"), CAST)
def test_what_is_cast_whole_is_a_base_of_fp32(family: str, method: str) -> None:
    config = cut(resolve_model(family, base=None).config, 2)
    said = {"method": method, "seq_len": 512, "kbit_upcast": "full"} | CAST[family, method]
    strategy = msgspec.convert(said, Strategy)
    traced = trace_vram(config, strategy).allocated_peak_bytes
    closed = estimate_vram(resolve_model(config, base=None), strategy).allocated_peak_bytes
    assert closed == pytest.approx(traced, rel=0.01)
