"""The line beside a command's own words: that this home's ledger has a run which nobody controls any more."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from provision.account.bill import usd_so_far
from provision.account.ledger import Ledger
from provision.account.naming import LEAST_LETTERS, fitting
from provision.account.runs import RunState
from provision.charge.controller import Hands, hands_of
from provision.home.places import Places
from provision.words import spent_words


def forsaken_runs(places: Places, *, now_s: float) -> list[RunState]:
    """Runs of this home's ledger that are not over and that nobody here controls. Nobody beyond this machine is asked.

    Raises RentuneError or OSError for a ledger that can't be read.
    """
    going_on = [state for state in Ledger(places.ledger).runs().values() if not state.over]
    return [state for state in going_on if hands_of(state, places.run(state.run_id).lock, now_s=now_s) is not Hands.HELD]


def forsaken_sentence(words: Sequence[str], forsaken: Sequence[RunState], *, now_s: float) -> str | None:
    """What they have cost so far and what to type; None where there is none.

    `words` are those of the command: a run that it names it tells of itself.
    """
    known = [state.run_id for state in forsaken]
    named = {run_id for word in words for run_id in fitting(word, known, least_letters=LEAST_LETTERS)}
    runs = [state for state in forsaken if state.run_id not in named]
    if not runs:
        return None
    usd = sum((usd_so_far(state, now_s=now_s) for state in runs), Decimal(0))
    spent = spent_words(usd, assumed=all(state.assumed for state in runs))
    if len(runs) > 1:
        return f"Nobody here controls {len(runs)} runs, which have cost {spent} so far. See them: rentune ls --orphans"
    run_id = runs[0].run_id
    return (
        f"Nobody here controls run {run_id}, which has cost {spent} so far. "
        f"Go on with it: rentune resume {run_id}. End it: rentune down {run_id}."
    )
