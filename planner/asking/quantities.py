"""Amounts as people type them: "16GB", "1.5M", "$5", "90m". Each reader returns one unit and says what it expected."""

from __future__ import annotations

import re
from decimal import Decimal

from catalogs.names import counted

# A comma parts thousands, and nothing else: where it is a decimal point "0,50" would be read as fifty.
_WHOLE = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*"
_NUMBER = re.compile(rf"^\s*\$?\s*((?:{_WHOLE})(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z$/]*)\s*$")
_POINT = r"\1.\2"
_COMMA = re.compile(r"([0-9]),([0-9])")

# GB is read as GiB: cards are sold by names such as "16 GB", and hold that many GiB. A thousand MB are such a GB, so 16000MB is
# a card of 16 GB; of MiB, in which drivers count, it takes 1,024.
GIB_BY_UNIT = {
    **dict.fromkeys(("m", "mb"), 1 / 1000),
    "mib": 1 / 1024,
    **dict.fromkeys(("", "g", "gb", "gib"), 1.0),
    **dict.fromkeys(("t", "tb", "tib"), 1024.0),
}
MAX_COUNT = 10**15  # assumed: beyond any corpus, and below what a float counts exactly
COUNT_BY_UNIT = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000, "g": 1_000_000_000}
HOURS_BY_UNIT = {
    "": 1.0,
    "h": 1.0,
    "hours": 1.0,
    "hour": 1.0,
    "m": 1 / 60,
    "min": 1 / 60,
    "s": 1 / 3600,
    "d": 24.0,
    "days": 24.0,
}


def parse_gib(text: str) -> float:
    """GiB of memory. "16GB", "16GiB", "16000MB", "16384MiB", "16" are the same 16. Raises ValueError."""
    number, unit = _split(text, GIB_BY_UNIT, 'a memory size such as "16GB", "80GiB" or "24"')
    return float(number) * GIB_BY_UNIT[unit]


def parse_count(text: str) -> int:
    """A number of things. "1500", "1_500", "1.5k" and "2M" are understood. Raises ValueError."""
    number, unit = _split(text, COUNT_BY_UNIT, 'a count such as "1000", "50k" or "1.5M"')
    count = number * COUNT_BY_UNIT[unit]
    if count > MAX_COUNT:
        raise ValueError(f'"{text}" is too many; at most {MAX_COUNT:,}')
    if count != int(count):
        raise ValueError(f'"{text}" is not a whole number')
    return int(count)


_A_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_A_MOMENT = re.compile(r"[0-9]{1,2}:[0-9]{2}|tomorrow|today|tonight|noon|midnight|[0-9]{4}-[0-9]{2}-[0-9]{2}", re.IGNORECASE)


def parse_hours(text: str) -> float:
    """Hours. "2", "2h", "90m", "1d" are understood. Raises ValueError."""
    if _A_MOMENT.search(text):
        raise ValueError(
            f'"{text}" is a time of day, and hours from the start are meant: write how many there are until then, "15h"'
        )
    number, unit = _split(text, HOURS_BY_UNIT, 'a time such as "2h", "90m" or "1.5"')
    return float(number) * HOURS_BY_UNIT[unit]


def parse_lease(text: str) -> float:
    """Hours, as `parse_hours` reads them; what looks like a clock is told in minutes. Raises ValueError."""
    if clock := _A_CLOCK.fullmatch(text.strip()):
        minutes = 60 * int(clock[1]) + int(clock[2])
        raise ValueError(f'"{text}" is not read as a length of time: {int(clock[1])} h {int(clock[2])} min is "{minutes}m"')
    return parse_hours(text)


def parse_usd(text: str) -> Decimal:
    """Dollars, exactly. "5", "$5", "5.50" are understood. Raises ValueError."""
    return _split(text, {"": 1, "usd": 1, "$": 1}, 'dollars such as "5" or "$2.50"')[0]


# As a card's begins: a letter, "3090 Ti"; "x24" and "NaN" are slips of a number
_NAME = re.compile(r"^\s*(?!nan\b|inf|[x×*]\s*[0-9])(?:[a-z]|[0-9]{3,4}\s)", re.IGNORECASE)
MAX_CARDS = 4_096  # assumed, as of the GPUs of a job: no job has had more


def parse_cards(text: str) -> tuple[int, float | str]:
    """How many cards, and GiB on each, else the word that names them. "4x24GB" and "4 × 24" are the same, "24GB" is one, "RTX
    3090" is one as well. Raises ValueError.
    """
    number, size = counted(text) or (1, text)
    if not 1 <= number <= MAX_CARDS:
        raise ValueError(f'"{text}" says {number:,} cards, and from 1 to {MAX_CARDS:,} are counted, such as "4x24GB"')
    memory_gib = _gib_or_none(size)
    if memory_gib == 0 or (memory_gib is None and not _NAME.match(size)):
        raise ValueError(f'"{text}" says neither the memory of cards nor their name, such as "4x24GB" or "2xRTX 3090"')
    return number, size.strip() if memory_gib is None else memory_gib


def _gib_or_none(text: str) -> float | None:
    try:
        return parse_gib(text)
    except ValueError:
        return None


def _split(text: str, units: dict[str, int] | dict[str, float], expected: str) -> tuple[Decimal, str]:
    match = _NUMBER.match(text)
    unit = match.group(2).lower() if match else ""
    if match is None or unit not in units:
        comma = f', and "{_COMMA.sub(_POINT, text)}" is written with a point' if _COMMA.search(text) else ""
        raise ValueError(f'"{text}" is not {expected}{comma}')
    return Decimal(match.group(1).replace(",", "").replace("_", "")), unit
