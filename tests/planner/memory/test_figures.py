"""Estimates that are shared between cards are those of each card."""

from __future__ import annotations

import pytest

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.advise import advise
from planner.estimators.memory import available_bytes, judged, verdict
from planner.estimators.memory.card.process import needs_of
from planner.search.figures import Figures
from planner.search.ways.strategies import strategies
from planner.strategy.words import describe
from remote.contract import Strategy
from tests.planner.builders import make_request

REQUEST = make_request(model="3b")
BASE = resolve_model("3b")
LADDERS = tuple(strategies(advise(REQUEST, BASE), model="3b", seq_len=512, num_gpus=1, computes_in="bfloat16"))


@pytest.mark.parametrize("strategy", [LADDERS[0][0], LADDERS[1][-1], LADDERS[-1][-1]], ids=describe)
def test_a_class_of_cards_stands_for_each_of_them(strategy: Strategy) -> None:
    """What one estimate per class says of a card, its own estimate says, too: for every card that is sold."""
    figures = Figures(BASE, REQUEST, advise(REQUEST, BASE), seq_len=512)
    for gpu in read_catalog().gpus.values():
        own, shared = figures.vram(strategy, gpu), figures.needs(strategy, gpu)
        assert needs_of(own) == shared, gpu.name
        has_bytes = available_bytes(gpu, None)
        assert verdict(own, has_bytes) == judged(shared, has_bytes), gpu.name


@pytest.mark.parametrize("num_gpus", [1, 2, 8])
def test_memory_falls_along_a_ladder(num_gpus: int) -> None:
    """So the search may halve its way to the largest micro-batch that fits."""
    figures = Figures(BASE, REQUEST, advise(REQUEST, BASE), seq_len=512)
    for ladder in figures.ladders(num_gpus, computes_in="bfloat16").usual:
        required = [figures.needs(strategy, None).required_bytes for strategy in ladder]
        assert required == sorted(required, reverse=True), describe(ladder[0])


@pytest.mark.parametrize("num_gpus", [1, 2, 4, 8])
def test_every_strategy_makes_the_same_optimizer_step(num_gpus: int) -> None:
    """Sequences per step don't depend on how they are cut into passes and spread over GPUs."""
    figures = Figures(BASE, REQUEST, advise(REQUEST, BASE), seq_len=512)
    for ladder in figures.ladders(num_gpus, computes_in="bfloat16").usual:
        for strategy in ladder:
            assert strategy.micro_batch_size * strategy.gradient_accumulation_steps * num_gpus == 16


def test_int8_is_never_sharded_and_four_bits_only_in_a_dtype_that_can_be() -> None:
    """The int8 weights of bitsandbytes can't be cut; packed 4-bit ones can when stored as bfloat16."""
    figures = Figures(BASE, REQUEST, advise(REQUEST, BASE), seq_len=512)
    sharded = [ladder[0] for ladder in figures.ladders(4, computes_in="bfloat16").usual if ladder[0].sharding == "fsdp"]
    assert {(strategy.quant, strategy.quant_storage) for strategy in sharded} == {("none", "uint8"), ("nf4", "bfloat16")}


def test_what_was_said_is_in_every_strategy() -> None:
    """Search varies only what was left open."""
    training = {"rank": 4, "quant": "nf4", "micro_batch_size": 2, "gradient_checkpointing": "reentrant", "dropout": 0.1}
    advice = advise(make_request(training=training), BASE)
    (ladder,) = strategies(advice, model="3b", seq_len=512, num_gpus=1, computes_in="bfloat16")
    (strategy,) = ladder
    for key, value in training.items():
        assert getattr(strategy, key) == value
    assert strategy.double_quant
