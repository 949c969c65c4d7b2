"""A question, understood once: amounts, data, and what makes no sense together."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.bases.models import ModelUnknown, resolve_model
from planner.asking.bounds import REQUEST_BOUNDS
from planner.asking.checks import checked
from planner.asking.data import DataFile, Lengths, default_data, measured_data, stated_data
from planner.asking.quantities import parse_cards, parse_count, parse_gib, parse_hours, parse_usd
from planner.asking.request import Budget, DataAsked, Request, RequestError, Where
from remote.contract import Loop, Reading
from tests.planner.builders import make_request


@pytest.mark.parametrize(
    ("text", "gib"),
    [
        ("16GB", 16.0),
        ("16", 16.0),
        ("16 GiB", 16.0),
        ("16g", 16.0),
        ("512MB", 0.512),
        ("16000MB", 16.0),
        ("16384MiB", 16.0),
        ("8000m", 8.0),
        ("1TB", 1024.0),
        ("22.5gb", 22.5),
    ],
)
def test_memory_is_meant_as_cards_are_sold(text: str, gib: float) -> None:
    """GB is GiB: a card sold as 16 GB holds 16 GiB."""
    assert parse_gib(text) == gib


def test_counts_hours_and_dollars_as_people_type_them() -> None:
    """Each in one unit."""
    assert [parse_count(text) for text in ("1000", "1_000", "1,000", "1k", "1.5M")] == [1000, 1000, 1000, 1000, 1_500_000]
    assert [parse_hours(text) for text in ("2", "2h", "90m", "1d")] == [2.0, 2.0, 1.5, 24.0]
    assert [parse_usd(text) for text in ("5", "$5", "5.50")] == [Decimal(5), Decimal(5), Decimal("5.50")]


@pytest.mark.parametrize("text", ["0,50", "2,50", "1,5", "1,00", "12,3456", "1,000,00"])
def test_a_decimal_comma_is_no_hundredfold(text: str) -> None:
    """Half of Europe writes 2,50 for two dollars fifty: it is asked back, never read as 250."""
    for read in (parse_usd, parse_hours, parse_gib, parse_count):
        with pytest.raises(ValueError, match="is written with a point"):
            read(text)
    assert parse_usd("$1,000.50") == Decimal("1000.50")


@pytest.mark.parametrize(
    ("read", "text"), [(parse_gib, "16XB"), (parse_gib, "-3GB"), (parse_count, "1.5"), (parse_hours, "soon"), (parse_usd, "")]
)
def test_what_is_no_amount_is_told_with_an_example(read: object, text: str) -> None:
    """The sentence quotes what was typed."""
    assert callable(read)
    with pytest.raises(ValueError, match=f'"{text}" is not'):
        read(text)


def test_without_a_word_the_job_is_a_thousand_examples() -> None:
    """And says that it is a default."""
    data = default_data()
    assert (data.num_examples, data.mean_tokens, data.max_tokens, data.basis) == (1000, 512.0, 512, "default")


def test_examples_tokens_or_both_state_a_job() -> None:
    """What is missing follows from the other."""
    only_examples = stated_data(num_examples=50, num_tokens=None, tokens_per_example=256)
    only_tokens = stated_data(num_examples=None, num_tokens=1_000, tokens_per_example=256)
    both = stated_data(num_examples=10, num_tokens=9_000, tokens_per_example=512)
    assert (only_examples.num_examples, only_examples.mean_tokens, only_examples.max_tokens) == (50, 256.0, 256)
    assert (only_tokens.num_examples, only_tokens.mean_tokens) == (4, 250.0)
    assert (both.mean_tokens, both.max_tokens) == (900.0, 900)
    with pytest.raises(RequestError, match="cannot fill 10 examples"):
        stated_data(num_examples=10, num_tokens=9, tokens_per_example=512)


@given(st.integers(1, 10**7), st.integers(1, 10**10))
def test_stated_data_makes_sense(num_examples: int, num_tokens: int) -> None:
    """The longest example is never shorter than the mean, and the tokens are all there."""
    if num_tokens < num_examples:
        return
    data = stated_data(num_examples=num_examples, num_tokens=num_tokens, tokens_per_example=512)
    assert data.max_tokens >= data.mean_tokens
    assert data.num_examples * data.mean_tokens == pytest.approx(num_tokens)


FILES = {"large.jsonl": 5_000, "small.jsonl": 100, "apart.jsonl": 30}


def measure(file: DataFile) -> Lengths:
    """Rows of a length that tells the file."""
    number = FILES[file.path] if file.reading.max_rows is None else file.reading.max_rows
    return Lengths(
        num_rows=number,
        mean_tokens=number,
        max_tokens=number,
        profile=((number, 1.0),),
        documents=False,
        basis="estimated from characters",
    )


def test_some_rows_are_held_out_but_never_more_than_a_fifth() -> None:
    """200 by default; the training examples are the rest."""
    large, small = (measured_data(DataFile(path=path, model="7b"), measure=measure) for path in ("large.jsonl", "small.jsonl"))
    asked = measured_data(DataFile(path="large.jsonl", model="7b"), measure=measure, held_out_rows=500)
    nothing = measured_data(DataFile(path="large.jsonl", model="7b"), measure=measure, held_out_rows=0)
    assert [(data.num_examples, data.held_out_rows) for data in (large, small, asked, nothing)] == [
        (4_800, 200),
        (80, 20),
        (4_500, 500),
        (5_000, 0),
    ]


def test_a_wish_for_more_held_out_rows_than_a_fifth_is_remembered() -> None:
    """So that whoever said 500 is told why there are 24; the default of 200 is nobody's wish."""
    file = DataFile(path="small.jsonl", model="7b")
    wanted = [measured_data(file, measure=measure, held_out_rows=rows).held_out_wanted for rows in (500, 1, None)]
    assert wanted == [500, None, None]


