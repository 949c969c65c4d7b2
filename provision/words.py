"""Quantities and names as a person reads them, the same wherever they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from planner.units import GIB, MIB

METRICS: Final[Mapping[str, str]] = {"accuracy": "accuracy", "macro_f1": "macro F1", "auc": "AUC"}  # in the order of reading
Note = Callable[[str], None]  # says a sentence to whoever watches


def bytes_words(value: float) -> str:
    """As in 13.21 GiB, 92.4 MiB, 22.0 KiB, 7 B."""
    if value >= GIB:
        return f"{value / GIB:,.2f} GiB"
    if value >= MIB:
        return f"{value / MIB:,.1f} MiB"
    return f"{value / 1024:,.1f} KiB" if value >= 1024 else f"{value:.0f} B"


def seconds_words(seconds: float) -> str:
    """As in 0.03 s, 41.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def deadline_words(left_s: float) -> str:
    """As in "deadline in 4 min 10 s", "deadline 9.0 s ago"."""
    return f"deadline in {seconds_words(left_s)}" if left_s > 0 else f"deadline {seconds_words(-left_s)} ago"


def usd_words(usd: Decimal) -> str:
    """As in $0.0812: four decimals, since a rehearsal may cost less than a cent; $0 for what costs nothing at all."""
    return f"${usd:,.4f}" if usd else "$0"


def spent_words(usd: Decimal, *, assumed: bool) -> str:
    """Dollars that a run cost, in words; marked where no provider bills it, and the price was made up to rehearse a bill."""
    return f"{usd_words(usd)} (assumed)" if assumed and usd else usd_words(usd)


def model_words(model: str) -> str:
    """A base by the last part of its name or path."""
    return model.rstrip("/").rpartition("/")[2]
