"""What a run costs until a moment, at the most: machine, address, disks, and what may leave the provider by then. Pure."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

import msgspec

from planner.estimators.cost import address_usd_per_hour, disk_gib, disks_usd_per_s, volume_gib
from planner.estimators.time.interruptions import interval_s, made_every_s
from planner.plan import Plan
from planner.units import GB, SECONDS_PER_HOUR
from remote.contract import MAX_CHECKPOINTS

NEWEST_AND_BEST: Final = 2  # derived: these checkpoints come home where there is no result


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has used up of its limits, and whether its checkpoints go to object storage."""

    spent_usd: Decimal = Decimal(0)
    elapsed_s: float = 0.0  # since it was opened
    sent_bytes: dict[str, int] = {}  # by provider: what is free of charge is so once
    pushes: bool = False


UNTOUCHED: Final = Taken()


class Outlay(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars of one box as a function of the seconds that it is billed for."""

    usd_per_s: float  # machine, public address, disk, and the volume that is kept
    once_usd: float
    usd_per_gb: float
    free_gb: float
    once_gb: float  # that leaves the provider at the end
    gb_per_s: float  # likewise, while it trains

    def usd(self, seconds: float) -> float:
        """After so many seconds, at the most."""
        billed_gb = max(0.0, self.once_gb + self.gb_per_s * seconds - self.free_gb)
        return self.once_usd + self.usd_per_s * seconds + self.usd_per_gb * billed_gb

    def lasts_s(self, usd: float) -> float:
        """For how many seconds so many dollars last; below zero where they do not pay what comes once.

        `usd` is the larger of two lines, with what is sent beyond the free gigabytes and without: the first to reach the sum
        decides.
        """
        left_usd = usd - self.once_usd
        beyond_usd = left_usd - self.usd_per_gb * (self.once_gb - self.free_gb)
        return min(left_usd / self.usd_per_s, beyond_usd / (self.usd_per_s + self.usd_per_gb * self.gb_per_s))


def outlay_of(plan: Plan, taken: Taken = UNTOUCHED) -> Outlay:
    """Of a box of this plan. A price that no source states counts as zero, as in the plan's own dollars.

    What leaves the provider at the end is the result, or else the newest checkpoint with the best. Meanwhile it is each
    checkpoint where they go to object storage, and from a spot machine those that come home.
    """
    offer, billing = plan.offer, plan.billing
    disks = disk_gib(plan.host, billing), volume_gib(plan.host) if plan.request.keep.volume_name is not None else 0
    checkpoint_bytes = plan.host.disk_components.get("checkpoints", 0) // MAX_CHECKPOINTS
    end_bytes = max(plan.host.disk_components.get("result", 0), NEWEST_AND_BEST * checkpoint_bytes)
    every_s = _every_s(plan, checkpoint_bytes, pushes=taken.pushes)
    usd_per_hour = offer.usd_per_hour + address_usd_per_hour(offer, billing)
    return Outlay(
        usd_per_s=float(usd_per_hour / SECONDS_PER_HOUR + disks_usd_per_s(*disks, billing)),
        once_usd=float(offer.setup_usd),
        usd_per_gb=float(billing.egress_usd_per_gb or 0),
        free_gb=max(0.0, billing.egress_free_gb - taken.sent_bytes.get(billing.provider, 0) / GB),
        once_gb=end_bytes / GB,
        gb_per_s=checkpoint_bytes / GB / every_s,
    )


def _every_s(plan: Plan, checkpoint_bytes: int, *, pushes: bool) -> float:
    """Seconds between two checkpoints that leave the provider."""
    made_s = made_every_s(plan.request.loop, step_s=plan.duration.step_s.p50, num_steps=plan.duration.num_steps)
    if pushes:
        return made_s
    if plan.offer.purchase != "spot":
        return math.inf
    return interval_s(plan.offer, plan.billing, checkpoint_bytes=checkpoint_bytes, checkpoint_every_s=made_s)
