"""The closed form beside the trace where frames of Python hold what no graph needs: arguments of modules, locals of blocks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from benchmarks.estimates.trace_cases import LORA, cut
from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from planner.strategy.stack import EvaluationAsked, Stack
from remote.contract import Strategy, Task

pytestmark = pytest.mark.torch

OFF: dict[str, Any] = {"gradient_checkpointing": "off"}
EAGER: dict[str, Any] = {"attention": "eager"}
WIDE: dict[str, Any] = {"quant": "nf4", "kbit_upcast": "norms"}
REENTRANT: dict[str, Any] = {"gradient_checkpointing": "reentrant"}
FEW_WORDS: dict[str, Any] = {"vocab_size": 2000, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
SMALL: dict[str, dict[str, Any]] = {  # experts as they are, but few
    "qwen3-30b-a3b": {"num_experts": 8},
    "moonlight-16b-a3b": {"n_routed_experts": 8},
    "gpt-oss-20b": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "llama-4-scout": {"num_local_experts": 4},
}
HELD: list[tuple[str, dict[str, Any]]] = [  # how far off they were, of a step or of evaluation
    ("llama-3.2-1b", {}),  # −1.1 %: the embedding's output is a local of the model
    ("llama-3.2-1b", OFF),  # −1.5 %: so is the block's input, and a module's input an argument until it returns
    ("pythia-1b", OFF),  # −3.5 %
    ("falcon-rw-1b", {}),  # −16 %: evaluation has a mask of pairs as training has
    ("falcon-rw-1b", OFF | EAGER),  # −35 %: every step from scores to weights has a name of its own
    ("bloom-560m", EAGER),  # −20 %, and a stream of fp32 from the norm behind its embeddings on
    ("bloom-560m", EAGER | WIDE | REENTRANT),  # −14 %: weights are handed back in the dtype of queries, and get zeros
    ("gpt2", EAGER | WIDE | REENTRANT),  # −7 %
    ("gpt2", {"quant": "int8"}),  # −4 %: its input hangs on the first pass's nodes, and is made again beside it
]


@pytest.mark.parametrize(("family", "said"), HELD, ids=lambda said: said if isinstance(said, str) else "-".join(said.values()))
def test_what_frames_hold_is_counted(family: str, said: dict[str, Any]) -> None:
    """With few words, so that blocks decide and not the loss."""
    config = cut(resolve_model(family, base=None).config, 2) | FEW_WORDS
    strategy = msgspec.convert(LORA | {"seq_len": 512, "micro_batch_size": 2} | said, Strategy)
    traced, closed = trace_vram(config, strategy), estimate_vram(resolve_model(config, base=None), strategy)
    assert 0.985 * traced.allocated_peak_bytes <= closed.allocated_peak_bytes <= 1.011 * traced.allocated_peak_bytes
    assert traced.evaluation_peak_bytes is not None
    assert closed.evaluation_peak_bytes is not None
    assert 0.98 * traced.evaluation_peak_bytes <= closed.evaluation_peak_bytes <= 1.01 * traced.evaluation_peak_bytes


BESIDE: list[tuple[str, dict[str, Any], Task]] = [  # how far off evaluation was
    ("granite-3.0-1b-a400m", {"loss": "chunked"}, "causal_lm"),  # −19 %: what experts answer is a local until it is in order
    ("qwen3-30b-a3b", {"loss": "chunked", "target_modules": ("q_proj", "v_proj")}, "causal_lm"),  # −20 %
    ("moonlight-16b-a3b", {"loss": "chunked"}, "causal_lm"),  # −10 %: and the sums of the experts' matrices and LoRA's
    ("llama-4-scout", {"loss": "chunked", "target_modules": ("q_proj", "v_proj")}, "causal_lm"),  # −6 %: so is what they get
    ("gpt-oss-20b", EAGER | {"loss": "chunked", "target_modules": ("q_proj",)}, "causal_lm"),  # −27 %: scores before the sinks
    ("bert-base-uncased", {"method": "dora"}, "classification"),  # −18 %: what DoRA multiplies
    ("bert-base-uncased", {"method": "ia3", "target_modules": "default"}, "classification"),  # −13 %: the input before factors
]


@pytest.mark.parametrize(("family", "said", "task"), BESIDE, ids=lambda said: said if isinstance(said, str) else "")
def test_what_frames_hold_is_counted_where_evaluation_is_larger_than_training(
    family: str, said: dict[str, Any], task: Task
) -> None:
    """With a batch of its own, and so few parameters that what it computes decides."""
    config = cut(resolve_model(family, base=None).config, 2) | SMALL.get(family, {}) | FEW_WORDS
    strategy = msgspec.convert(LORA | {"seq_len": 128, "micro_batch_size": 1} | said, Strategy)
    stack = Stack(evaluation=EvaluationAsked(micro_batch_size=32, seq_len=512))
    traced = trace_vram(config, strategy, task=task, stack=stack)
    closed = estimate_vram(resolve_model(config, base=None), strategy, task=task, stack=stack)
    assert closed.judged_instant == "evaluation"
    assert 0.98 * traced.evaluation_peak_bytes <= closed.evaluation_peak_bytes <= 1.02 * traced.evaluation_peak_bytes
    assert 0.98 * traced.required_bytes <= closed.required_bytes <= 1.02 * traced.required_bytes
