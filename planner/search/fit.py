"""Which strategies a kind of machine can hold: of each ladder the largest micro-batch that fits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from planner.memory import available_bytes, verdict
from planner.plan import Verdict, VramEstimate
from planner.refusals import Refused
from planner.search.figures import Figures
from planner.search.notebook import Notebook, TooSmall
from planner.search.offers import Kind
from planner.search.strategies import describe
from remote.contract import Strategy

BYTES_PER_GIB: Final = 2**30
RAM_SHARE: Final = 0.9  # assumed: the system, its page cache and our SSH server need a tenth of the RAM

# What bitsandbytes carries out; a card without its kernels can do none of it.
BITSANDBYTES_QUANTS: Final = frozenset({"int8", "nf4", "fp4"})
BITSANDBYTES_OPTIMIZERS: Final = frozenset({"adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_8bit"})


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy that a machine can hold. On a CPU box the verdict is on RAM."""

    strategy: Strategy
    vram: VramEstimate
    verdict: Verdict
    margin_bytes: int


def needs_bitsandbytes(strategy: Strategy) -> bool:
    """Whether the strategy cannot run without bitsandbytes' kernels."""
    return strategy.quant in BITSANDBYTES_QUANTS or strategy.optimizer in BITSANDBYTES_OPTIMIZERS


def fitting(kind: Kind, ladders: Iterable[tuple[Strategy, ...]], figures: Figures, notebook: Notebook) -> tuple[Fit, ...]:
    """The best step of every ladder; a kind on which none fits is refused with the least that was needed."""
    fits: list[Fit] = []
    least: tuple[int, Strategy] | None = None
    has_bytes = capacity_bytes(kind)
    for ladder in ladders:
        if kind.gpu is not None and kind.gpu.bitsandbytes == "no" and needs_bitsandbytes(ladder[0]):
            notebook.without_kernels.append(kind)
            continue
        try:
            fit = _best(ladder, kind, has_bytes, figures)
            need = (required_bytes(ladder[-1], kind, figures), ladder[-1])
        except Refused as error:
            notebook.unsupported.setdefault(error.message, (describe(ladder[-1]), error))
            continue
        least = min(least, need, key=lambda pair: pair[0]) if least is not None else need
        if fit is not None:
            fits.append(fit)
    if not fits and least is not None:
        notebook.too_small.append(
            TooSmall(kind=kind, needed_bytes=least[0], available_bytes=has_bytes, strategy=describe(least[1]))
        )
    return tuple(fits)


def _best(ladder: tuple[Strategy, ...], kind: Kind, has_bytes: int, figures: Figures) -> Fit | None:
    """The first step that fits, else the first that is tight. Memory falls along a ladder."""
    tight: Fit | None = None
    for strategy in ladder:
        if _least_bytes(strategy, kind, figures) > has_bytes:
            continue
        fit = _fit(strategy, kind, has_bytes, figures)
        if fit.verdict == "fits":
            return fit
        if fit.verdict == "tight" and tight is None:
            tight = fit
    return tight


def _fit(strategy: Strategy, kind: Kind, has_bytes: int, figures: Figures) -> Fit:
    vram = figures.vram(strategy, kind.gpu)
    if kind.gpu is None:
        return Fit(
            strategy=strategy, vram=vram, verdict="fits", margin_bytes=has_bytes - required_bytes(strategy, kind, figures)
        )
    word, margin_bytes = verdict(vram, has_bytes)
    return Fit(strategy=strategy, vram=vram, verdict=word, margin_bytes=margin_bytes)


def capacity_bytes(kind: Kind) -> int:
    """Bytes that the job may use: of one GPU as its driver reports them, or of a CPU box's RAM."""
    if kind.gpu is not None:
        return available_bytes(kind.gpu, None)
    return int((kind.offers[0].ram_gib or 0) * BYTES_PER_GIB * RAM_SHARE)


def required_bytes(strategy: Strategy, kind: Kind, figures: Figures) -> int:
    """What the job needs of the memory that decides: VRAM of one GPU, or RAM where the cores train."""
    if kind.gpu is None:
        return figures.host(strategy, on_cpu=True).ram_peak_bytes
    return figures.vram(strategy, kind.gpu).required_bytes


def _least_bytes(strategy: Strategy, kind: Kind, figures: Figures) -> int:
    """A bound that costs one estimate per strategy, not one per card: what every card must hold."""
    if kind.gpu is None:
        return figures.host(strategy, on_cpu=True).ram_peak_bytes
    return figures.vram(strategy, None).allocated_peak_bytes
