"""docs/32b-on-16gb.md: the answer to "32 billion parameters on 16 GB" in full, made by the search itself. `make docs`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from catalogs.bases.models import resolve_model
from catalogs.catalog import Catalog, read_catalog
from catalogs.hardware import Gpu
from planner.asking.data import default_data
from planner.asking.options.command_line import run_command, spelled
from planner.asking.request import Request, Where
from planner.edges import Edges
from planner.plan import Cards, Layout, LayoutKind, SearchResult
from planner.report import render_result, words
from planner.report.layouts import cell
from planner.search import search
from planner.search.market.offers import on_sale
from planner.units import GIB
from provision.providers import known_providers
from remote.contract import CAPABILITIES

PAGE: Final = Path(__file__).parents[1] / "docs" / "32b-on-16gb.md"
TODAY: Final = dt.date(2026, 11, 26)  # of which the ages of prices are told
BEGIN: Final = """\
# 32 billion parameters on 16 GiB

Made from the code by `make docs`: the figures below are those of `rentune plan --model 32b --gpu-budget 16GB`, for its default
job. GiB are those that the job needs of one card, with a margin, and that torch finds on it. Cards: one as people own
it, and those of that size without bfloat16 that are rented out most.
"""


def answer(catalog: Catalog, *, cards: Cards | None = None) -> SearchResult:
    """What `plan --model 32b --gpu-budget 16GB` finds where every provider is set up."""
    request = Request(model="32b", data=default_data(), where=Where(gpu_memory_gib=16.0) if cards is None else Where())
    edges = Edges(providers=known_providers(), capabilities=CAPABILITIES, today=TODAY)
    return search(request, resolve_model("32b"), edges, on_sale(catalog, edges), cards=cards)


def render_page() -> str:
    """The whole page."""
    catalog = read_catalog()
    result, two = answer(catalog), answer(catalog, cards=Cards(2, 16.0))
    command = run_command({"model": "32b", "gpu_budget": 16.0}, changes={}, has_data=False, model="Qwen/Qwen2.5-32B")
    blocks = (
        BEGIN.rstrip(),
        "\n".join(f"- {_card(catalog.gpus[name])}" for name in dict.fromkeys(str(each.card) for each in result.layouts)),
        "## In sentences",
        "\n".join(f"- {sentence}" for sentence in sentences(result)),
        "## The answer as it is shown",
        f"```text\n{_shown(result, command)}\n```",
        "## Two such cards, asked about",
        "`rentune plan --model 32b --gpus 2x16GB`, its first table:",
        f"```text\n{_shown(two, None).partition('Cheapest jobs')[0].rstrip()}\n```",
    )
    return "\n\n".join(blocks) + "\n"


def _shown(result: SearchResult, command: str | None) -> str:
    return render_result(result, command=command, spelled=spelled, explain=True, width=100, colour=False)


def _card(gpu: Gpu) -> str:
    """What of the card decides."""
    return (
        f"{gpu.name}: {gpu.computes_in}, PCIe {gpu.pcie_generation} x{gpu.pcie_lanes}, FlashAttention-2: {gpu.flash_attention}"
    )


def sentences(result: SearchResult) -> Iterator[str]:
    """What has to be known, each with the figures of every card."""
    yield f"**Plain QLoRA needs more than 16 GiB**: nf4 on one card takes {_on_each(result, 'whole')}."
    yield (
        f"**Streamed it fits**: frozen blocks wait in RAM and pass through one card, {_on_each(result, 'streamed')}. "
        f"{' '.join(_streamed(each) for each in _of(result, 'streamed'))} {_can(result, 'streamed')}"
    )
    yield f"**With 3 bits a weight** (HQQ): {_on_each(result, 'three_bits')}. {_can(result, 'three_bits')}"
    yield f"**With 2 bits a weight** (HQQ): {_on_each(result, 'two_bits')}. {_can(result, 'two_bits')}"
    yield f"**Two such cards with FSDP-QLoRA**: on each {_on_each(result, 'parts')}. {_can(result, 'parts')}"
    cheapest = min((plan for plan in result.plans if plan.why_not is None), key=lambda plan: plan.cost.total_usd.p50)
    streaming = cheapest.strategy.streaming
    assert streaming is not None
    yield (
        f"**The cheapest that can be run on 16 GiB** streams: {words.offer(cheapest)} with {words.machine(cheapest)}, which "
        f"{words.memory(cheapest)}, {streaming.num_resident_blocks} blocks resident and the others by {streaming.num_slots} "
        f"slots, for {words.usd_range(cheapest.cost.total_usd)} in {words.span_range(cheapest.duration.wall_s)}."
    )
    way = min(result.ways_out, key=lambda each: each.changes["where.gpu_memory_gib"])
    yield (
        f"**The smallest single GPU that fits without tricks**, and can be run: {words.offer(way.plan)} with "
        f"{words.machine(way.plan)}: {next(each for each in way.plan.assumptions if 'fits as well' in each)}, and takes "
        f"{words.usd_range(way.plan.cost.total_usd)} and {words.span_range(way.plan.duration.wall_s)}."
    )


def _of(result: SearchResult, kind: LayoutKind) -> list[Layout]:
    return [each for each in result.layouts if each.kind == kind]


def _on_each(result: SearchResult, kind: LayoutKind) -> str:
    return "; ".join(f"{cell(each)} ({each.card})" for each in _of(result, kind))


def _streamed(each: Layout) -> str:
    """What the link and the RAM must give."""
    streamed = each.streamed
    assert streamed is not None
    return (
        f"{each.card}: {streamed.ram_bytes / GIB:.0f} GiB of RAM; over {streamed.link_gb_per_s:g} GB/s (assumed) "
        f"{streamed.hiding_tokens:,} tokens a micro-step hide the link; with {streamed.tokens:,} it is "
        f"{streamed.slow_down - 1:.0%} slower than with room for all weights, {streamed.slow_down_half - 1:.0%} on half that "
        "link."
    )


def _can(result: SearchResult, kind: LayoutKind) -> str:
    missing = ", ".join(_of(result, kind)[0].missing)
    return f"Not yet runnable: the trainer cannot do {missing}." if missing else "Can be run."
