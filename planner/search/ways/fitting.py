"""Which strategies a kind of machine can hold: of each ladder the largest micro-batch that fits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from catalogs.hardware import Gpu, Offer
from planner.choice.goals import SURELY_BETTER
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
from planner.search.ways.ladders import LEVERS, SAME_LEVERS, SMALL_STATES, USUAL, Ladder
from planner.search.ways.streamed import quickest
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
    kind: Kind,
    num_gpus: int,
    figures: Figures,
    notebook: Notebook,
    *,
    offer: Offer,
    doable: Doable,
    beside: Beside,
    only_doable: bool,
) -> tuple[Fit, ...]:
    """The best step of every ladder; a kind on which none fits, whatever is pulled, is refused with the least that is needed
    of what is usual, and of what the trainer can do; so is one that holds it only with what he can't do, and RAM beside it.

    The first step of the first ladder is the fastest of all where rows are of one length, no earlier runs taught more of
    one way than of another, no kernel is fused, and gradients of whole weights cross a link once a step: where it fits nothing
    else is looked at. Levers are pulled where nothing surely fits without, on the GPU and `beside` it; and those after which
    the same is trained wherever the room that they leave may make the job a good deal quicker. `only_doable`: nothing else is
    looked at. `offer`: by whose machine seconds are told.
    """
    has_bytes = capacity_bytes(kind)
    ladders = figures.ladders(num_gpus, computes_in=kind.computes_in).usual
    if only_doable:
        ladders = tuple(ladder for ladder in ladders if doable(ladder[0]))
        if not ladders:
            return ()
    if (fastest := _if_it_fits(ladders[0][0], kind, has_bytes, figures)) is not None:
        if not figures.seen and _is_the_quickest(fastest.strategy) and beside(fastest.strategy) == "all":
            return (fastest,)
        notebook = Notebook()  # what else does not fit is no reason against the kind
    fits, too_large = _fits(ladders, kind, has_bytes, figures, notebook)
    if kind.gpu is not None:
        if not any(fit.verdict == "fits" and beside(fit.strategy) == "all" for fit in fits):
            notebook.without_kernels += _stateless(kind, num_gpus, figures)
        pulling = Pulling(kind, num_gpus, figures, offer, doable=doable, beside=beside, only_doable=only_doable)
        pulled, larger = pulling.beside(fits)
        fits, too_large = fits + pulled, too_large + larger
    holds = any(fit.strategy.offload == "none" or doable(fit.strategy) for fit in fits)
    if not holds and too_large and num_gpus == max(1, kind.num_gpus):  # all GPUs: if these don't do, one won't
        needed_bytes, strategy = _least_demanding(too_large, kind, figures)
        notebook.too_small.append(TooSmall(kind=kind, needed_bytes=needed_bytes, available_bytes=has_bytes, strategy=strategy))
    return tuple(fits)


def _is_the_quickest(first: Strategy) -> bool:
    """Whether nothing is quicker than the largest batch with nothing recomputed, once that fits: no loss that a fused kernel
    makes, no blocks that another batch would let reside.
    """
    return first.kernels == "eager" and first.offload == "none" and not _reduces_often(first)


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


class Pulling:
    """What becomes of a kind where levers are pulled."""

    def __init__(
        self,
        kind: Kind,
        num_gpus: int,
        figures: Figures,
        offer: Offer,
        *,
        doable: Doable,
        beside: Beside,
        only_doable: bool,
    ) -> None:
        self._kind, self._num_gpus, self._figures, self._offer = kind, num_gpus, figures, offer
        self._doable, self._reach, self._only_doable = doable, beside, only_doable
        self._ladders = figures.ladders(num_gpus, computes_in=kind.computes_in)
        self._has_bytes = capacity_bytes(kind)
        self._surely = False  # whether something fits that the trainer can do and trains the same, where there is RAM for it
        self._least_s = math.inf  # of what surely fits and the trainer can do, as ways are compared

    def beside(self, fits: list[Fit]) -> tuple[list[Fit], list[Strategy]]:
        """What fits with a lever pulled, beside what does without, and what of the trainer's does not."""
        enough, found, too_large = False, list[Fit](), list[Strategy]()
        for fit in sorted(fits, key=self._counted_s):
            enough |= self._takes(fit, enough=enough)
        for lever in range(len(LEVERS)):
            if not self._may_help(lever, enough=enough):
                continue
            for ladders in _by_quant(self._ladders.pulled(lever)):
                surely = any(fit.verdict == "fits" for fit in found)
                wanted = tuple(each for each in ladders if self._is_wanted(each, lever, surely=surely, enough=enough))
                # what a lever does not do is no reason by itself
                pulled, larger = _fits(wanted, self._kind, self._has_bytes, self._figures, Notebook())
                too_large += filter(self._doable, larger)
                for fit in pulled:
                    spare = self._surely and lever not in SAME_LEVERS
                    told = msgspec.structs.replace(fit, lever=lever + 1, spare=spare)
                    found.append(told)
                    enough |= self._takes(told, enough=enough) and self._doable(told.strategy)
        return found, too_large

    def _counted_s(self, fit: Fit) -> float:
        """Its seconds, as ways are compared."""
        return fit.counted(self._figures.duration(fit.strategy, self._kind.gpu, self._offer).wall_s.p50)

    def _takes(self, fit: Fit, *, enough: bool) -> bool:
        """Whether it surely fits, on all machines that are looked at; then what the trainer can do is measured by it. Nothing
        is asked of one by which nothing would be measured.
        """
        if fit.verdict != "fits":
            return False
        can = self._doable(fit.strategy)
        self._surely |= can and (not fit.lever or fit.lever - 1 in SAME_LEVERS)
        if enough and not (can and self._counted_s(fit) < self._least_s):
            return False
        if self._reach(fit.strategy) != "all":
            return False
        if can:
            self._least_s = min(self._least_s, self._counted_s(fit))
        return True

    def _may_help(self, lever: int, *, enough: bool) -> bool:
        if enough and lever not in SAME_LEVERS:
            return False
        if self._surely and "vocabulary passes" in LEVERS[lever]:
            return False  # it takes more RAM, and where it is quicker it is looked at beside what passes already
        computes_in, has_bytes = self._kind.computes_in, self._has_bytes
        return self._figures.least_resting_bytes(self._num_gpus, computes_in=computes_in, lever=lever) <= has_bytes

    def _is_wanted(self, ladder: Ladder, lever: int, *, surely: bool, enough: bool) -> bool:
        """Before one is enough each is, until something surely fits; then what the trainer can do. Afterwards what may be a
        good deal quicker.
        """
        can = self._doable(ladder[-1])
        if not enough:
            return can or not (surely or self._only_doable)
        return can and self._least_of(ladder, lever) < self._least_s

    def _least_of(self, ladder: Ladder, lever: int) -> float:
        """Seconds that no step of the ladder is below, as ways are compared: those of the largest batch if memory were no
        object. A lever by itself spares no time but where kernels are fused; a streamed block may be kept, as all others.
        """
        first = ladder[0]
        least = self._ladders.quickest if self._num_gpus > 1 else (_without(first),)
        try:
            took = (self._figures.least_duration(each, self._kind.gpu, self._offer) for each in least)
            return min(each.wall_s.p50 for each in took) * SURELY_BETTER ** len(LEVERS[lever])
        except CaseRefused:
            return 0.0


def _by_quant(ladders: tuple[Ladder, ...]) -> Iterator[tuple[Ladder, ...]]:
    """Those that hold the base alike together, what is unpacked nowhere first: by it the others are measured."""
    return (tuple(group) for _, group in itertools.groupby(ladders, key=lambda ladder: ladder[0].quant))


def _without(step: Strategy) -> Strategy:
    """The same with whatever a lever put in RAM on the card."""
    recomputing = "off" if step.offload == "stream" else step.gradient_checkpointing
    loss = step.loss if step.kernels != "eager" else USUAL["loss"]
    return msgspec.structs.replace(step, offload="none", streaming=None, gradient_checkpointing=recomputing, loss=loss)


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
                found = quickest(ladder, kind, has_bytes, figures)
            except CaseRefused as error:
                notebook.unsupported.setdefault(error.message, (describe(ladder[-1]), error))
                continue
            fits += found
            if not found:
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
