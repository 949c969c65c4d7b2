"""What a person reads: the job in the first line, the command in the last."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from planner.plan import Plan, Range, Rejection, SearchResult, WayOut
from planner.report import MAX_REJECTIONS, render_plan, render_result
from planner.report.words import count, fit, machine, span, span_range, usd, usd_range
from planner.request import DataAsked
from remote.contract import Loop, Strategy
from tests.planner.builders import make_offer, make_plan, make_request

REFUSED = Rejection(what="lora r16 bf16", reason="needs 66.9 GiB on one GPU", remedy="1 x H100 with 80 GiB")
CHEAPER = make_plan(runnable="price only: this version cannot rent from elsewhere", provider_status="price only")


def result(*plans: Plan, **changes: object) -> SearchResult:
    """An answer with these plans and one refusal."""
    answer = SearchResult(
        request=make_request(), plans=plans, rejections=(REFUSED,), warnings=(), num_offers=2_043, num_strategies=30
    )
    return msgspec.structs.replace(answer, **changes)


def shown(
    answer: SearchResult, *, command: str | None = "rentune run --model x", explain: bool = False, width: int = 140
) -> str:
    """The answer as text without colour."""
    return render_result(answer, command=command, explain=explain, width=width, colour=False)


def test_the_first_line_names_the_default_job_and_its_price_per_million_tokens() -> None:
    """Whoever said nothing about data sees what was planned instead."""
    first, *_ = shown(result(make_plan())).splitlines()
    assert first == (
        "Default job: SmolLM2-135M, 1,000 examples × 512 tokens × 3 epochs = 1.5 M tokens, $1.00 per million tokens"
    )


def test_counted_data_says_how_it_was_counted() -> None:
    """An estimate from characters is not a count."""
    data = DataAsked(path="a.jsonl", num_examples=80, mean_tokens=100.0, max_tokens=300, basis="estimated from characters")
    first, *_ = shown(result(make_plan(), request=make_request(data=data))).splitlines()
    assert first.startswith(
        "Job: SmolLM2-135M, 80 examples × 100 tokens × 3 epochs = 24.0 k tokens (estimated from characters)"
    )


def test_a_limit_on_steps_and_the_file_of_a_model_stand_in_the_first_line() -> None:
    """Its name is enough, its folder is not the point."""
    request = make_request(model="/some/where/base.gguf", loop=Loop(epochs=1.0, max_steps=40))
    first, *_ = shown(result(make_plan(), request=request)).splitlines()
    assert first.startswith("Default job: base.gguf, 1,000 examples × 512 tokens × 1 epoch = 512.0 k tokens, at most 40 steps")


def test_the_last_line_is_the_command() -> None:
    """Whole, however narrow the terminal: it is there to be copied."""
    command = "rentune run --model Qwen/Qwen2.5-7B --data YOUR_DATA.jsonl --gpu-budget 24GB --provider aws --on-demand"
    for width in (40, 80, 140):
        assert shown(result(make_plan()), command=command, width=width).splitlines()[-1] == f"  {command}"


def test_without_a_runnable_plan_nothing_is_recommended() -> None:
    """And it is said."""
    text = shown(result(CHEAPER), command=None)
    assert "none of them can be run by this version" in text
    assert text.splitlines()[-1] == "This version can run none of these: nothing to type yet."
    assert "rentune run" not in text


def test_a_way_out_says_what_it_gives_up() -> None:
    """Shown apart from what was asked for."""
    way = WayOut(change="with 24 GiB on the GPU instead of 16", options={"--gpu-budget": "24GB"}, plan=make_plan())
    assert "Can be run with 24 GiB on the GPU instead of 16:" in shown(result(CHEAPER, ways_out=(way,)))


def test_every_row_carries_its_range_its_verdict_its_status_and_the_age_of_its_price() -> None:
    """An estimate without its doubt, or a price without its date, would be half the truth."""
    plan = make_plan(
        duration=msgspec.structs.replace(make_plan().duration, wall_s=Range(p10=3_000.0, p50=3_600.0, p90=5_400.0)),
        cost=msgspec.structs.replace(make_plan().cost, total_usd=Range(p10=0.9, p50=1.0, p90=1.5)),
        catalog_as_of=dt.date(2026, 11, 1),
    )
    (row,) = [line for line in shown(result(plan), width=200).splitlines() if line.startswith("1 ")]
    for part in ("1 x Card 24GB", "12.0/22.0 fits", "60 (50–90) min", "$1.00 (0.90–1.50)", "tested", "24 d"):
        assert part in row


def test_a_price_without_a_date_is_called_so() -> None:
    """Undated is not new."""
    assert "undated" in shown(result(make_plan(catalog_as_of=None)))


def test_refusals_say_why_and_what_would_do() -> None:
    """Many are counted, all are shown on demand."""
    many = tuple(msgspec.structs.replace(REFUSED, what=f"strategy {number}") for number in range(MAX_REJECTIONS + 3))
    text = shown(result(make_plan(), rejections=many))
    assert "needs 66.9 GiB on one GPU" in text
    assert "1 x H100 with 80 GiB" in text
    assert "3 more reasons: --explain." in text
    assert "strategy 10" in shown(result(make_plan(), rejections=many), explain=True)


def test_explain_takes_the_plan_apart() -> None:
    """Memory by component, time by phase, dollars by line, and what it rests on."""
    text = shown(result(make_plan()), explain=True)
    for words in (
        "weights",
        "allocated, in backward",
        "RAM at its peak",
        "train",
        "egress: the adapter home",
        "· an assumption",
    ):
        assert words in text


def test_credits_stand_beside_the_prices() -> None:
    """Licences ask for it."""
    assert "credit to the source" in shown(result(make_plan(), attributions=("credit to the source",)))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 240])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Columns are left out before they are broken; only the command may be longer."""
    lines = shown(result(make_plan(), CHEAPER), explain=True, width=width).splitlines()
    assert [line for line in lines[:-1] if len(line) > width] == []


