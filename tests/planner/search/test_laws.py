"""Laws that hold of every request: more of what is allowed is never worse, more of what is asked never takes less memory."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from functools import cache
from itertools import pairwise
from typing import Any, Final, get_args

import click
import msgspec
from click.testing import CliRunner
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import resolve_model
from catalogs.failure import Failure
from catalogs.hardware import Offer
from planner.asking.case import read_case, strategy_of
from planner.asking.data import stated_data
from planner.asking.options.overlay import request_of
from planner.asking.options.table import OPTIONS, request_options
from planner.asking.request import Budget, Purpose, Request, Where
from planner.choice.goals import SURELY_BETTER
from planner.choice.recipes import ACCURACIES, DEPLOYMENTS, USE_CASES
from planner.estimators.memory import estimate_vram
from planner.methods import supported_methods
from planner.plan import Plan, Provider, Range, SearchResult
from planner.refusals import CaseRefused
from remote.contract import Attention, Autocast, Checkpointing, Dtype, Kernels, Loss, Optimizer, Quant, Task
from tests.planner.builders import CLOUD, ask, make_catalog, make_gpu, make_offer, make_request

SMALL = make_gpu("Card 8GB", memory_gib=8.0, driver_memory_mib=8192, achievable_tflops=40.0)
MIDDLE = make_gpu()
LARGE = make_gpu("Card 80GB", memory_gib=80.0, driver_memory_mib=81559, achievable_tflops=776.0)
CARDS = (SMALL, MIDDLE, LARGE)
ASKING = Provider(name="asking", runnable=True, status="tested", asks_ram=True)

# ── requests and markets ───────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def offers(draw: st.DrawFn) -> tuple[Offer, ...]:
    """One to four machines."""
    sellers = ["cloud", "asking", "elsewhere"]
    rows = st.tuples(
        st.sampled_from(CARDS),
        st.integers(1, 2),
        st.integers(5, 900),
        st.sampled_from(["on_demand", "spot"]),
        st.sampled_from(sellers),
        st.sampled_from([64.0, 64.0, None]),
    )
    drawn = draw(st.lists(rows, min_size=1, max_size=4))
    return tuple(
        make_offer(
            provider=provider,
            ram_gib=ram_gib,
            instance_type=f"machine-{number}",
            gpu=gpu.name,
            num_gpus=Decimal(num_gpus),
            usd_per_hour=Decimal(cents) / 100,
            purchase=purchase,
        )
        for number, (gpu, num_gpus, cents, purchase, provider, ram_gib) in enumerate(drawn)
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A job of any use, size and method that the search tries."""
    training: dict[str, Any] = draw(
        st.sampled_from([{}, {"method": "qlora"}, {"method": "full"}, {"rank": 64}, {"quant": "int8"}, {"method": "dora"}])
    )
    return make_request(
        model=draw(st.sampled_from(["SmolLM2-135M", "3b"])),
        training=training,
        data=stated_data(
            num_examples=draw(st.sampled_from([10, 700, 20_000])), tokens_per_example=draw(st.sampled_from([64, 512, 2_048]))
        ),
        purpose=Purpose(
            use_case=draw(st.none() | st.sampled_from(USE_CASES)),
            deployment=draw(st.none() | st.sampled_from(DEPLOYMENTS)),
            accuracy=draw(st.none() | st.sampled_from(ACCURACIES)),
        ),
        top=draw(st.integers(1, 3)),
    )


def asked(request: Request, market: tuple[Offer, ...]) -> SearchResult:
    """The answer on this market. Of what "asking" sells an order makes sure of the RAM; "elsewhere" can't be rented."""
    return ask(request, make_catalog(*market, gpus=CARDS), providers=(CLOUD, ASKING))


def worth(result: SearchResult) -> tuple[float, tuple[bool, float]]:
    """How bad the best is: the dollars of the cheapest plan; of the recommended one, that it is tight, then its dollars."""
    nothing = float("inf")
    cheapest = min((plan.cost.total_usd.p50 for plan in result.plans), default=nothing)
    best = result.recommended
    return cheapest, (True, nothing) if best is None else (best.verdict == "tight", best.cost.total_usd.p50)