def test_a_file_of_held_out_rows_is_measured_for_itself() -> None:
    """All of it, however few rows are trained on."""
    file = DataFile(path="small.jsonl", model="7b", reading=Reading(max_rows=50))
    data = measured_data(file, measure=measure, held_out_path="apart.jsonl")
    assert (data.num_examples, data.profile) == (50, ((50, 1.0),))
    assert (data.held_out_rows, data.held_out_profile) == (30, ((30, 1.0),))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": DataAsked(num_examples=0, mean_tokens=5, max_tokens=5, basis="stated")}, "examples is 0"),
        ({"data": DataAsked(num_examples=5, mean_tokens=50, max_tokens=5, basis="stated")}, "shorter than the mean"),
        ({"loop": Loop(epochs=0)}, "epochs is 0"),
        ({"where": Where(gpu_memory_gib=0.0)}, "gpu_budget is 0 and must be above 0"),
        ({"where": Where(power_usd_per_kwh=Decimal(-1))}, "power_price is -1 and must be"),
        ({"where": Where(num_gpus=0)}, "num_gpus is 0"),
        ({"budget": Budget(max_usd=Decimal(-1))}, "max_cost is -1"),
        ({"budget": Budget(max_hours=0.0)}, "max_hours is 0"),
        ({"global_batch_size": 0}, "global_batch_size is 0"),
        ({"top": 0}, "top is 0"),
        ({"model": " "}, "no name"),
        ({"tags": {"": "x"}}, "no key"),
        ({"loop": Loop(layers=(-1,))}, "counted from 0"),
        ({"where": Where(allow_from=("home",))}, '"home" is no CIDR'),
        ({"tags": {"rentune-run": "x"}}, "the tag rentune-run is one of ours"),
        ({"tags": {"Rentune-run": "x"}}, "the tag Rentune-run is one of ours"),
        ({"tags": {"aws:team": "x"}}, "the tag aws:team is one of AWS's own"),
        ({"tags": {"k" * 64: "x"}}, "has 64 characters"),
        ({"tags": {"team": "x" * 64}}, "the value of the tag team has 64 characters"),
        ({"tags": {"team": "two\nlines"}}, r"the value of the tag team holds '\\n', which no cloud takes"),
        ({"tags": {"te\tam": "x"}}, r"holds '\\t', which no cloud takes"),
        *(
            ({"where": Where(allow_from=(wide,))}, f"{wide} would open SSH on the box to")
            for wide in ("0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "11.0.0.0/7", "2000::/3", "2001:db8::/31")
        ),
        (
            {
                "training": {"micro_batch_size": 2, "gradient_accumulation_steps": 3},
                "global_batch_size": 16,
                "where": Where(num_gpus=1),
            },
            "2 sequences x 3 passes x 1 GPU make 6 a step, not 16",
        ),
        ({"training": {"micro_batch_size": 3}, "global_batch_size": 16}, "3 sequences make 3 a step, not 16"),
        (
            {"training": {"gradient_accumulation_steps": 3}, "global_batch_size": 16, "where": Where(num_gpus=2)},
            "3 passes x 2 GPUs make 6 a step, not 16",
        ),
        (
            {"training": {"micro_batch_size": 4, "gradient_accumulation_steps": 2}, "global_batch_size": 16},
            "4 sequences x 2 passes make 8 a step, not 16",
        ),
    ],
)
def test_figures_that_make_no_sense_are_refused_with_an_example(changes: dict[str, object], words: str) -> None:
    """One sentence, and what to type instead."""
    with pytest.raises(RequestError, match=words) as refused:
        checked(msgspec.structs.replace(make_request(), **changes))
    assert refused.value.hint


