"""A rented box that cannot outlive a `with` block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from catalogs.hardware import Offer
from provision.ledger import Ledger
from provision.provisioner import Box, Launch, Provisioner


@contextmanager
def leased(
    offer: Offer,
    launch: Launch,
    *,
    provisioner: Provisioner,
    ledger: Ledger,
    clock: Callable[[], float] = time.time,
    box: Box | None = None,
    keep_on_failure: bool = False,
) -> Iterator[Box]:
    """Bring up a box (or take over `box`, after a crash) and end it on every way out.

    The caller has written Opened. This writes Created and, whatever happens, Ended; the verdict is in the ledger.
    Ctrl-C during the destroy is answered after it. With `keep_on_failure` a box whose block raised an Exception is
    left to its deadline, and no Ended is written.
    """
    raise NotImplementedError
    yield
