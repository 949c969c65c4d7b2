"""The page of `plan --html`: one file that needs nothing else, with every plan as a dot and what nothing beats."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.asking.options.command_line import spelled
from planner.estimators.time.interruptions import interrupted
from planner.plan import Plan, Range, Rejection, SearchResult
from planner.report.tables import time_rows
from planner.search.pareto import pareto, risks
from provision.report.plan_page import render_plan_page
from provision.report.scatter import marks
from tests.planner.builders import exactly, make_duration, make_offer, make_plan, make_request

FIGURES = st.tuples(st.integers(0, 4), st.integers(1, 4), st.booleans(), st.booleans(), st.booleans())


def planned(
    usd: float, hours: float, *, spot: bool = False, tight: bool = False, runnable: bool = True, name: str = "one"
) -> Plan:
    """A plan of these figures."""
    whole = make_plan()
    return make_plan(
        offer=make_offer(instance_type=name, purchase="spot" if spot else "on_demand"),
        duration=make_duration(exactly(hours * 3_600.0)),
        cost=msgspec.structs.replace(whole.cost, total_usd=exactly(usd)),
        verdict="tight" if tight else "fits",
        why_not=None if runnable else "price only: nobody rents there",
    )


def result(*plans: Plan) -> SearchResult:
    """An answer with these plans."""
    refused = Rejection(what="<b>lora</b>", reason="needs 66.9 GiB on one GPU", remedy="1 x H100")
    return SearchResult(request=make_request(), plans=plans, rejections=(refused,), warnings=())


def page(*plans: Plan) -> str:
    """Its page."""
    return render_plan_page(result(*plans), result(*plans), command="rentune run --model x", spelled=spelled)


def test_an_answer_without_a_plan_has_no_empty_tables() -> None:
    """Why not is all that there is."""
    told = page()
    assert re.findall(r"<h2>(.*?)</h2>", told) == ["Why not"]
    assert "<tbody></tbody>" not in told


@given(st.lists(FIGURES, min_size=1, max_size=6))
def test_of_the_pareto_set_nothing_is_beaten_and_everything_else_is(figures: list[tuple[int, int, bool, bool, bool]]) -> None:
    """In dollars, in hours and in risk, among what can be run; where nothing can, among all."""
    plans = [planned(usd, hours, spot=spot, tight=tight, runnable=runnable) for usd, hours, spot, tight, runnable in figures]
    asked = [plan for plan in plans if plan.why_not is None] or plans
    best = pareto(plans)

    def beats(one: Plan, other: Plan) -> bool:
        ours, theirs = (
            (each.cost.total_usd.p50, each.duration.wall_s.p50, each.offer.purchase == "spot", each.verdict == "tight")
            for each in (one, other)
        )  # of two risks, one is neither more nor less than the other
        return all(a <= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs

    assert best != ()
    for plan in asked:
        assert (plan in best) is not any(beats(other, plan) for other in asked)


def test_risks_are_told_by_their_words() -> None:
    """Each by itself."""
    assert risks(make_plan()) == set()
    assert risks(make_plan(verdict="tight", catalog_as_of=None)) == {"memory is tight", "price stale or undated"}
    assert risks(planned(1, 1, spot=True)) == {"spot"}
    assert risks(make_plan(offer=make_offer(ram_gib=None))) == {"RAM or cores unknown"}
    assert risks(make_plan(offer=make_offer(provider="local"), catalog_as_of=None)) == set()


def test_the_page_needs_no_network_and_no_script() -> None:
    """It can be mailed."""
    text = page(planned(1, 1), planned(2, 0.5, name="two"))
    assert not re.search(r"<script|<link|<img|src=|url\(|@import|https?://", text)
    assert text.startswith("<!doctype html>")


def test_every_plan_is_a_dot_with_its_words_and_the_recommended_one_stands_out() -> None:
    """What can't be run is hollow; a dear and slow one is not on the line."""
    text = page(
        planned(1, 1), planned(2, 0.5, name="quick"), planned(3, 2, name="worse"), planned(0.5, 1, runnable=False, name="there")
    )
    dots = re.findall(r'<circle class="(\w+)"[^>]*><title>([^<]*)</title>', text)
    assert {css: words.split(",")[0] for css, words in dots} == {
        "other": "cloud north there",
        "can": "cloud north worse",
        "best": "cloud north quick",
        "recommended": "cloud north one",
    }
    assert text.count('class="frontier"') == 1


