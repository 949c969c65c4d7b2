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
from planner.estimators import calibration as known
from planner.estimators.memory.card.moves import may_pass_vocabulary
from planner.estimators.memory.held.offloading import keeping, streaming_of
from planner.estimators.time.links import host_bytes_per_s
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.ways.capacity import fit_of, largest_that_fits
from planner.search.ways.fit import Fit
from planner.search.ways.ladders import Ladder
from remote.contract import PASSING_TOO, Strategy

WORTH_IT: Final = 0.98  # assumed: of a step's time; what saves less is not worth a step that is led by hand


def quickest(ladder: Ladder, kind: Kind, has_bytes: int, figures: Figures) -> tuple[Fit, ...]:
    """Of a ladder the step that is quickest of those that fit; nothing where none does. That is the largest batch, but where
    blocks are streamed: a smaller one leaves room to keep what would be computed again.
    """
    largest = largest_that_fits(ladder, kind, has_bytes, figures)
    return () if largest is None else filled(largest, kind, has_bytes, figures, ladder[ladder.index(largest.strategy) + 1 :])


def filled(fit: Fit, kind: Kind, has_bytes: int, figures: Figures, smaller: Ladder = ()) -> tuple[Fit, ...]:
    """Where blocks are streamed, with the room that the card has beside the batch, or a smaller one, used where it saves most:
    a block that resides crosses no link, one that keeps what it saves is not computed again. First with embedding and head in
    RAM as well, where that is quicker: it takes more RAM, which not every machine has.
    """
    if fit.strategy.offload != "stream" or fit.verdict != "fits" or kind.gpu is None:
        return (fit,)
    room, steps = _Room(kind, kind.gpu, has_bytes, figures), (fit.strategy, *smaller)
    return figures.filled(steps, kind.gpu, has_bytes, lambda: room.used(steps))


class _Use(NamedTuple):
    """What room is used for."""

    took_s: float  # seconds of a micro-step
    visits: int  # micro-batches that one visit of a block serves
    residing: int
    kept: int  # blocks that are not computed again


