"""How long a run may live, for which reason, and what would happen were this machine to die meanwhile."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Final

import msgspec

from planner.asking.request import LOCAL, OWN_MACHINES
from planner.estimators.cost import buyable_s, round_to_bill
from planner.plan import Plan
from planner.report.words import usd as usd_shown
from planner.units import SECONDS_PER_HOUR
from provision.errors import Refused
from provision.prepare.limits.outlay import UNTOUCHED, Taken, outlay_of
from provision.providers import ended_from_home, unwatched_words
from provision.seam import DEADLINE_GRACE_S
from provision.words import seconds_words, usd_words
from remote.contract import Phase

# assumed: a plan that is off by half at its p90 should still end with a result; minutes cover what no plan foresees
DEADLINE_FACTOR: Final = 1.5
DEADLINE_SLACK_S: Final = 600.0  # assumed likewise
# assumed: what costs nothing may be busy with other work; measured: 10 × a quiet machine's seconds
FREE_SLACK_S: Final = 7200.0
# assumed: of the money, for what no plan foresees; more where a slow teardown takes more
RESERVE_SHARE: Final = 0.05
MORE_USD: Final = "a larger --max-cost"  # what to say for more dollars, where no policy allows fewer


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One bound on a run's life: seconds from now, why, and what would move it."""

    seconds: float
    why: str
    longer: str


def limit_of(plan: Plan, taken: Taken = UNTOUCHED, *, more_usd: str = MORE_USD) -> Limit:
    """The bound that comes first: the hours that were asked for, or else the plan's p90 with slack; never past the money.

    `taken`: what earlier attempts have used up of the budget's dollars and hours. `more_usd`: what would allow more dollars.
    """
    limits = [_of_time(plan, taken.elapsed_s)]
    if plan.request.budget.max_usd is not None and plan.offer.usd_per_hour > 0:
        limits.append(_of_money(plan, plan.request.budget.max_usd, taken, more_usd))
    return min(limits, key=lambda limit: limit.seconds)


def allowed_s(plan: Plan, taken: Taken = UNTOUCHED) -> float:
    """Seconds from now that the run may live: those of `limit_of`."""
    return limit_of(plan, taken).seconds


def _of_time(plan: Plan, elapsed_s: float) -> Limit:
    """Whoever says hours has said how long it may take, be it more than the plan foresees or less.

    Where time is not money the slack is long: the deadline then guards against what is forgotten, not against what is slow.
    """
    if (max_hours := plan.request.budget.max_hours) is not None:
        return Limit(seconds=max_hours * SECONDS_PER_HOUR - elapsed_s, why="--max-hours says so", longer="a larger --max-hours")
    slack_s = DEADLINE_SLACK_S if plan.offer.usd_per_hour > 0 else FREE_SLACK_S
    p90_s = plan.duration.wall_s.p90
    why = f"{DEADLINE_FACTOR:g} × the plan's {seconds_words(p90_s)} (p90), and {seconds_words(slack_s)} more"
    return Limit(seconds=p90_s * DEADLINE_FACTOR + slack_s, why=why, longer="--max-hours")


def _of_money(plan: Plan, max_usd: Decimal, taken: Taken, more_usd: str) -> Limit:
    """Seconds until a box must begin to go, so that what is billed until it is gone, and what leaves it, stay below the budget.

    Whole increments alone are bought: a box that ends a minute into its second hour costs two. Kept back: what the unforeseen
    takes, or the p90 of ending a box where that is more; of one whose bill only this machine ends, also the time that is left
    to a controller which hangs.
    """
    outlay = outlay_of(plan, taken)
    bought_s = buyable_s(outlay.lasts_s(float(max_usd - taken.spent_usd)), plan.billing)
    ending_s = sum(
        plan.duration.phase_s[phase].p90 for phase in (Phase.TEARDOWN, Phase.CONFIRM) if phase in plan.duration.phase_s
    )
    if ended_from_home(plan.offer.provider):
        ending_s += DEADLINE_GRACE_S
    return Limit(
        seconds=bought_s - max(float(max_usd) / outlay.usd_per_s * RESERVE_SHARE, ending_s),
        why=f"${max_usd:f} at most pays no more, with what its end takes",
        longer=more_usd,
    )


