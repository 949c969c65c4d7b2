"""Spot machines that are taken away: how often, what has to be done again then, how often checkpoints come home.

An interruption loses the seconds until another machine computes (create, boot, environment, download, load) and, in the
mean, half of the time between two checkpoints that came home, or of a training that is shorter than that.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

import msgspec

from catalogs.hardware import Billing, Offer
from planner.estimators.time.phases import ZERO, scaled, span, total
from planner.plan import P90_SIGMAS, DurationEstimate
from planner.units import GB, SECONDS_PER_HOUR
from remote.contract import Loop, Phase, rhythm_of

TAKEN_PER_HOUR: Final = 0.05  # assumed, far on the careful side: AWS's advisor says 5 to 20 % a month, 160 to 700 times less
SIGMAS: Final = {0.1: -P90_SIGMAS, 0.9: P90_SIGMAS}  # derived: below which that share of a normal distribution lies
MANY: Final = 100.0  # derived: from here on a count of that mean has a normal one's quantiles, to within one
LEAST_AT_P90: Final = 1.0  # assumed: a margin, for a budget has to bear that a machine is taken once, however short the job
AGAIN_PHASES: Final = (Phase.CREATE, Phase.BOOT, Phase.ENVIRONMENT, Phase.DOWNLOAD, Phase.LOAD)
AT_WORK_PHASES: Final = (*AGAIN_PHASES, Phase.PROBE, Phase.TRAIN, Phase.EVALUATE, Phase.SAVE)  # while it can be taken


def rhythm_s(usd_per_hour: Decimal, billing: Billing, size_bytes: int) -> float:
    """Seconds between two checkpoints that come home, where the dollars for sending and for what is lost are least.

    Sending one costs E = size · egress price; a box at p $/h that is taken λ times an hour loses half an interval each time:
    E/T + λ·p·T/2 is least at T = √(2·E/(λ·p)) (derived, as Young, 1974, does for time). Where sending costs nothing: every one.
    """
    egress_usd = size_bytes / GB * float(billing.egress_usd_per_gb or 0)
    if usd_per_hour <= 0:
        return 0.0
    return math.sqrt(2 * egress_usd / (TAKEN_PER_HOUR * float(usd_per_hour))) * SECONDS_PER_HOUR


def made_every_s(loop: Loop, *, step_s: float, num_steps: int) -> float:
    """Seconds between two checkpoints that the trainer makes, one at a step's end at the earliest.

    Known error: of a run that `max_steps` cuts short an epoch is taken for a share of the steps that are made.
    """
    every = rhythm_of(loop)
    seconds = {"s": 1.0, "steps": step_s, "epochs": step_s * num_steps / loop.epochs}
    made_s: float = every.amount * seconds[every.unit]
    return max(made_s, step_s)


def interval_s(offer: Offer, billing: Billing, *, checkpoint_bytes: int, checkpoint_every_s: float) -> float:
    """Seconds between two checkpoints that come home: none comes more often than one is made."""
    return max(checkpoint_every_s, rhythm_s(offer.usd_per_hour, billing, checkpoint_bytes))


def sent_bytes(duration: DurationEstimate, offer: Offer, *, adapter_bytes: int, checkpoint_bytes: int, every_s: float) -> float:
    """Bytes that leave the provider: the adapter in the end, and from a spot machine checkpoints on the way."""
    if offer.purchase != "spot":
        return adapter_bytes
    train = duration.phase_s.get(Phase.TRAIN, ZERO)
    return adapter_bytes + train.p50 / every_s * checkpoint_bytes


def interrupted(duration: DurationEstimate, offer: Offer, *, every_s: float) -> DurationEstimate:
    """The time on a spot machine. Others are not taken.

    How often is a Poisson count: its p10 of the shortest time at work, its p90 of the longest, but once at the least. At p50
    stands its mean, as that is what the dollars of many such jobs come to.
    """
    if offer.purchase != "spot":
        return duration
    seconds = {phase: duration.phase_s.get(phase, ZERO) for phase in AT_WORK_PHASES}
    taken = scaled(total(*seconds.values()), TAKEN_PER_HOUR / SECONDS_PER_HOUR)
    often = max(LEAST_AT_P90, poisson_quantile(taken.p90, 0.9))
    times = span(poisson_quantile(taken.p10, 0.1), taken.p50, often)
    lost_s = sum(seconds[phase].p50 for phase in AGAIN_PHASES) + min(every_s, seconds[Phase.TRAIN].p50) / 2
    wall_s = total(duration.wall_s, scaled(times, lost_s))
    return msgspec.structs.replace(duration, wall_s=wall_s, interruptions=times, lost_s=lost_s)


def poisson_quantile(mean: float, share: float) -> float:
    """The least count that so large a share (one of `SIGMAS`) of Poisson counts with this mean does not exceed."""
    if mean > MANY:
        return float(round(mean + SIGMAS[share] * math.sqrt(mean)))
    count, chance = 0, math.exp(-mean)
    reached = chance
    while reached < share:
        count += 1
        chance *= mean / count
        reached += chance
    return float(count)
