"""Python's search for garbage, left out for a while."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Let nobody search for garbage in the block. Libraries that are loaded make many objects, and hardly one to throw away;
    and a search comes at moments that no two runs share.

    measured 2026-11-27: torch, transformers and peft (2.15, 5.24, 0.21) take 8.1 s of a core to load instead of 10.3, and 12 MB
    more.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