@pytest.mark.parametrize(
    ("training", "num_gpus"),
    [
        ({}, 3),
        ({"micro_batch_size": 4}, None),
        ({"micro_batch_size": 4}, 2),
        ({"gradient_accumulation_steps": 16}, None),
        ({"micro_batch_size": 4, "gradient_accumulation_steps": 4}, None),
        ({"micro_batch_size": 4, "gradient_accumulation_steps": 2}, 2),
    ],
)
def test_parts_that_make_up_a_step_are_no_contradiction(training: dict[str, int], num_gpus: int | None) -> None:
    """What is left open is chosen."""
    request = make_request(training=training, global_batch_size=16 if num_gpus != 3 else 48, where=Where(num_gpus=num_gpus))
    assert checked(request) is request


def test_a_request_that_makes_sense_passes_unchanged() -> None:
    """Checking changes nothing."""
    request: Request = make_request()
    assert checked(request) is request


def changed(whole: Any, path: list[str], value: object) -> Any:
    """The same with another value at that place within."""
    key, *deeper = path
    return msgspec.structs.replace(whole, **{key: changed(getattr(whole, key), deeper, value) if deeper else value})


@pytest.mark.parametrize("field", REQUEST_BOUNDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 10**400])
def test_no_field_takes_a_number_beyond_its_bounds(field: str, value: float) -> None:
    """Neither NaN nor infinity, nothing below zero, nothing absurd; the sentence is short whatever was typed."""
    with pytest.raises(RequestError, match="must be") as refused:
        checked(changed(make_request(), field.split("."), value))
    assert refused.value.hint
    assert refused.value.place
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity"])
def test_a_budget_is_a_finite_number_of_dollars(text: str) -> None:
    with pytest.raises(RequestError, match="max_cost"):
        checked(msgspec.structs.replace(make_request(), budget=Budget(max_usd=Decimal(text))))


def test_a_size_with_a_word_behind_it_is_told_the_size() -> None:
    """Whatever a hub calls its copies."""
    with pytest.raises(ModelUnknown) as refused:
        resolve_model("7B-instruct")
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("nearest: 7b, ")


@pytest.mark.parametrize(
    ("text", "cards"),
    [
        ("2xRTX 3090", (2, "RTX 3090")),
        ("T4", (1, "T4")),
        ("4 × 24", (4, 24.0)),
        ("24GB", (1, 24.0)),
        ("2x3090", (2, 3090.0)),
        ("2x3090 Ti", (2, "3090 Ti")),
    ],
)
def test_cards_are_told_by_their_memory_or_their_name(text: str, cards: tuple[int, float | str]) -> None:
    assert parse_cards(text) == cards


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("99999x24GB", 'says 99,999 cards, and from 1 to 4,096 are counted, such as "4x24GB"'),
        ("0xT4", 'says 0 cards, and from 1 to 4,096 are counted, such as "4x24GB"'),
        ("4x", 'says neither the memory of cards nor their name, such as "4x24GB" or "2xRTX 3090"'),
        ("4x0GB", "says neither the memory of cards nor their name"),
        ("", "says neither the memory of cards nor their name"),
    ],
)
def test_cards_that_are_none_are_told_with_what_to_type(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_cards(text)


@pytest.mark.parametrize("word", ["examples", "tokens"])
@pytest.mark.parametrize("number", [0, -1])
def test_no_rows_and_no_tokens_are_told_by_the_word_that_was_typed(word: str, number: int) -> None:
    """Of both together, too: their quotient would have no mean."""
    said = {"num_examples": 5, "num_tokens": 5} | {f"num_{word}": number}
    with pytest.raises(RequestError, match=f"^{word} is {number} and must be at least 1"):
        stated_data(tokens_per_example=512, **said)


def test_a_learning_rate_above_one_is_a_slip() -> None:
    """Prompts are learned at 0.3; nobody needs more than 1."""
    with pytest.raises(RequestError, match="learning_rate is 2"):
        checked(make_request(loop=Loop(learning_rate=2)))


@pytest.mark.parametrize("text", ["tomorrow 9:00", "09:00", "2026-11-29", "tonight"])
def test_a_moment_is_no_number_of_hours_and_that_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="hours from the start are meant"):
        parse_hours(text)
