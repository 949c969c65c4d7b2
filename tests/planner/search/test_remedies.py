"""Every remedy that is printed is true when it is typed: what it mends is gone, and nothing else stands in the way."""

from __future__ import annotations

import shlex
from decimal import Decimal
from itertools import product

import msgspec
import pytest

from catalogs.catalog import read_catalog
from planner.asking.options.command_line import run_command, spelled
from planner.asking.options.overlay import request_of
from planner.asking.policy import Rule
from planner.asking.request import Budget, Where
from planner.choice.goals import GOALS
from planner.plan import Provider, Rejection, SearchResult
from planner.report.words import what_would_do
from remote.contract import CAPABILITIES
from tests.planner.builders import ask, make_billing, make_catalog, make_gpu, make_offer, make_request, parsed
from tests.planner.report.test_golden import asked

CARDS = tuple(read_catalog().gpus.values())
CHEAP = make_offer(provider="near", instance_type="cheap", gpu="L4", usd_per_hour=Decimal("0.30"))
MARKET = make_catalog(
    CHEAP,
    make_offer(instance_type="slow", gpu="T4", usd_per_hour=Decimal("0.25"), purchase="spot"),
    make_offer(instance_type="usual", gpu="L4", usd_per_hour=Decimal("0.80")),
    make_offer(instance_type="large", gpu="A100-SXM4-80GB", usd_per_hour=Decimal("1.60"), region="south"),
    make_offer(instance_type="fast", gpu="H100 SXM5", usd_per_hour=Decimal("9.00"), region="south"),
    gpus=CARDS,
)  # "near" sells cheaply, and nobody can rent from it
WISHES: tuple[list[str], ...] = (
    [],
    ["--provider", "cloud"],
    ["--provider", "near"],
    ["--gpu", "H100 SXM5"],
    ["--region", "north"],
    ["--spot"],
    ["--gpu-budget", "16GB"],
    ["--quant", "nf4", "--gpu", "T4"],
)
LIMITS = (
    ["--max-cost", "0.01"],
    ["--max-hours", "0.01"],
    ["--max-cost", "0.01", "--max-hours", "0.01"],
    ["--max-hours", "0.3"],
)


def typed(words: list[str], more: str) -> list[str]:
    """The options with those of a remedy in the place of their like."""
    wanted = shlex.split(more.replace(",", " "))
    names = {word for word in wanted if word.startswith("--")}
    kept = [word for at, word in enumerate(words) if word not in names and (at == 0 or words[at - 1] not in names)]
    return kept + wanted


def answered(words: list[str], *rules: Rule) -> SearchResult:
    return ask(asked(words), MARKET, rules=rules)


def of_limits(rejection: Rejection) -> bool:
    return any(name.startswith("budget.") for name in rejection.changes)


@pytest.mark.parametrize(("wish", "limits"), tuple(product(WISHES, LIMITS)), ids=lambda words: " ".join(words) or "any")
def test_what_is_printed_to_type_brings_a_plan(wish: list[str], limits: list[str]) -> None:
    words = ["--model", "7b", *wish, *limits]
    result = answered(words)
    assert result.recommended is not None or result.rejections, "who gets no plan is told why"
    for rejection in filter(of_limits, result.rejections):
        assert answered(typed(words, what_would_do(rejection, spelled))).plans, rejection
    for way in result.ways_out:
        command = run_command(parsed(*words), changes=way.changes, has_data=True, model=None)
        found = answered(shlex.split(command.removeprefix("rentune run ")))
        assert found.recommended is not None, command
        assert found.request == way.plan.request, "the plan is of the request that its command asks"


@pytest.mark.parametrize(
    "words",
    [
        ["--model", "32b", "--max-hours", "0.2"],
        ["--model", "32b", "--method", "full", "--max-cost", "1"],
        ["--model", "32b", "--method", "full", "--max-hours", "0.3", "--goal", "fastest"],
        ["--model", "70b", "--quant", "none", "--max-hours", "0.2"],
        ["--model", "mixtral-8x7b", "--max-cost", "0.05", "--gpu-budget", "24GB"],
    ],
    ids=" ".join,
)
def test_each_change_that_a_refusal_names_brings_a_row(words: list[str]) -> None:
    """On one machine or, where none holds the job, on several; none is printed that leads to nothing."""
    changes = [what_would_do(each, spelled) for each in answered(words).rejections if each.changes]
    assert changes
    assert all(answered(typed(words, each)).rows for each in changes)


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("wish", [*WISHES[1:], ["--max-hours", "0.3"], ["--max-cost", "0.01"]], ids=" ".join)
def test_the_plan_that_a_way_out_names_is_the_one_that_its_command_leads_to(wish: list[str], goal: str) -> None:
    """With its price: who asks for the fastest is not told what the cheapest costs."""
    words = ["--model", "32b", *wish, "--goal", goal]
    result = answered(words)
    assert result.recommended is not None or result.ways_out
    for way in result.ways_out:
        command = run_command(parsed(*words), changes=way.changes, has_data=True, model=None)
        recommended = answered(shlex.split(command.removeprefix("rentune run "))).recommended
        assert recommended is not None
        assert (recommended.name, recommended.cost.total_usd) == (way.plan.name, way.plan.cost.total_usd), command


