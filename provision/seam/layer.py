"""One of the things that end a box which nobody comes back to."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from provision.redact import redact
from provision.seam.answer import Answer

IDLE_LIMIT: Final = "idle limit"
LEASE: Final = "lease"
RENEWED: Final = frozenset({IDLE_LIMIT, LEASE})


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One of the things that end a box which nobody comes back to, as it was read back from where it lies."""

    place: Literal["provider", "box", "home"]
    name: str
    there: Answer
    says: str  # without secrets
    strikes_at_s: float | None = None  # wall clock; None = at no moment that it knows

    @property
    def is_renewed(self) -> bool:
        """Whether it is put off for as long as somebody is in control, so that it need not strike by the deadline."""
        return self.name in RENEWED

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "says", redact(self.says))
