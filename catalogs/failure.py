"""The root of every failure of ours. What is derived from it is told in its own words; anything else is a fault."""

from __future__ import annotations


class Failure(Exception):
    """What was asked can't be done. `message` is one sentence, `hint` what to type instead or next, or None."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
