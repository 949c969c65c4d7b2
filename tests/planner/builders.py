"""Small whole values for the planner's tests: a card, an offer, a bill, a job."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import click
import msgspec
from click.testing import CliRunner

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import resolve_model
from catalogs.catalog import Catalog
from catalogs.hardware import Billing, Gpu, Offer
from planner.asking.data import DataFile, Lengths, default_data
from planner.asking.options.table import request_options, view_options
from planner.asking.policy import Rule
from planner.asking.request import Request
from planner.edges import Edges
from planner.estimators.time.learned import Seen
from planner.plan import Cards, DurationEstimate, HostEstimate, Plan, Provider, Range, SearchResult, VramEstimate
from planner.search import search
from planner.search.market.offers import on_sale
from remote.contract import CAPABILITIES, Capabilities, Strategy

TODAY = dt.date(2026, 11, 25)
GIB = 2**30
CLOUD = Provider(name="cloud", runnable=True, status="tested", keeps_lease=True)
TINY_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 320,
}


def exactly(value: float) -> Range:
    """A figure without any doubt."""
    return Range(p10=value, p50=value, p90=value)


def make_gpu(name: str = "Card 24GB", **changes: Any) -> Gpu:
    """A card like an L4, of which torch totals what its driver reports."""
    card = Gpu(
        name=name,
        vendor="nvidia",
        architecture="ada",
        compute_capability=(8, 9),
        memory_gib=24.0,
        driver_memory_mib=23034,
        memory_bandwidth_gb_per_s=300.0,
        bf16_tflops=121.0,
        achievable_tflops=97.0,
        achievable_basis="assumed",
        pcie_generation=4,
        tdp_w=72.0,
        bf16=True,
        flash_attention="yes",
        bitsandbytes="yes",
        confidence="high",
        source="invented for a test",
        as_of=TODAY,
    )
    card = msgspec.structs.replace(card, **changes)
    reported = card.driver_memory_mib
    total_gib = card.torch_memory_gib if reported is None or card.torch_memory_gib is not None else reported / 1024
    return msgspec.structs.replace(card, torch_memory_gib=total_gib)


def make_offer(**changes: Any) -> Offer:
    """A machine with one such card at a dollar an hour."""
    offer = Offer(
        provider="cloud",
        region="north",
        instance_type="one",
        purchase="on_demand",
        gpu="Card 24GB",
        num_gpus=Decimal(1),
        vcpus=8.0,
        ram_gib=64.0,
        usd_per_hour=Decimal("1.00"),
        observed_on=TODAY,
        source="invented",
        confidence="high",
    )
    return msgspec.structs.replace(offer, **changes)


def make_billing(provider: str = "cloud", **changes: Any) -> Billing:
    """Per second, at least a minute, disk and egress at no price."""
    billing = Billing(
        provider=provider,
        increment_s=1,
        minimum_s=60,
        stopped_compute_bills=False,
        stopped_disk_bills=True,
        minimum_disk_gib=30,
        disk_usd_per_gib_month=Decimal(0),
        egress_usd_per_gb=Decimal(0),
        egress_free_gb=0,
        source="invented for a test",
        as_of=TODAY,
    )
    return msgspec.structs.replace(billing, **changes)


def make_catalog(*offers: Offer, gpus: tuple[Gpu, ...] = (), billing: tuple[Billing, ...] = ()) -> Catalog:
    """A market of these offers, on the standard card unless others are named."""
    rules = {rule.provider: rule for rule in billing}
    return Catalog(
        gpus={gpu.name: gpu for gpu in gpus or (make_gpu(),)},
        offers=offers,
        billing={name: rules.get(name, make_billing(name)) for name in {offer.provider for offer in offers}},
        sources={},
        gpu_words={},
    )


def make_duration(wall_s: Range, **phases: float) -> DurationEstimate:
    """A job of a million tokens with the phases named."""
    return DurationEstimate(
        tokens_per_s=exactly(1_000.0),
        step_s=exactly(1.0),
        bound="compute",
        num_steps=100,
        num_tokens=1_000_000,
        phase_s={name: exactly(seconds) for name, seconds in phases.items()},
        wall_s=wall_s,
        energy_kwh=exactly(0.1),
    )


def make_host(disk_gib: float = 40.0, ram_gib: float = 8.0) -> HostEstimate:
    """RAM and disk in one part each."""
    return HostEstimate(
        ram_peak_bytes=round(ram_gib * GIB),
        ram_components={"weights": round(ram_gib * GIB)},
        disk_peak_bytes=round(disk_gib * GIB),
        disk_components={"environment": round(disk_gib * GIB)},
    )


def make_request(**changes: Any) -> Request:
    """The default job on a small model."""
    return msgspec.structs.replace(Request(model="SmolLM2-135M", data=default_data()), **changes)


def make_plan(**changes: Any) -> Plan:
    """A plan whose figures were not computed by anyone."""
    from planner.estimators.cost import estimate_cost

    offer, billing, host = make_offer(), make_billing(), make_host()
    duration = make_duration(exactly(3_600.0), train=3_600.0)
    plan = Plan(
        request=make_request(),
        strategy=Strategy(method="lora", rank=16, alpha=32.0, seq_len=512, micro_batch_size=4, gradient_accumulation_steps=4),
        offer=offer,
        gpu=make_gpu(),
        billing=billing,
        vram=VramEstimate(
            allocated_peak_bytes=10 * GIB,
            reserved_peak_bytes=11 * GIB,
            process_peak_bytes=12 * GIB,
            required_bytes=12 * GIB,
            evaluation_peak_bytes=9 * GIB,
            peak_instant="backward",
            components={"weights": 6 * GIB, "activations": 4 * GIB},
            by_instant={"backward": 10 * GIB},
        ),
        host=host,
        duration=duration,
        cost=estimate_cost(duration, host, offer=offer, billing=billing, sent_bytes=10_000_000),
        verdict="fits",
        margin_bytes=10 * GIB,
        why_not=None,
        provider_status="tested",
        assumptions=("an assumption",),
        catalog_as_of=TODAY,
        planned_on=TODAY,
        versions={"rentune": "0.1.0"},
    )
    return msgspec.structs.replace(plan, **changes)


def ask(
    request: Request,
    catalog: Catalog,
    *,
    providers: tuple[Provider, ...] = (CLOUD,),
    capabilities: Capabilities = CAPABILITIES,
    architecture: Architecture | None = None,
    rules: tuple[Rule, ...] = (),
    seen: tuple[Seen, ...] = (),
    cards: Cards | None = None,
) -> SearchResult:
    """Search a market."""
    named = {provider.name: provider for provider in providers}
    edges = Edges(providers=named, capabilities=capabilities, today=TODAY, rules=rules, seen=seen)
    return search(request, architecture or resolve_model(request.model), edges, on_sale(catalog, edges), cards=cards)


def counted(file: DataFile) -> Lengths:
    """Any file: a thousand rows, or as many as are asked for, of 40, 80 and at most 400 tokens."""
    return Lengths(
        num_rows=file.reading.max_rows or 1_000,
        mean_tokens=80.0,
        max_tokens=400,
        profile=((40.0, 0.5), (80.0, 0.4), (280.0, 0.1)),
        documents=file.reading.format == "text",
        basis="estimated from characters",
    )


def parsed(*words: str) -> dict[str, Any]:
    """What click makes of a command line."""
    seen: dict[str, Any] = {}

    @click.command()
    @request_options
    @view_options
    def command(**options: Any) -> None:
        seen.update(options)

    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    return seen
