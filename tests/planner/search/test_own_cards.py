"""Cards of one's own that the trainer's stack has no code for, or whose memory is their machine's: said as of rented ones."""

from __future__ import annotations

import pytest

from catalogs.catalog import read_catalog
from planner.asking.data import stated_data
from planner.asking.request import RequestError, Where
from planner.plan import Cards, SearchResult
from planner.report import job_line
from planner.report.layouts import cards_lines
from planner.report.lines import render
from planner.search import cards_of
from remote.contract import Phase
from tests.planner.builders import ask, make_catalog, make_offer, make_request

CATALOG = read_catalog()
CARDS = ("RTX A5000", "GB10", "V100-PCIE-16GB")
MARKET = make_catalog(
    *(make_offer(gpu=name, instance_type=name, ram_gib=256.0) for name in CARDS), gpus=tuple(CATALOG.gpus.values())
)


def asked(model: str, *, own: str | None = None, rented: tuple[str, ...] = (), quant: str | None = None) -> SearchResult:
    """The answer about one card of that name, or about rented ones."""
    data = stated_data(num_examples=1_000, tokens_per_example=512)
    training = {} if quant is None else {"quant": quant}
    request = make_request(model=model, data=data, where=Where(gpus=rented), training=training)
    return ask(request, MARKET, cards=None if own is None else Cards(1, CATALOG.gpus[own].memory_gib, own))


def told(result: SearchResult) -> str:
    """What is told of the cards, on one line."""
    assert result.cards is not None
    return " ".join(
        line for part in cards_lines(result.cards, result.layouts) for line in render(part, width=240, colour=False)
    )


@pytest.mark.parametrize(("card", "capability"), [("P40", "6.1"), ("V100-PCIE-16GB", "7.0")])
def test_a_card_that_the_stack_has_no_code_for_is_not_yet_runnable_as_a_rented_one_is(card: str, capability: str) -> None:
    """In words, and as missing of every row for programs."""
    result = asked("7b", own=card)
    reason = f"the trainer's torch has no code for compute capability {capability}, only from 7.5 on"
    assert any(each.verdict == "fits" for each in result.layouts)
    assert all(reason in each.missing for each in result.layouts)
    assert f"not yet runnable on the {card}: {reason}." in told(result)
    assert "cannot do the trainer" not in told(result)


def test_of_a_card_that_the_stack_has_code_for_nothing_is_missing() -> None:
    result = asked("7b", own="RTX 3090")
    assert {each.missing for each in result.layouts} == {()}
    assert "not yet runnable" not in told(result)


def test_what_bitsandbytes_does_on_a_card_is_said_as_an_estimate_says_it() -> None:
    assert "P40: bitsandbytes support is partial; quant none needs none" in asked("14b", own="P40").warnings
    assert not any("bitsandbytes" in warning for warning in asked("14b", own="RTX 3090").warnings)


def test_where_ram_is_the_cards_own_memory_nothing_waits_there() -> None:
    """No row of it, and why; nor on a rented one, as it is asked for or as what would spare memory."""
    result = asked("70b", own="GB10")
    assert {each.kind for each in result.layouts} == {"whole"}
    assert any("nothing can be streamed or kept in RAM beside GB10" in warning for warning in result.warnings)
    assert any(plan.strategy.offload == "stream" for plan in asked("70b", rented=("RTX A5000",)).plans)
    on_gb10 = asked("70b", rented=("GB10",), quant="none")
    assert not any(plan.strategy.offload != "none" for plan in on_gb10.plans)


def test_a_superchip_has_a_processor_that_the_stack_is_not_built_for() -> None:
    """So there is nothing to run on one's own."""
    assert all("the trainer's stack is built for x86_64" in each.missing for each in asked("7b", own="GB10").layouts)


def test_two_cards_that_are_a_machine_each_are_refused_with_what_to_type() -> None:
    with pytest.raises(RequestError, match="2 GB10 are 2 machines, not cards of one") as refused:
        cards_of(2, "DGX Spark", CATALOG)
    assert refused.value.hint == '--gpus "GB10" says in which ways one of them holds the job'
    assert cards_of(1, "DGX Spark", CATALOG) == Cards(1, 128.0, "GB10")


def test_the_first_line_prices_no_offer_that_was_left_out() -> None:
    """Of a card that nobody rents out there is another way, with a price of its own; of what was asked there is none."""
    result = asked("7b", rented=("RTX 3090",))
    assert not result.plans
    assert result.ways_out
    assert "per million tokens" not in job_line(result)
    assert "per million tokens" in job_line(asked("7b", rented=("RTX A5000",)))


def test_of_a_card_that_nobody_rents_out_the_command_that_answers_is_named() -> None:
    """For a job, and where the base is looked for; a card that nothing here trains on is estimated."""
    helped = {
        name: next(each.remedy for each in asked("7b", rented=(name,)).rejections if each.remedy) for name in ("P40", "MI300A")
    }
    assert '--gpus "P40" in the place of --gpu' in helped["P40"]
    assert helped["MI300A"] == 'nobody sells it; what fits it: rentune estimate --gpu "MI300A"'


@pytest.mark.parametrize(
    ("model", "card"), [("7b", "RTX 3090"), ("14b", "RTX 3090"), ("70b", "RTX A5000"), ("70b", "GB10"), ("1b", "T4")]
)
def test_what_is_told_of_an_owned_card_is_the_plan_on_a_rented_one(model: str, card: str) -> None:
    """The same way to train and the same seconds: the quickest that fits, whole or streamed."""
    market = make_catalog(make_offer(gpu=card, ram_gib=512.0), gpus=tuple(CATALOG.gpus.values()))
    request = make_request(model=model, data=stated_data(num_examples=1_000, tokens_per_example=512))
    result = ask(request, market, cards=Cards(1, CATALOG.gpus[card].memory_gib, card))
    planned = result.plans[0]
    (told,) = (each for each in result.layouts if each.strategy == planned.strategy)
    assert (told.verdict, planned.verdict) == ("fits", "fits")
    assert told.train_s is not None
    assert told.train_s.p50 == pytest.approx(planned.duration.phase_s[Phase.TRAIN].p50)


def test_every_row_trains_on_as_many_sequences_a_step() -> None:
    """Else the hours of one are not those of the other; cutting states in parts makes an adapter no quicker."""
    request = make_request(model="7b", data=stated_data(num_examples=1_000, tokens_per_example=512))
    result = ask(request, MARKET, cards=Cards(2, 24.0, "RTX 3090"))
    sequences = {
        each.strategy.micro_batch_size
        * each.strategy.gradient_accumulation_steps
        * (1 if each.kind == "turns" else each.strategy.num_gpus)
        for each in result.layouts
    }
    assert sequences == {16}
    train_s = {each.strategy.sharding: each.train_s.p50 for each in result.layouts if each.train_s is not None}
    assert train_s["zero1"] == pytest.approx(train_s["ddp"], rel=0.02)
    assert train_s["zero2"] == pytest.approx(train_s["ddp"], rel=0.02)
