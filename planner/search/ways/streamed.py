"""How blocks that are streamed use the room that a card has left: which reside, which are not computed again, and how many
micro-batches one visit serves.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from catalogs.hardware import Gpu
from planner.estimators.memory.card.moves import may_pass_vocabulary
from planner.estimators.memory.held.offloading import streaming_of
from planner.estimators.time.speed import StepTime
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.ways.capacity import fit_of
from planner.search.ways.fit import Fit
from remote.contract import PASSING_TOO, Strategy

WORTH_IT: Final = 0.98  # assumed: of a step's time; what saves less is not worth a step that is led by hand


def filled(fit: Fit, kind: Kind, has_bytes: int, figures: Figures) -> tuple[Fit, ...]:
    """Where blocks are streamed, with the room that the card has beside the batch used where it saves most: a block that
    resides crosses no link, one that keeps what it saves is not computed again. First with embedding and head in RAM as well,
    where that is quicker: it takes more RAM, which not every machine has.
    """
    if fit.strategy.offload != "stream" or fit.verdict != "fits" or kind.gpu is None:
        return (fit,)
    room = _Room(kind, kind.gpu, has_bytes, figures)

    def found() -> tuple[Fit, ...]:
        best = room.used(fit.strategy)
        return (*room.without_vocabulary(best), best)

    return figures.filled(fit.strategy, kind.gpu, has_bytes, found)


class _Room(NamedTuple):
    """What a card has, and who says what takes of it."""

    kind: Kind
    gpu: Gpu
    has_bytes: int
    figures: Figures

    def used(self, strategy: Strategy) -> Fit:
        """By blocks that reside, micro-batches that one visit serves, blocks that are not computed again."""
        return self.unrepeated(self.visited(self.resident(strategy)))

    def without_vocabulary(self, best: Fit) -> Iterator[Fit]:
        """Embedding and head in RAM as well, where by the room that they leave a step gets quicker, though it waits for the
        head.
        """
        if streaming_of(best.strategy).vocabulary_passes or not may_pass_vocabulary(best.strategy):
            return
        tried = self.used(msgspec.structs.replace(best.strategy, streaming=PASSING_TOO))
        quicker = self._step(tried).micro_step_s <= WORTH_IT * self._step(best).micro_step_s
        if self.figures.task == "causal_lm" and tried.verdict == "fits" and quicker:
            yield tried

    def resident(self, strategy: Strategy) -> Fit:
        """With as many blocks resident as there is room for."""
        numbers = range(self.figures.architecture.depth - streaming_of(strategy).num_slots)
        return self._with_most(strategy, numbers, "num_resident_blocks")

    def visited(self, best: Fit) -> Fit:
        """One visit serves twice as many micro-batches as long as the link decides and that makes a step quicker: their inputs
        take room that blocks could reside in.
        """
        step = self._step(best)
        while step.link_s > step.busy_s:
            visits = 2 * streaming_of(best.strategy).num_visits
            if visits > best.strategy.gradient_accumulation_steps:
                break
            tried = self.resident(_streaming(best.strategy, num_visits=visits, num_resident_blocks=0))
            quicker = self._step(tried)
            if tried.verdict != "fits" or quicker.micro_step_s > WORTH_IT * step.micro_step_s:
                break
            best, step = tried, quicker
        return best

    def unrepeated(self, best: Fit) -> Fit:
        """The last blocks keep what they save, as many as there is room for, where fewer blocks reside: as few as leave the
        link hidden, for then it is computing that decides.
        """
        step, residing = self._step(best), streaming_of(best.strategy).num_resident_blocks
        if step.link_s > step.busy_s or not self._may_be_worth_it(best, step):
            return best

        def kept(number: int) -> Fit:
            fewer = _streaming(best.strategy, num_resident_blocks=number)
            return self._with_most(fewer, range(self.figures.architecture.depth + 1), "num_blocks_without_recompute")

        def hidden(number: int) -> bool:
            tried = self._step(kept(number))
            return tried.link_s <= tried.busy_s

        tried = kept(0 if hidden(0) else bisect.bisect_left(range(residing), 1, lo=min(1, residing), key=hidden))
        worth_it = tried.verdict == "fits" and self._step(tried).micro_step_s <= WORTH_IT * step.micro_step_s
        return tried if worth_it else best

    def _may_be_worth_it(self, best: Fit, step: StepTime) -> bool:
        """Whether there is room for as many blocks as it takes, if none resided."""
        depth = self.figures.architecture.depth
        all_kept = _streaming(best.strategy, num_blocks_without_recompute=depth)
        saved_s = (step.busy_s - self.figures.step(all_kept, self.gpu).busy_s) / depth
        wanted_s = (1 - WORTH_IT) * step.micro_step_s
        if saved_s * depth < wanted_s:
            return False
        least = _streaming(best.strategy, num_resident_blocks=0, num_blocks_without_recompute=math.ceil(wanted_s / saved_s))
        return fit_of(least, self.kind, self.has_bytes, self.figures).margin_bytes >= 0

    def _with_most(self, strategy: Strategy, numbers: range, field: str) -> Fit:
        def with_number(number: int) -> Fit:
            return fit_of(_streaming(strategy, **{field: number}), self.kind, self.has_bytes, self.figures)

        return with_number(most_with_room(numbers, lambda number: with_number(number).margin_bytes))

    def _step(self, fit: Fit) -> StepTime:
        return self.figures.step(fit.strategy, self.gpu)


def _streaming(strategy: Strategy, **said: int) -> Strategy:
    return msgspec.structs.replace(strategy, streaming=msgspec.structs.replace(streaming_of(strategy), **said))


def most_with_room(numbers: range, margin_of: Callable[[int], int]) -> int:
    """The largest of `numbers` that leaves a margin, as the first does, none leaving more than the one before: looked for where
    blocks of one size would end the room, which nearly all are, and else by halving.
    """
    first, second = margin_of(numbers[0]), margin_of(numbers[1]) if len(numbers) > 1 else -1
    if second < 0:
        return numbers[0]
    fits, fails = 1, len(numbers)
    by_line = 1 + second // max(1, first - second)
    for place in (by_line, by_line + 1):
        if fits < place < fails:
            fits, fails = (place, fails) if margin_of(numbers[place]) >= 0 else (fits, place)
    too_many = bisect.bisect_left(numbers, 1, lo=fits + 1, hi=fails, key=lambda number: margin_of(number) < 0)
    return numbers[too_many - 1]
