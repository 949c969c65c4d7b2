"""What the rules of planner/choice/recipes.py say of a request, and the loop that follows where nobody said it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

import msgspec

from planner.asking.request import Request
from planner.choice.recipes import (
    FEW_EXAMPLES,
    LONG_ROW_TOKENS,
    OF_THE_LOOP,
    RULES,
    SERVING_RULES,
    SHORT_RUN_SEQUENCES,
    SHORT_RUN_STEPS,
    SKEWED,
    Choice,
    Facts,
    Rule,
)
from planner.methods import METHODS
from remote.contract import Loop

AUTO: Final = "auto"  # a method that the planner chooses

# derived: LoRA's best rate is about ten times that of full tuning (LoRA Without Regret, 2025), and the Loop's default is LoRA's
LEARNING_RATE_OF_WEIGHTS: Final = 2e-5


def facts_of(request: Request) -> Facts:
    """What the rules ask of a job, in their words."""
    purpose, data = request.purpose, request.data
    sequences, most_steps = data.num_examples * request.loop.epochs, request.loop.max_steps
    is_short = sequences < SHORT_RUN_SEQUENCES or (most_steps is not None and most_steps < SHORT_RUN_STEPS)
    return {
        "use_case": purpose.use_case,
        "deployment": purpose.deployment,
        "accuracy": purpose.accuracy,
        "examples": "few" if data.num_examples < FEW_EXAMPLES else None,
        "rows": "long" if data.mean_tokens >= LONG_ROW_TOKENS else None,
        "run": "short" if is_short else None,
        "trains": "weights" if _moves_weights(request) else "adapters",
        "balance": "skewed" if _imbalance(request) >= SKEWED else None,
    }


def _imbalance(request: Request) -> float:
    """Rows of the commonest class for each of the rarest: as was said, else as counted; 1 where neither is known."""
    counted = [rows for _, rows, _ in request.data.classes]
    return request.purpose.imbalance or (max(counted) / min(counted) if counted else 1.0)


def ruled_by(request: Request, so_far: dict[str, Any], *, counted: tuple[Rule, ...] = ()) -> list[Choice]:
    """What the rules that hold change of these keys, in their order. `counted`: rules with a figure of this very job."""
    facts, values, choices = facts_of(request), dict(so_far), []
    for rule in (*RULES, *counted, *SERVING_RULES):
        if rule.key in values and rule.holds(facts) and rule.moves(values[rule.key]):
            values[rule.key] = rule.value
            choices.append(Choice(key=rule.key, value=rule.value, reason=rule.reason, source=rule.cited))
    return choices


def loop_for(request: Request) -> Loop:
    """The loop of this job where nothing of it was said: the rate follows the method, schedule and warm-up what it is for."""
    if _moves_weights(request):
        return Loop(learning_rate=LEARNING_RATE_OF_WEIGHTS)
    advised: dict[str, Any] = {choice.key: choice.value for choice in loop_choices(request)}
    return Loop(**advised)


def with_loop(request: Request, *, said: Container[str]) -> Request:
    """The request with a loop as it is advised, but for the keys of it that were said, which it remembers."""
    advised = loop_for(request)
    changes = {key: getattr(advised, key) for key in OF_THE_LOOP if key not in said}
    remembered = tuple(key for key in OF_THE_LOOP if key in said)
    return msgspec.structs.replace(request, loop=msgspec.structs.replace(request.loop, **changes), said_of_loop=remembered)


def said_of_loop(request: Request) -> tuple[str, ...]:
    """The keys of its loop that somebody has said; in plans of earlier versions, which don't tell, those not as advised."""
    advised = loop_for(request)
    return tuple(
        key for key in OF_THE_LOOP if key in request.said_of_loop or getattr(advised, key) != getattr(request.loop, key)
    )


def loop_choices(request: Request) -> list[Choice]:
    """What the rules say of the loop. They are LoRA's: where the base's own weights move, none holds."""
    if _moves_weights(request):
        return []
    usual = Loop()
    ruled = {choice.key: choice for choice in ruled_by(request, {key: getattr(usual, key) for key in OF_THE_LOOP})}
    return list(ruled.values())


def _moves_weights(request: Request) -> bool:
    row = METHODS.get(request.training.get("method", AUTO))
    return row is not None and "weights" in row.moves
