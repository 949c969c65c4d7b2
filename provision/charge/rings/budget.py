"""Which shares of its budget a run has spent, and has told of: each once, whoever controls it, and whoever ends it."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Final

import msgspec

from provision.account.bill import usd_so_far
from provision.account.runs import RunState
from provision.home.places import RunFolder
from provision.home.whole import write_whole
from remote.contract import decode

SHARES: Final = (50, 80, 100)  # percent of --max-cost; assumed: what still can be acted on, what should be, and the end


def passed(spent_usd: Decimal, max_usd: Decimal | None) -> tuple[int, ...]:
    """Those of SHARES that are spent."""
    return tuple(share for share in SHARES if max_usd and spent_usd * 100 >= max_usd * share)


def untold_shares(state: RunState, folder: RunFolder, *, now_s: float) -> tuple[int, ...]:
    """Those that are spent by now, and that nobody was told of."""
    told = read_told(folder)
    return tuple(share for share in passed(usd_so_far(state, now_s=now_s), state.opened.max_usd) if share not in told)


def read_told(folder: RunFolder) -> frozenset[int]:
    """The shares that somebody was told of, as it was written down."""
    with suppress(OSError, msgspec.DecodeError):
        return frozenset(decode(folder.shares.read_bytes(), tuple[int, ...]))
    return frozenset()


def note_told(share: int, folder: RunFolder) -> None:
    """Write one down. Where home takes no file the next controller tells it once more, which is better than not at all."""
    with suppress(OSError):
        write_whole(folder.shares, msgspec.json.encode(sorted(read_told(folder) | {share})))
