"""What every kind that rents does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from catalogs.hardware import Offer
from provision.seam.box import Box
from provision.seam.claim import Claim
from provision.seam.ends import Ends
from provision.seam.launch import Launch
from provision.seam.layer import Layer
from provision.seam.owned import Owned
from provision.seam.teardown import Teardown

InCharge = Callable[[], None]  # raises ControlLost once another machine has the run


def unshared() -> None:
    """Nobody else can have it."""


class Provisioner(Protocol):
    """What every kind does. `destroy` reports failure as a value; it raises only for faults of the program."""

    name: str
    list_lag_s: float  # so much later at the latest `owned` shows what there is
    worst_teardown_s: float  # so long at the most `destroy` takes
    look: str  # shell that a box of this kind tells its own layers by (provision/aboard/layers.py); empty = `layers` tells all

    def account(self) -> str | None:
        """Whose account is asked and rented in, by its provider's id of it or a mark of the key, never a secret.

        None where nobody can tell, or there is none.
        """
        ...

    def up(self, offer: Offer, launch: Launch) -> Box:
        """Create the machine; returns when it runs (not when it answers). Raises ProvisionError, with what it left; NotOrdered
        where nothing was asked for.
        """
        ...

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        """End everything of this run, asked by tag as well as by state. Safe to call twice, and when `up` never ran.

        `in_charge` is asked before each act, and what it raises is let through: what carries the tag by then may be another
        machine's.
        """
        ...

    def owned(self, claim: Claim | None = None) -> Owned:
        """All resources with our tag, or those of one run."""
        ...

    def console(self, claim: Claim) -> str:
        """The machine's boot log, as far as the provider shows one; empty when it shows none."""
        ...

    def readmit(self, claim: Claim) -> str | None:
        """Let this machine's present address in, and no other, where the provider has a gate before the box: the address, else
        None. Raises ProvisionError when the provider can't be asked.
        """
        ...

    def rearm(self, claim: Claim, ends: Ends) -> None:
        """Set going again what ends the box's processes at the deadline, where a reboot ended that; nothing where it goes on,
        or survives one. Raises RentuneError when it can't be.
        """
        ...

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        """What ends the run's box without us, beside what `look` tells. Changes nothing; what can't be seen is unknown."""
        ...
