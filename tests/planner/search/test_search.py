"""The search: cheapest job first, every refusal with its figures, and nothing recommended that can't be run."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import resolve_model
from catalogs.catalog import Catalog, read_catalog
from catalogs.hardware import Gpu, Offer
from planner.asking.data import stated_data
from planner.asking.jobfile import read_job
from planner.asking.request import Budget, DataAsked, Profile, Request, RequestError, Where
from planner.estimators.memory import estimate_vram
from planner.estimators.time.speed import step_time
from planner.plan import Plan, Provider, Rejection, SearchResult
from planner.refusals import Unsupported
from planner.report.job_file import write_job
from planner.search.market.names import check_memory, check_names
from planner.search.told.notebook import told_apart
from planner.strategy.stack import PINNED_STACK
from planner.units import GIB
from remote.contract import CAPABILITIES, PACKED_KEY, Beginnings, Loop
from tests.planner.builders import CLOUD, ask, make_billing, make_catalog, make_gpu, make_offer, make_request

FAST = make_gpu(
    "Card 80GB", memory_gib=80.0, driver_memory_mib=81559, achievable_tflops=776.0, memory_bandwidth_gb_per_s=3350.0
)
SMALL = make_gpu("Card 16GB", memory_gib=16.0, driver_memory_mib=15360)
SHAPE = resolve_model(make_request().model)
CARDS = (make_gpu(), FAST, SMALL)
LONG = stated_data(num_examples=100_000, num_tokens=None, tokens_per_example=512)
ELSEWHERE = make_offer(provider="elsewhere", instance_type="cheap", usd_per_hour=Decimal("0.10"))


def market(*offers: Offer) -> Catalog:
    """These offers, on three sizes of card."""
    return make_catalog(*offers, gpus=CARDS)


def of(result: SearchResult) -> list[str]:
    """Machine types in the order of the plans."""
    return [plan.offer.instance_type for plan in result.plans]


def about(result: SearchResult, words: str) -> Rejection:
    """The one rejection that says so."""
    (found,) = [rejection for rejection in result.rejections if words in rejection.reason]
    return found


# ── order ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_equal_machines_the_cheaper_hour_comes_first() -> None:
    """Same card, two sellers."""
    dear, cheap = make_offer(instance_type="dear", usd_per_hour=Decimal(2)), make_offer(provider="b", instance_type="cheap")
    assert of(ask(make_request(), market(dear, cheap))) == ["cheap", "dear"]


def test_the_whole_job_counts_not_the_hour() -> None:
    """A card of twice the price and eight times the speed is the cheaper one, once the job is long."""
    fast = make_offer(instance_type="fast", gpu=FAST.name, usd_per_hour=Decimal(2))
    assert of(ask(make_request(model="7b", data=LONG), market(make_offer(), fast))) == ["fast", "one"]


# No lever may be pulled: with states of 8 bits it would fit
TIGHT_ON_24_GB = {"method": "qlora", "rank": 16, "optimizer": "adamw_torch_fused", "loss": "hf", "offload": "none"}


def test_what_surely_fits_is_found_beyond_the_cheapest_that_are_tight() -> None:
    """It is what will be recommended, so it is shown however few plans were asked for."""
    tight, fits = make_offer(gpu="A10G", instance_type="tight"), make_offer(gpu="H100 SXM5", instance_type="fits")
    dear = msgspec.structs.replace(fits, usd_per_hour=Decimal(90))
    catalog = make_catalog(tight, dear, gpus=tuple(read_catalog().gpus.values()))
    result = ask(make_request(model="32b", training=TIGHT_ON_24_GB, top=1), catalog)
    assert [(plan.offer.instance_type, plan.verdict) for plan in result.plans] == [("tight", "tight"), ("fits", "fits")]
    assert result.recommended == result.plans[1]


def test_a_way_out_is_tight_only_where_nothing_fits() -> None:
    """Its command is a recommendation as well."""
    cards = tuple(read_catalog().gpus.values())
    tight, fits = make_offer(gpu="A10G", instance_type="tight"), make_offer(gpu="H100 SXM5", instance_type="fits")
    dear = msgspec.structs.replace(fits, usd_per_hour=Decimal(90))
    asked = make_request(model="32b", training=TIGHT_ON_24_GB, where=Where(gpus=("T4",)))
    for offers, verdicts in (((tight, dear), ["fits"]), ((tight,), ["tight"])):
        asked_of = make_catalog(*offers, make_offer(gpu="T4", instance_type="small"), gpus=cards)
        assert [way.plan.verdict for way in ask(asked, asked_of).ways_out] == verdicts


def test_regions_are_known_in_any_case() -> None:
    """As providers and GPUs are."""
    assert ask(make_request(where=Where(regions=("NOR*",))), market(make_offer())).plans != ()


def test_of_one_machine_in_many_regions_the_cheapest_is_shown() -> None:
    """And of the same card in larger boxes of the same seller, too."""
    offers = [
        make_offer(region=region, usd_per_hour=Decimal(price)) for region, price in (("a", "1.2"), ("b", "1.1"), ("c", "1.3"))
    ]
    larger = make_offer(instance_type="larger", region="b", usd_per_hour=Decimal("1.15"))
    result = ask(make_request(), market(*offers, larger))
    assert [plan.offer.region for plan in result.plans] == ["b"]


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.sampled_from(CARDS), st.integers(1, 2), st.integers(10, 900), st.sampled_from(["cloud", "elsewhere"])),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([(), ((40.0, 0.5), (80.0, 0.4), (280.0, 0.1)), ((30.0, 0.9), (500.0, 0.1))]),
)
def test_no_machine_that_was_passed_over_is_cheaper(machines: list[tuple[Gpu, int, int, str]], profile: Profile) -> None:
    """Branch and bound gives what asking each machine alone gives, for all plans and for those that can be run.

    Also where rows differ in length, so that a smaller micro-batch is padded less and may be the faster one.
    """
    offers = [
        make_offer(
            provider=provider,
            instance_type=f"machine-{number}",
            gpu=gpu.name,
            num_gpus=Decimal(num_gpus),
            usd_per_hour=Decimal(cents) / 100,
        )
        for number, (gpu, num_gpus, cents, provider) in enumerate(machines)
    ]
    mean, longest = (
        sum(length * share for length, share in profile) or 512.0,
        max((length for length, _ in profile), default=512),
    )
    data = msgspec.structs.replace(LONG, num_examples=2_000, mean_tokens=mean, max_tokens=int(longest), profile=profile)
    request = make_request(model="3b", top=1, data=data)
    by_hour = (make_billing("elsewhere", increment_s=3_600),)
    together = ask(request, make_catalog(*offers, gpus=CARDS, billing=by_hour)).plans
    alone = [plan for each in offers for plan in ask(request, make_catalog(each, gpus=CARDS, billing=by_hour)).plans]
    for runnable in (True, False):
        wanted = [plan.cost.total_usd.p50 for plan in alone if plan.why_not is None or not runnable]
        got = [plan.cost.total_usd.p50 for plan in together if plan.why_not is None or not runnable]
        assert min(got, default=None) == min(wanted, default=None)


def test_the_answer_does_not_depend_on_the_order_of_the_catalog() -> None:
    """Or on how often it is asked."""
    offers = [make_offer(provider=name, usd_per_hour=Decimal(1)) for name in "abcd"]
    assert ask(make_request(), market(*offers)).plans == ask(make_request(), market(*reversed(offers))).plans


# ── what can be run ────────────────────────────────────────────────────────────────────────────────────────────────


def test_where_nobody_can_rent_only_the_price_is_known() -> None:
    """It is shown, marked, and never recommended, however cheap."""
    result = ask(make_request(), market(ELSEWHERE, make_offer()))
    assert [plan.why_not is None for plan in result.plans] == [False, True]
    assert result.plans[0].provider_status == "price only"
    assert result.recommended is not None
    assert result.recommended.offer.provider == "cloud"


def test_what_is_sold_by_contract_alone_is_a_price_alone() -> None:
    """Also where its seller can be rented from; what anybody can order of the same GPU there is not hidden by it."""
    contract = make_offer(provider="digitalocean", instance_type="1x-b300", usd_per_hour=Decimal("0.01"))
    seller = Provider(name="digitalocean", runnable=True, status="tested")
    for other in (make_offer(), make_offer(provider="digitalocean", instance_type="gpu-b300x1", usd_per_hour=Decimal(1))):
        result = ask(make_request(), make_catalog(contract, other), providers=(CLOUD, seller))
        by_type = {plan.offer.instance_type: plan.why_not for plan in result.plans}
        assert by_type["1x-b300"] == "price only: digitalocean sells it by contract alone; rent it yourself and use --host"
        assert by_type[other.instance_type] is None


def test_what_can_be_run_is_shown_however_many_are_cheaper() -> None:
    """The top of both lists, in one order."""
    offers = [msgspec.structs.replace(ELSEWHERE, provider=f"p{number}") for number in range(9)]
    result = ask(make_request(top=2), market(*offers, make_offer()))
    assert len(result.plans) == 3
    assert result.recommended == result.plans[2]


def test_what_the_trainer_cannot_do_is_named() -> None:
    """A job that must be sharded is shown with what is missing."""
    four = make_offer(num_gpus=Decimal(4), ram_gib=256.0)
    result = ask(make_request(model="32b", where=Where(num_gpus=4)), market(four))
    assert result.recommended is None
    assert result.plans[0].strategy.sharding == "fsdp"
    assert result.plans[0].strategy.quant_storage == "bfloat16"
    assert (result.plans[0].why_not or "").startswith("not yet runnable: the trainer cannot do sharding=fsdp")


def test_a_box_of_several_gpus_may_be_used_for_one() -> None:
    """Where the trainer knows no sharding, one GPU of the box is still a plan."""
    result = ask(make_request(model="7b"), market(make_offer(num_gpus=Decimal(2))))
    assert result.recommended is not None
    assert result.recommended.strategy.num_gpus == 1


@pytest.mark.parametrize(
    ("offer", "gpu", "words"),
    [
        (make_offer(cpu_architecture="arm64"), make_gpu(), "x86_64"),
        (make_offer(), make_gpu(vendor="amd"), "NVIDIA"),
        (make_offer(), make_gpu(compute_capability=(7, 0)), "no code for compute capability 7.0"),
    ],
)
def test_machines_that_the_stack_is_not_built_for_are_shown_and_marked(offer: Offer, gpu: Gpu, words: str) -> None:
    """The box's pins decide."""
    result = ask(make_request(), make_catalog(offer, gpus=(gpu,)))
    assert words in (result.plans[0].why_not or "")


# ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_budget_per_gpu_admits_cards_of_that_size_and_smaller() -> None:
    """24 GB cards are no answer to a question for 16 GB."""
    small = make_offer(instance_type="small", gpu=SMALL.name)
    result = ask(make_request(where=Where(gpu_memory_gib=16.0)), market(make_offer(), small))
    assert of(result) == ["small"]
    assert about(result, "more than 16 GiB on each GPU").num_offers == 1


def test_what_does_not_fit_says_what_it_needs_and_what_would_do() -> None:
    """32 billion parameters on 16 GB without streaming: each precision with its figures, and the cheapest way out that can be
    run.
    """
    small, large = make_offer(gpu=SMALL.name), make_offer(instance_type="large", gpu=FAST.name, usd_per_hour=Decimal(3))
    asked = make_request(model="32b", where=Where(gpu_memory_gib=16.0), training={"offload": "none"})
    result = ask(asked, market(small, large))
    assert result.plans == ()
    refused = [each for each in result.rejections if each.what.startswith("lora r16")]
    assert [each.what.split(",")[0] for each in refused] == ["lora r16 bf16", "lora r16 int8", "lora r16 nf4"]
    needs = [each.needed["required_bytes"] for each in refused]
    assert needs == sorted(needs, reverse=True)
    assert all(each.needed["available_bytes"] < 16 * GIB < each.needed["required_bytes"] for each in refused)
    assert refused[-1].remedy == "1 x Card 80GB with 80 GiB, from $3.00/h at cloud"
    (way,) = result.ways_out
    assert way.change == "with 80 GiB on the GPU instead of 16"
    assert way.changes == {"where.gpu_memory_gib": 80.0}
    assert (way.plan.offer.instance_type, way.plan.why_not) == ("large", None)


@pytest.mark.parametrize(
    ("ram_gib", "offloads", "why"),
    [
        (64.0, ["stream"], None),
        (16.0, [], "needs 19.7 GiB of RAM (lora r16 nf4, batch 4x4, checkpointing, streamed from RAM); one has 16 GiB"),
        (None, [], "which nobody states, and no order there asks for it"),
    ],
)
def test_what_waits_in_ram_needs_some_that_is_stated(ram_gib: float | None, offloads: list[str], why: str | None) -> None:
    """Of a machine of untold RAM nobody knows whether the base would go there; of a card that does with RAM beside it nobody
    is told that it is too small.
    """
    result = ask(make_request(model="32b"), market(make_offer(gpu=SMALL.name, ram_gib=ram_gib)))
    assert [plan.strategy.offload for plan in result.plans] == offloads
    assert not [each for each in result.rejections if each.what == "1 x Card 16GB"]
    assert why is None or about(result, why).num_offers == 1


