"""Plans as data: each file of `cases/` is a question, a market and the answer. Add a case by adding a file."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from planner.asking.options.overlay import request_of
from planner.asking.options.table import request_options
from planner.asking.request import Request
from planner.plan import Plan, SearchResult
from planner.strategy.words import describe
from tests.planner.builders import ask, make_catalog, make_offer

CASES = sorted((Path(__file__).parents[1] / "cases").glob("*.toml"))


def asked(words: list[str]) -> Request:
    """The Request that these options make."""
    seen: dict[str, Any] = {}

    @click.command()
    @request_options
    def command(**options: Any) -> None:
        seen.update(options)

    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    return request_of(seen)


def offered(row: dict[str, Any]) -> Offer:
    """One machine of the case, on a card of the shipped catalog."""
    return make_offer(**{key: Decimal(value) if key in ("num_gpus", "usd_per_hour") else value for key, value in row.items()})


def told(plan: Plan) -> str:
    """A plan in one line: machine, verdict, strategy, and why it can't be run."""
    spot = " spot" if plan.offer.purchase == "spot" else ""
    why = f" ({plan.why_not})" if plan.why_not else ""
    return f"{plan.offer.instance_type}{spot}: {plan.verdict}, {describe(plan.strategy)}{why}"


def answer(result: SearchResult) -> dict[str, list[str]]:
    """What a case expects: the plans in their order, the ways out, who was refused."""
    ways = [f"{way.change}: {told(way.plan)}" for way in result.ways_out]
    return {
        "plans": [told(plan) for plan in result.plans],
        "ways_out": ways,
        "refused": [each.what for each in result.rejections],
    }


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_question_gets_its_answer(path: Path) -> None:
    """Order, strategies, verdicts and ways out, to the word; figures are held elsewhere, with their tolerance."""
    case = tomllib.loads(path.read_text())
    offers = [offered(row) for row in case["offers"]]
    gpus = tuple(read_catalog().gpus.values())
    result = answer(ask(asked(case["options"]), make_catalog(*offers, gpus=gpus)))
    assert {key: result[key] for key in case["expected"]} == case["expected"]


def test_there_are_cases() -> None:
    """An empty folder would prove nothing."""
    assert len(CASES) >= 6