def test_a_machine_of_whose_gpus_one_trains_is_named_without_their_number() -> None:
    """To say eight is to say that eight train, which this version can't."""
    large = make_offer(gpu="H200 SXM", instance_type="eight", num_gpus=Decimal(8), usd_per_hour=Decimal(20), ram_gib=2000.0)
    market = make_catalog(make_offer(gpu="T4", instance_type="small"), large, gpus=tuple(read_catalog().gpus.values()))
    words = ["--model", "7b", "--method", "full", "--gpu", "T4"]
    (way,) = (each for each in ask(asked(words), market).ways_out if "where.gpus" in each.changes)
    assert (way.plan.strategy.num_gpus, way.plan.offer.num_gpus) == (1, Decimal(8))
    command = run_command(parsed(*words), changes=way.changes, has_data=True, model=None)
    recommended = ask(asked(shlex.split(command.removeprefix("rentune run "))), market).recommended
    assert recommended is not None
    assert recommended.offer.instance_type == "eight"


def test_money_is_named_once_and_as_much_as_is_asked_for() -> None:
    """Row, heading and command say the same sum: the least that buys what can be rented."""
    words = ["--model", "7b", "--provider", "cloud", "--max-cost", "0.01"]
    result = answered(words)
    (refused,), (way,) = filter(of_limits, result.rejections), result.ways_out
    assert refused.changes == way.changes
    assert way.change == f"for up to ${way.changes['budget.max_usd']}"
    assert answered(typed(words, f"--max-cost {way.changes['budget.max_usd'] - Decimal('0.01')}")).plans == ()


def test_money_is_named_for_a_machine_whose_ram_is_known() -> None:
    """One of untold RAM may cost less, and may not do."""
    known = make_offer(usd_per_hour=Decimal(2))
    untold = make_offer(instance_type="untold", provider="elsewhere", ram_gib=None)
    rented = tuple(Provider(name=name, runnable=True, status="tested") for name in ("cloud", "elsewhere"))
    asked = make_request(budget=Budget(max_usd=Decimal("0.01")))
    result = ask(asked, make_catalog(known, untold), providers=rented)
    (refused,), (way,) = filter(of_limits, result.rejections), result.ways_out
    assert "the cheapest of known RAM, cloud/north/one/on_demand, needs a limit of $" in refused.reason
    assert way.plan.offer == known
    assert refused.changes == way.changes
    (refused,) = filter(of_limits, ask(asked, make_catalog(untold), providers=rented).rejections)
    assert "the cheapest, elsewhere/north/untold/on_demand, needs a limit of $" in refused.reason


def test_money_is_named_for_a_machine_that_can_be_run() -> None:
    """One from a seller of whom nobody can rent costs less, and is no remedy."""
    (refused,) = filter(of_limits, answered(["--model", "7b", "--max-cost", "0.01"]).rejections)
    assert "the cheapest that can be run, cloud/" in refused.reason


@pytest.mark.parametrize(
    ("wish", "given_up"),
    [
        (["--gpu", "T4", "--provider", "near"], [{"where.providers"}]),
        (["--gpu", "T4", "--on-demand", "--region", "south"], [{"where.gpus", "where.num_gpus"}]),
        (["--gpu", "T4", "--gpu-budget", "8GB"], [{"where.gpu_memory_gib"}]),
        (["--provider", "near", "--gpu-budget", "8GB"], [{"where.gpu_memory_gib", "where.providers"}]),
        (
            ["--provider", "near", "--gpu-budget", "8GB", "--region", "south", "--max-cost", "0.01"],
            [{"where.gpu_memory_gib", "where.providers", "where.regions", "budget.max_usd"}],
        ),
    ],
    ids=lambda each: " ".join(each) if each and isinstance(each[0], str) else "",
)
def test_wishes_that_clash_are_given_up_as_few_as_do_and_are_named(wish: list[str], given_up: list[set[str]]) -> None:
    """One where one is enough, else two; what is named leads to the plan that is shown."""
    words = ["--model", "7b", "--method", "qlora", *wish]
    result = answered(words)
    assert result.recommended is None
    assert [set(way.changes) for way in result.ways_out] == given_up
    for way in result.ways_out:
        command = run_command(parsed(*words), changes=way.changes, has_data=True, model=None)
        assert answered(shlex.split(command.removeprefix("rentune run "))).recommended is not None


