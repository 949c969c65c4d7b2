"""Every way to lay a job on cards that are given: what a budget per GPU leaves, and whether N × M GB are one card of N·M GB."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from catalogs.hardware import Gpu, Offer
from planner.asking.case import check_quant
from planner.estimators.memory import as_sold_bytes, available_bytes, judged
from planner.estimators.memory.card.moves import may_stream
from planner.estimators.time.links import host_bytes_per_s
from planner.notices.cards import (
    BOX_VENDOR,
    NO_KERNELS,
    NOTHING_ASIDE,
    SHARED_MEMORY,
    UNSURE_KERNELS,
    has_unsure_kernels,
    unfit,
)
from planner.plan import Cards, Layout, LayoutKind, Range, Streamed
from planner.refusals import CaseRefused
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.ranking import Question
from planner.search.ways.capacity import fit_of
from planner.search.ways.fitting import may_run
from planner.search.ways.ladders import Ladder
from planner.search.ways.streamed import filled
from planner.strategy.precision import BITSANDBYTES
from planner.units import GB
from remote.contract import Dtype, Strategy

# kind -> what it makes of the most quantized way to train on one card. Half stands for the dtype that the card multiplies in.
HALF: Final = "half"
SHARED: Final[dict[str, Any]] = {"adapter_dtype": HALF, "kbit_upcast": "none", "quant_storage": HALF}
WAYS: Final[Mapping[LayoutKind, tuple[dict[str, Any], ...]]] = {
    "whole": ({},),
    "copies": ({"sharding": "ddp"},),
    "states": ({"sharding": "zero1"}, {"sharding": "zero2"}),
    "turns": ({"sharding": "device_map"},),
    "parts": ({"sharding": "fsdp", **SHARED}, {"sharding": "zero3", **SHARED}),
    "three_bits": ({"quant": "hqq_int3", "double_quant": False, "kbit_upcast": "none"},),
    "two_bits": ({"quant": "hqq_int2", "double_quant": False, "kbit_upcast": "none"},),
    "streamed": ({"offload": "stream"},),
}
OF_CARDS: Final[tuple[LayoutKind, ...]] = ("whole", "copies", "states", "turns", "parts", "streamed")
ON_SEVERAL: Final[frozenset[LayoutKind]] = frozenset({"copies", "states", "turns", "parts"})
# derived: the number of cards that each way of laying the job out needs at the least
OF_A_BUDGET: Final[tuple[tuple[LayoutKind, int], ...]] = (
    ("whole", 1),
    ("three_bits", 1),
    ("two_bits", 1),
    ("parts", 2),
    ("streamed", 1),
)
MOST_CARDS: Final = 3  # assumed: of a budget: one that people have, and the two that are sold most often without bfloat16


# What spares memory of a card and nothing that is learned, from what is nearest to the usual; the first that fits is told
SPARED: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"loss": "liger"},
    {"loss": "liger", "optimizer": "adamw_8bit"},
    {"loss": "liger", "optimizer": "adamw_8bit", "kbit_upcast": "none"},
)


SMALLER_STATES: Final[dict[str, Any]] = {"optimizer": "adamw_8bit"}  # of what lies whole on a card a plan tries it first


class _Way(msgspec.Struct, frozen=True):
    """One way, as far as cards differ by it."""

    kind: LayoutKind
    changes: Mapping[str, Any]
    num_gpus: int

    @property
    def num_ranks(self) -> int:
        """How many of them work on sequences of their own at a time."""
        return 1 if self.kind == "turns" else self.num_gpus


class _Card(msgspec.Struct, frozen=True):
    """A card that holds a job or not; None: any of that memory."""

    gpu: Gpu | None
    has_bytes: int


def layouts_of_cards(cards: Cards, question: Question, figures: Figures) -> Iterator[Layout]:
    """Each way on so many cards of that memory: on cards that are known the quickest that fits, as a plan on them takes it; on
    others the lightest quantization that fits; where nothing does, what needs least. Of blocks that wait in RAM what takes
    least of that, too: nobody says how much there is.
    """
    gpu = None if cards.gpu is None else question.catalog.gpus[cards.gpu]
    card = _Card(gpu, as_sold_bytes(cards.memory_gib) if gpu is None else available_bytes(gpu, None))
    yield from _on_cards(cards, card, question, figures)


def _on_cards(cards: Cards, card: _Card, question: Question, figures: Figures) -> Iterator[Layout]:
    computes_in: Dtype = "bfloat16" if card.gpu is None else card.gpu.computes_in
    for kind in OF_CARDS:
        num_gpus = cards.number if kind in ON_SEVERAL else 1
        if kind in ON_SEVERAL and num_gpus == 1:
            continue
        for changes in WAYS[kind]:
            if card.gpu is not None:
                yield from _quickest(_Way(kind, changes, num_gpus), card.gpu, card, question, figures)
                continue
            bases = _recomputing(figures, computes_in)
            by_base = [_spared(_Way(kind, changes, num_gpus), base, card, question, figures) for base in bases]
            if laid := [each for each in by_base if each is not None]:
                fits = [each for each in laid if each.verdict == "fits"]
                yield fits[0] if fits else min(laid, key=lambda each: each.required_bytes)
                yield from fits[-1:] if kind == "streamed" and len(fits) > 1 else ()


def _quickest(way: _Way, gpu: Gpu, card: _Card, question: Question, figures: Figures) -> Iterator[Layout]:
    """Of each ladder the largest micro-batch that fits, of these the quickest, one that the trainer can do if there is one;
    what spares memory is used where nothing fits without it. As in a plan.
    """
    ladders = figures.ladders(1, computes_in=gpu.computes_in).usual
    laid: list[Layout] = []
    for spared in SPARED if way.kind == "streamed" else (SPARED[0], SMALLER_STATES, *SPARED[1:]):
        if spared.keys() & question.advice.training.keys():
            continue
        changed = _Way(way.kind, {**way.changes, **spared}, way.num_gpus)
        tried = (_laid(changed, ladder, card, question, figures, largest=True) for ladder in ladders)
        laid += (each for each in tried if each is not None)
        if fits := [_timed(each, gpu, figures) for each in laid if each.verdict == "fits"]:
            fits = [each for each in fits if question.doable(each.strategy)] or fits
            quickest = min(fits, key=lambda each: math.inf if each.train_s is None else each.train_s.p50)
            yield quickest
            frugal = min(fits, key=lambda each: each.ram_bytes or 0)
            yield from (frugal,) if frugal.strategy.quant != quickest.strategy.quant and way.kind == "streamed" else ()
            return
    yield from sorted(laid, key=lambda each: each.required_bytes)[:1]


def _timed(layout: Layout, gpu: Gpu, figures: Figures) -> Layout:
    return msgspec.structs.replace(layout, train_s=_train_s(layout.strategy, gpu, figures))


def _spared(way: _Way, base: tuple[Strategy, ...], card: _Card, question: Question, figures: Figures) -> Layout | None:
    """The way as it is usual, else with the first that makes it fit of what spares memory and was not said otherwise, else with
    what spares most.
    """
    least: Layout | None = None
    for spared in SPARED:
        if spared.keys() & question.advice.training.keys():
            continue
        laid = _laid(_Way(way.kind, {**way.changes, **spared}, way.num_gpus), base, card, question, figures)
        if laid is not None and (least is None or laid.required_bytes < least.required_bytes):
            least = laid
        if least is not None and least.verdict == "fits":
            break
    return least


def cautions(cards: Cards, question: Question, layouts: Iterable[Layout]) -> Iterator[str]:
    """What the card itself says about these ways, as an estimate for it does."""
    if cards.gpu is None:
        return
    gpu = question.catalog.gpus[cards.gpu]
    packed = any(each.strategy.quant in BITSANDBYTES for each in layouts)
    if gpu.bitsandbytes == "no" and question.advice.training.get("quant", "none") in BITSANDBYTES:
        yield NO_KERNELS.format(gpu=gpu)
    if packed and has_unsure_kernels(gpu):
        yield UNSURE_KERNELS.format(gpu=gpu)
    if gpu.shares_ram:
        yield f"{SHARED_MEMORY.format(gpu=gpu)}; {NOTHING_ASIDE.format(gpu=gpu)}"


def layouts_of_budget(question: Question, market: Iterable[Offer], figures: Figures) -> Iterator[Layout]:
    """What there is to do where the budget per GPU holds the job on none: on cards of that size, each way with its figures."""
    for gpu in _cards_of(question, market):
        base = _recomputing(figures, gpu.computes_in)[-1]
        card = _Card(gpu, available_bytes(gpu, None))
        for kind, num_gpus in OF_A_BUDGET:
            if (layout := _laid(_Way(kind, WAYS[kind][0], num_gpus), base, card, question, figures)) is not None:
                yield layout


def _recomputing(figures: Figures, computes_in: Dtype) -> list[tuple[Strategy, ...]]:
    """The ladders on one card that recompute activations, the most quantized last."""
    ladders = figures.ladders(1, computes_in=computes_in).usual
    return [ladder for ladder in ladders if ladder[-1].gradient_checkpointing != "off"] or [ladders[-1]]


def _cards_of(question: Question, market: Iterable[Offer]) -> list[Gpu]:
    """Cards of the largest size within the budget: the fastest with bfloat16 on PCIe 4, then those without that sell most."""
    budget_gib = question.request.where.gpu_memory_gib or math.inf
    nvidia = [gpu for gpu in question.catalog.gpus.values() if gpu.vendor == BOX_VENDOR and gpu.memory_gib <= budget_gib]
    size_gib = max((gpu.memory_gib for gpu in nvidia), default=0.0)
    of_size = [gpu for gpu in nvidia if gpu.memory_gib == size_gib]
    modern = [gpu for gpu in of_size if gpu.bf16 and gpu.pcie_generation == 4 and gpu.form_factor == "pcie"]
    sold = [offer.gpu for offer in market]
    older = {gpu.architecture: gpu for gpu in sorted(of_size, key=lambda gpu: sold.count(gpu.name)) if not gpu.bf16}
    often = sorted(older.values(), key=lambda gpu: -sold.count(gpu.name))
    return [*sorted(modern, key=lambda gpu: -gpu.achievable_tflops)[:1], *often][:MOST_CARDS]


def _laid(
    way: _Way, base: Ladder, card: _Card, question: Question, figures: Figures, *, largest: bool = False
) -> Layout | None:
    """The smallest micro-batch laid in this way, or the `largest` that fits; streamed through a card that is known the largest
    anyhow, which hides its link best, and is told. None where the way makes no sense for the method.
    """
    steps = _steps(base, way, question.advice.global_batch_size)
    streams = way.kind == "streamed"
    if streams and not may_stream(steps[-1]):
        return None
    if card.gpu is not None and not may_run(card.gpu, steps[-1]):
        return None
    try:
        check_quant(steps[-1].method, steps[-1].quant)
        strategy = _largest(steps, card, figures) if largest or (streams and card.gpu is not None) else steps[-1]
        if largest and streams and card.gpu is not None:
            smaller = tuple(step for step in steps if step.micro_batch_size < strategy.micro_batch_size)
            strategy = _filled(strategy, smaller, card.gpu, card.has_bytes, figures)
        needs = figures.needs(strategy, card.gpu)
        word, _ = judged(needs, card.has_bytes)
        streamed = _streamed(strategy, card.gpu, figures) if streams and card.gpu is not None else None
    except CaseRefused:
        return None
    reason = unfit(card.gpu) if card.gpu is not None else None
    return Layout(
        kind=way.kind,
        strategy=strategy,
        card=card.gpu.name if card.gpu is not None else None,
        required_bytes=needs.required_bytes,
        available_bytes=card.has_bytes,
        verdict=word,
        missing=(*question.missing(strategy), *((reason,) if reason is not None else ())),
        unfit=reason,
        ram_bytes=figures.host(strategy, on_cpu=False).ram_peak_bytes if streams else None,
        streamed=streamed,
    )


def _steps(base: Ladder, way: _Way, global_batch_size: int) -> list[Strategy]:
    """The ladder laid in this way, without the steps whose passes would not come out; all, where none would."""
    exact = [step for step in base if global_batch_size % (step.micro_batch_size * way.num_ranks) == 0]
    return [_changed(step, way, global_batch_size) for step in exact or base]


def _filled(strategy: Strategy, smaller: Ladder, gpu: Gpu, has_bytes: int, figures: Figures) -> Strategy:
    """As a plan streams: with the room that the card has left used."""
    kind = Kind(gpu=gpu, num_gpus=1, offers=(), num_sold=0)
    return filled(fit_of(strategy, kind, has_bytes, figures), kind, has_bytes, figures, smaller)[0].strategy


def _changed(step: Strategy, way: _Way, global_batch_size: int) -> Strategy:
    packed = step.quant != "none"
    dtype = step.param_dtype
    of_packed = ("quant_storage", "kbit_upcast")
    said = {key: dtype if value == HALF else value for key, value in way.changes.items() if packed or key not in of_packed}
    passes = max(1, global_batch_size // (step.micro_batch_size * way.num_ranks))
    if way.num_gpus == 1:
        passes = step.gradient_accumulation_steps
    return msgspec.structs.replace(step, num_gpus=way.num_gpus, gradient_accumulation_steps=passes, **said)


def _largest(steps: list[Strategy], card: _Card, figures: Figures) -> Strategy:
    def fits(step: Strategy) -> bool:
        return figures.needs(step, card.gpu).required_bytes <= card.has_bytes

    return next(filter(fits, steps), steps[-1])


def _train_s(strategy: Strategy, gpu: Gpu, figures: Figures) -> Range | None:
    """None for what has no closed form."""
    try:
        return figures.training(strategy, gpu)
    except CaseRefused:
        return None


def _streamed(strategy: Strategy, gpu: Gpu, figures: Figures) -> Streamed:
    """What the link takes of a micro-step. Computing grows with the tokens, and what crosses the link does not."""
    streamed = figures.step(strategy, gpu)
    resident = figures.step(msgspec.structs.replace(strategy, offload="none", streaming=None), gpu)
    tokens = strategy.micro_batch_size * strategy.seq_len
    return Streamed(
        ram_bytes=figures.host(strategy, on_cpu=False).ram_peak_bytes,
        link_gb_per_s=host_bytes_per_s(gpu) / GB,
        tokens=tokens,
        hiding_tokens=math.ceil(tokens * streamed.link_s / streamed.busy_s),
        slow_down=streamed.micro_step_s / resident.micro_step_s,
        slow_down_half=msgspec.structs.replace(streamed, link_s=2 * streamed.link_s).micro_step_s / resident.micro_step_s,
    )
