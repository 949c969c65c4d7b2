"""The loop's own promises."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.adapters import adapt
from remote.contract import Event
from remote.data.batches import Shape
from remote.data.rows import Document
from remote.data.tokens import encode_rows
from remote.telemetry import Events
from remote.training.loop import TrainingLoop, evaluation_steps
from tests.remote.conftest import CONFIG, LOOP, STRATEGY, spec_of
from tests.remote.looping import training_of


@given(st.integers(1, 1000), st.integers(0, 20))
def test_evaluations_are_before_after_and_evenly_between(steps: int, evaluations: int) -> None:
    at = sorted(evaluation_steps(steps, evaluations))
    assert (at[0], at[-1]) == (0, steps)
    assert len(at) == min(evaluations + 2, steps + 1)
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.torch
def test_the_probe_steps_for_real_and_leaves_no_trace(
    tmp_path: Path, byte_tokenizer: Any, events_of: Callable[[Path], list[Event]]
) -> None:
    """Weights and random numbers are as before, the optimizer is new: a run with a probe is the run without one."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    spec = spec_of("r", STRATEGY, LOOP, planned_step_s=0.5)
    model = adapt(LlamaForCausalLM(LlamaConfig(**CONFIG)), STRATEGY, LOOP).train()
    rows = encode_rows([Document(text="word " * n) for n in range(1, 9)], byte_tokenizer, 32).examples
    shape = Shape(micro_batch_size=4, gradient_accumulation_steps=1, seq_len=32, padded=False, pad_token_id=0, device="cpu")
    with Events(tmp_path / "events.jsonl") as events:
        loop = TrainingLoop(training_of(spec, model, rows, shape, tmp_path, events))
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        state = torch.get_rng_state()
        loop.probe()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    (probe,) = [event.data for event in events_of(tmp_path / "job.json")]
    assert (probe["planned_step_s"], probe["tokens"]) == (0.5, 4 * 32)
    assert probe["step_s"] > 0
    assert (probe["judging_s"], probe["judged_tokens"]) == (0.0, 0)  # no rows are held out
    assert probe["save_s"] > 0
    assert probe["save_bytes"] > 3 * 4 * sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert 0 < probe["forecast_s"] < 1.01 * (probe["step_s"] * probe["total_steps"] + probe["save_s"])
    assert not list(tmp_path.glob(".making*"))