def test_of_two_plans_on_one_box_only_the_recommended_one_is_marked() -> None:
    """All its GPUs, or one of them: the offer is the same."""
    one = planned(1, 1)
    two = planned(2, 0.5)
    two = msgspec.structs.replace(two, strategy=msgspec.structs.replace(two.strategy, num_gpus=2, sharding="ddp"))
    assert one.offer == two.offer
    assert re.findall(r'<circle class="(\w+)"', page(one, two)) == ["best", "recommended"]


def test_a_range_is_never_broken_and_its_middle_may_stand_above_it() -> None:
    """Else a narrow column has it in three lines."""
    plan = planned(1, 1)
    duration = msgspec.structs.replace(plan.duration, wall_s=Range(p10=7_200, p50=14_400, p90=21_600))
    text = page(msgspec.structs.replace(plan, duration=duration))
    assert '<td>4.0 <span class="range">(2.0–6.0) h</span></td>' in text
    assert re.search(r"\.range \{\s*white-space: nowrap", text)


def test_the_page_tells_what_was_refused_and_what_it_rests_on() -> None:
    """With every sign that means something to a browser made harmless."""
    text = page(planned(1, 1))
    for words in ("Why not", "&lt;b&gt;lora&lt;/b&gt;", "needs 66.9 GiB on one GPU", "an assumption", "rentune run --model x"):
        assert words in text
    assert "<b>lora" not in text


def test_what_a_spot_machine_does_again_is_among_the_rows_that_make_up_the_whole_time() -> None:
    """A minute of boot, an hour of training, and what is lost in the mean: together the last row."""
    whole = planned(1, 1, spot=True)
    undisturbed = make_duration(exactly(3_660.0), boot=60.0, train=3_600.0)
    duration = interrupted(undisturbed, whole.offer, every_s=240.0)
    plan = msgspec.structs.replace(whole, duration=duration)
    assert sum(figure.p50 for _, figure in time_rows(plan)) == pytest.approx(duration.wall_s.p50)
    table = page(plan).partition("Planned on ")[2].partition("</table>")[0]
    assert re.findall(r"boot|train|rework|in all", table) == ["boot", "train", "rework", "in all"]


def test_a_job_that_costs_nothing_has_its_place() -> None:
    """A logarithmic axis has no zero."""
    assert page(planned(0, 1), planned(1, 0.5, name="two")).count("<circle") == 2
    assert page(planned(0, 1)).count("<circle") == 1


def test_an_answer_without_plans_is_a_page_as_well() -> None:
    """With the reasons."""
    text = page()
    assert "<svg" not in text
    assert "Why not" in text


@pytest.mark.parametrize(("low", "high", "expected"), [(0.09, 1.2, (0.1, 0.2, 0.5, 1.0)), (3.0, 60.0, (5.0, 10.0, 20.0, 50.0))])
def test_marks_are_round_numbers(low: float, high: float, expected: tuple[float, ...]) -> None:
    """One, two and five times powers of ten."""
    assert marks(low, high) == pytest.approx(expected)


def test_the_page_explains_its_words_and_how_old_its_prices_are() -> None:
    """As the terminal does, whose lines it shares; a command is set as one."""
    words = page(planned(1.0, 1.0), planned(2.0, 0.5, name="two"))
    legend = words[words.index("What the words mean") :]
    assert "need/has: GiB of one GPU&#x27;s memory that the job takes" in legend
    assert "Prices" in legend
    noted = render_plan_page(
        msgspec.structs.replace(result(planned(1.0, 1.0)), warnings=("`rentune quantize` makes a folder smaller",)),
        result(planned(1.0, 1.0)),
        command=None,
        spelled=spelled,
    )
    assert "<code>rentune quantize</code> makes a folder smaller" in noted
    assert "`" not in noted


def test_the_recommended_dot_has_its_name_beside_it() -> None:
    words = page(planned(1.0, 1.0), planned(2.0, 0.5, name="two"))
    assert re.findall(r'<text class="label"[^>]*>([^<]*)</text>', words) == ["cloud north one"]


def test_what_becomes_of_a_run_that_takes_longer_stands_under_the_command() -> None:
    longer = "If it takes longer: 2 h after the start it ends itself."
    late = msgspec.structs.replace(result(planned(1.0, 1.0)), if_it_takes_longer=longer)
    drawn = render_plan_page(late, late, command="rentune run --model x", spelled=spelled)
    assert "If it takes longer: 2 h after the start" in drawn[drawn.index("rentune run --model x") :]