def test_run_shows_the_one_plan_before_it_asks() -> None:
    """Where, what, how long, how much."""
    text = render_plan(make_plan(), width=100, colour=False)
    for words in ("lora r16 bf16", "cloud north one (1 x Card 24GB), tested", "memory  12.0/22.0 fits", "cost    $1.00"):
        assert words in text
    assert "cannot run it" in render_plan(CHEAPER, width=100, colour=False)


def test_run_names_what_was_said_in_vain() -> None:
    """As `plan` did."""
    plan = make_plan(request=make_request(training={"method": "full", "rank": 8}), strategy=Strategy(method="full", seq_len=8))
    assert "Note: rank has no effect here: the method has no rank." in render_plan(plan, width=100, colour=False)


def test_colour_only_where_it_is_wanted() -> None:
    """A pipe gets none."""
    assert "\x1b[" in render_plan(make_plan(), width=100, colour=True) + render_result(
        result(make_plan()), command="x", explain=False, width=100, colour=True
    )
    assert "\x1b[" not in shown(result(make_plan()))


def test_figures_in_the_unit_that_reads_best() -> None:
    """Seconds to days, fractions of a cent to thousands."""
    assert [span(seconds) for seconds in (5, 90, 600, 10_000, 400_000)] == ["5 s", "90 s", "10 min", "2.8 h", "4.6 days"]
    assert span_range(Range(p10=6_000, p50=10_000, p90=20_000)) == "2.8 (1.7–5.6) h"
    assert [usd(amount) for amount in (0.0, 0.00001, 0.0123, 1.234, 12_345.6)] == [
        "$0.00",
        "<$0.0001",
        "$0.0123",
        "$1.23",
        "$12,346",
    ]
    assert usd_range(Range(p10=0.5, p50=1.0, p90=2.0)) == "$1.00 (0.50–2.00)"
    assert [count(number) for number in (999, 12_345, 1_500_000, 32.8e9)] == ["999", "12.3 k", "1.5 M", "32.8 B"]


def test_what_trains_and_in_which_memory() -> None:
    """GPUs by number used, processors by cores and RAM."""
    own = make_plan(gpu=None, offer=make_offer(gpu=None, provider="local", vcpus=2.0, ram_gib=7.8))
    assert machine(own) == "2 cores, 7.8 GiB RAM"
    assert fit(own).endswith("RAM fits")
    from decimal import Decimal

    assert machine(make_plan(offer=make_offer(num_gpus=Decimal(8)))) == "1 of 8 x Card 24GB"
