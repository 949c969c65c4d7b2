"""`estimate --explain` as tables: the budget as a bar, the instants, the levers, the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from planner.explain import CACHED_BYTES_PER_TOKEN, Box, Budget, Effect, Explanation, Part, Untimed
from planner.units import GIB
from provision.report.tables import Table
from provision.report.words import NOTHING, percent_words

BLOCK, TRACK = "█", "·"
OTHER_COLUMNS_WIDTH: Final = 54  # measured: beside the bar, name, GiB, basis and rules
LEAST_BAR_WIDTH: Final = 10
MOST_BAR_WIDTH: Final = 60


def explanation_tables(found: Explanation, *, width: int) -> Iterator[Table]:
    """What a person reads, from the peak to the levers. `width`: columns of the terminal."""
    bar_width = max(LEAST_BAR_WIDTH, min(MOST_BAR_WIDTH, width - OTHER_COLUMNS_WIDTH))
    yield budget_table(found.budget, bar_width)
    yield instants_table(found.budget, bar_width)
    yield box_table(found.box)
    if found.levers:
        yield levers_table(found)


def budget_table(budget: Budget, bar_width: int) -> Table:
    """Each piece where the one above it ends, so that together they are one bar."""
    margin = Part(name="margin", num_bytes=budget.margin_bytes, basis="assumed")
    beyond = Part(name="evaluation, beyond allocated", num_bytes=budget.evaluation_bytes, basis="derived")
    pieces = (*budget.tensors, *budget.outside, *((beyond,) if budget.evaluation_bytes else ()), margin)
    whole = max(budget.required_bytes, budget.process_bytes, budget.available_bytes or 0)
    starts = accumulate((piece.num_bytes for piece in pieces), initial=0)
    rows = [_row(piece, start, whole, bar_width) for piece, start in zip(pieces, starts, strict=False)]
    of_torch = len(budget.tensors)
    allocated = ("allocated", _gib(budget.allocated_bytes), "", _bar(0, budget.allocated_bytes, whole, bar_width))
    required = ("required", _gib(budget.required_bytes), "", _bar(0, budget.required_bytes, whole, bar_width))
    available = budget.available_bytes
    there = [] if available is None else [("the card has", _gib(available), "", _bar(0, available, whole, bar_width))]
    return Table(
        title=f"GPU memory at the peak: {budget.instant.replace('_', ' ')}",
        columns=("component", "GiB", "rests on", "bar"),
        rows=(*rows[:of_torch], allocated, *rows[of_torch:], required, *there),
        note=(
            f"nvidia-smi shows {_gib(budget.process_bytes)} GiB at the peak: what is allocated, what lies outside of torch, "
            f"and {_gib(budget.spare_cache_bytes)} of spare cache (measured on other runs), which is given back where the card "
            "is full and so is not required."
        ),
        unbroken=("component", "GiB", "rests on", "bar"),
        spare=("bar", "rests on"),
    )


def instants_table(budget: Budget, bar_width: int) -> Table:
    whole = max(*budget.by_instant.values(), budget.available_bytes or 0)
    return Table(
        title="Allocated, instant by instant",
        columns=("instant", "GiB", "", "bar"),
        rows=tuple(
            (
                name.replace("_", " "),
                _gib(size),
                "the peak" if name == budget.instant else "",
                _bar(0, size, whole, bar_width),
            )
            for name, size in budget.by_instant.items()
        ),
        unbroken=("instant", "GiB", "bar"),
        spare=("bar",),
    )


def box_table(box: Box) -> Table:
    """RAM by instant and by part, disk by part."""
    most = max(box.ram_by_instant.values())
    return Table(
        title="RAM and disk of the box",
        columns=("part", "GiB", ""),
        rows=(
            *((f"RAM, {name}", _gib(size), "the peak" if size == most else "") for name, size in box.ram_by_instant.items()),
            *((f"RAM at its peak: {name}", _gib(size), "") for name, size in box.ram.items()),
            *((f"disk: {name}", _gib(size), "") for name, size in box.disk.items() if size),
            ("disk at the end", _gib(box.disk_bytes), ""),
        ),
        note=(
            f"By the field's rule of thumb, three tenths on top, the disk has {_gib(box.disk_by_rule_bytes)} GiB. A merged "
            f"model takes {_gib(box.merged_bytes)} more; a cache of tokens, where a trainer writes one, "
            f"{CACHED_BYTES_PER_TOKEN} B a token. {box.vcpus} vCPUs keep the GPUs of a node fed (assumed)."
        ),
        unbroken=("GiB",),
    )


def levers_table(found: Explanation) -> Table:
    """One row a lever, with the columns that have something to say. What this version cannot run is marked."""
    columns = [column for column in LEVER_COLUMNS if column.shown(found)]
    titles = tuple(column.title for column in columns)
    return Table(
        title="What would change it",
        columns=titles,
        rows=tuple(tuple(column.cell(effect) for column in columns) for effect in found.levers),
        note=" ".join(_lever_notes(found)),
        unbroken=titles[1:],
        spare=tuple(column.title for column in columns if column.spare),
    )


class _LeverColumn(NamedTuple):
    """One column of the levers' table."""

    title: str
    cell: Callable[[Effect], str]
    shown: Callable[[Explanation], bool] = lambda _: True
    spare: bool = False  # whether it may go where there is no room