def no_worse(more: SearchResult, less: SearchResult) -> bool:
    """Neither the cheapest plan nor the recommended one got worse."""
    (more_usd, more_best), (less_usd, less_best) = worth(more), worth(less)
    return more_usd <= less_usd and more_best <= less_best


# Limits that are wishes: less than half of the smallest card is asked back as a slip of the unit.
LIMITS: dict[str, tuple[float, ...]] = {
    "gpu_memory_gib": (4.0, 6.0, 8.0, 24.0),
    "max_usd": (0.02, 0.2, 1, 8, 24),
    "max_hours": (0.02, 0.2, 1, 8, 24),
}


@settings(max_examples=40)
@given(requests(), offers(), st.sampled_from([(wish, limit) for wish, limits in LIMITS.items() for limit in limits]))
def test_more_memory_budget_or_time_never_makes_the_best_plan_worse(
    request: Request, market: tuple[Offer, ...], limited: tuple[str, float]
) -> None:
    """Three times of what was allowed, and then no limit at all."""
    wish, limit = limited

    def within(limit: float | None) -> SearchResult:
        if wish == "gpu_memory_gib":
            return asked(msgspec.structs.replace(request, where=Where(gpu_memory_gib=limit)), market)
        amount = Decimal(str(limit)) if wish == "max_usd" and limit is not None else limit
        return asked(msgspec.structs.replace(request, budget=Budget(**{wish: amount})), market)  # type: ignore[arg-type]

    little, more, any_amount = within(limit), within(3 * limit), within(None)
    assert no_worse(more, little)
    assert no_worse(any_amount, more)


@settings(max_examples=25)
@given(requests(), offers())
def test_the_best_plan_never_gets_dearer_where_a_limit_of_money_or_time_admits_one_more(
    request: Request, market: tuple[Offer, ...]
) -> None:
    """Limits at what each plan needs, from the least to the most: there the answers change. What nobody states of a cheap
    machine makes no exception, for it is recommended under no limit.
    """
    everything = asked(msgspec.structs.replace(request, top=10), market).plans
    budgets = (
        [Budget(max_usd=enough) for enough in sorted({cents_above(plan.cost.held_usd.p90) for plan in everything})],
        [Budget(max_hours=hours) for hours in sorted({plan.duration.wall_s.p90 / 3_600 * 1.001 for plan in everything})],
    )
    for growing in budgets:
        answers = [asked(msgspec.structs.replace(request, budget=budget), market) for budget in growing]
        for less, more in pairwise(answers):
            assert no_worse(more, less)


def cents_above(usd: float) -> Decimal:
    """The least whole cents that pay it."""
    return Decimal(usd).quantize(Decimal("0.01"), ROUND_CEILING)


BELOW = make_gpu("Card 16GB", memory_gib=16.0, driver_memory_mib=15360)
SOLD = st.tuples(st.sampled_from([16.0, 24.0, 64.0, 128.0]), st.integers(20, 90))


@settings(max_examples=10)
@given(st.sampled_from(["32b", "mixtral-8x7b"]), st.lists(SOLD, min_size=1, max_size=4), st.integers(1, 3))
@example(model="mixtral-8x7b", sold=[(24.0, 30), (128.0, 40)], top=1)
def test_a_disk_for_what_ram_does_not_hold_never_makes_the_recommended_plan_worse(
    model: str, sold: list[tuple[float, int]], top: int
) -> None:
    """A box with RAM enough is looked at, though a cheaper one holds the job with its disk."""
    boxes = (
        make_offer(gpu=BELOW.name, instance_type=f"of-{number}", ram_gib=ram_gib, usd_per_hour=Decimal(cents) / 100)
        for number, (ram_gib, cents) in enumerate(sold)
    )
    catalog, data = make_catalog(*boxes, gpus=(BELOW,)), stated_data(num_examples=700, tokens_per_example=128)

    def recommended(offload_disk: bool) -> tuple[bool, float]:
        where = Where(offload_disk=offload_disk)
        return worth(ask(make_request(model=model, where=where, data=data, training={"quant": "nf4"}, top=top), catalog))[1]

    assert recommended(True) <= recommended(False)


