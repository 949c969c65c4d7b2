"""Levers: who types their words into the case gets the job that they promise."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, stack_of, strategy_of
from planner.estimators.memory.card.levers import LEVERS, Change, steps_of

SPREAD: dict[str, Any] = {"model": "8b", "num_gpus": 8, "num_nodes": 2, "sharding": "ddp"}
CASES: dict[str, dict[str, Any]] = {
    "lora on two machines": SPREAD
    | {"rank": 16, "alpha": 24, "micro_batch_size": 6, "gradient_accumulation_steps": 3, "attention": "eager"}
    | {"gradient_checkpointing": "off", "optimizer": "adamw_torch"},
    "nf4 on three machines": SPREAD | {"num_gpus": 6, "num_nodes": 3, "quant": "nf4", "micro_batch_size": 5},
    "full, cut in four": SPREAD | {"method": "full", "tensor_parallel_size": 4, "optimizer": "adamw_8bit"},
    "short rows in long ones": {"model": "8b", "seq_len": 4096, "mean_seq_len": 1800.5},
    "bottleneck": {"model": "8b", "method": "bottleneck", "rank": 12, "micro_batch_size": 9},
}


def pulled(said: dict[str, Any]) -> list[Change]:
    case = read_case(said)
    architecture, strategy, stack = resolve_model(case.model), strategy_of(case), stack_of(case)
    return [change for lever in LEVERS for change in steps_of(lever, strategy, architecture, stack, case.mean_seq_len)]


def typed(words: str) -> dict[str, Any]:
    """`key value with key value and key`, as keys of a case."""
    pairs = (part.partition(" ") for part in re.split(" with | and ", words))
    return {key: _value(value) for key, _, value in pairs}


def _value(text: str) -> Any:
    if "," in text:
        return text.split(",")
    try:
        return json.loads(text or "true")
    except json.JSONDecodeError:
        return text


@pytest.mark.parametrize("name", CASES)
def test_a_lever_s_words_typed_into_the_case_are_its_change(name: str) -> None:
    """A case with its own alpha, several machines or parallel sizes is accepted with them, and means what was estimated."""
    changes = pulled(CASES[name])
    assert len(changes) > 6
    for change in changes:
        assert strategy_of(read_case(CASES[name] | typed(change.words))) == change.strategy, change.words


@pytest.mark.parametrize("name", CASES)
def test_no_lever_changes_how_many_sequences_a_step_learns_from_or_how_strongly_an_adapter_counts(name: str) -> None:
    before = strategy_of(read_case(CASES[name]))
    sequences = before.micro_batch_size * before.gradient_accumulation_steps
    for words, _, after, _ in pulled(CASES[name]):
        assert after.micro_batch_size * after.gradient_accumulation_steps == sequences, words
        if before.rank is not None and before.alpha is not None and after.rank is not None and after.alpha is not None:
            assert after.alpha / after.rank == before.alpha / before.rank, words