def test_where_no_wish_alone_is_enough_memory_and_money_are_given_up_together() -> None:
    words = ["--model", "32b", "--quant", "nf4", "--gpu-budget", "8GB", "--max-cost", "0.01", "--max-hours", "0.1"]
    (way, *_) = answered(words).ways_out
    assert set(way.changes) == {"where.gpu_memory_gib", "budget.max_usd", "budget.max_hours"}
    assert way.change.startswith("with ")
    hours, usd = way.changes["budget.max_hours"], way.changes["budget.max_usd"]
    assert f" in up to {hours:,.1f} hours and for up to ${usd}" in way.change
    more = f"--gpu-budget {way.changes['where.gpu_memory_gib']:g}GB --max-cost {usd} --max-hours {hours}"
    assert any(plan.why_not is None for plan in answered(typed(words, more)).plans)


def test_ram_that_lacks_is_that_of_the_way_that_needs_least() -> None:
    """What waits in RAM waits there in 16 bits, too, which needs four times as much: no reason to give the job up."""
    owned = make_offer(gpu="T4", ram_gib=23.5)
    result = ask(make_request(model="70b"), make_catalog(owned, gpus=CARDS))
    (refused,) = (each for each in result.rejections if "ram_bytes" in each.needed)
    streamed = ask(make_request(model="70b", training={"quant": "nf4"}), make_catalog(owned, gpus=CARDS))
    (least,) = (each for each in streamed.rejections if "ram_bytes" in each.needed)
    assert refused.needed == least.needed


def test_a_remedy_does_not_lead_into_the_other_limit() -> None:
    """What is both too dear and too slow needs both lifted; hours alone would be refused for their money."""
    refused = next(filter(of_limits, answered(["--model", "7b", "--max-cost", "0.01", "--max-hours", "0.01"]).rejections))
    assert set(refused.changes) == {"budget.max_usd", "budget.max_hours"}
    affordable = next(filter(of_limits, answered(["--model", "7b", "--max-cost", "9", "--max-hours", "0.01"]).rejections))
    assert set(affordable.changes) == {"budget.max_hours"}


def test_the_command_for_this_machine_overrules_the_cards_that_a_job_file_names() -> None:
    """The file goes on saying them, so leaving the option out would not do."""
    own = make_offer(
        provider="local", instance_type="this-machine", gpu=None, num_gpus=0, ram_gib=64.0, usd_per_hour=Decimal(0)
    )
    market, here = make_catalog(own), (Provider(name="local", runnable=True, status="tested"),)
    of_file = make_request(where=Where(providers=("local",), gpus=("Card 24GB",)))
    (way,) = ask(of_file, market, providers=here).ways_out
    command = run_command({"job": "job.yaml"}, changes=way.changes, has_data=True, model=None)
    assert command == "rentune run job.yaml --provider local"
    typed_again = request_of(parsed(*shlex.split(command.removeprefix("rentune run job.yaml "))), start=of_file)
    assert ask(typed_again, market, providers=here).recommended is not None


def test_no_sum_is_named_that_a_rule_forbids() -> None:
    """More money helps nobody whose policy ends below it."""
    rule = Rule(key="max_usd_per_run", allows=Decimal("0.02"), said_in="policy.toml", may_be_overruled=True)
    words = ["--model", "7b", "--provider", "cloud", "--max-cost", "0.01"]
    (refused,) = [each for each in answered(words, rule).rejections if "at p90" in each.reason]
    assert what_would_do(refused, spelled) == "--overrule-policy max_usd_per_run"
    assert answered(words, rule).ways_out == ()


def test_the_kernels_that_a_card_lacks_are_not_asked_for_again() -> None:
    bare = make_gpu(bitsandbytes="no")
    words = ["--model", "350m", "--quant", "nf4"]
    market = make_catalog(make_offer(), gpus=(bare,))
    (refused,) = [each for each in ask(asked(words), market).rejections if each.changes]
    assert ask(asked(typed(words, what_would_do(refused, spelled))), market).plans


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("host", "host: name your machine (--host user@address)"),
        ("bare", "bare: import prices that you see there (rentune catalog import FILE.csv"),
    ],
)
def test_whoever_names_a_seller_without_a_price_is_told_what_to_type(provider: str, words: str) -> None:
    """Nothing can be planned there as it is, and the words for that are no dead end."""
    market = msgspec.structs.replace(MARKET, billing=MARKET.billing | {provider: make_billing(provider)})
    (refused,) = [each for each in ask(asked(["--model", "7b", "--provider", provider]), market).rejections if each.remedy]
    assert (refused.wish, words in str(refused.remedy)) == ("where.providers", True)


