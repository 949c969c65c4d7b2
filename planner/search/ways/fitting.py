"""Which strategies a kind of machine can hold: of each ladder the largest micro-batch that fits."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import msgspec

from catalogs.hardware import Gpu
from planner.estimators.memory.card.moves import takes_card_as_ram
from planner.estimators.memory.held.optimizers import BITSANDBYTES_OPTIMIZERS
from planner.methods import METHODS
from planner.notices.cards import NOTHING_ASIDE
from planner.refusals import CaseRefused
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.told.notebook import Kernelless, Notebook, TooSmall
from planner.search.ways.capacity import capacity_bytes, fit_of, floor_bytes, required_bytes
from planner.search.ways.fit import Fit
from planner.search.ways.ladders import LEVERS, NO_LOGITS, SMALL_STATES, Ladder
from planner.search.ways.streamed import filled
from planner.strategy.precision import BITSANDBYTES
from planner.strategy.words import describe
from remote.contract import Strategy

Doable = Callable[[Strategy], bool]  # whether the trainer can do it
Reach = Literal["all", "some", "none"]
Beside = Callable[[Strategy], Reach]  # how many of the machines that are looked at have what it needs beside the GPUs


def needs_bitsandbytes(strategy: Strategy) -> bool:
    """Whether the strategy cannot run without bitsandbytes' kernels."""
    return any(word is not None for word in _needing_kernels(strategy).values())


def may_run(gpu: Gpu, strategy: Strategy) -> bool:
    """Whether a machine with this card has the kernels that the strategy needs, and RAM apart for what waits there."""
    without_kernels = gpu.bitsandbytes == "no" and needs_bitsandbytes(strategy)
    return not without_kernels and not takes_card_as_ram(gpu, strategy)


def _needing_kernels(strategy: Strategy) -> dict[str, str | None]:
    """What of the strategy they carry out."""
    return {
        "quant": strategy.quant if strategy.quant in BITSANDBYTES else None,
        "optimizer": strategy.optimizer if strategy.optimizer in BITSANDBYTES_OPTIMIZERS else None,
    }


def fitting(
    kind: Kind, num_gpus: int, figures: Figures, notebook: Notebook, *, doable: Doable, beside: Beside, only_doable: bool
) -> tuple[Fit, ...]:
    """The best step of every ladder; a kind on which none fits, whatever is pulled, is refused with the least that is needed
    of what is usual, and of what the trainer can do; so is one that holds it only with what he can't do, and RAM beside it.

    The first step of the first ladder is the fastest of all where rows are of one length, no earlier runs taught more of one
    way than of another, and gradients of whole weights cross a link once a step: where it fits nothing else is looked at.
    Levers are pulled where nothing surely fits without, on the GPU and `beside` it. `only_doable`: nothing else is looked at.
    """
    has_bytes = capacity_bytes(kind)
    ladders = figures.ladders(num_gpus, computes_in=kind.computes_in).usual
    if only_doable:
        ladders = tuple(ladder for ladder in ladders if doable(ladder[0]))
        if not ladders:
            return ()
    if (fastest := _if_it_fits(ladders[0][0], kind, has_bytes, figures)) is not None:
        if not figures.seen and not _reduces_often(fastest.strategy) and beside(fastest.strategy) == "all":
            return filled(fastest, kind, has_bytes, figures)
        notebook = Notebook()  # what else does not fit is no reason against the kind
    fits, too_large = _fits(ladders, kind, has_bytes, figures, notebook)
    fits = [each for fit in fits for each in filled(fit, kind, has_bytes, figures)]
    if kind.gpu is not None and not any(fit.verdict == "fits" and beside(fit.strategy) == "all" for fit in fits):
        notebook.without_kernels += _stateless(kind, num_gpus, figures)
        by_levers = _by_levers(kind, num_gpus, figures, _Enough(doable, beside), only_doable=only_doable)
        fits, too_large = fits + by_levers[0], too_large + by_levers[1]
    elif kind.gpu is not None:
        fits += _with_room_for_more(kind, num_gpus, figures, doable=doable)
    holds = any(fit.strategy.offload == "none" or doable(fit.strategy) for fit in fits)
    if not holds and too_large and num_gpus == max(1, kind.num_gpus):  # all GPUs: if these don't do, one won't
        needed_bytes, strategy = _least_demanding(too_large, kind, figures)
        notebook.too_small.append(TooSmall(kind=kind, needed_bytes=needed_bytes, available_bytes=has_bytes, strategy=strategy))
    return tuple(fits)


def _reduces_often(strategy: Strategy) -> bool:
    """Whether gradients of whole weights cross a link more than once a step, which another way to share them may spare."""
    passes = strategy.gradient_accumulation_steps
    return strategy.num_gpus > 1 and passes > 1 and METHODS[strategy.method].moves_all


def _stateless(kind: Kind, num_gpus: int, figures: Figures) -> Iterator[Kernelless]:
    """That smaller optimizer states are out of reach, where these are the most of what a job takes."""
    ladders = figures.ladders(num_gpus, computes_in=kind.computes_in)
    if METHODS[ladders.usual[0][0].method].moves_all:
        firsts = (ladder[0] for ladder in ladders.pulled(SMALL_STATES))
        yield from (Kernelless(kind=kind, **_needing_kernels(first)) for first in firsts if _has_no_kernels(first, kind))


class _Enough(NamedTuple):
    """When no further lever is pulled."""

    doable: Doable
    beside: Beside


