"""What the planner refuses to estimate, as an exception with a next step."""

from __future__ import annotations

from typing import Final

from catalogs.failure import Failure

OTHERWISE: Final = "engine closed_form"  # where a trace can't answer


class CaseRefused(Failure):
    """A case that is wrong or that has no estimate. `key` is the case key at fault."""

    def __init__(self, key: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, place=("training", key))
        self.key = key

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class CaseError(CaseRefused):
    """The case itself is wrong: an unknown key, a wrong type, a word that is no choice."""


class Unsupported(CaseRefused):
    """The case is meaningful, but this version has no closed form for it. Never answered by a guess."""


class Untraceable(Unsupported):
    """The case is meaningful, but its step can't be traced. A closed form may still answer it."""
