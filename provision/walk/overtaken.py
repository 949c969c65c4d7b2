"""Another machine has taken the run over while an order of this one was under way: what that brought nobody else may know.

The other controller has ended what it found before it asked for a box of its own. What came only then, as from an engine that
was asleep together with its controller, stands in no book, and bills beside the other's box.
"""

from __future__ import annotations

from typing import Final

import msgspec

from planner.asking.request import OWN_MACHINES
from provision.account.ledger import Elsewhere, Ledger
from provision.errors import ControlLost, OwnEnded
from provision.provisioner import MACHINE, Answer, Box, Claim, Own, Provisioner, Teardown

SEVERAL: Final = "The other machine's state folder is a copy of this one, so the two orders can't be told apart."


def end_own_part(lost: ControlLost, claim: Claim, box: Box | None, *, provisioner: Provisioner, ledger: Ledger) -> ControlLost:
    """End what this home's last order has brought, where nobody else has that in his books; what to raise then.

    `box`: what the order came back with, if it did. Of the user's own machines nothing bills, and whoever has the run cleans
    them. What can't be told apart is named and left.
    """
    if claim.provider in OWN_MACHINES:
        return lost
    try:
        elsewhere = ledger.elsewhere()
    except Exception as error:  # noqa: BLE001 - whatever it is, it does not say whose the box is
        return _left(lost, claim, box, f"Whose it is can't be told: {error}")
    if elsewhere is None or _is_taken_up(box, elsewhere):
        return lost
    if elsewhere.holder == elsewhere.here:
        return _left(lost, claim, box, SEVERAL)
    ids = frozenset(each.id for each in (box.resources if box else ()))
    own = Own(installation=elsewhere.here, ids=ids, theirs=elsewhere.known)
    try:
        teardown = provisioner.destroy(msgspec.structs.replace(claim, own=own))
    except Exception as error:  # noqa: BLE001 - as in `lease`: somebody has to be told that a box may live
        return _left(lost, claim, box, f"The destroy itself failed ({type(error).__name__}: {error}).")
    return _told(lost, claim, teardown)


def _is_taken_up(box: Box | None, elsewhere: Elsewhere) -> bool:
    """Whether whoever has the run has this very machine."""
    return box is not None and any(each.id in elsewhere.known for each in box.resources if each.kind == MACHINE)


def _left(lost: ControlLost, claim: Claim, box: Box | None, why: str) -> ControlLost:
    """Nothing is ended. What the order is known to have brought is named."""
    named = ", ".join(each.words for each in (box.resources if box else ())) or "what it has brought, which is not known"
    return _may_bill(lost, claim, named, why)


def _told(lost: ControlLost, claim: Claim, teardown: Teardown) -> ControlLost:
    """The verdict in words; where nothing of the order was there any more, what was to be raised before."""
    if not teardown.clean:
        there = [end.resource.words for end in teardown.resources if end.gone is not Answer.YES]
        return _may_bill(lost, claim, ", ".join(there) or "what it has brought, which is not known", teardown.message)
    kept = "".join(f" {each.words}, to be kept as asked, is there and bills." for each in teardown.kept)
    ended = ", ".join(end.resource.words for end in teardown.resources)
    if not ended and not kept:
        return lost
    said = f"What an order of this machine had brought, and nobody else knew of, was ended: {ended}." if ended else ""
    return OwnEnded(f"{lost} {said}{kept}", bills=False, hint=lost.hint)


def _may_bill(lost: ControlLost, claim: Claim, named: str, why: str) -> OwnEnded:
    said = f"An order of this machine may bill beside that, and nobody else knows of it: {named} at {claim.provider}."
    end = f"rentune down {claim.run_id} on the machine that has the run ends that, too, and the run."
    return OwnEnded(f"{lost} {said} {why}", bills=True, hint=f"{end} Alone it is ended by hand, at {claim.provider}.")
