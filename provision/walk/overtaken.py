"""A box that was ordered here while another machine took the run over, and of which perhaps nobody else knows.

The other controller has ended what it found before it asked for a box of its own. What came only then, as from an engine that
was asleep together with its controller, stands in no book, and bills beside the other's box.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.asking.request import OWN_MACHINES
from provision.account.bill import rental_usd
from provision.account.ledger import Elsewhere, Ledger
from provision.account.lines import Late
from provision.errors import ControlLost, OwnEnded
from provision.seam import MACHINE, Answer, Box, Claim, Own, Provisioner, Teardown

SEVERAL: Final = "The other machine's state folder is a copy of this one, so the two orders can't be told apart."


@dataclass(frozen=True)
class Order:
    """What this controller has asked for last, and what came back, if anything did."""

    claim: Claim
    offer: Offer
    box: Box | None


def end_own_part(lost: ControlLost, order: Order, *, provisioner: Provisioner, ledger: Ledger) -> ControlLost:
    """End what this home's last order has brought, where nobody else has that in his books; what to raise then.

    Of the user's own machines nothing bills, and whoever has the run cleans them. What can't be told apart is named and left.
    What was ended has a line in this home's ledger: its dollars are in no other.
    """
    claim, box = order.claim, order.box
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
    except Exception as error:  # noqa: BLE001 - as in `renting`: somebody has to be told that a box may live
        return _left(lost, claim, box, f"The destroy itself failed ({type(error).__name__}: {error}).")
    if teardown.clean:
        with suppress(Exception):  # as in `renting`: whatever is wrong with the books, what was ended is told
            _write_down(order, teardown, ledger)
    return _told(lost, claim, teardown)


def _write_down(order: Order, teardown: Teardown, ledger: Ledger) -> None:
    """Nothing where nothing of it billed. Its rental ended in the other's book when that one looked, which was too early."""
    ends = [end for end in teardown.resources if end.resource.bills_as_box]
    asked = [each for each in ledger.runs()[order.claim.run_id].rentals if each.offer.key == order.offer.key]
    if not ends or not asked:
        return
    made = [end.resource.since_s for end in ends]
    from_s, until_s = None if None in made else min(filter(None, made)), max(end.at_s for end in ends)
    rental = msgspec.structs.replace(
        asked[-1], started_at_s=from_s or asked[-1].asked_at_s, ended_at_s=until_s, off_at_s=None, shown=True
    )
    ledger.append_here(
        Late(
            run_id=order.claim.run_id,
            at_s=until_s,
            offer=order.offer.key,
            asked_at_s=rental.asked_at_s,
            from_s=from_s,
            until_s=until_s,
            ids=tuple(end.resource.id for end in ends),
            usd=rental_usd(rental, now_s=until_s),
        )
    )


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
