"""Layer streaming on a card, where copies and kernels race: every gradient is the resident model's, and controls must fail.

On blocks of an 8B's size, each arm of `python -m benchmarks.streaming.campaign --only gradients`. Late copies and late kernels
lose each race that nobody guards; of the arm in which nobody waits for anybody the gradients must be wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from benchmarks.streaming.campaign import GRADIENT_TOKENS, KINDS, QLORA, REPEATABLE, shaped
from benchmarks.streaming.gradients import arms, by, gradient_rows
from catalogs.bases.models import resolve_model
from remote.adapters import adapt, base_of
from remote.bases.base import checkpoint_activations
from remote.checkpoints.checkpoint import trainable
from remote.contract import Loop, Strategy
from remote.measure.random_weights import random_batch, random_model, vocabulary_of
from remote.step import settings_of, step
from remote.streaming import settle
from remote.training.optimizers import build_optimizer

pytestmark = [pytest.mark.gpu, pytest.mark.torch]

CONFIG = shaped({**resolve_model("llama-3.1-8b").config, "num_hidden_layers": 4, "vocab_size": 1024}, tiny=False)
STRATEGY = msgspec.structs.replace(QLORA, seq_len=GRADIENT_TOKENS["cuda"], gradient_accumulation_steps=2)


@pytest.fixture(autouse=True, scope="module")
def card() -> Iterator[None]:
    """A card that torch computes on, repeatably: its products are to be summed in one order."""
    import torch

    if not torch.cuda.is_available():
        pytest.fail("this test needs an NVIDIA GPU that torch can use; run it by `make test-gpu` on a machine with one")
    before = {name: os.environ.get(name) for name in REPEATABLE}
    os.environ.update(REPEATABLE)
    yield
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.mark.parametrize("kind", KINDS)
def test_every_gradient_is_the_resident_model_s_whoever_is_late(kind: str) -> None:
    strategy = msgspec.structs.replace(STRATEGY, **KINDS[kind])
    rows = gradient_rows(CONFIG, strategy, "cuda")
    assert [row["arm"] for row in rows] == list(arms("cuda", strategy.quant))
    assert [row["arm"] for row in rows if not row["as_it_must_be"]] == []


def trained(strategy: Strategy) -> dict[str, Any]:
    """The adapter after 20 steps."""
    import torch

    torch.manual_seed(1)
    model = random_model(CONFIG, strategy, "cuda")
    torch.manual_seed(2)
    model = adapt(model, strategy, Loop())
    settle(model)
    checkpoint_activations(base_of(model), strategy)
    model.train()
    torch.manual_seed(3)
    optimizer, settings = build_optimizer(strategy, model, Loop()), settings_of(strategy, "cuda", 1.0)
    for _ in range(20):
        step(model, random_batch(strategy, vocabulary=vocabulary_of(CONFIG, model), device="cuda"), optimizer, settings)
    return {name: parameter.detach().cpu() for name, parameter in trainable(model)}


@pytest.mark.parametrize(("resident", "on_disk"), [(0, 0), (1, 0), (0, 3)])
def test_the_adapter_after_twenty_steps_is_the_same(resident: int, on_disk: int) -> None:
    there = trained(STRATEGY)
    here = trained(msgspec.structs.replace(STRATEGY, offload="stream", streaming=by(2, resident, on_disk)))
    assert [name for name, tensor in there.items() if not here[name].equal(tensor)] == []
