"""A few long rows make every sequence long: it is said, and so is the length that does without them."""

from __future__ import annotations

import shlex
from decimal import Decimal

import msgspec
import pytest

from catalogs.catalog import read_catalog
from planner.asking.data import stated_data
from planner.asking.options.command_line import spelled
from planner.asking.request import DataAsked, Request
from planner.plan import SearchResult
from planner.report.words import what_would_do
from remote.contract import Beginnings
from tests.planner.builders import CLOUD, ask, make_catalog, make_offer, make_request

CARDS = tuple(read_catalog().gpus.values())
MARKET = make_catalog(
    make_offer(instance_type="small", gpu="RTX 4090", usd_per_hour=Decimal("0.40")),
    make_offer(instance_type="large", gpu="H100 SXM5", usd_per_hour=Decimal("3.00")),
    gpus=CARDS,
)
TOO_SMALL = make_catalog(make_offer(instance_type="small", gpu="RTX 3060 12GB"), gpus=CARDS)
ONE_LONG = DataAsked(
    num_examples=120,
    mean_tokens=200.0,
    max_tokens=30_000,
    profile=((100.0, 119 / 120), (30_000.0, 1 / 120)),
    basis="counted by the model's tokenizer",
    beginnings=Beginnings(longest=((78, 30_000), (3, 300)), latest=((78, 29_900), (3, 200)), profile=((50.0, 1.0),)),
)


def asked_of(data: DataAsked, **training: object) -> Request:
    return make_request(model="7b", data=data, training=training)


def notes(result: SearchResult) -> list[str]:
    return [warning for warning in result.warnings if "sequences" in warning]


def test_one_row_that_makes_all_sequences_long_is_named_with_what_would_do_without_it() -> None:
    (note,) = notes(ask(asked_of(ONE_LONG), MARKET))
    assert note == (
        "one row, of 30,000 tokens (line 78), makes the sequences 30,000 tokens long and memory goes by that; "
        "--seq-len 512 would leave out 1 of 120 rows: 1 x RTX 4090 would do then, in 6 min for $0.030"
    )


def test_a_long_document_is_split_where_nothing_of_it_is_lost() -> None:
    """It chose the card all the same."""
    text = msgspec.structs.replace(ONE_LONG, documents=True, beginnings=None)
    (note,) = notes(ask(asked_of(text), MARKET))
    assert "--seq-len 512 would split 1 of 120 rows: 1 x RTX 4090 would do then" in note


def test_a_few_rows_are_told_by_their_number() -> None:
    three = msgspec.structs.replace(ONE_LONG, num_examples=300, profile=((100.0, 0.99), (30_000.0, 0.01)), beginnings=None)
    (note,) = notes(ask(asked_of(three), MARKET))
    assert note.startswith("3 rows, of up to 30,000 tokens, make the sequences")
    assert "--seq-len 512 would cut 3 of 300 rows: 1 x RTX 4090 would do then" in note


def test_nothing_is_said_where_the_length_was_said_or_many_rows_are_long_or_all_alike() -> None:
    many = msgspec.structs.replace(ONE_LONG, profile=((100.0, 0.7), (30_000.0, 0.3)), beginnings=None)
    alike = stated_data(num_examples=120, tokens_per_example=30_000)
    for request in (asked_of(ONE_LONG, seq_len=16_384), asked_of(many), asked_of(alike)):
        assert notes(ask(request, MARKET)) == []


def test_estimated_rows_are_cut_with_the_margin_that_their_sequences_have() -> None:
    """Rows of 450 tokens, as estimated, may have more than 512."""
    estimated = msgspec.structs.replace(
        ONE_LONG,
        basis="estimated from characters",
        max_tokens=20_000,
        profile=((450.0, 119 / 120), (20_000.0, 1 / 120)),
        beginnings=None,
    )
    (note,) = notes(ask(asked_of(estimated), MARKET))
    assert "of about 20,000 tokens, makes the sequences 26,000 tokens long, with a margin for what is estimated," in note
    assert "--seq-len 1024 would cut 1 of 120 rows" in note


def test_a_card_that_is_too_small_for_that_length_says_the_longest_that_it_holds() -> None:
    """Whatever is pulled to spare memory: what is named does, when it is typed, and a step more does not."""
    (refused,) = [each for each in ask(asked_of(ONE_LONG), TOO_SMALL).rejections if each.what == "1 x RTX 3060 12GB"]
    length = refused.changes["training.seq_len"]
    assert what_would_do(refused, spelled) == f"--seq-len {length}"
    recommended = ask(asked_of(ONE_LONG, seq_len=length), TOO_SMALL).recommended
    assert recommended is not None
    assert (recommended.verdict, recommended.strategy.seq_len) == ("fits", length)
    beyond = ask(asked_of(ONE_LONG, seq_len=length + 512), TOO_SMALL)
    assert not [plan for plan in beyond.plans if plan.verdict == "fits"]


@pytest.mark.parametrize(("ram_gib", "asks_ram"), [(12.0, False), (None, False), (None, True)])
def test_ram_that_is_too_little_says_the_longest_that_fits_beside_it(ram_gib: float | None, asks_ram: bool) -> None:
    """What needs RAM at that length needs none of it at a shorter one."""
    market = make_catalog(make_offer(gpu="RTX 3060 12GB", ram_gib=ram_gib, vcpus=8.0), gpus=CARDS)
    providers = (msgspec.structs.replace(CLOUD, asks_ram=asks_ram),)
    request = msgspec.structs.replace(asked_of(ONE_LONG), model="14b")
    result = ask(request, market, providers=providers)
    named = {each.changes["training.seq_len"] for each in result.rejections if "training.seq_len" in each.changes}
    for length in named:
        shorter = msgspec.structs.replace(request, training={"seq_len": length})
        assert [plan.verdict for plan in ask(shorter, market, providers=providers).plans if plan.why_not is None] == ["fits"]
    assert bool(named) == (ram_gib is not None or asks_ram)


def test_no_length_is_named_that_would_cut_most_rows() -> None:
    result = ask(asked_of(stated_data(num_examples=120, tokens_per_example=30_000)), TOO_SMALL)
    (refused,) = [each for each in result.rejections if each.what == "1 x RTX 3060 12GB"]
    assert refused.changes == {}


def test_where_nothing_fits_the_way_out_cuts_the_few_and_leads_to_the_plan_that_it_names() -> None:
    result = ask(asked_of(ONE_LONG), TOO_SMALL)
    assert result.plans == ()
    way = result.ways_out[0]
    assert way.change == "with sequences of at most 512 tokens"
    typed = shlex.split(spelled("training.seq_len", way.changes["training.seq_len"]))
    assert typed == ["--seq-len", "512"]
    recommended = ask(asked_of(ONE_LONG, seq_len=512), TOO_SMALL).recommended
    assert recommended is not None
    assert (recommended.name, recommended.cost.total_usd) == (way.plan.name, way.plan.cost.total_usd)