def around_s(plan: Plan) -> float:
    """Seconds of a run that are planned to go to anything but the training."""
    phases = plan.duration.phase_s.items()
    return sum(seconds.p50 for phase, seconds in phases if phase not in (Phase.TRAIN, Phase.EVALUATE))


def require_time_to_train(plan: Plan, taken: Taken = UNTOUCHED) -> None:
    """Raises Refused when the budget's limits leave no time between what comes before the training and what comes after."""
    limit = limit_of(plan, taken)
    if limit.seconds <= around_s(plan):
        raise Refused(
            f"The limits of this plan leave {seconds_words(limit.seconds)}, and all but the training, "
            f"from start-up to bringing the result home, takes {seconds_words(around_s(plan))}.",
            hint=limit.longer,
        )


def deadline_words(plan: Plan, *, now_s: float, taken: Taken = UNTOUCHED) -> str:
    """When the box ends whatever happens, why then, what it costs until then, and how one gets more time."""
    limit = limit_of(plan, taken)
    usd = Decimal(str(round(outlay_of(plan, taken).usd(round_to_bill(limit.seconds, plan.billing)), 4)))
    untold = " and ".join(plan.cost.unknown)
    counted = f"but for {untold}, of which no price is known" if untold else "with its disk and what is sent from it"
    paid = f" {usd_words(usd)} until then at the most, {counted}." if usd else ""
    return (
        f"{_clock(now_s + limit.seconds, now_s=now_s)}, {seconds_words(limit.seconds)} after the start: {limit.why}.{paid} "
        f"A training that is not through by then is cut short, and what is trained comes home. More time: {limit.longer}."
    )


def overdue_words(plan: Plan) -> str:
    """What a plan says of a job that takes longer than it: when its box ends all the same, and for how much at the most."""
    limit = limit_of(plan)
    usd = outlay_of(plan).usd(round_to_bill(limit.seconds, plan.billing))
    return (
        f"If it takes longer: {seconds_words(limit.seconds)} after the start the box ends itself ({limit.why}), having cost "
        f"{usd_shown(usd)} at the most, and what is trained comes home; {limit.longer} gives more time."
    )


def forsaken_words(plan: Plan, *, now_s: float, taken: Taken = UNTOUCHED) -> str:
    """What becomes of the box where this machine dies meanwhile."""
    provider = plan.offer.provider
    by = f"By {_clock(now_s + allowed_s(plan, taken), now_s=now_s)}"
    if provider == LOCAL:
        return "The box goes with it: it is a process of this machine."
    return f"{by} {unwatched_words(provider)}. Until then `rentune resume RUN` takes the run up again."


def lease_words(plan: Plan, taken: Taken = UNTOUCHED) -> str | None:
    """What its lease does to the box, and to what it holds, or that it comes too late for that; None where it has none."""
    hours = plan.request.budget.lease_hours
    if hours is None:
        return None
    provider, given_s = plan.offer.provider, limit_of(plan, taken).seconds
    if hours * SECONDS_PER_HOUR >= given_s:
        return f"it can't end the box: the deadline comes first, {seconds_words(given_s)} after the start. A shorter one can."
    after = f"where nobody is in control for {seconds_words(hours * SECONDS_PER_HOUR)} the trainer saves and stops"
    if provider in OWN_MACHINES:
        return f"{after}, and what it saved stays: `rentune resume RUN` goes on from it."
    if taken.pushes:
        saved = "What it saved goes to object storage, and `rentune resume RUN` goes on from it."
    else:
        saved = "Without --state all that it learned is lost then."
    return f"{after}, and the box ends itself, which ends the bill. {saved} A finished result waits there for the deadline."


def _clock(at_s: float, *, now_s: float) -> str:
    """As a clock on the wall shows it, with the day where it is another one."""
    at, now = (dt.datetime.fromtimestamp(each_s).astimezone() for each_s in (at_s, now_s))
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"
