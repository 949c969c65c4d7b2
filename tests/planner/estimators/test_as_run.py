"""Where a stack does otherwise than it is asked, memory and time are those of what it does, and the answer says so."""

from __future__ import annotations

from typing import Any

import pytest

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.asking.case import read_case, stack_of, strategy_of
from planner.estimate import answer
from planner.strategy.as_run import DEPARTURES, as_run, departures

CATALOG = read_catalog()
ON_A_CARD: dict[str, Any] = {"gpu": "A100-SXM4-80GB", "micro_batch_size": 4, "seq_len": 1024}
# one case for each row of DEPARTURES, in its order, and what of the answer says the same where it is asked for outright
CASES: tuple[dict[str, Any], ...] = (
    ON_A_CARD | {"model": "falcon-7b", "quant": "nf4", "kbit_upcast": "full"},
    ON_A_CARD | {"model": "8b", "quant": "nf4", "quant_storage": "bfloat16", "stack": "trl", "sharding": "fsdp", "num_gpus": 4},
    ON_A_CARD | {"model": "8b", "quant": "nf4", "sharding": "zero2", "num_gpus": 2},
    ON_A_CARD | {"model": "8b", "autocast": "float16", "param_dtype": "float32", "sharding": "zero3", "num_gpus": 2},
    ON_A_CARD | {"model": "8b", "stack": "unsloth"},
)


@pytest.mark.parametrize("row", range(len(DEPARTURES)))
def test_what_is_run_is_what_is_estimated_in_memory_and_in_time(row: int) -> None:
    departure, said = DEPARTURES[row], CASES[row]
    asked, outright = (answer(case, CATALOG, None) for case in (said, said | departure.instead))
    assert asked["vram"] == outright["vram"]
    assert asked["time"] == outright["time"]
    mentioned = set(asked["warnings"]) - set(outright["warnings"])
    assert len(mentioned) == 1
    assert "estimated" in mentioned.pop()


def test_each_departure_has_a_case_and_changes_a_strategy() -> None:
    """And once departed, there is nothing left to depart from."""
    for row, said in zip(DEPARTURES, CASES, strict=True):
        case = read_case(said)
        architecture, strategy, stack = resolve_model(case.model), strategy_of(case), stack_of(case)
        run = as_run(architecture, strategy, stack)
        assert {key: getattr(run, key) for key in row.instead} == row.instead
        assert run != strategy
        assert not tuple(departures(architecture, run, stack))
