"""A run as it is judged once its schedule was played, whatever played it: by its ledger, its receipt and its folder."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from planner.units import SECONDS_PER_HOUR
from provision.account.bill import usd_so_far
from provision.account.ledger import Ledger
from provision.account.receipt.value import Receipt
from provision.account.runs import RunState
from provision.errors import Exit
from provision.home.places import Places
from provision.walk.books import read_receipt
from provision.walk.job.at_home import read_outcome
from remote.digest import sha256_of

MINUTE_S: Final = 60
# How late at the most who is in charge sees the end of a box. A silent one is waited for 120 s, its provider's lists lag 60 s
# and are empty twice, 65 s apart, before that is believed, and again before it is called destroyed; looks are refused, too.
# Measured over 400 schedules (2026-11-27): 540 s.
LATE_S: Final = 600


class JudgedRun:
    """What a stage is that plays a schedule. Each promise that does not hold is a sentence."""

    places: Places
    run_id: str

    @property
    def now_s(self) -> float:
        """By the clock that the run lives by."""
        raise NotImplementedError

    def judged_when_nobody_came(self) -> list[str]:
        """At deadline and grace: what is on the box has done its work, whoever lives."""
        raise NotImplementedError

    def end_by_a_fresh_process(self) -> None:
        """Somebody comes later, with a line and a cloud that are well, and gives one command."""
        raise NotImplementedError

    def judged_at_the_end(self) -> list[str]:
        """Dollars and the result."""
        raise NotImplementedError

    def judged(self) -> list[str]:
        """Everything after the last controller, in the order in which it comes."""
        return [*self.judged_when_nobody_came(), *self.judged_once_ended(), *self.judged_at_the_end()]

    def judged_once_ended(self) -> list[str]:
        """One command closes everything."""
        self.end_by_a_fresh_process()
        state = self.state
        return [
            *([] if state.over else [f"the run is not ended: {state.teardown}"]),
            *([] if state.billed else ["its books are open"]),
        ]

    @property
    def state(self) -> RunState:
        return Ledger(self.places.ledger).runs()[self.run_id]

    @property
    def receipt(self) -> Receipt | None:
        return read_receipt(self.places.run(self.run_id))

    @property
    def trained(self) -> bool:
        return self.receipt is not None and self.receipt.trained

    @property
    def ledger_usd(self) -> Decimal:
        """By the line that closes its books; until then, what it has cost so far."""
        state = self.state
        return state.billed.metered_usd if state.billed else usd_so_far(state, now_s=self.now_s)

    @property
    def is_over(self) -> bool:
        return self.state.over and self.state.billed is not None

    @property
    def is_home(self) -> bool:
        """Whether every file of the adapter is in the run's directory, as its trainer wrote it."""
        folder = self.places.run(self.run_id)
        outcome = read_outcome(folder)
        there = [(folder.adapter / file.path, file.sha256) for file in (outcome.adapter if outcome else ())]
        return bool(there) and all(path.exists() and sha256_of(path) == sha256 for path, sha256 in there)


def broken_by_dollars(*, billed: Decimal, ledger: Decimal, cap: Decimal, usd_per_hour: Decimal, unseen_s: float) -> list[str]:
    """The ledger has what was billed, less a minute at the most, and neither is above the cap.

    Nor is it more than was billed, but for `unseen_s`: what passed from the end of the last box, or from the asking for one
    that never came, until somebody looked. Nobody can know of it, and it is counted as if a box had stood.
    """
    minute_usd, unseen_usd = (usd_per_hour * Decimal(each) / SECONDS_PER_HOUR for each in (MINUTE_S, unseen_s))
    promises = {
        f"the ledger has {ledger} of the {billed:.4f} dollars that were billed": ledger >= billed - minute_usd,
        f"the ledger has {ledger}, more than {billed:.4f} billed and {unseen_usd:.4f} unseen": ledger <= billed + unseen_usd,
        f"the ledger has {ledger} dollars, more than the cap of {cap}": ledger <= cap,
        f"the cloud has billed {billed:.4f} dollars, more than the cap of {cap}": billed <= cap,
    }
    return [words for words, holds in promises.items() if not holds]


def broken_by_result(receipt: Receipt | None, *, home: bool) -> list[str]:
    """The adapter is at home, or the receipt says why not."""
    promises = {
        "there is no receipt": receipt is not None,
        "an exit code of 0 without an adapter at home": receipt is None or home or receipt.exit_code != Exit.OK,
        "a run without a result that says nothing": receipt is None or receipt.trained or bool(receipt.ending.message),
        "an adapter at home that the receipt does not know": receipt is None or receipt.trained or not home,
    }
    return [words for words, holds in promises.items() if not holds]
