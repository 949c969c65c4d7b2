"""T5 by both engines: each side has `seq_len` tokens, biases of positions are shared, one linear is never packed."""

from __future__ import annotations

from typing import Any

import pytest

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.estimate import answer
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from remote.contract import Strategy

pytestmark = pytest.mark.torch

TINY: dict[str, Any] = {
    "model_type": "t5",
    "d_model": 256,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "vocab_size": 4096,
}
LORA: dict[str, Any] = {"method": "lora", "rank": 8}


@pytest.mark.parametrize(
    "way",
    [
        LORA,
        LORA | {"padded": True, "gradient_checkpointing": "off"},
        LORA | {"quant": "nf4", "kbit_upcast": "full"},
        {"method": "full", "autocast": "none", "gradient_checkpointing": "off"},
    ],
    ids=["checkpointed", "padded", "quantized", "full"],
)
def test_closed_form_and_trace_agree_on_t5(way: dict[str, Any]) -> None:
    """In a step, and where held-out rows are judged: there the loop makes a loss beside the model's own."""
    strategy = Strategy(**way, micro_batch_size=2, seq_len=512)
    traced = trace_vram(TINY, strategy, task="seq2seq")
    closed = estimate_vram(resolve_model(TINY), strategy, task="seq2seq")
    assert closed.allocated_peak_bytes == pytest.approx(traced.allocated_peak_bytes, rel=0.01)
    assert closed.evaluation_peak_bytes == pytest.approx(traced.evaluation_peak_bytes, rel=0.02)


def test_a_checkpoint_with_a_head_of_its_own_keeps_it() -> None:
    """Code ties the head of T5, and loading leaves it apart where a checkpoint holds two matrices that differ."""
    strategy = Strategy(**LORA, micro_batch_size=1, seq_len=64)
    tied, apart = (trace_vram(TINY | {"tie_word_embeddings": tied}, strategy, task="seq2seq") for tied in (True, False))
    assert apart.by_instant["load"] - tied.by_instant["load"] == TINY["vocab_size"] * TINY["d_model"] * 2


def test_a_prompt_on_t5_is_traced_and_its_parameters_counted_there() -> None:
    """There is no formula for it. peft makes a prompt for the encoder and one for the decoder, and counts both."""
    case = {"model": TINY, "task": "seq2seq", "method": "prompt_tuning", "num_virtual_tokens": 10, "seq_len": 64}
    made = answer(case, read_catalog(), None)
    assert made["engine"] == "trace"
    assert made["trainable_params"] == 2 * 10 * TINY["d_model"]
