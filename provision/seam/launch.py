"""What a new box needs beside a claim."""

from __future__ import annotations

from provision.seam.claim import Claim
from provision.seam.ends import Ends


class Launch(Claim, frozen=True, kw_only=True):
    """The order for a box: the claim on it, and what a provisioner has to know beside that to create it."""

    owner: str
    public_key: str  # of the per-run client key
    deadline_at_s: float  # wall clock: nothing of this run lives past it
    tags: dict[str, str] = {}
    allow_from: tuple[str, ...] = ()  # CIDRs that may reach SSH; empty = the caller's address only
    disk_gib: int = 0
    ram_gib: int = 0  # at least, of a machine whose RAM nobody states; 0 = its seller does
    volume_name: str | None = None  # of a disk that outlives it: used where there is one of that name, else made
    volume_gib: int = 0  # of that disk, if it is made
    lease_s: float | None = None  # of uptime, after which a box that nobody renewed ends itself; None = only before it trains
    keep_environment: bool = True  # on a host of the user's: the trainer's packages outlive the run
    full_zones: tuple[str, ...] = ()  # of the region, where this offer was refused to this run

    @property
    def ends(self) -> Ends:
        """When the box is to end; its idle limit is its provisioner's to set. Here the fields are flat: runs that stand have
        written them so.
        """
        return Ends(deadline_at_s=self.deadline_at_s, lease_s=self.lease_s)
