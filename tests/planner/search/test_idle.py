"""A wish that changes nothing is told with the reason: whoever said it would believe that it was heard."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import pytest

from catalogs.bases.models import resolve_model
from planner.asking.options.table import OPTIONS
from planner.asking.policy import Rule
from planner.asking.request import Keep, Purpose, Request, Where
from planner.notices.vain import UNREAD
from planner.search.market.idle import IDLE
from remote.contract import Loop
from tests.planner.builders import ask, make_catalog, make_offer, make_request

# Of every other option, why it never is without effect, or who refuses it where it would be.
ALWAYS: Final[dict[str, str]] = {
    "model": "it is what is planned",
    "data": "its rows are what is trained on",
    "columns": "by them rows are read; refused without a file",
    "examples": "so many rows are trained on",
    "tokens": "refused beside a file; else so many are trained on",
    "loop.epochs": "passes over the data",
    "loop.max_steps": "where it ends",
    "loop.learning_rate": "every optimizer has one",
    "training.method": "it is what is done",
    "training.quant": "how the weights are held; refused where they move",
    "training.micro_batch_size": "sequences of a pass",
    "global_batch_size": "sequences of a step",
    "training.gradient_accumulation_steps": "passes of a step",
    "training.gradient_checkpointing": "what is computed again; refused where nothing can be",
    "training.optimizer": "every method has one",
    "where.gpus": "what is looked at",
    "where.num_gpus": "what is looked at",
    "where.gpu_memory_gib": "what is looked at",
    "where.providers": "what is looked at",
    "where.regions": "what is looked at; refused where no offer has it",
    "task": "what is learned of the rows",
    "where.spot": "what is looked at; refused of one's own machines",
    "where.host": "where it runs",
    "where.allow_from": "who may reach the box; refused where none is rented",
    "budget.max_usd": "a limit that every plan is held against",
    "budget.max_hours": "a limit that every plan is held against",
    "budget.lease_hours": "what ends a box that nobody controls; not runnable where that ends no bill",
    "budget.goal": "which plan is recommended",
    "keep.volume_name": "a disk that outlives its box; not runnable where none can",
    "tags": "they stand in the ledger and in reports, too",
    "top": "how many are shown",
}


def test_every_option_is_heard_or_told_to_be_idle() -> None:
    told = {*IDLE, *(f"training.{key}" for key in UNREAD)}
    fields = {option.field for option in OPTIONS}
    assert fields - told == set(ALWAYS)
    assert set(IDLE) <= fields


RULE: Final = Rule(key="providers", allows=("cloud",), said_in="the default", may_be_overruled=True)


def notes(request: Request, **market: Any) -> list[str]:
    """What is told of wishes that change nothing."""
    offer = make_offer(**market)
    warnings = ask(request, make_catalog(offer), architecture=resolve_model("7b"), rules=(RULE,)).warnings
    return [warning for warning in warnings if "changes nothing here" in warning]


def job(*, training: dict[str, Any] | None = None, **purpose: Any) -> Request:
    """The default job for a purpose."""
    return make_request(purpose=Purpose(**purpose), training=training or {})


@pytest.mark.parametrize(
    ("request_", "note"),
    [
        (job(imbalance=20.0), "imbalance changes nothing here: the advice asks for use_case classification or extraction"),
        (job(use_case="classification", imbalance=2.0), "imbalance changes nothing here: classes count as skewed from 10 on"),
        (job(deployment="edge", training={"method": "ia3"}), "deployment changes nothing here: what it advises is of methods"),
        (job(deployment="edge", training={"quant": "nf4"}), "deployment changes nothing here: what it advises was said"),
        (job(use_case="style", training={"method": "full"}), "and the job says full"),
        (make_request(training={"seq_len": 4096}), "seq_len changes nothing here: the longest row has 512 tokens"),
        (make_request(model="./folder", revision="main"), "revision changes nothing here: the base does not come from the hub"),
        (
            make_request(where=Where(power_usd_per_kwh=Decimal("0.3"))),
            "power_price changes nothing here: no card of yours is on offer",
        ),
        (
            make_request(training={"method": "full"}, where=Where(offload_disk=True)),
            "offload_disk changes nothing here: full trains the base's own parameters, and only frozen blocks are streamed",
        ),
        (make_request(keep=Keep(environment=False)), "keep_environment changes nothing here: only a host of yours keeps one"),
        (make_request(overruled=("hosts",)), "overrule_policy changes nothing here: no policy says hosts"),
    ],
)
def test_what_is_idle_is_told_in_one_line(request_: Request, note: str) -> None:
    (told,) = notes(request_)
    assert note in told


@pytest.mark.parametrize(
    "request_",
    [
        make_request(),
        job(use_case="classification", imbalance=20.0),
        job(deployment="edge"),
        make_request(training={"seq_len": 256}),
        make_request(where=Where(offload_disk=True)),
        make_request(training={"method": "lora"}, where=Where(offload_disk=True)),
        make_request(model="SmolLM2-135M", revision="main"),
        make_request(where=Where(host="me@there"), keep=Keep(environment=False)),
        make_request(overruled=("providers",)),
        make_request(loop=Loop(epochs=1.0)),
    ],
)
def test_what_is_heard_is_not_told(request_: Request) -> None:
    assert notes(request_) == []


def test_a_price_of_electricity_is_heard_where_this_machine_is_on_offer() -> None:
    asked = make_request(where=Where(power_usd_per_kwh=Decimal("0.3")))
    assert len(notes(asked)) == 1
    assert notes(asked, gpu_free_mib=20_000) == []
