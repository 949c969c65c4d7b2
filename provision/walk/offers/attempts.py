"""Which offer is tried next, once one came to nothing. Pure.

Cheapest whole job first, of what no reason rules out and the budget still pays at its p90. Never much dearer than what was
agreed to, unless somebody agrees to that, too: an offer that vanished for a moment must not be replaced by twice its price.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.plan import Plan
from provision.account.lines import Tried
from provision.account.runs import Rental
from provision.errors import Reason, Scope
from provision.prepare.limits.deadline import allowed_s, around_s
from provision.prepare.limits.outlay import Taken
from provision.words import usd_words
from remote.contract import Phase, Strategy

MAX_DECLINED: Final = 5  # assumed: where five offers can't be had, one more is not what is missing
MAX_UNKNOWN: Final = 2  # assumed: what nobody has understood twice may be a fault of ours, and each try may cost
MAX_ZONES: Final = 3  # assumed: a region whose first three zones are full has no room, and each try takes minutes
MAX_LOST: Final = 3  # assumed: a market that takes three machines back will take the fourth
MAX_LEASES: Final = 3  # assumed: of one controller's, without a step between them; who can't keep three keeps no fourth
TOO_LATE_TO_RENT: Final = "The run's deadline has passed, so nothing was rented."
NOTHING_REFUSED: Final[Mapping[str, str]] = {}
DEARER: Final = 1.25  # assumed: what a person would call about the same price

# What each scope rules out: offers that agree with the one that was tried in all of these. A zone alone rules out nothing: the
# same offer is asked for in the next one.
SAME_OFFER: Final = ("provider", "region", "instance_type", "purchase")
ALIKE: Final[dict[Scope, tuple[str, ...]]] = {
    Scope.ZONE: SAME_OFFER,
    Scope.OFFER: SAME_OFFER,
    Scope.REGION: ("provider", "region"),
    Scope.INSTANCE_TYPE: ("provider", "instance_type"),
    Scope.CLOUD: ("provider",),
}
RULED_OUT_IN_ALL: Final = frozenset(ALIKE) - {Scope.ZONE}  # by these one try is enough


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What the earlier attempts have taken, and what they have left."""

    rentals: tuple[Rental, ...] = ()
    spent_usd: Decimal = Decimal(0)
    elapsed_s: float = 0.0  # since the run was opened
    left_s: float = math.inf  # until the deadline that stands: an offer that is asked for again has no later one
    strategy: Strategy | None = None  # of the checkpoint at home: only the same can go on from it
    done_share: float = 0.0  # of the training, in that checkpoint
    pushes: bool = False  # whether checkpoints go to object storage

    @property
    def a_lease_ended(self) -> bool:
        """Whether a box ended by its lease: whatever follows keeps the deadline that stood then."""
        return any(rental.tried is not None and rental.tried.reason is Reason.LEASE for rental in self.rentals)

    @property
    def taken(self) -> Taken:
        """What the run has taken so far, in the form in which the limits of its next box count it."""
        sent_bytes = Counter[str]()
        for rental in self.rentals:
            sent_bytes[rental.billing.provider] += rental.sent_bytes
        return Taken(spent_usd=self.spent_usd, elapsed_s=self.elapsed_s, sent_bytes=dict(sent_bytes), pushes=self.pushes)


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """Try this one. `question`: what somebody must agree to first."""

    plan: Plan
    question: str | None = None


