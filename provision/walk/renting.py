"""A rented box that cannot outlive a `with` block, and the writer of the ledger's line that ends one. Beside it only
`charge.ends.afterwards` writes one: of what was found and ended once the books were closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import msgspec

from catalogs.hardware import Offer
from provision.account.ledger import Ledger
from provision.account.lines import Created, Ended
from provision.errors import BoxLost, ControlLost, NotOrdered, ResultOnBox
from provision.home.shielded import said_first, shielded
from provision.seam import Answer, Box, Claim, InCharge, Launch, Owned, Provisioner, ResourceEnd, Teardown
from provision.walk.overtaken import Order, end_own_part
from provision.words import Note, seconds_words


@dataclass
class Holding:
    """A box, and whether it was left to its deadline when the block ended."""

    box: Box
    spared: bool = False


def _unheard(_sentence: str) -> None:
    """Nobody is there."""


@dataclass(frozen=True)
class Renting:
    """The edges of a renting: who rents, whose books are kept, by which clock, and who is told."""

    provisioner: Provisioner
    ledger: Ledger
    clock: Callable[[], float]  # wall
    note: Note = _unheard
    teardown_s: float | None = None  # as it is planned; None = by no plan
    clock_shift_s: Callable[[], float] = lambda: 0.0  # how far the clock that providers compare with theirs is ahead of `clock`

    def say_that_it_orders(self) -> None:
        """For whoever presses Ctrl-C, and would see nothing until the end of it."""
        self.note(
            "An order is under way: what comes of it is waited for, and ended. Once more Ctrl-C waits for it no longer, and "
            "goes on to the teardown."
        )

    def say_that_it_ends(self) -> None:
        """Likewise."""
        least_s = self.provisioner.list_lag_s
        takes = f"at least {seconds_words(least_s)}" if self.teardown_s is None else f"about {seconds_words(self.teardown_s)}"
        self.note(f"The box is ended first, which takes {takes}. Ctrl-C is answered then; pressing it again changes nothing.")


@contextmanager
def holding(
    offer: Offer, launch: Launch, renting: Renting, *, box: Box | None = None, spare_on_failure: bool = False
) -> Iterator[Holding]:
    """Bring up a box (or take over `box`, after a crash) and end it on every way out.

    The caller has written Attempted. This writes Created and, whatever happens, Ended; the verdict is in the ledger.
    Once another machine has the run, only what was ordered here and that one does not know is ended: raises ControlLost.
    Ctrl-C during the destroy is answered after it. A box that holds a result which is not at home is left to its
    deadline, with `spare_on_failure` also one whose block raised any other Exception; then no Ended is written.
    """
    held: Holding | None = None
    ledger, clock = renting.ledger, renting.clock
    ordered, is_new = True, box is None
    try:
        if box is None:
            try:
                with said_first(renting.say_that_it_orders):
                    box = renting.provisioner.up(offer, launch)
            except NotOrdered:
                ordered = not _earlier_ones_are_gone(launch.run_id, ledger)
                raise
            ledger.append(Created(run_id=launch.run_id, at_s=clock(), box=box))
        held = Holding(box)
        try:
            yield held
        except (BoxLost, ControlLost):
            raise
        except Exception as error:
            held.spared = spare_on_failure or isinstance(error, ResultOnBox)
            raise
    finally:
        if not ordered:
            give_up(Teardown.destroyed(launch.run_id, "Nothing was ordered."), ledger=ledger, clock=clock)
        elif held is None or not held.spared:
            try:
                end(launch, renting)
            except ControlLost as lost:
                if not is_new:
                    raise
                with shielded(renting.say_that_it_ends):
                    claim = _with_used_volumes(launch, ledger)
                    order = Order(claim, offer, box)
                    raise end_own_part(lost, order, provisioner=renting.provisioner, ledger=ledger) from None


def _earlier_ones_are_gone(run_id: str, ledger: Ledger) -> bool:
    """Whether nothing that an earlier attempt asked for may be there."""
    return all(rental.ended_at_s is not None for rental in ledger.runs()[run_id].rentals[:-1])


def end(claim: Claim, renting: Renting) -> Teardown:
    """Destroy what there is of a run, write the verdict, and only then answer to signals that came meanwhile.

    Raises ControlLost, and nothing is touched, where another machine has taken the run over. Nothing else stops it: neither
    a store nor a home that takes no byte. A verdict that can't be written says so itself.
    """
    ledger = renting.ledger
    with shielded(renting.say_that_it_ends):
        in_charge = partial(_require_charge, ledger)
        in_charge()
        teardown = _destroy(renting.provisioner, _with_used_volumes(claim, ledger), in_charge)
        if teardown.ahead_s is not None:
            teardown = msgspec.structs.replace(teardown, ahead_s=teardown.ahead_s - renting.clock_shift_s())
        now_s = renting.clock()
        try:
            teardown = _with_what_had_gone(teardown, ledger, now_s)
            _write(teardown, ledger, now_s)
        except ControlLost:
            raise
        except Exception as error:  # noqa: BLE001 - as above; the verdict itself is told in any case
            why = getattr(error, "strerror", None) or str(error).removesuffix(".") or type(error).__name__
            unwritten = f"{ledger.path} could not take this line: {why}."
            teardown = msgspec.structs.replace(teardown, message=f"{teardown.message} {unwritten}".strip())
    return teardown


def _require_charge(ledger: Ledger) -> None:
    """Raises ControlLost alone: whatever else is wrong with the books, what bills is ended."""
    try:
        ledger.require_charge()
    except ControlLost:
        raise
    except Exception:  # noqa: BLE001, S110 - the next line that is written tells it
        pass


def _with_used_volumes(claim: Claim, ledger: Ledger) -> Claim:
    """The claim, with what its ledger tells of the run's volumes; where that can't be read all of them stay."""
    with suppress(Exception):  # as above: whatever is wrong with the books, what bills is ended
        state = ledger.runs()[claim.run_id]
        return msgspec.structs.replace(claim, volumes=state.used_volumes, filled=state.filled_volumes)
    return claim


def end_unrented(run_id: str, *, ledger: Ledger, clock: Callable[[], float]) -> Teardown:
    """The verdict on a run that never asked for a box."""
    teardown = Teardown.destroyed(run_id, "Nothing was rented.")
    _write(teardown, ledger, clock())
    return teardown


def give_up(teardown: Teardown, *, ledger: Ledger, clock: Callable[[], float]) -> None:
    """The verdict on the last attempt once more: no other follows it."""
    _write(teardown, ledger, clock())


def take_back(teardown: Teardown, owned: Owned, *, ledger: Ledger, clock: Callable[[], float]) -> None:
    """A clean verdict that a later look does not bear out: something is listed, or nobody could be asked."""
    run_id, left = teardown.run_id, tuple(ResourceEnd(resource=each, gone=Answer.NO, at_s=clock()) for each in owned.resources)
    if left:
        message = owned.message or f"{len(left)} of its resources are still listed."
        _write(Teardown.orphaned(run_id, message, resources=left), ledger, clock())
    else:
        _write(Teardown.unknown(run_id, owned.message, resources=teardown.resources), ledger, clock())


def _write(teardown: Teardown, ledger: Ledger, at_s: float) -> None:
    ledger.append(Ended(run_id=teardown.run_id, at_s=at_s, teardown=teardown))


def _with_what_had_gone(teardown: Teardown, ledger: Ledger, now_s: float) -> Teardown:
    """A clean verdict, with what was no longer there to be ended: a deadline takes a box without asking anybody."""
    state = ledger.runs().get(teardown.run_id)
    if not teardown.clean or state is None:
        return teardown
    created = state.box.resources if state.box else ()
    at_s = min(now_s - (teardown.ahead_s or 0.0), state.deadline_at_s)
    ends = tuple(msgspec.structs.replace(end, at_s=min(end.at_s, at_s)) if end.before else end for end in teardown.resources)
    seen = {(end.resource.kind, end.resource.id) for end in ends}
    gone = tuple(
        ResourceEnd(resource=resource, gone=Answer.YES, at_s=at_s, before=True)
        for resource in created
        if (resource.kind, resource.id) not in seen
    )
    return msgspec.structs.replace(teardown, resources=ends + gone)


def _destroy(provisioner: Provisioner, claim: Claim, in_charge: InCharge) -> Teardown:
    """The provisioner's verdict; a fault of the program is a verdict, too: unknown. Raises ControlLost."""
    try:
        return provisioner.destroy(claim, in_charge)
    except ControlLost:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it was, somebody has to be told that a box may live)
        return Teardown.unknown(claim.run_id, f"The destroy itself failed ({type(error).__name__}: {error}).")