class _Line(NamedTuple):
    """Of one batch, in proportion to blocks: seconds of a micro-step, and bytes."""

    depth: int
    passing: int  # blocks that would cross the link, if none resided
    busy_s: float  # with none kept
    head_s: float  # while a head comes that waits in RAM as well, once a micro-batch
    spared_s: float  # by each that keeps what it saves
    link_s: float  # with none resident, once a micro-batch
    resident_bytes: int
    kept_bytes: int

    def best_use(self, room: int, visits: int) -> _Use:
        """Of so much room, each visit of a block serving so many micro-batches, of all of which it keeps what it saves: all
        for blocks that reside; or as few of these as leave the link hidden, and the rest for what is not computed again, where
        that is worth it.
        """
        kept_bytes, most = visits * self.kept_bytes, min(self.passing, room // self.resident_bytes)
        link_s, by_byte_s = self.link_s / visits, self.spared_s / kept_bytes
        wanted = (link_s - self.busy_s + by_byte_s * room) / (link_s / self.passing + by_byte_s * self.resident_bytes)
        fewest = min(most, max(0, math.ceil(wanted)))
        kept = min(self.depth, (room - fewest * self.resident_bytes) // kept_bytes)
        fewest = min(most, (room - kept * kept_bytes) // self.resident_bytes)  # all blocks kept leave room, too
        residing, keeping = (
            _Use(self._took_s(each, kept, link_s, visits), visits, each, kept) for each, kept in ((most, 0), (fewest, kept))
        )
        return keeping if keeping.took_s <= WORTH_IT * residing.took_s else residing

    def _took_s(self, residing: int, kept: int, link_s: float, visits: int) -> float:
        busy_s, link_s = self.busy_s + self.head_s / visits - kept * self.spared_s, link_s * (1 - residing / self.passing)
        return max(busy_s, link_s) + known.IMPERFECT_OVERLAP * min(busy_s, link_s)


class _Room(NamedTuple):
    """What a card has, and who says what takes of it."""

    kind: Kind
    gpu: Gpu
    has_bytes: int
    figures: Figures

    def used(self, steps: Ladder) -> tuple[Fit, ...]:
        """With the batch that takes the fewest seconds a sequence: smaller ones are looked at as long as that gets less."""
        best = last = steps[0], self.use_of(steps[0])
        for step in steps[1:]:
            tried = step, self.use_of(step)
            if _sequence_s(tried) > _sequence_s(last):
                break
            last = tried
            if _sequence_s(tried) < WORTH_IT * _sequence_s(best):
                best = tried
        made = self._made(*best)
        return (*self._without_vocabulary(best[0], made), made)

    def _without_vocabulary(self, step: Strategy, best: Fit) -> Iterator[Fit]:
        """Embedding and head in RAM as well, where by the room that they leave a step gets quicker, though it waits for the
        head. Whether it may be is asked with all of the room, before anything is laid out anew.
        """
        may = self.figures.task == "causal_lm" and may_pass_vocabulary(step)
        if streaming_of(step).vocabulary_passes or not may:
            return
        passing, most_s = msgspec.structs.replace(step, streaming=PASSING_TOO), WORTH_IT * self._step_s(best)
        freed = self.figures.resting_bytes(step) - self.figures.resting_bytes(passing)
        head_bytes = freed if self.figures.architecture.tied_embeddings else freed // 2
        line = self._line_of(step)._replace(head_s=head_bytes / host_bytes_per_s(self.gpu))
        if self._best_use(step, line, more=freed).took_s > most_s:
            return
        tried = self._made(passing, self.use_of(passing))
        if self._step_s(tried) <= most_s and tried.verdict == "fits":
            yield tried

    def _step_s(self, fit: Fit) -> float:
        return self.figures.step(fit.strategy, self.gpu).micro_step_s

    def use_of(self, step: Strategy) -> _Use:
        """What to use the room for that this batch leaves, taking it that each block resides, or keeps what it saves, for as
        many bytes as the first does. The bytes are asked for once for all cards alike, so that nothing is searched on each.
        """
        return self._best_use(step, self._line_of(step))

    def _line_of(self, step: Strategy) -> _Line:
        depth, room = self.figures.architecture.depth, self._margin(step)
        none, every = (self.figures.step(keeping(step, number), self.gpu) for number in (0, depth))
        return _Line(
            depth=depth,
            passing=max(1, depth - streaming_of(step).num_slots),
            busy_s=none.busy_s - none.summed_s,
            head_s=none.summed_s,
            spared_s=max(0.0, none.busy_s - every.busy_s) / depth,
            link_s=none.link_s,
            resident_bytes=max(1, room - self._margin(_streaming(step, num_resident_blocks=1))),
            kept_bytes=max(1, room - self._margin(keeping(step, 1))),
        )

    def _best_use(self, step: Strategy, line: _Line, *, more: int = 0) -> _Use:
        """Of the room that this batch leaves, and `more` bytes."""
        best, visits = line.best_use(self._margin(step) + more, 1), 2
        least_s = line.busy_s - line.depth * line.spared_s
        while visits <= step.gradient_accumulation_steps and 2 * (line.link_s + line.head_s) > least_s * visits:
            room = self._margin(_streaming(step, num_visits=visits)) + more
            if room < 0:
                break
            if (tried := line.best_use(room, visits)).took_s <= WORTH_IT * best.took_s:
                best = tried
            visits *= 2
        return best

    def _made(self, step: Strategy, use: _Use) -> Fit:
        """The step with its room used so, and all of it: what was taken for a line may be none."""
        passing = self.figures.architecture.depth - streaming_of(step).num_slots
        visited = _streaming(step, num_visits=use.visits)
        kept = self._with_most(
            _streaming(visited, num_resident_blocks=use.residing * bool(use.kept)),
            range(1 + self.figures.architecture.depth * bool(use.kept)),
            "num_blocks_without_recompute",
            near=use.kept,
        )
        least = streaming_of(kept.strategy).num_resident_blocks
        return self._with_most(kept.strategy, range(least, max(least + 1, passing)), "num_resident_blocks", near=use.residing)

    def _margin(self, strategy: Strategy) -> int:
        return fit_of(strategy, self.kind, self.has_bytes, self.figures).margin_bytes

    def _with_most(self, strategy: Strategy, numbers: range, field: str, *, near: int) -> Fit:
        def with_number(number: int) -> Fit:
            return fit_of(_streaming(strategy, **{field: number}), self.kind, self.has_bytes, self.figures)

        number = most_with_room(numbers, lambda number: with_number(number).margin_bytes, near=near)
        return with_number(number)


def _sequence_s(pair: tuple[Strategy, _Use]) -> float:
    step, use = pair
    return use.took_s / step.micro_batch_size


def _streaming(strategy: Strategy, **said: int) -> Strategy:
    return msgspec.structs.replace(strategy, streaming=msgspec.structs.replace(streaming_of(strategy), **said))


def most_with_room(numbers: range, margin_of: Callable[[int], int], *, near: int) -> int:
    """The largest of `numbers` that leaves a margin, none leaving more than the one before; the first where none does. Looked
    for next to `near`, which it nearly always is, and else by halving.
    """
    first, last = numbers[0], numbers[-1]
    fits, fails = first, last + 1
    for number in (near, near + 1, near - 1):
        if fits < number < fails:
            fits, fails = (number, fails) if margin_of(number) >= 0 else (fits, number)
    between = range(fits + 1, fails)
    return fits + bisect.bisect_left(between, 1, key=lambda number: margin_of(number) < 0)
