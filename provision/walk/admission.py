"""A box lets in the address that it was rented from; whoever goes on from elsewhere must be let in first."""

from __future__ import annotations

from collections.abc import Callable

from provision.errors import RentuneError
from provision.provisioner import Claim, Provisioner


def let_in_again(provisioner: Provisioner, claim: Claim, note: Callable[[str], None]) -> None:
    """For a box that is silent. What fails here is told and no more: the box may be silent for another reason."""
    try:
        provisioner.readmit(claim)
    except RentuneError as error:
        note(f"This machine's address may not be let in any more, and could not be: {error}")