def test_streaming_that_is_asked_for_is_the_streaming_that_is_chosen() -> None:
    """As a saved job says it: with as many resident blocks, which take RAM off the host and the link."""
    offers = market(make_offer(gpu=SMALL.name, ram_gib=22.0))
    (chosen,) = ask(make_request(model="32b"), offers).plans
    (said,) = ask(make_request(model="32b", training={"offload": "stream", "quant": "nf4"}), offers).plans
    assert said.strategy.streaming == chosen.strategy.streaming
    assert said.strategy.streaming is not None
    assert said.strategy.streaming.num_resident_blocks > 0
    assert (said.vram.required_bytes, said.host.ram_peak_bytes) == (chosen.vram.required_bytes, chosen.host.ram_peak_bytes)


def test_what_waits_in_ram_can_be_asked_for_where_an_order_asks() -> None:
    """As much of it as a machine with such a card is likely to have."""
    asking = msgspec.structs.replace(CLOUD, asks_ram=True)
    untold = market(make_offer(gpu=SMALL.name, ram_gib=None))
    (plan,) = ask(make_request(model="32b"), untold, providers=(asking,)).plans
    assert (plan.strategy.offload, plan.strategy.quant, plan.verdict, plan.asks_ram) == ("stream", "nf4", "fits", True)
    assert plan.host.ram_peak_bytes < 2 * SMALL.memory_gib * GIB
    larger = ask(make_request(model="70b"), untold, providers=(asking,))
    assert not larger.plans
    assert about(larger, "which nobody states, and at most 32.0 are asked for there").remedy is not None


def test_of_two_ways_through_ram_each_machine_takes_the_one_that_it_has_ram_for() -> None:
    """The quicker streams 16 bits of each weight, and needs three times the RAM."""
    rich, poor = (make_offer(gpu=SMALL.name, instance_type=f"{ram:g}", ram_gib=ram) for ram in (256.0, 32.0))
    for offers in ([rich], [poor], [rich, msgspec.structs.replace(poor, provider="elsewhere")]):
        plans = ask(make_request(model="32b"), market(*offers)).plans
        assert {plan.offer.instance_type for plan in plans} == {offer.instance_type for offer in offers}
        assert all(plan.host.ram_peak_bytes <= 0.9 * (plan.offer.ram_gib or 0) * GIB for plan in plans)


def test_what_is_over_a_limit_says_which_limit_lets_it_in_though_something_cheaper_does_the_job() -> None:
    """More of them may be cheaper, and were not looked at; with what is named this one is among the plans."""
    cheap, dear = make_offer(instance_type="cheap"), make_offer(gpu=FAST.name, instance_type="dear", usd_per_hour=Decimal(9))
    tight = make_request(budget=Budget(max_usd=Decimal(1)))
    result = ask(tight, market(cheap, dear))
    assert of(result) == ["cheap"]
    refused = about(result, "over $1 at p90")
    usd = refused.changes["budget.max_usd"]
    assert set(of(ask(msgspec.structs.replace(tight, budget=Budget(max_usd=usd)), market(cheap, dear)))) == {"cheap", "dear"}


def test_whoever_can_rent_a_machine_himself_is_told_first_what_the_trainer_cannot_do() -> None:
    """A price alone would send him to rent it."""
    four = make_offer(provider="elsewhere", gpu=SMALL.name, num_gpus=Decimal(4))
    (plan,) = ask(make_request(model="14b", training={"quant": "none", "offload": "none"}), market(four)).plans
    assert plan.why_not == "not yet runnable: the trainer cannot do sharding=fsdp, num_gpus=4"


def test_the_smallest_card_that_does_is_named_beside_the_cheapest_job() -> None:
    """Whoever wants 16 GB may prefer 24 to 80, even if that is dearer."""
    small = make_offer(gpu=SMALL.name)
    near = make_offer(instance_type="near", usd_per_hour=Decimal(9))
    far = make_offer(instance_type="far", gpu=FAST.name, usd_per_hour=Decimal(1))
    result = ask(make_request(model="14b", where=Where(gpu_memory_gib=8.0)), market(small, near, far))
    assert [way.plan.offer.instance_type for way in result.ways_out] == ["far", "one"]
    assert result.ways_out[1].changes == {"where.gpu_memory_gib": 16.0}


def test_32b_streams_through_a_card_of_16_gb_where_that_is_what_does() -> None:
    """It can be run; as many blocks as the card has room for stay on it, evenly spaced, and the others pass by two slots."""
    small, large = make_offer(gpu=SMALL.name), make_offer(instance_type="large", gpu=FAST.name, usd_per_hour=Decimal(3))
    (plan,) = ask(make_request(model="32b", where=Where(gpu_memory_gib=16.0)), market(small, large)).plans
    assert (plan.strategy.offload, plan.why_not) == ("stream", None)
    streaming = plan.strategy.streaming
    assert streaming is not None
    assert streaming.num_slots == 2
    assert 0 < streaming.num_resident_blocks < 60
    assert plan.verdict == "fits"
    one_more = msgspec.structs.replace(streaming, num_resident_blocks=streaming.num_resident_blocks + 1)
    fuller = msgspec.structs.replace(plan.strategy, streaming=one_more)
    vram = estimate_vram(resolve_model("32b"), fuller, gpu=SMALL)
    assert vram.required_bytes > plan.vram.required_bytes + plan.margin_bytes


def test_a_visit_serves_as_many_micro_batches_as_make_a_step_quicker() -> None:
    """Through a slow link; where computing hides it each micro-batch has its own, and more blocks reside."""

    def planned(lanes: int) -> Plan:
        card = make_gpu(f"Card by {lanes}", memory_gib=16.0, driver_memory_mib=15360, achievable_tflops=776.0, pcie_lanes=lanes)
        catalog = make_catalog(make_offer(gpu=card.name), gpus=(card,))
        asked = make_request(model="32b", where=Where(gpu_memory_gib=16.0), training={"loss": "hf", "micro_batch_size": 4})
        return ask(asked, catalog).plans[0]

    wide, narrow = planned(16), planned(1)
    assert wide.strategy.streaming is not None
    assert narrow.strategy.streaming is not None
    assert wide.strategy.streaming.num_visits == 1
    assert 1 < narrow.strategy.streaming.num_visits <= narrow.strategy.gradient_accumulation_steps
    assert narrow.strategy.streaming.num_resident_blocks < wide.strategy.streaming.num_resident_blocks
    assert (narrow.why_not, narrow.verdict) == (None, "fits")


