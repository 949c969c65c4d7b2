"""Plans on disk: written by `--save`, read by `run`."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest

from planner.asking.request import RequestError
from planner.plan import PLAN_VERSION, Plan, SearchResult
from planner.saved import read_plan, write_plan
from tests.planner.builders import make_plan, make_request


def result(*plans: Plan) -> SearchResult:
    """An answer with these plans."""
    return SearchResult(request=make_request(), plans=plans, rejections=(), warnings=())


def test_a_plan_reads_back_equal() -> None:
    """Nothing is lost, not a cent."""
    assert read_plan(write_plan(make_plan()), name="plan.json") == make_plan()


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ('"seq_len": 512', '"seq_len": 4096'),
        ('"num_gpus": 1', '"num_gpus": 64'),
        ('"p50": ', '"p50": 1'),
        ('"fits"', '"tight"'),
    ],
)
def test_a_plan_that_was_changed_after_it_was_saved_is_refused(said: str, instead: str) -> None:
    """Its figures belong together: more tokens a step on the same card are another plan, and may fit nowhere."""
    saved = write_plan(make_plan())
    assert said in saved
    with pytest.raises(RequestError, match=r"p\.json was changed after it was saved") as refused:
        read_plan(saved.replace(said, instead, 1), name="p.json")
    assert "job file" in (refused.value.hint or "")


def test_how_a_saved_plan_is_laid_out_is_nobodys_business() -> None:
    """A tool that sorts its keys or takes its blanks out changes nothing."""
    saved = json.loads(write_plan(make_plan()))
    assert read_plan(json.dumps(saved, sort_keys=True), name="p.json") == make_plan()


def test_the_answer_of_plan_json_holds_the_recommended_plan() -> None:
    """`plan --json > plan.json` can be run, bare or in the envelope."""
    answer = result(make_plan(why_not="price only: no"), make_plan())
    bare = msgspec.json.encode(answer).decode()
    enveloped = msgspec.json.encode({"command": "plan", "status": "success", "data": answer}).decode()
    assert read_plan(bare, name="x") == read_plan(enveloped, name="x") == make_plan()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("price only: this version cannot rent from elsewhere", "price only"),
        ("not yet runnable: the trainer cannot do sharding=fsdp", "not yet runnable"),
        ("yours: run it there with --gpu here", "yours"),
        ("RAM and cores unknown: nobody states it", "unknown"),
    ],
)
def test_the_kind_of_an_obstacle_survives_the_json(words: str, kind: str) -> None:
    """The JSON holds one sentence, under the name that it has had in every version."""
    written = msgspec.json.encode(make_plan(why_not=words))
    assert json.loads(written)["runnable"] == words
    obstacle = msgspec.json.decode(written, type=Plan).obstacle
    assert obstacle is not None
    assert (obstacle.kind, obstacle.words) == (kind, words)


def test_only_what_can_be_run_is_recommended() -> None:
    """The cheapest of those; none is none."""
    dear = make_plan(assumptions=("dearer",))
    assert result(make_plan(why_not="not yet runnable: no"), make_plan(), dear).recommended == make_plan()
    assert result(make_plan(why_not="price only: no")).recommended is None


def test_what_is_tight_is_recommended_only_where_nothing_that_fits_can_be_run() -> None:
    """A run that ends out of memory is no bargain."""
    tight, fits = make_plan(verdict="tight"), make_plan(provider_status="dearer")
    assert result(tight, fits).recommended == fits
    assert result(tight, make_plan(why_not="price only: no")).recommended == tight


@pytest.mark.parametrize("price", ["0", "-1", "Infinity", "1e-400"])
def test_a_saved_plan_that_rents_for_nothing_is_refused(price: str) -> None:
    """Its price is what the deadline is reckoned from: at nothing an hour no budget ends."""
    offer = msgspec.structs.replace(make_plan().offer, usd_per_hour=Decimal(price))
    with pytest.raises(RequestError, match="the price of an hour is"):
        read_plan(write_plan(make_plan(offer=offer)), name="p.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "p.json is not a plan"),
        ("[" * 200_000, "p.json is not a plan"),
        ("[]", "p.json is not a plan"),
        ("{}", "p.json is not a plan"),
        (msgspec.json.encode(result()).decode(), "holds no plan that this version can run"),
        (
            write_plan(make_plan(schema_version=PLAN_VERSION + 1)),
            f"plan version {PLAN_VERSION + 1}; this version reads {PLAN_VERSION}",
        ),
        (write_plan(make_plan(schema_version=1)), f"plan version 1; this version reads {PLAN_VERSION}"),
    ],
)
def test_what_is_no_plan_is_told_by_its_file_name(text: str, words: str) -> None:
    """With what to do instead."""
    with pytest.raises(RequestError, match=words) as refused:
        read_plan(text, name="p.json")
    assert refused.value.hint
