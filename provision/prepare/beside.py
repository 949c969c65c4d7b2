"""What a machine of the user's own has beside the run that is to come: other runs, and an environment to be fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from planner.asking.request import HOST, OWN_MACHINES, RequestError
from planner.plan import Plan
from planner.report.words import memory_gib, needed_bytes
from planner.saved import read_plan
from provision.account.runs import RunState
from provision.home.places import Places


def beside_words(plan: Plan, runs: Iterable[RunState], *, now_s: float, plan_of: Callable[[str], Plan | None]) -> str | None:
    """Who else trains on this plan's machine, as far as this home knows, and whether memory is enough for all; None = nobody.

    `plan_of`: the plan of a run; None where it can't be read.
    """
    if plan.offer.provider not in OWN_MACHINES:
        return None
    others = [state.run_id for state in runs if _is_there(state, plan, now_s=now_s)]
    if not others:
        return None
    plans = [plan_of(run_id) for run_id in others]
    needed = needed_bytes(plan) + sum(needed_bytes(each) for each in plans if each is not None and _alike(each, plan))
    has = needed_bytes(plan) + plan.margin_bytes
    where = "on the GPU" if plan.gpu is not None else "of RAM"
    least = "at least " if any(each is None for each in plans) else ""
    figures = f"together they need {least}{memory_gib(needed)} of {memory_gib(has)} GiB {where}"
    end = "more than there is, so one may end out of memory" if needed > has else "and each takes longer"
    who = f"run {others[0]} is" if len(others) == 1 else f"runs {', '.join(others)} are"
    return f"{who} on this machine, too: {figures}, {end}"


def _is_there(state: RunState, plan: Plan, *, now_s: float) -> bool:
    """Whether the run may hold the machine. Past its deadline the machine itself has ended it."""
    offer = state.rental.offer if state.rental is not None else state.opened
    same = (offer.provider, offer.instance_type) == (plan.offer.provider, plan.offer.instance_type)
    return same and not state.over and now_s < state.deadline_at_s


def _alike(one: Plan, other: Plan) -> bool:
    """Whether they take of the same memory: a GPU's, or the machine's RAM."""
    return (one.gpu is None) == (other.gpu is None)


def environment_words(plan: Plan) -> str | None:
    """What a host of the user's has to fetch before it can train, as a sentence; None where that is nobody's disk or line."""
    size_bytes = plan.host.disk_components.get("environment", 0)
    if plan.offer.provider != HOST or not size_bytes:
        return None
    size = f"{memory_gib(size_bytes)} GiB on its disk"
    return f"The host fetches the trainer's packages first, {size}, unless an earlier run left them there."


def plan_in(places: Places) -> Callable[[str], Plan | None]:
    """What reads the plan of a run of this home."""

    def plan_of(run_id: str) -> Plan | None:
        file = places.run(run_id).plan
        try:
            return read_plan(file.read_text(), name=str(file))
        except (OSError, UnicodeDecodeError, RequestError):
            return None

    return plan_of
