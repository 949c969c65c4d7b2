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


def test_a_prompt_on_t5_stands_before_the_encoder_alone() -> None:
    """Left alone, peft makes one for the decoder as well, and reads it nowhere."""
    case = {"model": TINY, "task": "seq2seq", "method": "prompt_tuning", "num_virtual_tokens": 10, "seq_len": 64}
    for engine in ("closed_form", "trace"):
        made = answer(case | {"engine": engine}, read_catalog(), None)
        assert (made["engine"], made["trainable_params"]) == (engine, 10 * TINY["d_model"])