def _by_levers(
    kind: Kind, num_gpus: int, figures: Figures, enough: _Enough, *, only_doable: bool
) -> tuple[list[Fit], list[Strategy]]:
    """What fits with a lever pulled, and what of the trainer's does not: of those after the first that is enough only what the
    trainer can do is looked at.
    """
    computes_in, has_bytes, found, surely = kind.computes_in, capacity_bytes(kind), list[Fit](), list[Fit]()
    too_large: list[Strategy] = []
    for lever in range(len(LEVERS)):
        if figures.least_resting_bytes(num_gpus, computes_in=computes_in, lever=lever) > has_bytes:
            continue
        ladders = figures.ladders(num_gpus, computes_in=computes_in).pulled(lever)
        wanted = tuple(ladder for ladder in ladders if not (surely or only_doable) or enough.doable(ladder[-1]))
        fits, larger = _fits(wanted, kind, has_bytes, figures, Notebook())  # what a lever does not do is no reason by itself
        too_large += filter(enough.doable, larger)
        fits = [each for fit in fits for each in filled(fit, kind, has_bytes, figures)]  # which takes less RAM, too
        found += (msgspec.structs.replace(fit, lever=lever + 1) for fit in fits)
        surely = [fit for fit in found if fit.verdict == "fits"]
        if any(enough.doable(fit.strategy) and enough.beside(fit.strategy) == "all" for fit in surely):
            break
    return found, too_large


def _with_room_for_more(kind: Kind, num_gpus: int, figures: Figures, *, doable: Doable) -> Iterator[Fit]:
    """What a loss without whole logits leaves room for where the usual one fits too, as far as the trainer can do it: else a
    card with a little less memory, on which that is the only way, would be the better choice.
    """
    pulled = figures.ladders(num_gpus, computes_in=kind.computes_in).pulled(NO_LOGITS)
    ladders = tuple(ladder for ladder in pulled if doable(ladder[-1]))
    fits, _ = _fits(ladders, kind, capacity_bytes(kind), figures, Notebook())
    yield from (msgspec.structs.replace(fit, lever=NO_LOGITS + 1) for fit in fits if fit.verdict == "fits")


def _fits(
    ladders: tuple[Ladder, ...], kind: Kind, has_bytes: int, figures: Figures, notebook: Notebook
) -> tuple[list[Fit], list[Strategy]]:
    """Of each ladder the best step, or else the last. One that keeps its activations is not looked at where recomputing them
    was not enough.
    """
    fits: list[Fit] = []
    too_large: list[Strategy] = []
    hopeless: set[tuple[object, ...]] = set()
    for ladder in reversed(ladders):
        if _has_no_kernels(ladder[0], kind):
            notebook.without_kernels.append(Kernelless(kind=kind, **_needing_kernels(ladder[0])))
        elif _family(ladder[0]) not in hopeless:
            try:
                _require_ram(ladder[0], kind)
                fit = _best(ladder, kind, has_bytes, figures)
            except CaseRefused as error:
                notebook.unsupported.setdefault(error.message, (describe(ladder[-1]), error))
                continue
            if fit is not None:
                fits.append(fit)
            else:
                hopeless.add(_family(ladder[0]))
                too_large.append(ladder[-1])
    return fits, too_large


def _least_demanding(strategies: list[Strategy], kind: Kind, figures: Figures) -> tuple[int, Strategy]:
    """The one that needs least, and how much: what rests on the GPU says of most that they need more than another."""
    first, *others = sorted(strategies, key=lambda each: floor_bytes(each, kind, figures))
    least = required_bytes(first, kind, figures), first
    for strategy in others:
        if floor_bytes(strategy, kind, figures) >= least[0]:
            break
        least = min(least, (required_bytes(strategy, kind, figures), strategy), key=lambda pair: pair[0])
    return least


def _has_no_kernels(strategy: Strategy, kind: Kind) -> bool:
    return kind.gpu is not None and kind.gpu.bitsandbytes == "no" and needs_bitsandbytes(strategy)


def _require_ram(strategy: Strategy, kind: Kind) -> None:
    """Raises CaseRefused for what would wait in RAM that is the card's own memory."""
    if kind.gpu is not None and takes_card_as_ram(kind.gpu, strategy):
        raise CaseRefused("offload", NOTHING_ASIDE.format(gpu=kind.gpu))


def _if_it_fits(strategy: Strategy, kind: Kind, has_bytes: int, figures: Figures) -> Fit | None:
    if _has_no_kernels(strategy, kind):
        return None
    try:
        _require_ram(strategy, kind)
        if floor_bytes(strategy, kind, figures) > has_bytes:
            return None
        fit = fit_of(strategy, kind, has_bytes, figures)
    except CaseRefused:
        return None  # told where its ladder is looked at
    return fit if fit.verdict == "fits" else None


def _family(strategy: Strategy) -> tuple[object, ...]:
    """What the ladders with and without recomputation have in common."""
    return strategy.quant, strategy.optimizer, strategy.sharding, strategy.num_gpus


def _best(ladder: Ladder, kind: Kind, has_bytes: int, figures: Figures) -> Fit | None:
    """The largest micro-batch that there is room for, by halving; where only the smallest may do, that one, tight or not."""
    if floor_bytes(ladder[-1], kind, figures) > has_bytes:
        return None
    smallest = fit_of(ladder[-1], kind, has_bytes, figures)
    if smallest.margin_bytes < 0:
        return None if smallest.verdict == "does_not_fit" else smallest
    index = bisect.bisect_left(
        ladder, 1, hi=len(ladder) - 1, key=lambda step: fit_of(step, kind, has_bytes, figures).margin_bytes >= 0
    )
    return fit_of(ladder[index], kind, has_bytes, figures)
