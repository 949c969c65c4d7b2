"""Which bases a card trains: of each family the largest that it surely holds whole, with the plan that a search gives it."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import pytest

from catalogs.bases.models import registry, resolve_model
from catalogs.catalog import Catalog
from catalogs.failure import Failure
from planner.asking.request import Budget, DataAsked, Keep, Where
from planner.edges import Edges
from planner.plan import Provider
from planner.report.bases import render_bases, why_none
from planner.search.bases import BaseHeld, BasesHeld, largest_held
from planner.search.market.offers import on_sale
from remote.contract import CAPABILITIES
from tests.planner.builders import CLOUD, TODAY, ask, make_catalog, make_gpu, make_offer, make_request

MARKET = make_catalog(make_offer())


def held(
    catalog: Catalog = MARKET, provider: Provider = CLOUD, kept_at: tuple[tuple[str, str], ...] = (), **request: Any
) -> BasesHeld:
    """On a market of one card of 24 GB, unless another is named."""
    edges = Edges(providers={"cloud": provider}, capabilities=CAPABILITIES, today=TODAY, kept_at=lambda _name: kept_at)
    return largest_held(make_request(**request), edges, on_sale(catalog, edges))


@cache
def usual() -> dict[str, BaseHeld]:
    """The default job on that card, by family."""
    return {base.family: base for base in held().bases}


def test_each_family_has_one_row_and_the_largest_base_comes_first() -> None:
    """In the order of their parameters, whatever the job costs."""
    sizes = [base.num_params for base in usual().values()]
    assert len(sizes) > 20
    assert sizes == sorted(sizes, reverse=True)


def test_all_are_held_whole_and_surely_on_one_card() -> None:
    """Nothing waits in RAM, and what is tight is not told."""
    ways = {(base.plan.verdict, base.plan.strategy.offload, base.plan.strategy.num_gpus) for base in usual().values()}
    assert ways == {("fits", "none", 1)}


def test_a_shape_without_weights_is_no_base_to_train() -> None:
    """The catalog knows some for the sake of measurements, as the largest of GPT-2's type."""
    assert not next(row for row in registry() if row.name == "mpt-13b").hub
    assert all(base.hub for base in usual().values())


@pytest.mark.parametrize("family", ["qwen2", "llama", "falcon"])
def test_no_larger_base_of_the_family_fits(family: str) -> None:
    """As a search for each of them says: it finds no plan on such a card, or a tight one."""
    largest = usual()[family]
    larger = [row for row in registry() if (row.num_params or 0) > largest.num_params]
    larger = [row for row in larger if resolve_model(row.name).model_type == family]
    assert larger, "there is one to refuse"
    for row in larger:
        result = ask(make_request(model=row.name, where=Where(num_gpus=1), training={"offload": "none"}), MARKET)
        assert all(plan.verdict != "fits" for plan in result.plans), row.name


def test_its_plan_is_the_one_that_a_search_recommends() -> None:
    """Bit for bit, so that the command below the table shows what the table said."""
    base = usual()["qwen2"]
    assert base.plan == ask(base.plan.request, MARKET).recommended


def test_an_encoder_is_a_base_where_classes_are_learned_and_nowhere_else() -> None:
    """What can't be trained as asked is passed over, and no row says why."""
    assert "deberta-v2" not in usual()
    assert "deberta-v2" in {base.family for base in held(task="classification").bases}


def test_a_smaller_card_holds_smaller_bases() -> None:
    """Of no family a larger one, and of some a smaller one."""
    small = make_gpu("Card 16GB", memory_gib=16.0, driver_memory_mib=16_380)
    fewer = held(make_catalog(make_offer(gpu=small.name), gpus=(small,)))
    assert fewer.bases
    assert all(base.num_params <= usual()[base.family].num_params for base in fewer.bases)
    assert {base.name for base in fewer.bases} != {base.name for base in usual().values()}


def test_a_card_that_nobody_can_rent_here_yet_is_answered_too() -> None:
    """With the cheapest plan, and why it can't be run."""
    answer = held(provider=msgspec.structs.replace(CLOUD, runnable=False, status="price only"))
    assert answer.bases
    assert all(base.plan.why_not for base in answer.bases)


def test_where_nothing_is_left_it_is_said_whether_the_card_or_the_job_is_why() -> None:
    """A card that nobody rents out may be one's own."""
    nobody = held(where=Where(gpu_memory_gib=16.0))
    assert (nobody.is_of_use, nobody.num_offers) == (False, 0)
    assert why_none(nobody).startswith("Nothing on offer has such a card. Where such a card is yours: --gpu here")
    slow = held(where=Where(regions=("north",)), training={"method": "full", "seq_len": 1_000_000})
    assert (slow.is_of_use, slow.num_offers) == (False, 1)
    assert why_none(slow) == "No base of the catalog surely trains on such a card as asked."