@settings(max_examples=25)
@given(requests(), offers(), st.sampled_from([8, 12, 16, 40]), st.sampled_from([1, 4, 40]))
def test_a_card_with_more_memory_is_never_the_worse_choice(
    request: Request, market: tuple[Offer, ...], memory_gib: int, more_gib: int
) -> None:
    """Of the same speed, at the same price: what fits comes before what is tight, and then the cheaper job, where what is moved
    to fit has to save a good deal.
    """

    def on(gib: int) -> tuple[bool, float]:
        card = make_gpu("Card", memory_gib=float(gib), driver_memory_mib=gib * 1_000)
        same = [msgspec.structs.replace(offer, gpu="Card", provider="cloud") for offer in market]
        _, recommended = worth(ask(request, make_catalog(*same, gpus=(card,))))
        return recommended

    (tight, usd), (tight_with_more, usd_with_more) = on(memory_gib), on(memory_gib + more_gib)
    assert (tight_with_more, usd_with_more) <= (tight, usd * SURELY_BETTER)


@settings(max_examples=30)
@given(requests(), offers(), st.integers(0, 3))
def test_removing_an_offer_never_improves_the_best_plan(request: Request, market: tuple[Offer, ...], gone: int) -> None:
    """Whichever it is."""
    assume(len(market) > 1)
    left = tuple(offer for number, offer in enumerate(market) if number != gone % len(market))
    assert no_worse(asked(request, market), asked(request, left))


def ranges_of(plan: Plan) -> list[Range]:
    """Every figure that nobody knows exactly."""
    found: list[Range] = [*plan.duration.phase_s.values()]
    for value in (plan.duration, plan.cost):
        found += [each for each in msgspec.structs.asdict(value).values() if isinstance(each, Range)]
    return found


@settings(max_examples=30)
@given(requests(), offers())
def test_a_range_is_in_order_and_above_nothing(request: Request, market: tuple[Offer, ...]) -> None:
    """P10 ≤ P50 ≤ P90 of every second, dollar and kilowatt-hour; the lines of a bill sum to it."""
    plans = asked(request, market).plans
    assume(plans)
    for plan in plans:
        assert all(0 <= each.p10 <= each.p50 <= each.p90 < float("inf") for each in ranges_of(plan))
        cost = plan.cost
        lines = (cost.setup_usd, cost.compute_usd, cost.rework_usd, cost.disk_usd, cost.address_usd, cost.egress_usd)
        for end in ("p10", "p50", "p90"):
            assert sum(Decimal(str(getattr(line, end))) for line in lines) == Decimal(str(getattr(cost.total_usd, end)))


# ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────

BASES: Final = (
    "smollm2-135m",
    "qwen2.5-7b",
    "gpt2",
    "mixtral-8x7b",
    "phi-3-mini",
    "gemma-2-2b",
    "bert-base-uncased",
    "falcon-7b",
    "t5-small",
    "granite-4.0-h-tiny",
    "gpt-oss-20b",
)


# Methods of which a higher rank may be a smaller adapter, as docs/methods.md says: OFT's counts blocks, the more of them the
# smaller each; LoKr's cuts a factor in two, and from half of its longer side on leaves it whole, which may be less.
SMALLER_BY_RANK: Final = frozenset({"oft", "lokr"})


