"""The clocks of this machine, as arguments: what happens when is told by the wall's, how long it takes by the steady one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Clocks:
    """`wall` may be set, by a person or over the network, while somebody waits; `steady` only ever goes on, from anywhere."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


CLOCKS: Final = Clocks()