@pytest.mark.parametrize(
    ("budget", "limit", "would_do"),
    [({"max_usd": Decimal("0.001")}, r"\$0.001", "--max-cost"), ({"max_hours": 0.001}, "0.001 h", "--max-hours")],
)
def test_where_money_or_time_alone_refuse_every_base_it_is_they_that_are_told(
    budget: dict[str, Any], limit: str, would_do: str
) -> None:
    """With the base that needs least, and what it needs: raised so far, there is an answer."""
    none = held(budget=Budget(**budget))
    assert not none.is_of_use
    told = re.search(
        rf"none of the bases .*: \S+, which needs least, is over {limit} at p90; .* needs .* \({would_do} \S+\)",
        why_none(none).lower(),
    )
    assert told is not None
    changes: dict[str, Any] = none.beyond.changes if none.beyond else {}
    assert held(budget=Budget(**{field.removeprefix("budget."): enough for field, enough in changes.items()})).is_of_use


def test_a_card_that_nobody_knows_is_refused() -> None:
    """It is no fault of a base, which would be passed over."""
    with pytest.raises(Failure, match='no GPU "Card 25GB"'):
        held(where=Where(gpus=("Card 25GB",)))


@pytest.mark.parametrize("width", [80, 100, 150])
def test_the_table_fits_its_terminal(width: int) -> None:
    """A name that has to be typed is not broken; a narrow one does without family and offer."""
    answer = BasesHeld(bases=tuple(usual().values()), num_offers=1)
    text = render_bases(answer, make_request(), command="rentune plan --model X", width=width, colour=False)
    rows = text.split("\n\n")[1].splitlines()
    assert max(map(len, rows)) <= width
    assert all(any(f"{base.name} " in row for row in rows) for base in answer.bases if len(base.name) < 20)
    assert ("\nfamily" in text, "cloud north one" in text) == (width >= 96, width >= 128)
    assert text.endswith("rentune plan --model X")


def test_beside_a_volume_that_is_kept_a_base_is_trained_where_it_lies() -> None:
    """As `plan` does with a base that is named: elsewhere it could not be reached, however cheap the machine."""
    cheap, dear = make_offer(region="south", usd_per_hour=Decimal("0.1")), make_offer(region="north", usd_per_hour=Decimal(9))
    catalog = make_catalog(cheap, dear)
    regions = {
        place: {base.plan.offer.region for base in held(catalog, kept_at=place, keep=Keep(volume_name="models")).bases}
        for place in ((), (("cloud", "north"),))
    }
    assert regions == {(): {"south"}, (("cloud", "north"),): {"north"}}


def test_bases_that_read_less_are_told_with_what_they_cut_and_so_is_that_none_can_be_run() -> None:
    """Else the one that learns from less looks like the cheaper one."""
    plan = next(iter(usual().values())).plan
    data = counted_data(max_tokens=5_000)
    cutting = msgspec.structs.replace(plan, strategy=msgspec.structs.replace(plan.strategy, seq_len=2_048))
    whole = msgspec.structs.replace(plan, strategy=msgspec.structs.replace(plan.strategy, seq_len=5_000))
    bases = [msgspec.structs.replace(base, plan=each) for base, each in zip(usual().values(), (cutting, whole), strict=False)]
    result, request = BasesHeld(bases=tuple(bases), num_offers=1), msgspec.structs.replace(make_request(), data=data)
    text = render_bases(result, request, command=None, width=200, colour=False)
    assert f"Note: with {bases[0].name} about 3 of 300 rows are longer than 2,048 tokens" in text
    assert f"with {bases[1].name}" not in text
    assert "None of them can be run" not in text
    unrunnable = [msgspec.structs.replace(each, plan=msgspec.structs.replace(each.plan, why_not="not yet")) for each in bases]
    stuck = msgspec.structs.replace(result, bases=tuple(unrunnable))
    assert "None of them can be run by this version" in render_bases(stuck, request, command=None, width=200, colour=False)


def counted_data(*, max_tokens: int) -> DataAsked:
    """300 rows, of which one in a hundred is that long."""
    return DataAsked(
        num_examples=300,
        mean_tokens=150.0,
        max_tokens=max_tokens,
        profile=((100.0, 0.99), (float(max_tokens), 0.01)),
        basis="counted by the model's tokenizer",
    )


def test_for_a_card_that_nobody_rents_out_there_is_something_to_type() -> None:
    """A list for rented cards of its memory, and the ways in which one's own holds a base."""
    gb10 = msgspec.structs.replace(make_gpu(name="GB10"), memory_gib=128.0)
    told = why_none(held(make_catalog(make_offer(), gpus=(make_gpu(), gb10)), where=Where(gpus=("GB10",))))
    assert "`rentune plan --which-model --gpu-budget 128GB`" in told
    assert '`rentune plan --model 7b --gpus "GB10"`' in told
