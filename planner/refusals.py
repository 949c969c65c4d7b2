"""What the planner refuses to estimate, as an exception with a next step."""

from __future__ import annotations


class Refused(Exception):
    """A case that is wrong or that has no estimate. `key` is the case key at fault, `hint` what to type instead."""

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.key = key
        self.message = message
        self.hint = hint


class CaseError(Refused):
    """The case itself is wrong: an unknown key, a wrong type, a word that is no choice."""


class Unsupported(Refused):
    """The case is meaningful, but this version has no closed form for it. Never answered by a guess."""


class Untraceable(Unsupported):
    """The case is meaningful, but its step can't be traced. A closed form may still answer it."""