def test_an_offer_of_ones_own_is_the_remedy_that_it_is_called() -> None:
    """With it the seller has a price, and the row is about the others alone."""
    bare = make_offer(provider="bare", gpu="L4")
    result = ask(asked(["--model", "7b", "--provider", "bare"]), make_catalog(bare, CHEAP, gpus=CARDS))
    assert [plan.offer.provider for plan in result.plans] == ["bare"]
    assert all(each.remedy is None for each in result.rejections if each.wish == "where.providers")


FULL = ["--model", "7b", "--method", "full"]


def test_full_tuning_that_fits_nowhere_is_answered_with_the_method_that_would() -> None:
    """By a command that leads to the plan that is shown; what was given up is said."""
    market = make_catalog(make_offer(gpu="L4", instance_type="small"), make_offer(gpu="T4", instance_type="older"), gpus=CARDS)
    result = ask(asked(FULL), market)
    (way,) = result.ways_out
    assert (way.change, way.changes) == ("with method lora instead of full", {"training.method": "lora"})
    assert "lora equals full tuning on small and medium data" in (way.given_up or "")
    command = run_command(parsed(*FULL), changes=way.changes, has_data=True, model=None)
    recommended = ask(asked(shlex.split(command.removeprefix("rentune run "))), market).recommended
    assert recommended is not None
    assert (recommended.name, recommended.cost.total_usd) == (way.plan.name, way.plan.cost.total_usd)


@pytest.mark.parametrize("method", CAPABILITIES.headless)
def test_a_method_that_can_do_no_classes_is_answered_with_one_that_can(method: str) -> None:
    """`run` sent to `plan`, which ended with nothing to type."""
    market = make_catalog(make_offer(gpu="L4"), gpus=CARDS)
    options = ["--model", "7b", "--task", "classification", "--method", method]
    result = ask(asked(options), market, capabilities=CAPABILITIES)
    (way,) = result.ways_out
    assert way.changes == {"training.method": "lora"}
    assert way.given_up == f"method {method}, which the trainer cannot do for task classification"
    command = run_command(parsed(*options), changes=way.changes, has_data=True, model=None)
    again = ask(asked(shlex.split(command.removeprefix("rentune run "))), market, capabilities=CAPABILITIES)
    assert again.recommended is not None


def test_where_adapters_on_16_bits_fit_nowhere_either_it_is_the_base_in_4_bits() -> None:
    """First the mildest change is tried. Blocks in 16 bits that RAM does not hold could wait on the disk as they are."""
    market = make_catalog(make_offer(gpu="T4", instance_type="small", ram_gib=12.0), gpus=CARDS)
    assert [way.changes for way in ask(asked(FULL), market).ways_out] == [{"training.method": "qlora"}]
    adapters = ask(asked(["--model", "7b", "--method", "lora"]), market)
    assert [way.changes for way in adapters.ways_out] == [{"where.offload_disk": True}, {"training.quant": "nf4"}]


def test_no_way_of_full_tuning_that_does_not_exist_is_refused() -> None:
    """It has no frozen blocks, and cards without bfloat16 hold the weights that move in fp32: they are told by themselves."""
    market = make_catalog(
        make_offer(gpu="L4", instance_type="small"), make_offer(gpu="Quadro RTX 6000", instance_type="older"), gpus=CARDS
    )
    result = ask(asked(FULL), market)
    assert not [each for each in result.rejections if "frozen" in each.what or "nf4" in each.what + each.reason]
    of_cards = {each.what: each.reason for each in result.rejections if each.what.startswith("1 x")}
    assert "(full bf16" in of_cards["1 x L4"]
    assert "(full f32 f16" in of_cards["1 x Quadro RTX 6000"]
    alone = ask(asked([*FULL, "--gpu", "Quadro RTX 6000"]), market)
    assert not [each for each in alone.rejections if "bf16" in each.what + each.reason]


def test_a_run_that_is_far_too_long_is_named_with_the_steps_that_its_budget_pays_for() -> None:
    """Beside the budget that pays for all; where a little more money would do, nobody is to train less."""
    words = ["--model", "7b", "--examples", "2000000", "--provider", "cloud", "--max-cost", "5"]
    ways = answered(words).ways_out
    (fewer,) = (way for way in ways if "loop.max_steps" in way.changes)
    assert fewer.change.endswith(" of 375,000 steps")
    assert "rows are read, not 6,000,000" in (fewer.given_up or "")
    assert ways[0].changes.keys() == {"budget.max_usd"}
    command = run_command(parsed(*words), changes=fewer.changes, has_data=True, model=None)
    recommended = answered(shlex.split(command.removeprefix("rentune run "))).recommended
    assert recommended is not None
    assert (recommended.name, recommended.cost.total_usd) == (fewer.plan.name, fewer.plan.cost.total_usd)
    nearly = str(ways[0].changes["budget.max_usd"] * Decimal("0.9"))
    assert all("loop.max_steps" not in way.changes for way in answered([*words[:-1], nearly]).ways_out)
