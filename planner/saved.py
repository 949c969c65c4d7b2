"""A plan as a file: written with a seal, and read only where it is one that this version can have made."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from planner.asking.bounds import CASE_BOUNDS, complaint
from planner.asking.request import OWN_MACHINES, RequestError
from planner.plan import PLAN_VERSION, Plan, SearchResult
from remote.contract import decode

# A plan's figures hold together: whoever changes one changes the plan. The seal tells that somebody did; it keeps nobody out.
SEAL: Final = "seal"
CHANGE_A_JOB: Final = "say what you want in a job file, `plan … --save job.yaml`, or plan again"
LEAST_USD_PER_HOUR: Final = 0.0001  # assumed: nobody rents out a machine for less; a price of zero is a gap in some list
MOST: Final = 1e18  # assumed: beyond it lies no second, dollar or byte of a job


def write_plan(plan: Plan) -> str:
    """A plan as indented JSON with its seal, for `--save plan.json`; `read_plan` gives back an equal one."""
    content = msgspec.to_builtins(plan)
    return msgspec.json.format(msgspec.json.encode(content | {SEAL: _seal(content)}), indent=1).decode() + "\n"


def _seal(content: dict[str, Any]) -> str:
    from hashlib import sha256  # only where a plan is written or read: it costs start-up time

    return sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def says_it_is_a_plan(text: str) -> bool:
    """Whether JSON has the shape of a plan or of an answer with some, sound or not: rows may lie in a JSON file, too."""
    try:
        content = decode(text, Any)
    except msgspec.DecodeError:
        return False
    data = _within(content)
    return isinstance(data, dict) and (SEAL in data or "plans" in data or {"strategy", "offer"} <= data.keys())


def _within(content: Any) -> Any:
    """What stands in the envelope of `plan --json`, or by itself."""
    return content.get("data", content) if isinstance(content, dict) else content


def read_plan(text: str, *, name: str) -> Plan:
    """The plan in a file: of `plan --save`, or the recommended one of `plan --json`. Raises RequestError naming the file."""
    try:
        data = _within(decode(text, Any))
        _require_version(data, name)
        if isinstance(data, dict) and "plans" in data:
            plan = msgspec.convert(data, SearchResult).recommended
        else:
            if isinstance(data, dict) and SEAL in data:  # an envelope has none, nor have plans of earlier versions
                seal = data.pop(SEAL)
                if seal != _seal(data):
                    raise RequestError(f"{name} was changed after it was saved", hint=CHANGE_A_JOB)
            plan = msgspec.convert(data, Plan)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise RequestError(f"{name} is not a plan: {error}", hint="make one with `plan … --save plan.json`") from None
    if plan is None:
        raise RequestError(f"{name} holds no plan that this version can run", hint="plan again with other limits")
    for what, value, least in _figures(plan):
        if not (math.isfinite(value) and least <= value <= MOST):
            raise RequestError(f"{name} says {what} is {value:g}, which no plan of ours says", hint="plan again")
    for key, bounds in CASE_BOUNDS.items():
        said = getattr(plan.strategy, key, None)
        if said is not None and not bounds.admit(said):
            raise RequestError(f"{name}: {complaint(key, said, bounds)}", hint="plan again")
    return plan


def _require_version(data: Any, name: str) -> None:
    """Raises RequestError for plans of a version whose fields are others: they would be read as if nobody had said them."""
    plans = data.get("plans", [data]) if isinstance(data, dict) else []
    for plan in plans if isinstance(plans, list) else ():
        version = plan.get("schema_version", PLAN_VERSION) if isinstance(plan, dict) else PLAN_VERSION
        if version != PLAN_VERSION:
            raise RequestError(
                f"{name} has plan version {version}; this version reads {PLAN_VERSION}",
                hint="use the version that wrote it, or plan again",
            )


def _figures(plan: Plan) -> Iterator[tuple[str, float, float]]:
    """What deadline and bill are reckoned from, and the least that each can be: nothing is rented for nothing."""
    rented = plan.offer.provider not in OWN_MACHINES
    yield "the price of an hour", float(plan.offer.usd_per_hour), LEAST_USD_PER_HOUR if rented else 0.0
    for label, values in (("the time", plan.duration.wall_s), ("the cost", plan.cost.total_usd)):
        for value in (values.p10, values.p50, values.p90):
            yield label, value, 0.0
    for phase, seconds in plan.duration.phase_s.items():
        yield f"the time of {phase}", seconds.p90, 0.0
    if plan.request.budget.max_usd is not None:
        yield "--max-cost", float(plan.request.budget.max_usd), 0.0
    if plan.request.budget.max_hours is not None:
        yield "--max-hours", plan.request.budget.max_hours, 0.0
    yield "the GPU memory", float(plan.vram.required_bytes), 0.0
    yield "the RAM", float(plan.host.ram_peak_bytes), 0.0
    yield "the disk", float(plan.host.disk_peak_bytes), 0.0
    yield "the billing increment", float(plan.billing.increment_s), 0.0
    yield "the billed minimum", float(plan.billing.minimum_s), 0.0