def test_room_goes_to_what_blocks_save_where_computing_decides() -> None:
    """On a slow card with short rows the last blocks are not computed again, and no other use of that room is quicker."""
    card = make_gpu("Slow card", memory_gib=20.0, driver_memory_mib=19_200, achievable_tflops=60.0)
    asked = make_request(
        model="32b",
        data=stated_data(num_examples=1_000, num_tokens=None, tokens_per_example=64),
        training={"quant": "int8", "loss": "hf"},
        where=Where(gpu_memory_gib=20.0),
    )
    (plan,) = ask(asked, make_catalog(make_offer(gpu=card.name, ram_gib=128.0), gpus=(card,))).plans
    chosen = plan.strategy.streaming
    assert (plan.strategy.offload, plan.verdict, plan.why_not) == ("stream", "fits", None)
    assert chosen is not None
    assert chosen.num_blocks_without_recompute > 0
    has_bytes, base = plan.vram.required_bytes + plan.margin_bytes, resolve_model("32b")

    def micro_step_s(num_resident: int, num_kept: int) -> float:
        used = msgspec.structs.replace(chosen, num_resident_blocks=num_resident, num_blocks_without_recompute=num_kept)
        strategy = msgspec.structs.replace(plan.strategy, streaming=used)
        if estimate_vram(base, strategy, gpu=card).required_bytes > has_bytes:
            return float("inf")
        long = float(strategy.seq_len)
        step = step_time(base, strategy, task="causal_lm", gpu=card, stack=PINNED_STACK, mean_seq_len=long, interconnect="pcie")
        return step.micro_step_s

    tried = [micro_step_s(num_resident, num_kept) for num_resident in range(0, 62, 3) for num_kept in range(0, 65, 4)]
    planned_s = micro_step_s(chosen.num_resident_blocks, chosen.num_blocks_without_recompute)
    assert planned_s <= 1.01 * min(tried)
    assert planned_s < 0.98 * min(micro_step_s(num_resident, 0) for num_resident in range(62))


def test_what_a_trainer_cannot_stream_is_named() -> None:
    """Honest about the nearest thing that would help, once it is the only one."""
    without = msgspec.structs.replace(CAPABILITIES, offload=("none",))
    asked = make_request(model="32b", where=Where(gpu_memory_gib=16.0))
    result = ask(asked, market(make_offer(gpu=SMALL.name)), capabilities=without)
    assert result.ways_out == ()
    assert about(result, "estimates it and does not run it").what.startswith("frozen blocks streamed")


def test_a_plan_fits_what_it_is_put_on() -> None:
    """Required and spare memory make up what the card has."""
    for plan in ask(make_request(model="7b"), market(make_offer(), make_offer(instance_type="f", gpu=FAST.name))).plans:
        assert plan.verdict == "fits"
        assert plan.margin_bytes >= 0
        assert sum(plan.vram.components.values()) == plan.vram.allocated_peak_bytes


def test_more_memory_is_used_for_larger_micro_batches() -> None:
    """The same 16 sequences a step, in fewer passes."""
    plans = {
        gpu.name: ask(make_request(model="7b"), market(make_offer(gpu=gpu.name))).plans[0].strategy
        for gpu in (make_gpu(), FAST)
    }
    assert plans["Card 80GB"].micro_batch_size >= plans["Card 24GB"].micro_batch_size
    for strategy in plans.values():
        assert strategy.micro_batch_size * strategy.gradient_accumulation_steps == 16


def test_a_card_without_kernels_gets_no_quantized_plan() -> None:
    """The rejection says why."""
    bare = make_gpu(bitsandbytes="no")
    assert {plan.strategy.quant for plan in ask(make_request(), make_catalog(make_offer(), gpus=(bare,))).plans} == {"none"}
    result = ask(make_request(model="32b"), make_catalog(make_offer(), gpus=(bare,)))
    assert {plan.strategy.quant for plan in result.plans} <= {"none"}
    assert result.plans == ()
    refused = about(result, "no kernels")
    assert refused.what.startswith("int8 and nf4 on ")
    assert refused.changes == {"training.quant": "none"}


def test_a_card_without_kernels_is_told_by_the_optimizer_that_wants_them() -> None:
    """Weights that are no quantized ones are not blamed."""
    catalog = make_catalog(make_offer(), gpus=(make_gpu(bitsandbytes="no"),))
    for training in ({}, {"optimizer": "adamw_8bit"}):
        refused = about(ask(make_request(model="7b", training={"method": "full"} | training), catalog), "no kernels")
        assert refused.what.startswith("adamw_8bit on ")
        assert refused.changes == {"training.optimizer": "adamw_torch_fused"}


def test_a_card_without_bfloat16_computes_in_float16() -> None:
    """Volta and Turing have no bfloat16 units."""
    old = make_gpu(bf16=False, compute_capability=(7, 5))
    (plan, *_) = ask(make_request(), make_catalog(make_offer(), gpus=(old,))).plans
    assert (plan.strategy.param_dtype, plan.strategy.autocast) == ("float16", "float16")


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("budget", "field"), [(Budget(max_usd=Decimal("0.01")), "max_usd"), (Budget(max_hours=0.01), "max_hours")]
)
def test_a_limit_refuses_with_the_figure_and_the_way_out_keeps_it(budget: Budget, field: str) -> None:
    """Held at p90, not at the middle; and each of the two figures that are named is enough."""
    request = make_request(model="7b", budget=budget)
    result = ask(request, market(make_offer()))
    assert result.plans == ()
    (way,) = result.ways_out
    for changes in (about(result, "at p90").changes, way.changes):
        eased = msgspec.structs.replace(request, budget=Budget(**{field: changes[f"budget.{field}"]}))
        assert ask(eased, market(make_offer())).recommended is not None


def test_a_region_where_nobody_can_rent_is_no_slip_of_the_pen() -> None:
    """Whatever else is wished: a way out is looked for among those that can be rented from, the names in the whole market."""
    away = msgspec.structs.replace(ELSEWHERE, region="europe-west4")
    for more in ({"budget": Budget(max_usd=Decimal(5))}, {"where": Where(regions=("europe-west4",), spot=False)}):
        asked = make_request(**{"where": Where(regions=("europe-west4",))} | more)
        result = ask(asked, market(away, make_offer(region="north")))
        assert [plan.offer.region for plan in result.plans] == ["europe-west4"]
        assert [way.plan.offer.region for way in result.ways_out] == ["north"]


def test_the_least_that_would_do_is_told_only_where_all_were_looked_at() -> None:
    """Once enough was found, dearer machines are not looked at, so the cheapest of those noted says nothing."""
    half = Budget(max_usd=Decimal("0.50"))
    dear = [make_offer(instance_type=f"dear {price}", usd_per_hour=Decimal(price)) for price in (60, 40, 50)]
    reason = about(ask(make_request(budget=half), market(*dear)), "over $0.50").reason
    assert "the cheapest, cloud/north/dear 40" in reason
    found = ask(make_request(budget=half, top=1), market(make_offer(), *dear))
    assert of(found) == ["one"]
    assert all("the cheapest" not in rejection.reason for rejection in found.rejections)


def test_too_little_ram_is_refused_with_both_figures() -> None:
    """The job fits the GPU and not the box."""
    result = ask(make_request(model="7b"), market(make_offer(ram_gib=1.0)))
    assert result.plans == ()
    assert "of RAM; one has 1 GiB" in about(result, "RAM").reason