def _has_card(found: Explanation) -> bool:
    return found.budget.available_bytes is not None


def _is_timed(found: Explanation) -> bool:
    return found.untimed is None


LEVER_COLUMNS: Final = (
    _LeverColumn("change, alone", lambda effect: effect.change + ("" if effect.runnable else " *")),
    _LeverColumn("saves", lambda effect: _gib(effect.saved_bytes)),
    _LeverColumn("then", lambda effect: _gib(effect.required_bytes)),
    _LeverColumn("fits", lambda effect: "yes" if effect.fits else "no", _has_card),
    _LeverColumn(
        "time",
        lambda effect: NOTHING if effect.slower_share is None else percent_words(effect.slower_share),
        _is_timed,
        spare=True,
    ),
    _LeverColumn(
        "s/step",
        lambda effect: NOTHING if effect.slower_s is None else f"{effect.slower_s:+.2f}".replace("-", "−"),
        _is_timed,
        spare=True,
    ),
    _LeverColumn("together", lambda effect: _gib(effect.together_bytes)),
)
WHY_UNTIMED: Final[dict[Untimed, str]] = {
    "no card": "What a change costs in time is shown where a card is named: --gpu L4.",
    "no speed": "No speed is known of this case, and so none of a change.",
}


def _lever_notes(found: Explanation) -> Iterator[str]:
    marked = not all(effect.runnable for effect in found.levers)
    yield f"GiB required of the card; together: with every change above{' that has no *' if marked else ''}."
    yield (
        f"Seconds are for as many tokens as one step has now; {NOTHING} where the estimate of speed does not know the change."
        if found.untimed is None
        else WHY_UNTIMED[found.untimed]
    )
    if found.lacking:
        yield f"This version's trainer can't do the case as it stands ({', '.join(found.lacking)})."
    if marked:
        yield f"* is estimated only: this version's trainer can't do it{' either' if found.lacking else ''}."
    runnable = [effect for effect in found.levers if effect.runnable] or list(found.levers)
    available = found.budget.available_bytes
    if available is not None and found.budget.required_bytes > available:
        enough = next((each for each in runnable if each.together_bytes <= available), None)
        yield (
            f"Made one after the other from the top, the job fits from {enough.change} on."
            if enough is not None
            else f"All of them together still need {_gib(runnable[-1].together_bytes)} GiB."
        )
    yield f"The last one left is {runnable[-1].change}; beyond it, a larger card."


def limit_lines(found: Explanation) -> Iterator[str]:
    """The largest micro-batch and the longest sequence, in sentences."""
    if found.limits is None:
        return
    size, length = found.limits.micro_batch_size, found.limits.seq_len
    if size is None and length is None:
        yield "No micro-batch and no length fits this card as it is."
        return
    yield (
        f"Largest micro-batch of such sequences that fits: {NOTHING if size is None else f'{size:,}'}. "
        f"Longest sequence in such a micro-batch: {NOTHING if length is None else f'{length:,} tokens'}."
    )


def _row(piece: Part, start: int, whole: int, bar_width: int) -> tuple[str, ...]:
    return piece.name, _gib(piece.num_bytes), piece.basis, _bar(start, start + piece.num_bytes, whole, bar_width)


def _bar(start: int, end: int, whole: int, width: int) -> str:
    """A stretch of the whole; what is there shows at least one block."""
    first = min(width - 1, round(start / whole * width))
    last = max(first + 1, round(end / whole * width))
    return TRACK * first + BLOCK * (last - first) + TRACK * (width - last)


def _gib(num_bytes: float) -> str:
    """Two decimals; three for what two would show as nothing."""
    return f"{num_bytes / GIB:.2f}" if num_bytes >= GIB / 100 or not num_bytes else f"{num_bytes / GIB:.4f}"
