"""How far apart two clocks may be, and how long past its deadline a box is still its controller's."""

from __future__ import annotations

from typing import Final

from provision.words import seconds_words

CLOCKS_AGREE_S: Final = 2.0  # assumed: less than a whole second and the way there can't be told from a clock that is right
DEADLINE_GRACE_S: Final = 300.0  # assumed: so long after its deadline a controller that lives has ended its box, or is at it
CLOCK_ERROR_S: Final = 300.0  # assumed: by how much two clocks that nobody has set may differ
SET_CLOCK: Final = "Set the clock: sudo timedatectl set-ntp true"


def clock_trouble(ahead_s: float | None) -> str | None:
    """That this machine's clock is off by more than clocks are, in a sentence; None where it is not, or no provider told."""
    if ahead_s is None or abs(ahead_s) <= CLOCK_ERROR_S:
        return None
    return f"This machine's clock is {seconds_words(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} the providers'."