def test_a_share_of_a_gpu_is_left_out() -> None:
    """Nobody has measured how fast it trains."""
    assert about(ask(make_request(), market(make_offer(num_gpus=Decimal("0.5")))), "a share of a GPU").num_offers == 1


def own(**changes: object) -> Offer:
    """The machine at hand: two cores."""
    offer = make_offer(provider="local", gpu=None, num_gpus=Decimal(0), vcpus=2.0, ram_gib=16.0, usd_per_hour=Decimal(0))
    return msgspec.structs.replace(offer, **changes)


LOCAL = Provider(name="local", runnable=True, status="this machine")


def test_nobody_waits_days_for_a_processor_unless_asked_to() -> None:
    """Free is not cheap when it takes a month; naming the provider is asking."""
    request = make_request(model="3b", data=LONG)
    silent = ask(request, market(own()), providers=(LOCAL,))
    named = ask(msgspec.structs.replace(request, where=Where(providers=("local",))), market(own()), providers=(LOCAL,))
    assert silent.plans == ()
    assert "over 24 h at p90" in about(silent, "h at p90").reason
    assert named.recommended is not None
    assert named.recommended.cost.total_usd.p90 == 0.0


def test_a_small_job_runs_on_this_machine_for_nothing() -> None:
    """RAM is what decides there."""
    tiny = stated_data(num_examples=100, num_tokens=None, tokens_per_example=64)
    plan = ask(make_request(data=tiny), market(own()), providers=(LOCAL,)).recommended
    assert plan is not None
    assert (plan.gpu, plan.cost.total_usd.p50, plan.strategy.num_gpus) == (None, 0.0, 1)
    assert plan.host.ram_peak_bytes + plan.margin_bytes == pytest.approx(16 * GIB * 0.9, rel=1e-6)


def test_a_host_of_ones_own_may_take_as_long_as_it_takes() -> None:
    """Whoever names their machine knows that it has no GPU."""
    host = make_offer(provider="host", instance_type="me@there", gpu=None, num_gpus=Decimal(0), usd_per_hour=Decimal(0))
    request = make_request(model="7b", data=LONG, where=Where(host="me@there"))
    there = Provider(name="host", runnable=True, status="yours")
    slow = msgspec.structs.replace(host, ram_gib=512.0, vcpus=2.0)
    (plan,) = ask(request, market(slow), providers=(there,)).plans
    assert plan.duration.wall_s.p90 > 24 * 3600


def test_a_model_with_eager_attention_alone_is_planned_with_that() -> None:
    """What the plan says is what the trainer is told: with sdpa transformers would not load it."""
    offer = make_offer(gpu="Card 24GB")
    plans = ask(make_request(model="gemma-2-2b"), market(offer)).plans
    assert {plan.strategy.attention for plan in plans} == {"eager"}
    with pytest.raises(RequestError, match="no attention sdpa for gemma2, only eager"):
        ask(make_request(model="gemma-2-2b", training={"attention": "sdpa"}), market(offer))


def test_a_host_is_asked_for_alone() -> None:
    """--host leaves every other offer out."""
    host = make_offer(provider="host", instance_type="me@there", usd_per_hour=Decimal(0))
    request = make_request(where=Where(host="me@there"))
    there = Provider(name="host", runnable=True, status="yours")
    result = ask(request, market(make_offer(), host), providers=(there,))
    assert of(result) == ["me@there"]
    assert result.recommended is not None


# ── words that mean nothing ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("where", "words", "hint"),
    [
        (Where(providers=("clod",)), "no offer has the provider clod", "did you mean cloud?"),
        (Where(providers=("",)), "no offer has the provider ''", "known are cloud"),
        (Where(regions=("nrth",)), "no offer has the region nrth", "did you mean north?"),
        (Where(regions=("mars-1",)), "no offer has the region mars-1", "known are north"),
        (
            Where(gpu_memory_gib=16 * 1024.0),
            "gpu_budget says 16,384 GB on a card, and the largest card has 80 GB",
            "did you mean 16GB?",
        ),
    ],
)
def test_a_name_that_nobody_sells_is_a_slip_of_the_pen(where: Where, words: str, hint: str) -> None:
    """Not a wish that nothing fulfils."""
    with pytest.raises(RequestError, match=words) as refused:
        ask(make_request(where=where), market(make_offer()))
    assert refused.value.hint == hint


def test_the_number_of_a_card_in_the_place_of_its_memory_is_answered_with_its_name() -> None:
    """`--gpus 1x3090` means no terabytes."""
    with pytest.raises(RequestError, match="says 3,090 GB on a card") as refused:
        check_memory(3090.0, make_catalog(gpus=(make_gpu("RTX 3090"),)), said="--gpus")
    assert refused.value.hint == 'a card by name is --gpu "RTX 3090"'
    with pytest.raises(RequestError) as of_cards:
        check_memory(3090.0, make_catalog(gpus=(make_gpu("RTX 3090"),)), said="--gpus", number=3)
    assert of_cards.value.hint == 'did you mean "3xRTX 3090"?'


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("Zürich", "did you mean switzerlandnorth or europe-west6?"),
        ("SWITZERLAND", "did you mean switzerlandnorth or switzerlandwest or europe-west6?"),
        ("São Paulo", "did you mean brazilsouth?"),
        ("Stockholm", "known are "),
    ],
)
def test_a_city_or_a_country_in_the_place_of_a_region_is_told_the_regions_there(place: str, hint: str) -> None:
    """However it is written; only regions that somebody offers."""
    catalog = read_catalog()
    with pytest.raises(RequestError) as refused:
        check_names(Where(regions=(place,)), catalog, catalog.offers)
    assert str(refused.value.hint).startswith(hint)


def test_of_many_names_those_that_can_be_rented_from_come_first_and_the_rest_is_counted() -> None:
    """Nobody takes a list that ends for the whole of it."""
    offers = [make_offer(provider=f"seller{number:02}") for number in range(12)]
    with pytest.raises(RequestError) as refused:
        check_names(Where(providers=("qqq",)), market(*offers), tuple(offers), first=("seller11",))
    known = sorted({offer.provider for offer in offers} | set(market(*offers).billing))
    assert str(refused.value.hint).startswith("known are seller11, ")
    assert str(refused.value.hint).endswith(f", and {len(known) - 8} more (`rentune catalog list`)")


@pytest.mark.parametrize("word", ["europe", "eu", "EU", "eu-*", "europe*-"])
def test_a_word_for_a_continent_is_answered_with_the_pattern_of_its_regions(word: str) -> None:
    """One pattern, where eight of its regions stood."""
    regions = [make_offer(region=name) for name in ("europe-west1", "europe-north1", "us-east-1", "north")]
    with pytest.raises(RequestError) as refused:
        ask(make_request(where=Where(regions=(word,))), market(*regions))
    assert refused.value.hint == "did you mean 'europe-*'?"