@cache
def base(name: str) -> Architecture:
    """The architecture of a name in the registry."""
    return resolve_model(name)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A case with one value of every kind; many are refused."""
    words: dict[str, tuple[Any, ...]] = {
        "model": BASES,
        "task": get_args(Task),
        "method": tuple(supported_methods()),
        "quant": get_args(Quant),
        "optimizer": get_args(Optimizer),
        "gradient_checkpointing": get_args(Checkpointing),
        "attention": get_args(Attention),
        "loss": get_args(Loss),
        "kernels": get_args(Kernels),
        "param_dtype": get_args(Dtype),
        "autocast": get_args(Autocast),
        "dropout": (0.0, 0.1),
        "double_quant": (False, True),
        "padded": (False, True),
        "optimizer_in_backward": (False, True),
        "activation_offload": (False, True),
    }
    usual = ("model", "method", "quant", "gradient_checkpointing")  # the others at their defaults in most cases
    case = {key: draw(st.sampled_from(words[key])) for key in usual}
    for key in draw(st.lists(st.sampled_from(sorted(set(words) - set(usual))), max_size=3, unique=True)):
        case[key] = draw(st.sampled_from(words[key]))
    return case | {"num_virtual_tokens": 20, "trainable_layers": 2}


def bytes_of(case: dict[str, Any]) -> int | None:
    """The memory that it must have; None where it is refused."""
    try:
        strategy = strategy_of(read_case(case))
        return estimate_vram(base(case["model"]), strategy, task=case.get("task", "causal_lm")).required_bytes
    except CaseRefused:
        return None


@settings(max_examples=200)
@given(
    cases(),
    st.sampled_from(["rank", "seq_len", "micro_batch_size"]),
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([16, 100, 512]),
)
def test_a_higher_rank_longer_rows_or_larger_batches_never_take_less_memory(
    case: dict[str, Any], key: str, low: int, more: int, batch: int, seq_len: int
) -> None:
    """Whatever else the case says; what is refused of either has no memory to compare."""
    assume(not (key == "rank" and case["method"] in SMALLER_BY_RANK))
    others = {"rank": 8, "seq_len": seq_len, "micro_batch_size": batch}
    if key == "micro_batch_size":
        low, more = 1 + low % 6, 1 + more % 6
    smaller, larger = (bytes_of(case | others | {key: size}) for size in (low, low + more))
    assume(smaller is not None and larger is not None)
    assert smaller is not None
    assert larger is not None
    assert smaller <= larger


# ── no traceback ───────────────────────────────────────────────────────────────────────────────────────────────────

WORDS: Final = st.sampled_from(
    [
        "7b",
        "lora",
        "0",
        "-1",
        "1",
        "3",
        "nan",
        "inf",
        "1e400",
        "16GB",
        "0GB",
        "",
        " ",
        "all-linear",
        "nf4",
        "code",
        "off",
        "a,b",
        "k=v",
        "🦙",
    ]
) | st.text(max_size=6)


def parsed(words: list[str]) -> dict[str, Any] | None:
    """What click makes of the words; None where it refuses them with a usage error."""
    seen: dict[str, Any] = {}

    @click.command()
    @request_options
    def command(**options: Any) -> None:
        seen.update(options)

    done = CliRunner().invoke(command, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), words
    return seen or None


@settings(max_examples=150)
@given(
    st.sampled_from(["SmolLM2-135M", "7b", "no-such-model"]),
    st.lists(st.tuples(st.sampled_from([option for option in OPTIONS if option.kind is not bool]), WORDS), max_size=4),
)
def test_whatever_is_typed_is_planned_or_refused_in_a_sentence(model: str, typed: list[tuple[Any, str]]) -> None:
    """No traceback: a plan, or a typed refusal that says what was wrong."""
    options = parsed(["--model", model, *(word for option, value in typed for word in (option.flags[0], value))])
    if options is None:
        return
    assert answered(options)


def answered(options: dict[str, Any]) -> object:
    """The plans and reasons, or the sentence of a typed refusal; anything else is raised."""
    try:
        result = asked(request_of(options), (make_offer(),))
    except Failure as refusal:
        return str(refusal).strip()
    return result.plans or result.rejections or result.warnings
