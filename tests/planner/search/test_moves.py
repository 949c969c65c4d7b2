"""What is moved to RAM, or not made whole, where a card holds the job without: only what trains the same and costs a good deal
less.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.advise import advise
from planner.asking.case import read_case, strategy_of
from planner.asking.data import stated_data
from planner.asking.request import Budget
from planner.choice.goals import SURELY_BETTER
from planner.estimators.memory import available_bytes, verdict
from planner.estimators.memory.held.offloading import keeping, streaming_of
from planner.estimators.memory.step.head import head_asked
from planner.estimators.memory.step.letters import LETTERS
from planner.estimators.memory.step.numerics import behind, numerics_of
from planner.estimators.memory.step.played import play_evaluation, play_head
from planner.estimators.time.demand import Demand, demand_of, kept_as
from planner.plan import Plan
from planner.search.figures import Figures
from planner.search.ways.ladders import LEVERS, SAME_LEVERS
from planner.search.ways.strategies import seq_len_of
from planner.strategy.stack import PINNED_STACK
from remote.contract import CAPABILITIES, Strategy, Task
from tests.planner.builders import ask, make_billing, make_catalog, make_gpu, make_offer, make_request

SHIPPED: Final = read_catalog()
USUAL_ROWS: Final = stated_data(num_examples=1_000, tokens_per_example=512)
SHALLOW: Final = msgspec.structs.replace(resolve_model("32b"), num_layers=5)  # as wide, and all its ways can be gone through
OF_A_GUESS: Final = 0.98**-3  # a batch, its visits and blocks that keep what they save are each left for two per cent at least


def planned(model: str, card: str, *, ram_gib: float = 512.0, goal: Any = "cheapest", **training: Any) -> Plan:
    """The recommended plan on one such machine."""
    market = make_catalog(make_offer(gpu=card, ram_gib=ram_gib), gpus=tuple(SHIPPED.gpus.values()))
    request = make_request(model=model, data=USUAL_ROWS, training=training, budget=Budget(goal=goal))
    found = ask(request, market).recommended
    assert found is not None
    return found


@pytest.mark.parametrize(("model", "card", "quant"), [("32b", "RTX A5000", "nf4"), ("14b", "RTX A4000", "nf4")])
def test_blocks_pass_by_on_a_card_that_holds_them_where_the_larger_batch_makes_the_job_cheaper(
    model: str, card: str, quant: str
) -> None:
    """Packed weights are unpacked for each micro-batch, so that a card with room for one sequence beside them unpacks most."""
    whole, best = planned(model, card, offload="none", quant=quant), planned(model, card, quant=quant)
    assert (whole.verdict, best.verdict) == ("fits", "fits")
    assert whole.strategy.offload == "none"
    assert SURELY_BETTER * best.cost.total_usd.p50 < whole.cost.total_usd.p50
    assert (best.strategy.method, best.strategy.rank, best.strategy.quant) == ("lora", whole.strategy.rank, quant)
    assert best.strategy.optimizer == whole.strategy.optimizer  # states of 8 bits would learn a little else


def test_what_is_said_of_a_lever_stands() -> None:
    """Whatever would be cheaper."""
    assert planned("32b", "RTX A5000", offload="none").strategy.offload == "none"
    assert planned("32b", "RTX A5000", micro_batch_size=1).strategy.micro_batch_size == 1
    assert planned("32b", "RTX A4000", loss="hf").strategy.loss == "hf"


def test_a_machine_without_ram_for_what_passes_by_trains_as_it_can() -> None:
    """On a card that holds the job alone, and in RAM enough for the best way, and for a poorer one."""
    little, more, enough = (planned("14b", "RTX A5000", ram_gib=ram_gib) for ram_gib in (10.0, 24.0, 128.0))
    assert little.strategy.offload == "none"
    assert enough.strategy.offload == "stream"
    assert enough.cost.total_usd.p50 <= more.cost.total_usd.p50 <= little.cost.total_usd.p50


def test_a_plan_says_what_the_card_would_do_without() -> None:
    """In one line: the usual way, its hours and dollars; nothing where nothing is moved."""
    moved, usual = planned("32b", "RTX A5000"), planned("7b", "RTX 4090")
    (line,) = (each for each in moved.assumptions if "fits as well" in each)
    whole = planned("32b", "RTX A5000", offload="none", loss="hf")
    assert line.startswith("lora r16 nf4, batch 1x16, checkpointing fits as well")
    assert f"{whole.duration.wall_s.p50 / 3_600:,.1f} h" in line
    assert f"${whole.cost.held_usd.p50:,.2f}" in line
    assert not [each for each in usual.assumptions if "fits as well" in each]


def test_a_dearer_box_with_ram_enough_is_taken_where_the_job_costs_less_there() -> None:
    """A seller's cheapest box with these GPUs holds the job, and the next one does it in less."""
    boxes = (
        make_offer(gpu="RTX A5000", instance_type=name, ram_gib=ram_gib, usd_per_hour=Decimal(usd))
        for name, ram_gib, usd in (("small", 8.0, "1.00"), ("large", 128.0, "1.05"))
    )
    market = make_catalog(*boxes, gpus=tuple(SHIPPED.gpus.values()))
    plan = ask(make_request(model="32b", data=USUAL_ROWS), market).recommended
    assert plan is not None
    assert (plan.offer.instance_type, plan.strategy.offload) == ("large", "stream")