class NoneLeft(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing more is tried; empty where there never was anything else."""

    why: str


def choose(plans: Sequence[Plan], past: Past, refused: Mapping[str, str] = NOTHING_REFUSED) -> Next | NoneLeft:
    """The next attempt. `plans`: the one that was agreed to, then what may take its place; `refused`: which of them may not be
    rented, and why, by their offers' keys.
    """
    tried = [rental for rental in past.rentals if rental.tried is not None]
    if not tried:
        return _first(plans[0], past, refused)
    if len(plans) == 1 and _is_ruled_out(plans[0].offer, tried):
        return NoneLeft(why="")
    num_lost = sum(rental.tried.reason is Reason.LOST for rental in tried if rental.tried)
    if num_lost >= MAX_LOST:
        return NoneLeft(why=f"Machines were taken back {num_lost} times.")
    if sum(rental.tried.reason is Reason.UNKNOWN for rental in tried if rental.tried) >= MAX_UNKNOWN:
        return NoneLeft(why=f"What came of {MAX_UNKNOWN} offers was not understood, so no more are tried.")
    if len({rental.offer.key for rental in tried if rental.tried and rental.tried.reason is not Reason.LOST}) >= MAX_DECLINED:
        return NoneLeft(why=f"{MAX_DECLINED} offers were tried.")
    left = [plan for plan in plans if not _is_ruled_out(plan.offer, tried) and past.strategy in (None, plan.strategy)]
    if not left:
        return NoneLeft(why="No other offer is left.")
    reasons = [refused[plan.offer.key] for plan in left if plan.offer.key in refused]
    left = [plan for plan in left if plan.offer.key not in refused]
    if not left:
        return NoneLeft(why=reasons[0])
    fitting = [plan for plan in left if _has_time(plan, past) and _has_money(plan, past)]
    if not fitting and past.a_lease_ended and past.left_s <= 0:
        return NoneLeft(why=TOO_LATE_TO_RENT)
    if not fitting:
        return NoneLeft(why=_too_dear(min(left, key=_usd), past))
    cheapest = min(fitting, key=_usd)
    return Next(plan=cheapest, question=dearer_question(cheapest, plans[0]))


def _first(agreed: Plan, past: Past, refused: Mapping[str, str]) -> Next | NoneLeft:
    """What was agreed to, and nothing in its place: nobody has said yes to another while that one was not asked for."""
    if past.left_s <= 0:
        return NoneLeft(why=TOO_LATE_TO_RENT)
    why = refused.get(agreed.offer.key)
    return Next(plan=agreed) if why is None else NoneLeft(why=why)


def _is_ruled_out(offer: Offer, tried: Iterable[Rental]) -> bool:
    scopes = [
        rental.tried.scope for rental in tried if rental.tried is not None and _is_alike(offer, rental.offer, rental.tried)
    ]
    return scopes.count(Scope.ZONE) >= MAX_ZONES or not RULED_OUT_IN_ALL.isdisjoint(scopes)


def _is_alike(offer: Offer, other: Offer, tried: Tried) -> bool:
    return tried.scope is not None and all(getattr(offer, name) == getattr(other, name) for name in ALIKE[tried.scope])


def _has_time(plan: Plan, past: Past) -> bool:
    """Whether the limits leave more than start-up and end."""
    again = past.a_lease_ended or (past.rentals and past.rentals[-1].offer.key == plan.offer.key)
    left_s = allowed_s(plan, past.taken)
    return (min(past.left_s, left_s) if again else left_s) > around_s(plan)


def _has_money(plan: Plan, past: Past) -> bool:
    """Whether it stays within the budget with nine chances in ten, all that was spent included."""
    max_usd = plan.request.budget.max_usd
    return max_usd is None or float(past.spent_usd) + usd_to_come(plan, past) <= float(max_usd)


def usd_to_come(plan: Plan, past: Past) -> float:
    """Dollars at p90 of a job whose training is done in part."""
    train, wall_s = plan.duration.phase_s.get(Phase.TRAIN), plan.duration.wall_s.p90
    saved = past.done_share * train.p90 / wall_s if train and wall_s else 0.0
    return plan.cost.held_usd.p90 * (1 - saved)


def _usd(plan: Plan) -> float:
    return plan.cost.held_usd.p50


def _too_dear(plan: Plan, past: Past) -> str:
    max_usd, max_hours = plan.request.budget.max_usd, plan.request.budget.max_hours
    if max_usd is not None and not _has_money(plan, past):
        usd = Decimal(str(round(usd_to_come(plan, past), 4)))
        return (
            f"The next, {plan.offer.key}, may cost {usd_words(usd)}: with the {usd_words(past.spent_usd)} that are spent "
            f"that is over {usd_words(max_usd)}."
        )
    limit = f"{max_hours:g} hours" if max_hours is not None else "the budget"
    return f"The next, {plan.offer.key}, would not be done within {limit}."


def dearer_question(plan: Plan, first: Plan) -> str | None:
    """What to agree to where it costs much more; None where it does not."""
    if _usd(plan) <= DEARER * _usd(first):
        return None
    share = round(100 * (_usd(plan) / _usd(first) - 1)) if _usd(first) else 0
    dearer = f"{share} % more than" if share else "where nothing was to be paid for"
    return f"The next offer, {plan.offer.key}, is planned at ${_usd(plan):.2f} for the whole job, {dearer} the first."


def idle_leases(before: int, *, of_lease: bool, has_learned: bool) -> int:
    """How many leases of a controller's have ended since a step came home last, after one attempt more."""
    return 0 if has_learned else before + of_lease
