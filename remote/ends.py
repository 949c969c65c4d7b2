"""How a run ends early: one exception, and the table that turns everything foreign into a typed reason."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from remote.contract import EndReason, Measured, Strategy

DISK_FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL_WORDS: Final = (
    "no space left on device",
    "disk quota exceeded",
    "enospc",
)  # torch and safetensors keep only the text
OUT_OF_MEMORY_WORDS: Final = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


class Ended(Exception):
    """The run is over for a known reason; `str(error)` is the sentence for the person who asked for it.

    `measured`: what the meters showed until then, where it trained.
    """

    def __init__(self, reason: EndReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.measured: Measured | None = None


class LoadedAnew(Exception):
    """A try is over: the run goes on by a strategy for which the base has to be loaded anew."""

    def __init__(self, strategy: Strategy) -> None:
        super().__init__("the base has to be loaded anew")
        self.strategy = strategy


def bad_job(message: str) -> Ended:
    """The job file or its data can't be used; the person has to change them."""
    return Ended(EndReason.BAD_JOB, message)


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return True
    return any(word in str(error).lower() for word in DISK_FULL_WORDS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the card or of the machine, whoever says so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in OUT_OF_MEMORY_WORDS)


_KINDS: Final[tuple[tuple[Callable[[BaseException], bool], EndReason, str], ...]] = (
    (_is_disk_full, EndReason.DISK_FULL, "the box's disk is full"),
    (is_out_of_memory, EndReason.OUT_OF_MEMORY, "the job does not fit into memory"),
)


def ended(error: BaseException, doing: str) -> Ended:
    """The typed end for an exception met while `doing` something ("train", "save", …)."""
    if isinstance(error, Ended):
        return error
    for is_kind, reason, words in _KINDS:
        if is_kind(error):
            return Ended(reason, f"{words} (during {doing}): {first_line(error)}")
    return Ended(EndReason.CRASHED, f"{type(error).__name__} during {doing}: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:400] if text else type(error).__name__
