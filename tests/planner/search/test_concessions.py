"""What of an adapter is given up: nothing where the job can be run as advised, else the least that is enough, and said so."""

from __future__ import annotations

import shlex
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.bases.models import resolve_model
from catalogs.hardware import Gpu
from planner.advise import advise
from planner.asking.options.command_line import run_command
from planner.asking.options.overlay import changed
from planner.asking.request import Budget, Purpose, Request
from planner.plan import SearchResult, WayOut
from planner.search.figures import Figures
from planner.search.told.conceded import Conceded
from planner.search.told.concessions import concessions
from planner.search.ways.strategies import seq_len_of
from remote.contract import Loop
from tests.planner.builders import ask, make_catalog, make_gpu, make_offer, make_request, parsed
from tests.planner.report.test_golden import asked

CARDS: Final = tuple(
    make_gpu(f"Card {mib} MiB", memory_gib=24.0, driver_memory_mib=mib) for mib in (21_800, 22_000, 22_200, 22_400, 23_034)
)
LARGE: Final = make_gpu("Card 80GB", memory_gib=80.0, driver_memory_mib=81_559, achievable_tflops=776.0)
QLORA: Final[dict[str, Any]] = {"method": "qlora", "optimizer": "adamw_8bit", "offload": "none"}  # streamed it fits anywhere


def job(**training: Any) -> Request:
    """32 billion parameters in 4 bits: what the adapter takes decides whether a card of 24 GB holds them."""
    return make_request(model="32b", training=QLORA | training)


def steps_of(request: Request) -> list[Conceded]:
    """All there are, the least first."""
    architecture = resolve_model(request.model)
    return list(concessions(request, advise(request, architecture), architecture))


def on(card: Gpu, request: Request, **changes: Any) -> SearchResult:
    """On one machine with it."""
    return ask(request, make_catalog(make_offer(gpu=card.name, ram_gib=256.0, **changes), gpus=(card,)))


def less_of_an_adapter(result: SearchResult) -> WayOut | None:
    """The way out that gives up some of it, and not some of the steps."""
    ways = [way for way in result.ways_out if way.given_up is not None and "loop.max_steps" not in way.changes]
    assert len(ways) <= 1
    return next(iter(ways), None)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from((*CARDS, LARGE)), st.integers(50, 400)), min_size=1, max_size=3),
    st.sampled_from([16, 64, 128]),
    st.sampled_from([None, "0.5", "2", "4"]),
    st.booleans(),
)
def test_the_least_is_given_up_that_is_enough(
    machines: list[tuple[Gpu, int]], rank: int, max_usd: str | None, said: bool
) -> None:
    """As when each step is asked about alone, on all machines: none before it can be run, and what it leads to is its best.
    Whatever can be run after one step can be run after every later one.
    """
    offers = [
        make_offer(instance_type=f"machine-{number}", gpu=card.name, usd_per_hour=Decimal(cents) / 100, ram_gib=256.0)
        for number, (card, cents) in enumerate(machines)
    ]
    market = make_catalog(*offers, gpus=(*CARDS, LARGE))
    purpose = Purpose(use_case="code") if rank == 64 else Purpose(accuracy="highest") if rank == 128 else Purpose()
    request = msgspec.structs.replace(
        job(**({"rank": rank} if said else {})),
        purpose=purpose,
        budget=Budget(max_usd=Decimal(max_usd) if max_usd is not None else None),
    )
    result = ask(request, market)
    way = less_of_an_adapter(result)
    steps = steps_of(request)
    alone = [ask(changed(request, step.changes), market).recommended for step in steps]
    assert all(later is not None for earlier, later in pairwise(alone) if earlier is not None)
    first = next((place for place, plan in enumerate(alone) if plan is not None), None)
    if result.recommended is not None or first is None:
        assert way is None
        return
    assert way is not None
    assert (way.change, way.changes) == (steps[first].words, steps[first].changes)
    nearest = alone[first]
    assert nearest is not None
    assert (way.plan.name, way.plan.cost.total_usd) == (nearest.name, nearest.cost.total_usd)


@cache
def figures_of(model: str) -> Figures:
    request = make_request(model=model)
    architecture = resolve_model(model)
    return Figures(architecture, request, advise(request, architecture), seq_len=seq_len_of(request, architecture))