def test_a_region_of_another_provider_is_told_to_be_its() -> None:
    offers = market(make_offer(), make_offer(provider="elsewhere", region="south"))
    refused = about(ask(make_request(where=Where(providers=("cloud",), regions=("south",))), offers), "not in south")
    assert refused.remedy == "south belongs to elsewhere"
    own = about(ask(make_request(where=Where(regions=("south",))), offers), "not in south")
    assert own.remedy is None


def test_a_provider_by_another_name_is_told_its_own() -> None:
    """However another one is spelled: amazon is not lambda."""
    sellers = [make_offer(provider=name) for name in ("aws", "lambda", "gcp")]
    with pytest.raises(RequestError, match="no offer has the provider Amazon") as refused:
        ask(make_request(where=Where(providers=("Amazon",))), market(*sellers))
    assert refused.value.hint == "did you mean aws?"


@pytest.mark.parametrize(
    ("typed", "meant"), [("awz", "aws"), ("was", "aws"), ("gpc", "gcp"), ("azzure", "azure"), ("RUNPODD", "runpod")]
)
def test_a_slip_in_a_short_name_is_told_what_was_meant(typed: str, meant: str) -> None:
    sellers = [make_offer(provider=name) for name in ("aws", "gcp", "azure", "runpod")]
    with pytest.raises(RequestError) as refused:
        ask(make_request(where=Where(providers=(typed,))), market(*sellers))
    assert refused.value.hint == f"did you mean {meant}?"


def test_a_card_that_nobody_sells_can_be_estimated() -> None:
    """The table knows it; no offer has it."""
    refused = about(ask(make_request(where=Where(gpus=(SMALL.name,))), market(make_offer())), f"no {SMALL.name} in it")
    assert (
        refused.remedy
        == f'nobody sells it; in which ways one of yours holds the job: --gpus "{SMALL.name}" in the place of --gpu'
    )


FILE = DataAsked(
    path="rows.jsonl",
    num_examples=80,
    mean_tokens=100.0,
    max_tokens=300,
    profile=((50.0, 0.75), (250.0, 0.25)),
    basis="counted by the model's tokenizer",
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (FILE, "about 20 of 80 rows are longer than 200 tokens and will be cut (--seq-len); the longest has 300"),
        (msgspec.structs.replace(FILE, basis="estimated from characters"), "the longest has 300, as estimated"),
        (msgspec.structs.replace(FILE, num_examples=1, profile=((250.0, 1.0),)), "1 of 1 row is longer than 200 tokens"),
        (msgspec.structs.replace(FILE, documents=True), ""),
        (msgspec.structs.replace(FILE, max_tokens=200, profile=((50.0, 0.75), (200.0, 0.25))), ""),
        (msgspec.structs.replace(FILE, path=None), ""),
    ],
    ids=["counted", "estimated", "one row", "documents are split", "none is longer", "stated, not read"],
)
def test_rows_that_the_trainer_will_cut_are_told_with_the_plan(data: DataAsked, words: str) -> None:
    """Before anybody pays for it."""
    told = ask(make_request(data=data, training={"seq_len": 200}), market(make_offer())).warnings
    assert words in " ".join(told)
    assert bool(told) == bool(words)


def test_a_length_that_is_estimated_leaves_room() -> None:
    """By the factor by which characters understate tokens; a length that was counted is taken as it is."""
    estimated = msgspec.structs.replace(FILE, basis="estimated from characters")
    lengths = [
        plan.strategy.seq_len
        for data in (FILE, estimated)
        for plan in ask(make_request(data=data), market(make_offer())).plans[:1]
    ]
    assert lengths == [304, 392]


def test_a_card_that_does_not_exist_is_refused_with_the_nearest() -> None:
    """The catalog knows the names."""
    with pytest.raises(RequestError, match='no GPU "Card 24"') as refused:
        ask(make_request(where=Where(gpus=("Card 24",))), market(make_offer()))
    assert (refused.value.hint or "").startswith("nearest: Card 24GB")
    assert refused.value.place == ("where", "gpus", 0)


def test_more_tokens_than_the_model_reads_are_refused() -> None:
    """Not silently cut."""
    with pytest.raises(RequestError, match="reads at most 8,192 tokens, not 9,000"):
        ask(make_request(training={"seq_len": 9_000}), market(make_offer()))


def test_a_length_within_which_no_row_teaches_anything_is_refused_before_a_box_is_paid_for() -> None:
    """As the trainer would, once it had the rows cut."""
    data = DataAsked(num_examples=96, mean_tokens=56, max_tokens=74, basis="counted by the model's tokenizer", least_seq_len=30)
    assert ask(make_request(data=data, training={"seq_len": 30}), market(make_offer())).plans
    with pytest.raises(RequestError, match="no row leaves anything to learn within 29 tokens") as refused:
        ask(make_request(data=data, training={"seq_len": 29}), market(make_offer()))
    assert str(refused.value.hint).startswith("--seq-len 30 at least")


def test_blocks_that_the_model_does_not_have_get_no_adapters() -> None:
    """Counted from 0, so that the last one is one less than their number."""
    assert ask(make_request(loop=Loop(layers=(0, SHAPE.num_layers - 1))), market(make_offer())).plans
    with pytest.raises(RequestError, match=f"layers names block {SHAPE.num_layers}, and .* has blocks 0 to") as refused:
        ask(make_request(loop=Loop(layers=(0, SHAPE.num_layers))), market(make_offer()))
    assert refused.value.hint == "layers: [0]"


def test_chosen_blocks_are_what_is_planned_and_what_the_trainer_is_told() -> None:
    """Fewer blocks need less memory than all of them."""
    (some, *_), (every, *_) = (
        ask(make_request(loop=Loop(layers=layers)), market(make_offer())).plans for layers in ((0, 1), None)
    )
    assert some.strategy.method_options == {"layers_to_transform": [0, 1]}
    assert some.vram.allocated_peak_bytes < every.vram.allocated_peak_bytes


