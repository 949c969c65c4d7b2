"""Where an answer is shown."""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class View(msgspec.Struct, frozen=True):
    """Where an answer is shown, and how wide and colourful it may be there."""

    write: Callable[[str], None]  # a text of one or several lines
    width: int  # columns
    colour: bool
