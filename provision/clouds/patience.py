"""How long a cloud is waited for: one frozen value, with the clocks that it is reckoned by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from provision.home.clocks import CLOCKS, Clocks

GRACE_S: Final = 65.0  # derived: lists of AWS lag up to a minute (skypilot-org/skypilot, issue 4431)
OPERATION_S: Final = 900.0  # assumed: an instance takes minutes, a bare-metal one up to 15
TEARDOWN_S: Final = 600.0  # assumed: a GPU instance shuts down in one to five minutes


@dataclass(frozen=True)
class Patience:
    """With one cloud."""

    create_s: float = OPERATION_S  # the engine's, with a box that it creates
    teardown_s: float = TEARDOWN_S  # with what does not go away
    grace_s: float = GRACE_S  # between two lists of which both must be empty
    clocks: Clocks = CLOCKS


PATIENCE: Final = Patience()
