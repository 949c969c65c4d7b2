"""The figures of a receipt as a person reads them."""

from __future__ import annotations

from typing import Final

from planner.plan import Range
from provision.account.receipt.value import Figure, Receipt, Unit
from provision.words import bytes_words, seconds_words
from remote.contract import EndReason, Reached

NOTHING = "–"
LEAST_SHOWN_S: Final = 0.01  # derived: what is less is shown as 0.00 s
NO_ANSWER = "(nothing)"  # of a model that ended its answer at once


def percent_words(share: float) -> str:
    """As in +12 %, −3.4 %; from eleven times on, "24 ×" reads better."""
    if not share:
        return "0 %"
    if share >= 10:
        return f"{share + 1:,.0f} ×"
    sign = "+" if share >= 0 else "−"
    size = abs(share) * 100
    return f"{sign}{size:.0f} %" if size >= 10 else f"{sign}{size:.1f} %"


def quantity_words(value: float, unit: Unit) -> str:
    """One figure with its unit."""
    if unit == "bytes":
        return bytes_words(value)
    if unit == "s":
        return seconds_words(value)
    if unit == "kWh":
        return f"{value:.4f} kWh"
    return f"{value:,.0f} {unit}" if unit != "tokens/s" or value >= 100 else f"{value:.1f} {unit}"


def planned_words(figure: Figure) -> str:
    """The planned figure, with its range where it has one: "41.2 s (30.0 s to 55.0 s)"."""
    planned = figure.planned
    if planned is None:
        return NOTHING
    if figure.unit == "s" and planned.p90 < LEAST_SHOWN_S:
        return f"under {seconds_words(LEAST_SHOWN_S)}"
    middle = quantity_words(planned.p50, figure.unit)
    return middle if _is_exact(planned) else f"{middle} ({_bounds(planned, figure.unit)})"


def metered_words(figure: Figure) -> str:
    return NOTHING if figure.metered is None else quantity_words(figure.metered, figure.unit)


def error_words(figure: Figure) -> str:
    """How far off the plan was; of what was planned to take no time to speak of a share says nothing."""
    if figure.error is None or (figure.unit == "s" and figure.planned is not None and figure.planned.p50 < LEAST_SHOWN_S):
        return NOTHING
    return percent_words(figure.error)


def trained_words(receipt: Receipt) -> str:
    """Of one that has its result: "trained", or "trained in part: 31 of 60 steps (deadline)"."""
    return f"trained in part: {part_words(receipt.learning.reached)}" if receipt.in_part else "trained"


def part_words(reached: Reached | None) -> str:
    """How far a training came that its deadline cut short."""
    steps = f"{reached.step:,} of {reached.total_steps:,} steps " if reached else ""
    return f"{steps}({EndReason.DEADLINE})"


RANDOM_BASE: Final = "It began from random weights, as its base has no others: a rehearsal, unless all of them were trained."


def base_words(receipt: Receipt) -> str | None:
    """With what it began, where that was no base of the hub's or the user's as it is; else None."""
    began = (
        f'It began with the weights in {receipt.base.began_with}, which "before" means below.'
        if receipt.base.began_with
        else None
    )
    return " ".join(filter(None, (began, RANDOM_BASE if receipt.base.random else None))) or None


def weights_words(receipt: Receipt) -> str | None:
    """Which step's weights came home, where they are not those of the last one or the last one was not judged; else None."""
    reached = receipt.learning.reached
    if not receipt.trained or reached is None or reached.weights_step == reached.step == reached.judged_step:
        return None
    if not reached.judged_step:
        return None if reached.weights_step == reached.total_steps else f"Weights of step {reached.step:,}; none were judged."
    best = ", the best on held-out rows" if reached.weights_step != reached.step else ""
    unjudged = reached.step - reached.judged_step
    after = f"; the last {unjudged:,} {'was' if unjudged == 1 else 'were'} not evaluated" if unjudged else ""
    return f"Weights of step {reached.weights_step:,} of {reached.step:,} trained{best}{after}."


def _is_exact(planned: Range) -> bool:
    return planned.p10 == planned.p50 == planned.p90


def _bounds(planned: Range, unit: Unit) -> str:
    return f"{quantity_words(planned.p10, unit)} to {quantity_words(planned.p90, unit)}"
