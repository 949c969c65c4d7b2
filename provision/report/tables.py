"""The tables of a report, as rows of words. Terminal and page draw the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final, Literal

import msgspec

from catalogs.user_file import printable
from provision.account.receipt.value import Figure, Receipt
from provision.account.upkeep import Upkeep, upkeep_words
from provision.errors import Exit
from provision.report.told_apart import class_rows, confusion_rows
from provision.report.words import NOTHING, error_words, metered_words, percent_words, planned_words, trained_words
from provision.seam import Answer, Resource, ResourceEnd, Teardown
from provision.words import METRICS, bytes_words, seconds_words, spent_words, usd_words
from remote.contract import Phase

VERDICTS = {
    "destroyed": "destroyed",
    "cleaned": "cleaned (the machine is not ours and stays)",
    "orphaned": "STILL THERE",
    "unknown": "UNKNOWN",
}
ENDINGS: Final[Mapping[int, str]] = {  # of a run, by its exit code; a later version may have written another
    Exit.OK: "trained and gone",
    Exit.IN_PART: "gone",
    Exit.IN_DOUBT: "trained and gone, its result in doubt",
    Exit.FAILED: "failed and gone",
    Exit.REFUSED: "refused",
    Exit.STILL_BILLS: "SOMETHING MAY STILL BILL",
    Exit.INTERRUPTED: "interrupted and gone",
}
Tone = Literal["good", "in_part", "bad"]
TONES: Final[Mapping[int, Tone]] = {
    Exit.OK: "good",
    Exit.IN_PART: "in_part",
    Exit.IN_DOUBT: "in_part",
}  # by exit code; "bad" for the others
LEAST_TOLD_S: Final = 1.0  # derived: the shortest that providers bill
CLASSES_NAMED: Final = 6  # assumed: more make no sentence
BOOKS_OPEN: Final = "trained and gone, its books open"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] | None = None  # a last row that sums the others
    note: str | None = None
    of_words: bool = False  # what follows the first column reads from the left
    worded: tuple[str, ...] = ()  # columns that do so where others hold figures
    unbroken: tuple[str, ...] = ()  # columns that are to be copied from a terminal, however narrow
    spare: tuple[str, ...] = ()  # columns that a terminal goes without where names would break, the first first


def headline(receipt: Receipt) -> str:
    """One line that says how it ended and what it cost."""
    ending = ENDINGS.get(receipt.exit_code, f"ended with code {receipt.exit_code}")
    words = BOOKS_OPEN if receipt.trained and receipt.exit_code == Exit.FAILED else ending
    if receipt.in_part:
        words = f"{trained_words(receipt)}, {words.removeprefix('trained and ')}"
    spent = f"{spent_words(receipt.metered_usd, assumed=receipt.assumed)} in {seconds_words(receipt.span.wall_s)}"
    return f"{words}: {spent} (planned {usd_words(receipt.planned_usd)})"


def tone(receipt: Receipt) -> Tone:
    """How good that is."""
    return TONES.get(receipt.exit_code, "bad")


def tables(receipt: Receipt) -> tuple[Table, ...]:
    """Every table that has something to say, in the order of reading."""
    made = (
        bill_table(receipt),
        tries_table(receipt),
        figures_table(receipt),
        phases_table(receipt),
        rows_table(receipt),
        loss_table(receipt),
        metrics_table(receipt),
        classes_table(receipt),
        confusion_table(receipt),
        teardown_table(receipt),
    )
    return tuple(table for table in made if table is not None)


def bill_table(receipt: Receipt) -> Table:
    return Table(
        title="Bill",
        columns=("line", "planned", "metered"),
        rows=tuple((line.name, usd_words(line.planned_usd), usd_words(line.metered_usd)) for line in receipt.bill),
        total=("total", usd_words(receipt.planned_usd), usd_words(receipt.metered_usd)),
        note=" ".join(filter(None, (_price_note(receipt), _error_note(receipt), _kept_note(receipt)))),
    )


def tries_table(receipt: Receipt) -> Table | None:
    """Every attempt, where there was more than one, or the only one came to nothing."""
    if len(receipt.tries) < 2 and not any(each.reason for each in receipt.tries):
        return None
    return Table(
        title="Attempts",
        columns=("offer", "came to nothing for", "rules out", "billed for", "spent"),
        of_words=True,
        rows=tuple(
            (
                each.offer,
                each.reason.value if each.reason else NOTHING,
                each.scope.value if each.scope else NOTHING,
                seconds_words(each.billed_s),
                usd_words(each.usd),
            )
            for each in receipt.tries
        ),
        note=" ".join(dict.fromkeys(each.message for each in receipt.tries if each.message)) or None,
    )


def _price_note(receipt: Receipt) -> str:
    """For how long, at what price, and whose word that price is."""
    billed = seconds_words(receipt.span.billed_s)
    if not receipt.usd_per_hour:
        return f"{billed} on a machine that bills nothing; `rentune run --assume-price USD` shows what such a run would cost."
    whose = "the price that was assumed for it" if receipt.assumed else "the price at launch"
    return f"{billed} billed at ${receipt.usd_per_hour} per hour, {whose}.{_making_note(receipt)}"


def _making_note(receipt: Receipt) -> str:
    """What a provider bills and no plan foresees, where it is long enough to be seen beside the rest."""
    if receipt.span.making_s < LEAST_TOLD_S:
        return ""
    return f" {seconds_words(receipt.span.making_s)} of that were before the box ran: billed from its making, and in no plan."


def _kept_note(receipt: Receipt) -> str:
    """What bills on, because it was wanted so."""
    return (
        f"Kept, and {monthly_words(receipt.left.kept_usd_per_month)}: rentune down --volumes {receipt.run_id} ends it."
        if receipt.left.kept
        else ""
    )


def monthly_words(usd_per_month: Decimal | None) -> str:
    return "billed on at a price that is not known" if usd_per_month is None else f"billed on at ${usd_per_month:.2f} a month"


def _error_note(receipt: Receipt) -> str:
    if not receipt.planned_usd:
        return "Planned at no cost."
    share = (receipt.metered_usd - receipt.planned_usd) / receipt.planned_usd
    return f"{percent_words(float(share))} against the plan."


def figures_table(receipt: Receipt) -> Table:
    return Table(
        title="Planned and metered",
        columns=("figure", "planned", "metered", "difference"),
        rows=(
            *map(_figure_row, receipt.figures),
            ("adapter", NOTHING, bytes_words(receipt.adapter.size_bytes) if receipt.adapter else NOTHING, NOTHING),
        ),
    )


def phases_table(receipt: Receipt) -> Table:
    planned_s = sum(figure.planned.p50 for figure in receipt.phases if figure.planned)
    metered_s = sum(figure.metered for figure in receipt.phases if figure.metered)
    return Table(
        title="Phases",
        columns=("phase", "planned", "metered", "difference"),
        rows=tuple(
            (figure.name, planned_words(figure), metered_words(figure), error_words(figure)) for figure in receipt.phases
        ),
        total=("in phases", seconds_words(planned_s), seconds_words(metered_s), _difference(planned_s, metered_s)),
        note=" ".join(
            filter(None, (_wall_note(receipt), *restart_notes(receipt), _base_note(receipt), _judging_note(receipt)))
        ),
    )


def _wall_note(receipt: Receipt) -> str:
    return f"{seconds_words(receipt.span.wall_s)} from the first line in the ledger to the last."


def restart_notes(receipt: Receipt) -> Iterator[str]:
    """Each time that the trainer was killed: what of its work was lost, and where the seconds are that no phase has."""
    for each in receipt.restarts:
        why = "The box was rebooted, and the trainer" if each.rebooted else "The trainer was killed and"
        steps = "no step" if not each.steps_lost else "1 step" if each.steps_lost == 1 else f"{each.steps_lost:,} steps"
        untold = f"; {seconds_words(each.cut_off_s)} of {each.phase} until then stand in no phase" if each.phase else ""
        yield f"{why} started again: {steps} lost{untold}."


def _base_note(receipt: Receipt) -> str:
    """Whether `download` was one, for a base from the hub: on a volume that is kept it may lie there from an earlier run."""
    if receipt.base.fetched_bytes is None:
        return ""
    if receipt.base.fetched_bytes == 0:
        return "The base model lay on the box already: nothing of it was downloaded."
    return f"{bytes_words(receipt.base.fetched_bytes)} of the base model were downloaded."


def _judging_note(receipt: Receipt) -> str:
    """What to do where judging took most of the time, as it does on a small job."""
    metered = {figure.name: figure.metered or 0.0 for figure in receipt.phases}
    longer = metered.get(Phase.EVALUATE, 0.0) > metered.get(Phase.TRAIN, 0.0) > 0.0
    return "Judging took longer than training: fewer evaluations or held-out rows shorten it." if longer else ""


def _difference(planned: float, metered: float) -> str:
    return percent_words((metered - planned) / planned) if planned and metered else NOTHING


def _figure_row(figure: Figure) -> tuple[str, ...]:
    return figure.name, planned_words(figure), metered_words(figure), error_words(figure)


def rows_table(receipt: Receipt) -> Table | None:
    """What became of the rows of the data."""
    parts = {"to learn from": receipt.learning.train_rows, "held out": receipt.learning.held_out_rows}
    read = {name: rows for name, rows in parts.items() if rows is not None}
    if not read:
        return None
    left_out = [f"{name}, {rows.lines_words}" for name, rows in read.items() if rows.left_out]
    why = (
        "too long, or nothing to learn left" if any(rows.too_long for rows in read.values()) else "a cut left nothing to learn"
    )
    counted = ("used", "used"), ("cut", "of these cut"), ("split", "of these split"), ("left_out", "left out")
    shown = [(key, name) for key, name in counted if key != "split" or any(rows.split for rows in read.values())]
    return Table(
        title="Rows of the data",
        columns=("rows", *(name for _, name in shown)),
        rows=tuple((name, *(f"{getattr(rows, key):,}" for key, _ in shown)) for name, rows in read.items()),
        note=f"Left out, for {why}: {'; '.join(left_out)}." if left_out else None,
    )


def loss_table(receipt: Receipt) -> Table | None:
    loss = receipt.learning.loss
    if loss is None:
        return None
    verdict = "more than" if loss.significant else "NOT more than"
    return Table(
        title="Held-out loss",
        columns=("rows", "before", "after", "fell by", "standard error"),
        rows=(
            (
                str(loss.num_rows),
                f"{loss.before:.4f}",
                f"{loss.after:.4f}",
                f"{loss.mean_drop:.4f}",
                f"{loss.standard_error:.4f}",
            ),
        ),
        note=f"Nats per {'row' if receipt.learning.metrics else 'learned token'}, paired by row. The loss fell by {verdict} "
        f"three standard errors.{_twins_note(receipt)}",
    )


def _twins_note(receipt: Receipt) -> str:
    """That some of the rows that it is judged by were learned."""
    again, loss = receipt.learning.held_out_twins, receipt.learning.loss
    if not again or loss is None:
        return ""
    say = "says" if again == 1 else "say"
    return (
        f" {again:,} of {loss.num_rows:,} held-out rows {say} word for word what is learned, so that the fall looks better "
        "than it is."
    )


def _no_auc_words(receipt: Receipt) -> str:
    """By name the classes of which it is known that no row could be held out."""
    lone = receipt.learning.lone_classes
    if not lone:
        return "No AUC: a class has no held-out row, or all of them."
    named = ", ".join(printable(repr(name)) for name in lone[:CLASSES_NAMED])
    more = f" and {len(lone) - CLASSES_NAMED:,} more" if len(lone) > CLASSES_NAMED else ""
    return f"No AUC: no row is held out of {named}{more}, having a single one."


def metrics_table(receipt: Receipt) -> Table | None:
    """How well classes were told apart; a figure that a later trainer tells is shown by its own name."""
    metrics = receipt.learning.metrics
    if not metrics:
        return None
    named = {name: METRICS.get(name, name) for name in (*METRICS, *metrics) if name in metrics}
    changes = ((words, metrics[name]) for name, words in named.items())
    return Table(
        title="Classes of held-out rows",
        columns=("figure", "before", "after", "rose by"),
        rows=tuple((words, f"{one.before:.3f}", f"{one.after:.3f}", f"{one.after - one.before:.3f}") for words, one in changes),
        note=None if "auc" in metrics else _no_auc_words(receipt),
    )


def classes_table(receipt: Receipt) -> Table | None:
    """How well each class was told from the others, by the weights that came home."""
    learning = receipt.learning
    if not learning.confusion:
        return None
    rows = class_rows(learning)
    left = len(learning.classes) - len(rows)
    return Table(
        title="Each class, after",
        columns=("class", "rows held out", "precision", "recall", "F1"),
        rows=rows,
        note=f"Those told worst; {left:,} more stand in the model card." if left else None,
    )


def confusion_table(receipt: Receipt) -> Table | None:
    """Which class was taken for which."""
    rows = confusion_rows(receipt.learning)
    return Table(title="Held-out rows by class, and what they were taken for", columns=rows[0], rows=rows[1:]) if rows else None


def teardown_table(receipt: Receipt) -> Table | None:
    teardown = receipt.teardown
    if teardown is None:
        return None
    return Table(
        title="Teardown",
        columns=("what", "id", "gone"),
        of_words=True,
        rows=(
            *(_teardown_row(end.resource, _gone_words(end, receipt.left.costs_on)) for end in teardown.resources),
            *(_teardown_row(each, _with_costs("kept as asked", each, receipt.left.costs_on)) for each in receipt.left.kept),
        ),
        note=teardown_words(teardown),
    )


def _teardown_row(resource: Resource, stands: str) -> tuple[str, ...]:
    return resource.kind, printable(resource.id), stands


def _gone_words(end: ResourceEnd, costs: Mapping[str, Upkeep]) -> str:
    return end.gone.value if end.gone is Answer.YES else _with_costs(end.gone.value, end.resource, costs)


def _with_costs(words: str, resource: Resource, costs: Mapping[str, Upkeep]) -> str:
    return f"{words}; {upkeep_words(costs[resource.id])}" if resource.id in costs else words


def teardown_words(teardown: Teardown) -> str:
    """The verdict, and what to type when it is not the end."""
    words = f"{VERDICTS[teardown.verdict]}. {teardown.message}".strip()
    return f"{words} Finish it with: {teardown.command}" if teardown.command else words


def left_sentences(teardown: Teardown, costs: Mapping[str, Upkeep]) -> tuple[str, ...]:
    """What each thing that is there, or that nobody saw go, is billed on, and what is kept."""
    seen = tuple((each.resource, "may be there") for each in teardown.resources if each.gone is Answer.UNKNOWN)
    there = tuple((each.resource, "is there") for each in teardown.resources if each.gone is Answer.NO)
    kept = tuple((each, "is kept as asked") for each in teardown.kept)
    return tuple(
        f"{each.words} {stands}; {upkeep_words(costs[each.id])}." for each, stands in there + seen + kept if each.id in costs
    )
