"""When a box ends itself."""

from __future__ import annotations

import msgspec


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """What ends a box, whatever becomes of whoever controls its run; the first that comes does."""

    deadline_at_s: float  # wall clock
    idle_limit_s: float | None = None  # of uptime, where nobody comes and it does not train yet; None = it ends no bill there
    lease_s: float | None = None  # of uptime, where nobody renews it, training or not; None = nobody asked for one
