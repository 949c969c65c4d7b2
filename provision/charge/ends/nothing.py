"""The provisioner of a run for which nothing was ever asked: it needs no SDK, no credentials and no network."""

from __future__ import annotations

from catalogs.hardware import Offer
from provision.errors import Refused
from provision.seam import Answer, Box, Claim, Ends, InCharge, Launch, Layer, Owned, Teardown, unshared


class NothingRented:
    """A `Provisioner` that has nothing and gives nothing."""

    name = "nothing"
    list_lag_s = worst_teardown_s = 0.0
    look = ""

    def up(self, offer: Offer, launch: Launch) -> Box:  # noqa: ARG002 - the seam's form
        raise Refused(f"{offer.key} can't be rented here.")

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:  # noqa: ARG002
        return Teardown.destroyed(claim.run_id, "Nothing was rented.")

    def owned(self, claim: Claim | None = None) -> Owned:  # noqa: ARG002
        return Owned(resources=(), complete=Answer.YES)

    def console(self, claim: Claim) -> str:  # noqa: ARG002
        return ""

    def account(self) -> None:
        pass

    def readmit(self, claim: Claim) -> None:
        pass

    def rearm(self, claim: Claim, ends: Ends) -> None:
        pass

    def layers(self, claim: Claim) -> tuple[Layer, ...]:  # noqa: ARG002
        return ()