def stored_in(**said: Any) -> Architecture:
    return msgspec.structs.replace(SHAPE, config=SHAPE.config | {"quantization_config": said})


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"quant_method": "awq"}, "is stored in awq, in a width or layout that is not planned: of awq that is awq_int4"),
        ({"quant_method": "gptq", "bits": 3}, "of gptq that is gptq_int4 or gptq_int8"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"-:lm_head": {}}}, "of gptq that is gptq_int4 or gptq_int8"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "of awq that is awq_int4"),
        ({"quant_method": "fp8"}, "and of what others packed only gptq_int4, gptq_int8, awq_int4, hqq_int4 are planned"),
    ],
)
def test_weights_that_are_stored_quantized_are_not_planned_as_plain_ones(said: dict[str, Any], why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        ask(make_request(), market(make_offer()), architecture=stored_in(**said))


GPTQ: dict[str, Any] = {"quant_method": "gptq", "bits": 4, "group_size": 128, "format": "gptq"}
AWQ: dict[str, Any] = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
HQQ: dict[str, Any] = {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}


@pytest.mark.parametrize(
    ("said", "quant"),
    [(GPTQ, "gptq_int4"), (GPTQ | {"bits": 8}, "gptq_int8"), (AWQ, "awq_int4"), (HQQ, "hqq_int4")],
)
def test_a_base_that_others_packed_is_planned_as_it_lies_there(said: dict[str, Any], quant: str) -> None:
    """Whoever says nothing of it, or names no method, gets LoRA over it, resident, without a warning that it can't be run."""
    for training in ({}, {"method": "rslora"}, {"method": "lora", "quant": quant}):
        found = ask(make_request(training=training), market(make_offer()), architecture=stored_in(**said))
        assert found.recommended is not None
        assert found.recommended.why_not is None
        strategy = found.recommended.strategy
        assert (strategy.quant, strategy.offload) == (quant, "none")
        assert strategy.method == training.get("method", "lora")
    with pytest.raises(Unsupported, match=f"is stored in {quant}, not in nf4") as refused:
        ask(make_request(training={"method": "lora", "quant": "nf4"}), market(make_offer()), architecture=stored_in(**said))
    assert f"leave quant out, or say quant {quant}" in (refused.value.hint or "")


def test_what_was_not_tried_over_a_base_that_others_packed_is_not_run_there() -> None:
    """And nothing trains its weights."""
    found = ask(make_request(training={"method": "prompt_tuning"}), market(make_offer()), architecture=stored_in(**GPTQ))
    assert {plan.why_not for plan in found.plans} == {
        "not yet runnable: the trainer cannot do method=prompt_tuning over quant=gptq_int4"
    }
    with pytest.raises(Unsupported, match="is stored in gptq_int4, not in none"):
        ask(make_request(training={"method": "full"}), market(make_offer()), architecture=stored_in(**GPTQ))


def test_no_plan_packs_a_plain_base_as_others_do() -> None:
    with pytest.raises(Unsupported, match="does not lie in gptq_int4, and nothing here packs it so"):
        ask(make_request(training={"method": "lora", "quant": "gptq_int4"}), market(make_offer()))


def test_smaller_groups_of_a_packed_base_take_more_memory_and_its_readers_time() -> None:
    """A quarter as many weights to a scale are four times as many scales and zeros, and 5 in 32 bits of a weight."""
    large, small = (
        ask(make_request(), market(make_offer()), architecture=stored_in(**GPTQ | {"group_size": size})).plans[0]
        for size in (128, 32)
    )
    packed = sum(linear.num_weights for linear in SHAPE.linears) * SHAPE.num_layers
    more = small.vram.components["weights"] - large.vram.components["weights"]
    assert more == pytest.approx(packed * 2.5 * (1 / 32 - 1 / 128), rel=0.01)
    plain = ask(make_request(training={"method": "lora"}), market(make_offer())).plans[0]
    assert large.duration.phase_s["environment"].p50 > plain.duration.phase_s["environment"].p50 + 10


PACKED: dict[str, Any] = {
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    PACKED_KEY: {"quant": "nf4", "double_quant": True, "quant_storage": "uint8", "dtype": "bfloat16"},
}


def test_a_base_that_was_packed_on_the_disk_is_planned_as_it_is_packed() -> None:
    """And in no other way: a run would end at it."""
    packed = msgspec.structs.replace(SHAPE, config=SHAPE.config | PACKED)
    silent: tuple[dict[str, Any], ...] = ({}, {"method": "lora"}, {"method": "lora", "quant": "nf4"})
    for training in (*silent, {"method": "qlora"}, {"method": "lora", "quant": "nf4", "double_quant": True}):
        found = ask(make_request(training=training), market(make_offer()), architecture=packed).plans
        assert {(plan.strategy.quant, plan.strategy.double_quant, plan.strategy.param_dtype) for plan in found} == {
            ("nf4", True, "bfloat16")
        }
    for training in ({"method": "full"}, {"method": "lora", "double_quant": False}, {"method": "lora", "quant": "int8"}):
        with pytest.raises(Unsupported, match="is packed in nf4 with double_quant true, not in") as refused:
            ask(make_request(training=training), market(make_offer()), architecture=packed)
        assert "say quant nf4 and double_quant true" in (refused.value.hint or "")


def test_a_base_that_was_packed_in_a_dtype_is_planned_where_that_is_computed_in() -> None:
    """Elsewhere it was refused by the trainer, on a machine that was paid for."""
    packed = msgspec.structs.replace(SHAPE, config=SHAPE.config | PACKED)
    turing = make_gpu(bf16=False, compute_capability=(7, 5))
    old = ask(make_request(), make_catalog(make_offer(), gpus=(turing,)), architecture=packed)
    assert not old.plans
    (why,) = {each.reason for each in old.rejections}
    assert why == "the base is packed in bfloat16, and such a card computes in float16: pack it with --dtype float16"
    with pytest.raises(Unsupported, match="is packed in param_dtype bfloat16, not in float32") as refused:
        ask(make_request(training={"method": "lora", "param_dtype": "float32"}), market(make_offer()), architecture=packed)
    assert refused.value.hint == "pack it anew with --dtype float32, or leave param_dtype out"


def test_a_base_that_was_packed_in_float16_is_trained_in_it_on_a_card_that_has_both() -> None:
    packed = msgspec.structs.replace(
        SHAPE, config=SHAPE.config | PACKED | {PACKED_KEY: PACKED[PACKED_KEY] | {"dtype": "float16"}}
    )
    for training in ({}, {"method": "qlora"}):
        found = ask(make_request(training=training), market(make_offer()), architecture=packed)
        assert found.recommended is not None
        assert {(plan.strategy.param_dtype, plan.strategy.autocast) for plan in found.plans} == {("float16", "float16")}


def test_who_trains_all_weights_of_a_packed_base_is_told_of_methods_that_leave_them_frozen() -> None:
    packed = msgspec.structs.replace(SHAPE, config=SHAPE.config | PACKED)
    for training, said in (({"method": "full"}, True), ({"method": "lora", "quant": "int8"}, False)):
        with pytest.raises(Unsupported) as refused:
            ask(make_request(training=training), market(make_offer()), architecture=packed)
        assert ("with a method that leaves them frozen (lora)" in (refused.value.hint or "")) == said
        assert "or name the base that it was made from" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("copy", "how"), [("unsloth/llama-3-8b-bnb-4bit", "bitsandbytes"), ("TheBloke/Llama-2-7B-GPTQ", "gptq")]
)
def test_a_copy_that_is_packed_by_its_name_is_not_planned_as_a_plain_base(copy: str, how: str) -> None:
    """Its run would fetch packed weights for full tuning in 16 bits. Its base is named; a copy in 16 bits is planned."""
    with pytest.raises(Unsupported, match=f"{copy} is stored in {how}, as its name says") as refused:
        ask(make_request(model=copy), market(make_offer()))
    assert "llama-" in (refused.value.hint or "")
    assert ask(make_request(model="unsloth/Llama-2-7B"), market(make_offer())).request.model == "unsloth/Llama-2-7B"