@pytest.mark.parametrize("model", ["7b", "gpt2", "falcon-7b", "deepseek-v3", "granite-4.0-h-tiny", "mixtral-8x7b", "350m"])
def test_each_step_takes_less_memory_and_no_more_time(model: str) -> None:
    """So what one can do a later one can, which is what lets the search halve them. Each names modules that the base has."""
    request, offer, card = make_request(model=model, training={"rank": 256}), make_offer(), CARDS[0]
    figures = figures_of(model)
    taken = []
    for step in steps_of(request):
        less = changed(request, step.changes)
        asked_of = figures.asking(less, advise(less, figures.architecture))
        (*_, smallest) = asked_of.ladders(1, computes_in="bfloat16").usual[-1]
        memory, duration = asked_of.vram(smallest, card), asked_of.duration(smallest, card, offer)
        taken.append((memory.required_bytes, duration.wall_s.p50))
    assert len(taken) == 8
    assert all(later[0] <= before[0] and later[1] <= before[1] * (1 + 1e-9) for before, later in pairwise(taken))
    assert taken[-1][0] < taken[0][0]


def test_nothing_is_given_up_where_the_job_can_be_run_as_advised() -> None:
    """Not even where a lower rank would cost less."""
    assert on(LARGE, job()).ways_out == ()
    assert all(plan.strategy.rank == 16 for plan in on(LARGE, job()).plans)


def test_what_was_given_up_stands_beside_the_plan_with_its_reason() -> None:
    """The advice that it goes against, and what the field knows of going below it."""
    result = on(CARDS[3], msgspec.structs.replace(job(), purpose=Purpose(use_case="code")))
    way = result.ways_out[0]
    assert way.change == "with rank 16 instead of 64"
    assert way.changes == {"training.rank": 16}
    assert way.given_up is not None
    assert way.given_up.startswith("rank 64, advised since what code asks of a base is far from low rank")
    assert "On all linears the rank hardly moved the results of its runs" in way.given_up
    assert (way.plan.strategy.rank, way.plan.strategy.alpha, way.plan.why_not) == (16, 32.0, None)
    assert {choice.key: choice.value for choice in way.plan.choices}["target_modules"] == "all-linear"


def test_targets_go_after_the_rank() -> None:
    """Attention alone falls behind more than a lower rank does."""
    assert [step.changes for step in steps_of(make_request(model="7b", training={"rank": 16}))] == [
        {"training.rank": 8},
        {"training.rank": 8, "training.target_modules": ("q_proj", "k_proj", "v_proj", "o_proj")},
        {"training.rank": 8, "training.target_modules": ("q_proj", "v_proj")},
        {"training.rank": 4, "training.target_modules": ("q_proj", "v_proj")},
    ]


@pytest.mark.parametrize(
    "request_",
    [
        make_request(training={"method": "full"}),
        make_request(training={"method": "vera"}),
        make_request(training={"method": "lora", "rank": 4, "target_modules": ("q_proj",)}),
        make_request(loop=Loop(init_adapter="adapter"), training={"rank": 64}),
    ],
    ids=["no adapter", "ranks of its own", "the least there is", "an adapter that is there"],
)
def test_some_jobs_have_nothing_to_give_up(request_: Request) -> None:
    """The table is about LoRA's ranks and targets."""
    assert steps_of(request_) == []


def held_whole(request: Request) -> Request:
    """With all blocks and all logits on the card: streamed ones, or a few at a time, leave nothing to give up."""
    return msgspec.structs.replace(request, training={**request.training, "offload": "none", "loss": "hf"})


def test_what_was_said_is_given_up_after_every_other_wish() -> None:
    """A wish is a wish: the command under the answer gives up what was advised before it gives up what was said."""
    small, large = (
        make_offer(gpu=CARDS[0].name, ram_gib=256.0),
        make_offer(instance_type="large", gpu=LARGE.name, ram_gib=256.0),
    )
    market = make_catalog(small, large, gpus=(*CARDS, LARGE))
    words = ["--model", "32b", "--quant", "nf4", "--gpu", CARDS[0].name]
    for rank, last in (([], False), (["--rank", "128"], True)):
        ways = ask(held_whole(asked([*words, *rank])), market).ways_out
        places = [place for place, way in enumerate(ways) if way.given_up is not None]
        assert places == [len(ways) - 1 if last else 0], ways
        way = ways[places[0]]
        command = run_command(parsed(*words, *rank), changes=way.changes, has_data=True, model=None)
        again = ask(held_whole(asked(shlex.split(command.removeprefix("rentune run ")))), market).recommended
        assert again is not None
        assert again.name == way.plan.name
        assert ("as was said" in str(way.given_up)) == last


def test_every_step_is_counted_where_the_search_had_to_go_down() -> None:
    """And none where it had not."""
    tight, roomy = (on(card, job(rank=64)).considered for card in (CARDS[3], LARGE))
    assert tight is not None
    assert roomy is not None
    assert tight.num_strategies_asked == roomy.num_strategies_asked == roomy.num_strategies
    assert tight.num_strategies == (1 + len(steps_of(job(rank=64)))) * roomy.num_strategies
    assert tight.num_candidates == tight.num_strategies
