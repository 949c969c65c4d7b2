"""Whether a saved plan is still one of what lies where it says: memory, time, deadline and price were reckoned for that."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from catalogs.bases.models import resolve_model
from catalogs.user_file import exists, expanded, shortened
from planner.asking.data import Measure, measured_again
from planner.asking.earlier import continued
from planner.asking.request import DataAsked
from planner.estimators.memory import estimate_vram
from planner.plan import Plan
from provision.errors import Refused

PLAN_AGAIN: Final = "Plan it again: rentune plan with the same options, and --save"
MEND_SHARE: Final = 0.02  # assumed: of a mean row; mended words change less, and a plan's p10 and p90 are farther apart
OF_BASE: Final = ("weights", "adapter")  # bytes that the base's shape and the strategy settle, whatever the rows


def require_unchanged(plan: Plan, *, measure: Measure) -> None:
    """Raises Refused where data, base or an adapter that it goes on with are not those that a saved plan was made for, and
    RequestError where one can't be read any more.

    Rows are compared by how many and how long they are, a base by the bytes of its weights and of its adapter: a word that was
    mended is no other job.
    """
    request = plan.request
    if request.data.path is not None:
        now, name = measured_again(request, measure=measure), shortened(request.data.path)
        if _are_others(now, plan):
            raise Refused(
                f"The plan was made for other rows than {name} has now: {_rows(request.data)}; now {_rows(now)}.",
                hint=PLAN_AGAIN,
            )
    if exists(expanded(request.model)) and _base_bytes(plan) != [plan.vram.components.get(part) for part in OF_BASE]:
        raise Refused(f"The plan was made for another base than {shortened(request.model)} is now.", hint=PLAN_AGAIN)
    if continued(request) != request:
        folder = shortened(str(request.loop.init_adapter))
        raise Refused(f"The plan was made for another adapter than {folder} holds now.", hint=PLAN_AGAIN)


def _are_others(now: DataAsked, plan: Plan) -> bool:
    """Their tokens say something only where they were counted both times, or estimated both times."""
    then = plan.request.data
    if _number(now) != _number(then):
        return True
    if now.basis != then.basis:
        return False
    longest = max(then.max_tokens, plan.strategy.seq_len)  # what is longer than a sequence was planned to be cut
    return now.max_tokens > longest or abs(now.mean_tokens - then.mean_tokens) > MEND_SHARE * then.mean_tokens


def _number(data: DataAsked) -> tuple[int, int, frozenset[str]]:
    return data.num_examples, data.held_out_rows, frozenset(label for label, *_ in data.classes)


def _rows(data: DataAsked) -> str:
    tokens = f"{data.mean_tokens:,.1f} tokens in the mean and {data.max_tokens:,} at the most"
    return f"{data.num_examples:,} to learn, {data.held_out_rows:,} held out, {tokens}"


def _base_bytes(plan: Plan) -> list[int | None]:
    shape = resolve_model(plan.request.model, base=Path.cwd())
    now = estimate_vram(shape, plan.strategy, task=plan.request.task, gpu=plan.gpu)
    return [now.components.get(part) for part in OF_BASE]