def test_a_base_whose_code_comes_with_its_weights_is_estimated_and_not_planned() -> None:
    with pytest.raises(Unsupported, match="the trainer runs none from the hub; rentune estimate --model chatglm2-6b"):
        ask(make_request(), market(make_offer()), architecture=resolve_model("chatglm2-6b"))


@pytest.mark.parametrize("model", ["bert-base-uncased", "t5-small"])
def test_what_cannot_go_on_with_a_text_is_not_planned(model: str) -> None:
    """The box would be rented, and the trainer refuse the base there. Another task is priced."""
    with pytest.raises(Unsupported, match=f"models that go on with a text; rentune estimate --model {model}") as refused:
        ask(make_request(), market(make_offer()), architecture=resolve_model(model))
    assert ("--task classification" in (refused.value.hint or "")) is (model == "bert-base-uncased")
    classified = ask(make_request(task="classification"), market(make_offer()), architecture=resolve_model("bert-base-uncased"))
    assert {plan.why_not for plan in classified.plans} == {None}
    translated = ask(make_request(task="seq2seq"), market(make_offer()), architecture=resolve_model("t5-small"))
    assert {plan.why_not for plan in translated.plans} == {None}
    assert all(plan.strategy.padded and plan.strategy.loss == "hf" for plan in translated.plans)


def test_a_key_that_the_trainer_does_not_know_is_not_planned_around() -> None:
    """Its default is harmless, any other value is refused."""
    assert ask(make_request(training={"objective": "sft"}), market(make_offer())).plans
    with pytest.raises(RequestError, match="no place for objective=dpo"):
        ask(make_request(training={"objective": "dpo"}), market(make_offer()))


# ── the shipped catalog ────────────────────────────────────────────────────────────────────────────────────────────

AWS = Provider(name="aws", runnable=True, status="emulator")


def planned(request: Request) -> Plan:
    """The recommended plan on the shipped catalog."""
    plan = ask(request, read_catalog(), providers=(AWS,)).recommended
    assert plan is not None
    return plan


@pytest.mark.parametrize("training", [{}, {"method": "qlora"}, {"method": "full"}, {"method": "lora", "rank": 4}])
def test_a_saved_plan_is_planned_again_as_it_was(training: dict[str, object]) -> None:
    """`plan --save job.yaml`, then `plan job.yaml`: the same strategy on the same machine for the same dollars."""
    first = planned(make_request(model="3b", training=training))
    again = planned(read_job(write_job(first), name="job.yaml"))
    assert (again.strategy, again.offer) == (first.strategy, first.offer)
    assert again.cost == first.cost


def test_the_trainer_can_do_what_is_recommended() -> None:
    """Whatever is asked, nothing outside the capabilities gets a command."""
    for model in ("135m", "7b", "32b", "70b"):
        result = ask(make_request(model=model), read_catalog(), providers=(AWS,))
        assert result.recommended is None or CAPABILITIES.missing(result.recommended.strategy) == ()


def test_sources_that_ask_for_it_are_credited() -> None:
    """CC BY 4.0 wants its line beside the prices."""
    result = ask(make_request(where=Where(providers=("runpod",))), read_catalog())
    assert any("CC BY 4.0" in line for line in result.attributions)


def test_the_bill_follows_the_sellers_rule() -> None:
    """The same hour, by the second and by the hour."""
    by_hour = make_billing("hourly", increment_s=3_600)
    offers = make_offer(instance_type="s"), make_offer(provider="hourly", instance_type="h")
    result = ask(make_request(), make_catalog(*offers, billing=(by_hour,)))
    assert of(result) == ["s", "h"]
    assert result.plans[1].cost.billed_s.p50 % 3_600 == 0


def test_a_machine_of_ones_own_is_no_spot_machine() -> None:
    """Asked for spot, it is left out with the reason; asked for on demand, it stays."""
    request = make_request(model="smollm2-135m")
    spot = ask(msgspec.structs.replace(request, where=Where(spot=True)), market(own()), providers=(LOCAL,))
    assert not spot.plans
    assert any(rejection.wish == "where.spot" for rejection in spot.rejections)
    assert ask(msgspec.structs.replace(request, where=Where(spot=False)), market(own()), providers=(LOCAL,)).plans


@pytest.mark.parametrize(("pair", "told"), [((9.0, 7.0), ("9.0", "7.0")), ((7.22, 7.18), ("7.22", "7.18"))])
def test_two_figures_of_a_refusal_never_read_alike(pair: tuple[float, float], told: tuple[str, str]) -> None:
    """Of "needs 7.2 GiB, of which 7.2 can be used" nobody learns the reason."""
    assert told_apart(*pair) == told


@pytest.mark.parametrize(("seq_len", "is_refused"), [(256, True), (420, False)])
def test_data_of_which_nothing_can_be_learned_is_refused_where_its_tokens_are_estimated_too(
    seq_len: int, is_refused: bool
) -> None:
    """Its answers begin behind 518 tokens, give or take what an estimate may be off."""
    late = Beginnings(longest=((1, 519), (2, 519)), latest=((1, 518), (2, 518)), profile=((518.0, 1.0),))
    data = DataAsked(
        num_examples=2,
        mean_tokens=519,
        max_tokens=519,
        profile=((519.0, 1.0),),
        basis="estimated from characters",
        beginnings=late,
    )
    asked = make_request(data=data, training={"seq_len": seq_len})
    if is_refused:
        with pytest.raises(RequestError, match="no row leaves anything to learn within 256 tokens") as refused:
            ask(asked, market(make_offer()))
        assert refused.value.hint == "--seq-len 520 keeps all of the longest row"
    else:
        ask(asked, market(make_offer()))


def test_a_region_that_its_provider_does_not_have_is_answered_with_that_provider_s() -> None:
    """Not with the like-sounding ones of another cloud."""
    where, catalog = Where(providers=("aws",), regions=("us-west-9",)), read_catalog()
    with pytest.raises(RequestError) as told:
        check_names(where, catalog, catalog.offers)
    theirs = {offer.region for offer in catalog.offers if offer.provider == "aws"}
    assert any(region in str(told.value.hint) for region in theirs)
    assert "us-west4" not in str(told.value.hint)
