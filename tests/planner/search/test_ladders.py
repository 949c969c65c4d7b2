"""Every strategy that is chosen among: how many there are, and that passing over most of them loses none that is better."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import product
from typing import Any, Final, NamedTuple, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.advise import advise
from planner.asking.data import stated_data
from planner.asking.request import DataAsked, Request, Where
from planner.choice.goals import SURELY_BETTER
from planner.edges import Edges
from planner.estimators.memory import available_bytes, verdict
from planner.refusals import CaseRefused
from planner.search import question_of
from planner.search.figures import VARYING, Figures, key_of
from planner.search.ways.fit import moves_of
from planner.search.ways.ladders import LEVERS, SAME_LEVERS, SETS
from planner.search.ways.strategies import seq_len_of
from planner.strategy.words import describe
from remote.contract import CAPABILITIES, Capabilities, Strategy, Task
from tests.planner.builders import TODAY, ask, make_catalog, make_gpu, make_offer, make_request

SHIPPED: Final = read_catalog()
CARDS: Final = (
    make_gpu("Card 16GB", memory_gib=16.0, driver_memory_mib=15_360),
    make_gpu(),
    make_gpu("Card 48GB", memory_gib=48.0, driver_memory_mib=46_068),
    make_gpu("Card 80GB", memory_gib=80.0, driver_memory_mib=81_559, achievable_tflops=776.0, memory_bandwidth_gb_per_s=3350.0),
)
JOBS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("3b", {}),
    ("14b", {}),
    ("32b", {"method": "qlora"}),
    ("3b", {"method": "full"}),
    ("3b", {"method": "full", "seq_len": 8_192}),
    ("3b", {"seq_len": 8_192}),
)


def figures_of(request: Request) -> Figures:
    """Those of a search for this request."""
    architecture = resolve_model(request.model)
    return Figures(architecture, request, advise(request, architecture), seq_len=seq_len_of(request, architecture))


class Laid(NamedTuple):
    """A strategy on a card."""

    tight: bool
    lever: int
    wall_s: float
    missing: tuple[str, ...]
    step: Strategy

    @property
    def counted_s(self) -> float:
        """As ways are compared."""
        return SURELY_BETTER ** moves_of(self.lever) * self.wall_s


def every(figures: Figures, num_gpus: int) -> list[tuple[int, Strategy]]:
    """Each strategy with how far it is from the usual."""
    ladders = figures.ladders(num_gpus, computes_in="bfloat16")
    by_lever = [ladders.usual, *(ladders.pulled(place) for place in range(len(LEVERS)))]
    return [(place, step) for place, pulled in enumerate(by_lever) for ladder in pulled for step in ladder]


@pytest.mark.parametrize(("model", "training"), JOBS, ids=str)
@pytest.mark.parametrize("num_gpus", [1, 4])
def test_what_figures_are_remembered_by_tells_every_strategy_apart(model: str, training: dict[str, Any], num_gpus: int) -> None:
    """Two that differ in a field which the key leaves out would share the estimates of the first."""
    found = {step for _, step in every(figures_of(make_request(model=model, training=training)), num_gpus)}
    assert len(found) > 1
    assert len({key_of(step) for step in found}) == len(found)


def test_what_a_lever_sets_is_part_of_the_key() -> None:
    assert {key for changes in SETS for key in changes} <= set(VARYING)


@pytest.mark.parametrize("options", [{"where": Where(gpu_memory_gib=16.0)}, {}, {"training": {"method": "full"}}], ids=str)
def test_more_than_five_hundred_strategies_are_chosen_among(options: dict[str, Any]) -> None:
    """On the shipped catalog, each of them another; the answer tells how many, and how few had to be priced."""
    told = ask(make_request(model="8b", **options), SHIPPED).considered
    assert told is not None
    assert told.num_strategies > 500
    assert told.num_offers_admitted * 100 < told.num_candidates
    assert 0 < told.num_candidates - told.num_pruned < told.num_candidates / 1_000


class Counting:
    """Stands for what a trainer can do: language models alone. Counts how often it is asked."""

    def __init__(self) -> None:
        self.num_asked = 0

    def missing(self, _strategy: Strategy, task: Task, *, packing: bool) -> tuple[str, ...]:
        assert not packing
        self.num_asked += 1
        return () if task == "causal_lm" else (task,)


def test_the_trainer_is_asked_once_of_each_strategy_and_anew_where_the_question_is_another() -> None:
    """A search asks thousands of times, and also of what would be done with a wish less."""
    request, counting = make_request(), Counting()
    edges = Edges(providers={}, capabilities=cast("Capabilities", counting), today=TODAY)
    question = question_of(request, resolve_model(request.model), make_catalog(), edges, kept_at=())
    (strategy, *_) = figures_of(request).ladders(1, computes_in="bfloat16").usual[0]
    assert [question.doable(strategy) for _ in range(2)] == [True, True]
    assert counting.num_asked == 1
    other = msgspec.structs.replace(question, request=msgspec.structs.replace(request, task="classification"))
    assert (other.doable(strategy), question.doable(strategy)) == (False, True)
    assert counting.num_asked == 2


def test_what_is_tried_in_its_place_is_no_candidate_of_what_was_asked() -> None:
    """Another method has a price where the one that was asked for fits nothing: of that one nothing was priced."""
    answer = ask(make_request(model="8b", training={"method": "full"}), make_catalog(make_offer(), gpus=(make_gpu(),)))
    told = answer.considered
    assert told is not None
    assert [way.changes for way in answer.ways_out if "training.method" in way.changes]
    assert 0 < told.num_candidates == told.num_pruned


@pytest.mark.parametrize("num_gpus", [1, 2, 8])
@pytest.mark.parametrize(("model", "training"), JOBS, ids=str)
def test_no_strategy_is_counted_twice(model: str, training: dict[str, Any], num_gpus: int) -> None:
    """What is counted without being made is as many as are made."""
    figures = figures_of(make_request(model=model, training=training))
    steps = [step for _, step in every(figures, num_gpus)]
    assert len(set(steps)) == len(steps) == figures.ladders(num_gpus, computes_in="bfloat16").num_strategies


@settings(max_examples=12)
@given(st.sampled_from(JOBS), st.sampled_from(CARDS), st.sampled_from([1, 2, 4]))
def test_the_strategy_that_is_chosen_is_the_best_of_all_that_there_are(
    job: tuple[str, dict[str, Any]], card: Any, num_gpus: int
) -> None:
    """As when every one of them is laid on the card and timed: what surely fits first, then the quickest, each move from the
    usual having to save a good deal; where something fits without any, only moves after which the same is trained.

    The request says how many GPUs, so there is one number of them to try.
    """
    model, training = job
    request = make_request(model=model, training=training, where=Where(num_gpus=num_gpus))
    offer = make_offer(gpu=card.name, num_gpus=Decimal(num_gpus), ram_gib=4_096.0, vcpus=256.0)
    figures = figures_of(request)
    fits = []
    for lever, step in every(figures, num_gpus):
        try:
            word, _ = verdict(figures.vram(step, card), available_bytes(card, None))
        except CaseRefused:
            continue
        if word != "does_not_fit":
            wall_s = figures.duration(step, card, offer).wall_s.p50
            fits.append(Laid(word == "tight", lever, wall_s, CAPABILITIES.missing(step, "causal_lm"), step))
    chosen = ask(request, make_catalog(offer, gpus=CARDS)).plans
    doable = [each for each in fits if not each.missing]
    for plan in chosen:
        of_all = doable if plan.obstacle is None else fits
        tight = plan.verdict == "tight"
        assert tight == min(each.tight for each in of_all)
        usual = [each.wall_s for each in of_all if not each.lever and each.tight == tight]
        same = [each.counted_s for each in doable if each.lever - 1 in SAME_LEVERS and each.tight == tight]
        assert plan.duration.wall_s.p50 <= min(usual + (same if plan.obstacle is None else []), default=math.inf) * 1.000_001
        if plan.strategy.offload != "stream":  # of what is streamed the room is used, which makes it quicker than any of these
            assert plan.strategy in [each.step for each in of_all]
    assert bool(chosen) == bool(fits)
    assert any(plan.why_not is None for plan in chosen) == bool(doable)


@settings(max_examples=30)
@given(
    st.sampled_from(JOBS),
    st.sampled_from([gpu for gpu in SHIPPED.gpus.values() if gpu.vendor == "nvidia"]),
    st.sampled_from([1, 2, 8]),
)
def test_no_strategy_is_quicker_than_those_that_bound_the_search(
    job: tuple[str, dict[str, Any]], card: Any, num_gpus: int
) -> None:
    """A floor above anything would pass over the best plan there is."""
    model, training = job
    figures = figures_of(make_request(model=model, training=training))
    offer = make_offer(gpu=card.name, num_gpus=Decimal(num_gpus))
    ladders = figures.ladders(num_gpus, computes_in="bfloat16")

    def wall_s(step: Strategy) -> float:
        return figures.least_duration(step, card, offer).wall_s.p50

    least = min(map(wall_s, ladders.quickest))
    firsts = [*ladders.usual, *(ladder for place in range(len(LEVERS)) for ladder in ladders.pulled(place))]
    assert least <= min(wall_s(ladder[0]) for ladder in firsts) * (1 + 1e-9)


def test_a_lever_makes_of_what_is_tight_what_fits() -> None:
    """States of 8 bits instead of 32: what may run out of memory becomes what does not."""
    request = make_request(model="32b", training={"method": "qlora", "offload": "none"})
    offer = make_offer(gpu="Card 24GB", ram_gib=256.0)
    card = make_gpu(driver_memory_mib=22_600)
    (plan,) = ask(request, make_catalog(offer, gpus=(card,))).plans
    assert (plan.verdict, plan.strategy.optimizer, plan.why_not) == ("fits", "adamw_8bit", None)
    said = make_request(model="32b", training={"method": "qlora", "optimizer": "adamw_torch_fused"})
    found = ask(said, make_catalog(offer, gpus=(card,)))
    assert {plan.strategy.optimizer for plan in found.plans} == {"adamw_torch_fused"}
    assert [(plan.verdict, plan.strategy.offload) for plan in found.plans if plan.why_not is None] == [("fits", "stream")]


# What a job file may say of how memory is spared, and the planner chooses where it says nothing
SPARING: Final[dict[str, tuple[str, ...]]] = {
    "quant": ("none", "nf4", "int8"),
    "loss": ("chunked",),  # its own way to spare logits, beside the planner's
    "offload": ("none", "stream"),
    "optimizer": ("adamw_8bit",),
    "kbit_upcast": ("norms", "none"),
}


@pytest.mark.parametrize(
    ("model", "gpu", "ram_gib"),
    [("14b", "RTX 3060 12GB", 12.0), ("70b", "RTX 4090", 64.0)],
)
def test_what_is_refused_fits_with_nothing_that_a_job_file_says(model: str, gpu: str, ram_gib: float) -> None:
    """At a step more than the longest sequences that are said to fit, on this card beside this RAM."""
    longest = 32_768
    data = DataAsked(
        num_examples=300,
        mean_tokens=400.0,
        max_tokens=longest,
        profile=((100.0, 0.99), (float(longest), 0.01)),
        basis="counted by the model's tokenizer",
    )
    market = make_catalog(make_offer(gpu=gpu, ram_gib=ram_gib), gpus=tuple(SHIPPED.gpus.values()))

    def sure(**said: Any) -> list[str]:
        try:
            plans = ask(make_request(model=model, data=data, training=said), market).plans
        except CaseRefused:
            return []
        return [describe(plan.strategy) for plan in plans if plan.why_not is None and plan.verdict == "fits"]

    whole = ask(make_request(model=model, data=data), market)
    (named,) = {each.changes["training.seq_len"] for each in whole.rejections if "training.seq_len" in each.changes}
    assert sure(seq_len=named)
    for said in product(*SPARING.values()):
        assert not sure(seq_len=named + 512, **dict(zip(SPARING, said, strict=True)))


def test_levers_are_pulled_together_where_one_is_not_enough() -> None:
    """A stream of blocks and a loss in chunks: each alone leaves too much of a 32B with 7,024 tokens on 24 GB."""
    request = make_request(model="32b", data=stated_data(num_examples=300, tokens_per_example=7_024))
    market = make_catalog(make_offer(gpu="RTX 4090", ram_gib=64.0), gpus=tuple(SHIPPED.gpus.values()))
    plan = ask(request, market).recommended
    assert plan is not None
    assert (plan.verdict, plan.strategy.offload, plan.strategy.loss, plan.strategy.rank) == ("fits", "stream", "liger", 16)
    for alone in ({"loss": "hf"}, {"offload": "none"}):
        assert ask(msgspec.structs.replace(request, training=alone), market).recommended is None
