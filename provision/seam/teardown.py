"""The verdict on an end, and when each thing was seen gone."""

from __future__ import annotations

from typing import Literal

import msgspec

from provision.home.places import is_run_id
from provision.redact import redact
from provision.seam.answer import Answer
from provision.seam.resource import Resource


class ResourceEnd(msgspec.Struct, frozen=True, kw_only=True):
    resource: Resource
    gone: Answer
    at_s: float
    before: bool = False  # it had gone before anybody here looked, so `at_s` is only when that was seen


class Teardown(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on an end. `orphaned` and `unknown` reach the exit code."""

    run_id: str
    verdict: Literal["destroyed", "cleaned", "orphaned", "unknown"]
    resources: tuple[ResourceEnd, ...]
    message: str  # without secrets, whoever wrote it: it goes to ledger, receipt and terminal
    command: str | None = None  # what to type to finish it, when the verdict is orphaned or unknown; None = nothing ends it
    kept: tuple[Resource, ...] = ()  # what stays because the user wanted it, and bills on
    ahead_s: float | None = None  # of its provider's clock, by which the ends' moments are told, this machine's

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "message", redact(self.message))

    @property
    def clean(self) -> bool:
        return self.verdict in ("destroyed", "cleaned")

    @classmethod
    def destroyed(cls, run_id: str, message: str, *, resources: tuple[ResourceEnd, ...] = ()) -> Teardown:
        """Somebody looked, and nothing is there."""
        return cls(run_id=run_id, verdict="destroyed", resources=resources, message=message)

    @classmethod
    def orphaned(
        cls, run_id: str, message: str, *, resources: tuple[ResourceEnd, ...] = (), command: str | None = None
    ) -> Teardown:
        """Something was seen to be there; `command` finishes it, where `rentune down RUN` does not."""
        return cls(run_id=run_id, verdict="orphaned", resources=resources, message=message, command=command or _down(run_id))

    @classmethod
    def unknown(cls, run_id: str, message: str, *, resources: tuple[ResourceEnd, ...] = ()) -> Teardown:
        """Nobody could look."""
        return cls(run_id=run_id, verdict="unknown", resources=resources, message=message, command=_down(run_id))


def _down(run_id: str) -> str | None:
    """Of what can be no run's id there is no command; nor can its text stand in one."""
    return f"rentune down {run_id}" if is_run_id(run_id) else None
