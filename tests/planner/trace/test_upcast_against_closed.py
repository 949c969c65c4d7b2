"""The closed form beside the trace where something of a base is cast to fp32."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benchmarks.estimates.trace_cases import cut
from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from planner.refusals import CaseError
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


OFF: dict[str, Any] = {"gradient_checkpointing": "off"}
IN_FP32: list[dict[str, Any]] = [  # without autocast attention computes in the norms' fp32, which flash kernels don't take
    {"method": "lora", "rank": 16, "quant": "nf4", "kbit_upcast": "full", "autocast": "none", **OFF},
    {"method": "ia3", "quant": "nf4", "kbit_upcast": "full", "autocast": "none", **OFF},
    {"method": "bottleneck", "rank": 16, "quant": "int8", "kbit_upcast": "full", "autocast": "none", **OFF},
    {"method": "lora", "rank": 16, "kbit_upcast": "norms", **OFF},  # plain linears give autocast's dtype
    {"method": "lora", "rank": 16, "quant": "nf4", "kbit_upcast": "norms", **OFF},  # packed ones the norms'
]


@pytest.mark.parametrize("family", ["llama-3.2-1b", "gemma-3-1b", "pythia-1b"])
@pytest.mark.parametrize("said", IN_FP32, ids=lambda said: "-".join(map(str, said.values())))
def test_what_norms_of_fp32_make_of_the_stream_is_counted(family: str, said: dict[str, Any]) -> None:
    """With few words, so that blocks decide and not the loss: what is too low calls a fit what runs out of memory."""
    config = cut(resolve_model(family, base=None).config, 3) | {"vocab_size": 2000}
    strategy = msgspec.convert({"seq_len": 512, "micro_batch_size": 2} | said, Strategy)
    traced = trace_vram(config, strategy).allocated_peak_bytes
    closed = estimate_vram(resolve_model(config, base=None), strategy).allocated_peak_bytes
    assert 0.97 * traced <= closed <= 1.09 * traced


UNEQUAL: list[dict[str, Any]] = [
    {"method": "lora", "rank": 16, "kbit_upcast": "norms", "autocast": "none"},
    {"method": "lora", "rank": 16, "quant": "nf4", "kbit_upcast": "norms", "autocast": "none"},
    {"method": "ia3", "quant": "nf4", "kbit_upcast": "none", "autocast": "none"},
    {"method": "vera", "rank": 64, "param_dtype": "float32", "adapter_dtype": "bfloat16", "autocast": "none"},
]


@pytest.mark.parametrize("said", UNEQUAL, ids=lambda said: "-".join(map(str, said.values())))
def test_operands_that_cuda_does_not_multiply_are_refused_by_both(said: dict[str, Any]) -> None:
    """The meta device multiplies fp32 by bf16, and a card ends such a step with an error."""
    config = cut(resolve_model("llama-3.2-1b", base=None).config, 1)
    strategy = msgspec.convert({"seq_len": 64} | said, Strategy)
    with pytest.raises(CaseError, match="which CUDA refuses"):
        trace_vram(config, strategy)
    with pytest.raises(CaseError):
        estimate_vram(resolve_model(config, base=None), strategy)


def test_gemma_takes_norms_of_fp32_without_autocast() -> None:
    """Its norms hand on the dtype that came in."""
    config = cut(resolve_model("gemma-3-1b", base=None).config, 2)
    said = {"method": "lora", "rank": 16, "seq_len": 512, "kbit_upcast": "norms", "autocast": "none"}
    strategy = msgspec.convert(said, Strategy)
    traced = trace_vram(config, strategy).allocated_peak_bytes
    assert estimate_vram(resolve_model(config, base=None), strategy).allocated_peak_bytes == pytest.approx(traced, rel=0.01)


SMALL_EXPERTS: dict[str, Any] = {"num_local_experts": 8, "hidden_size": 1024, "intermediate_size": 2048, "vocab_size": 2000}


@pytest.mark.parametrize("upcast", ["none", "norms"])
@pytest.mark.parametrize("family", ["mixtral-8x7b", "granite-3.0-1b-a400m"])
def test_what_experts_answer_is_weighted_in_the_routers_dtype(family: str, upcast: str) -> None:
    """Few tokens meet small experts, so that their answers decide: fp32 in Mixtral, that of upcast norms in Granite."""
    config = cut(resolve_model(family, base=None).config, 3)
    config |= {key: value for key, value in SMALL_EXPERTS.items() if key in config}
    said = {"method": "lora", "rank": 16, "target_modules": ["q_proj", "o_proj"], "kbit_upcast": upcast}
    strategy = msgspec.convert({"seq_len": 512, "micro_batch_size": 2} | said, Strategy)
    traced = trace_vram(config, strategy).allocated_peak_bytes
    closed = estimate_vram(resolve_model(config, base=None), strategy).allocated_peak_bytes
    assert 0.985 * traced <= closed <= 1.01 * traced
