"""How far this machine's clock is from a cloud's, by the moment that each of the cloud's own answers carries.

Source: RFC 9110, section 6.6.1: the header Date, in whole seconds.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from provision.seam import CLOCKS_AGREE_S


class Heard:
    """What the answers of one look have told."""

    def __init__(self) -> None:
        self._ahead_s: list[float] = []

    def note(self, date: str | None, *, now_s: float) -> None:
        """The Date of one answer, and what this machine's clock says as it comes."""
        try:
            at_s = parsedate_to_datetime(date or "").timestamp()
        except (ValueError, OverflowError):  # none, or a proxy's own idea of one
            return
        self._ahead_s.append(now_s - at_s)

    @property
    def ahead_s(self) -> float | None:
        """Seconds that this machine's clock is ahead, negative behind; None where no answer told. An answer takes its time,
        which looks like being ahead: of several the least. Of clocks that agree, as far as whole seconds can tell, it is zero:
        a box's deadline would be moved to before the one that was agreed to.
        """
        least_s = min(self._ahead_s, default=None)
        return 0.0 if least_s is not None and abs(least_s) <= CLOCKS_AGREE_S else least_s