def test_what_is_cheaper_by_the_hour_alone_is_not_taken_where_it_takes_a_dear_disk() -> None:
    """Dollars decide, and what waits in RAM is packed on a disk before."""
    dear = make_billing(disk_usd_per_gib_month=Decimal(3_000), minimum_disk_gib=1)
    market = make_catalog(
        make_offer(gpu="RTX A5000", ram_gib=512.0, usd_per_hour=Decimal("0.01")),
        gpus=tuple(SHIPPED.gpus.values()),
        billing=(dear,),
    )

    def usd(**said: Any) -> float:
        plan = ask(make_request(model="32b", data=USUAL_ROWS, training=said), market).recommended
        assert plan is not None
        return plan.cost.held_usd.p50

    assert usd() <= usd(offload="none") * SURELY_BETTER


@settings(max_examples=4)
@given(st.sampled_from([6, 7, 8, 10, 12]), st.sampled_from([64, 512, 2_048]), st.sampled_from([30.0, 97.0, 400.0]))
def test_no_way_that_trains_the_same_is_a_good_deal_cheaper_than_the_plan(gib: int, tokens: int, tflops: float) -> None:
    """Of every step, loss, number of resident blocks, of visits, and of blocks that keep what they save."""
    card = make_gpu("Card", memory_gib=float(gib), driver_memory_mib=gib * 1_000, achievable_tflops=tflops)
    offer = make_offer(gpu=card.name, ram_gib=512.0)
    request = make_request(model="32b", data=stated_data(num_examples=1_000, tokens_per_example=tokens))
    answer = ask(request, make_catalog(offer, gpus=(card,)), architecture=SHALLOW)
    figures = Figures(SHALLOW, request, advise(request, SHALLOW), seq_len=seq_len_of(request, SHALLOW))
    every = [
        (SURELY_BETTER**moves * figures.duration(way, card, offer).wall_s.p50)
        for moves, way in every_way(figures)
        if verdict(figures.vram(way, card), available_bytes(card, None))[0] == "fits"
    ]
    plan = answer.recommended
    assert bool(every) == (plan is not None and plan.verdict == "fits" and plan.strategy.optimizer == "adamw_torch_fused")
    if plan is not None and every:
        assert plan.duration.wall_s.p50 <= min(every) * OF_A_GUESS


def every_way(figures: Figures) -> Iterator[tuple[int, Strategy]]:
    """What the trainer can do and trains the same, with how many moves it is from the usual."""
    ladders = figures.ladders(1, computes_in="bfloat16")
    for ladder in ladders.usual:
        yield from ((0, step) for step in ladder)
    for lever in SAME_LEVERS:
        for step in (step for ladder in ladders.pulled(lever) for step in ladder):
            if not CAPABILITIES.missing(step, "causal_lm"):
                yield from ((len(LEVERS[lever]), way) for way in ([step] if step.offload != "stream" else streamed(step)))


def streamed(step: Strategy) -> Iterator[Strategy]:
    """Each way for blocks to pass."""
    depth = SHALLOW.num_layers
    visits = [number for number in (1, 4, 16) if number <= step.gradient_accumulation_steps]
    for residing, kept, served in product(range(depth - 1), (0, 2, depth), visits):
        passing = msgspec.structs.replace(
            streaming_of(step), num_resident_blocks=residing, num_blocks_without_recompute=kept, num_visits=served
        )
        yield msgspec.structs.replace(step, streaming=passing)


@pytest.mark.parametrize("model", ["3b", "mixtral-8x7b"])
def test_what_a_step_asks_where_some_blocks_are_kept_follows_from_none_and_all(model: str) -> None:
    """As where it is counted anew: a search asks for dozens of numbers of blocks."""
    base, depth = resolve_model(model), resolve_model(model).depth
    plain = strategy_of(read_case({"model": model, "method": "lora", "offload": "stream", "quant": "nf4", "seq_len": 512}))

    def demand(number: int) -> Demand:
        return demand_of(base, keeping(plain, number), PINNED_STACK, task="causal_lm", mean_seq_len=300.0, flash=True)

    counted, told = demand(7), kept_as(demand(0), demand(depth), keeping(plain, 7))
    assert told.job == counted.job
    for name in ("moved_bytes", "host_s", "held_s", "forward_share"):
        assert getattr(told, name) == pytest.approx(getattr(counted, name))
    assert msgspec.structs.astuple(told.flops) == pytest.approx(msgspec.structs.astuple(counted.flops))


@pytest.mark.parametrize("model", ["3b", "gpt2", "gemma-2-2b", "t5-small"])
@pytest.mark.parametrize("quant", ["none", "int8", "nf4"])
def test_a_head_takes_the_same_however_the_blocks_are_held(model: str, quant: str) -> None:
    """So what is played of it serves for all of them."""
    base = resolve_model(model)
    task: Task = "seq2seq" if base.kind == "encoder_decoder" else "causal_lm"
    strategy = strategy_of(read_case({"model": model, "method": "lora", "quant": quant, "seq_len": 512}))
    part = base.parts[0]
    numerics = numerics_of(part, strategy, flash=True, stack=PINNED_STACK, on_cpu=False, sizes=LETTERS, part_of=base)
    asked = head_asked(base, strategy, task=task, stack=PINNED_STACK, lm_head_item=2)
    assert play_head(base, behind(numerics), asked) == play_head(base, numerics, asked)
    assert play_evaluation(base, behind(numerics), asked) == play_evaluation(base, numerics, asked)
