"""What an account may rent, as far as its cloud tells, against what a machine takes of it. Unknown stands in nobody's way."""

from __future__ import annotations

import msgspec


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of an account, and how much of it is taken."""

    name: str  # as the cloud calls it
    unit: str  # vCPUs, GPUs, machines
    where: str  # a region, or the whole account
    limit: float | None  # None = the cloud does not tell
    used: float | None  # the same

    @property
    def words(self) -> str:
        """As a person reads it: "Running On-Demand P instances in us-east-1: 0 vCPUs"."""
        if self.limit is None:
            return f"{self.name} in {self.where}: not told"
        taken = f", {self.used:g} in use" if self.used else ""
        return f"{self.name} in {self.where}: {self.limit:g} {self.unit}{taken}"


def shortage(quota: Quota, needed: float) -> str | None:
    """Why the quota does not admit so much more, in one sentence; None where it does, and where it is not told."""
    if quota.limit is None or (quota.used or 0.0) + needed <= quota.limit:
        return None
    taken = f", of which {quota.used:g} are in use" if quota.used else ""
    return (
        f"it takes {needed:g} {quota.unit} of {quota.name!r} in {quota.where}, and the account may have {quota.limit:g}{taken}"
    )
