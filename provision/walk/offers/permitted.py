"""What policy.toml says of a run's plans now: asked before each box, as a file may allow less than when the run was opened."""

from __future__ import annotations

import msgspec

from planner.asking.policy import LEASE, Rule, cap, in_force, limits_of, refusal
from planner.asking.request import Budget
from planner.plan import Plan
from provision.account.bill import usd_so_far
from provision.errors import Refused
from provision.home.checkpoints import steps_at_home
from provision.prepare.limits.deadline import MORE_USD
from provision.prepare.limits.policy import read_rules
from provision.walk.driven import Run
from provision.walk.offers.attempts import Past, usd_to_come


class PermittedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One plan as it may be rented now."""

    plan: Plan
    more_usd: str  # what would allow it more dollars: the rule that limits them, else the job's own limit


class Permitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run's plans under the rules of today."""

    plans: tuple[Plan, ...]  # all of them, each with the lower of its own and the rules' limit in dollars
    refused: dict[str, str]  # of those that may not be rented: why, by the offer's key


def past_of(run: Run) -> Past:
    """What the attempts so far have taken."""
    state, now_s, steps = run.state, run.clocks.wall(), steps_at_home(run.folder.checkpoints)
    return Past(
        rentals=state.rentals,
        spent_usd=usd_so_far(state, now_s=now_s),
        elapsed_s=now_s - state.opened.at_s,
        left_s=state.deadline_at_s - now_s,
        strategy=run.plan.strategy if steps else None,
        pushes=run.pushed is not None,
        done_share=min(1.0, steps[-1] / max(1, run.plan.duration.num_steps)) if steps else 0.0,
    )


def permitted(run: Run, past: Past) -> Permitted:
    """What is allowed of the run's plans, with what was spent. Raises BadInput for a file that can't be read."""
    rules = _rules(run)
    return Permitted(
        plans=tuple(_capped(plan, rules) for plan in run.plans),
        refused={plan.offer.key: why for plan in run.plans if (why := _refused(plan, rules, past)) is not None},
    )


def permitted_plan(run: Run, plan: Plan, past: Past) -> PermittedPlan:
    """The plan as it may be rented now. Raises Refused where it may not, BadInput for a policy that can't be read."""
    rules, plan = _rules(run), next(each for each in run.plans if each.offer.key == plan.offer.key)
    if (why := _refused(plan, rules, past)) is not None:
        raise Refused(why)
    return PermittedPlan(plan=_capped(plan, rules), more_usd=_more_usd(plan, rules))


def _rules(run: Run) -> tuple[Rule, ...]:
    return _standing(read_rules(run.places), run.state.opened.overruled)


def _standing(rules: tuple[Rule, ...], overruled: tuple[str, ...]) -> tuple[Rule, ...]:
    """What the run has not set aside. A key that the organisation has set since then holds: the user can't decide that."""
    binding = tuple(rule for rule in rules if not rule.may_be_overruled)
    return (*binding, *in_force((rule for rule in rules if rule.may_be_overruled), overruled))


def _capped(plan: Plan, rules: tuple[Rule, ...]) -> Plan:
    limit = cap(plan.request.budget, rules, plan.offer)
    if limit is None or limit.rule is None:
        return plan
    budget = msgspec.structs.replace(plan.request.budget, max_usd=limit.usd)
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))


def _more_usd(plan: Plan, rules: tuple[Rule, ...]) -> str:
    """A plan may have been made under the rule that limits it: its own limit is as low then, and moving it moves nothing."""
    own_usd, ruled = plan.request.budget.max_usd, cap(Budget(), rules, plan.offer)
    if ruled is None or ruled.rule is None or (own_usd is not None and own_usd < ruled.usd):
        return MORE_USD
    return f"a larger {ruled.rule.place}"


def _refused(plan: Plan, rules: tuple[Rule, ...], past: Past) -> str | None:
    # a lease holds as it was when the run was opened
    reasons = (reason for rule in rules if rule.key != LEASE and (reason := refusal(rule, plan.offer)) is not None)
    if (reason := next(reasons, None)) is not None:
        return f"{plan.offer.key} can't be rented any more: {reason}."
    usd = float(past.spent_usd) + usd_to_come(plan, past)
    broken = limits_of(Budget(), rules, plan.offer).broken(usd=usd, seconds=plan.duration.wall_s.p90)
    if broken is None or broken.cap is None or broken.cap.rule is None:
        return None
    limit, place = broken.cap.usd, broken.cap.rule.place
    return f"{plan.offer.key} can't be rented any more: the run may cost ${usd:.2f}, over ${limit} ({place})."
