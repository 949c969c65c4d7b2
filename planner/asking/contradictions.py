"""Wishes that make sense alone and exclude each other: one table, for options and job files alike."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

import msgspec

from planner.asking.request import HOST, OWN_MACHINES, Request, RequestError
from planner.asking.rules import AUTO
from planner.methods import METHODS


class Contradiction(msgspec.Struct, frozen=True):
    """When two wishes exclude each other, the sentence about them, what to do, and where a job file says the second."""

    holds: Callable[[Request], bool]
    sentence: str  # `{request}` and `{method}` stand for what was asked
    hint: str
    place: tuple[str, ...]


def _rents_nothing(request: Request) -> bool:
    where = request.where
    return where.host is not None or (bool(where.providers) and OWN_MACHINES.issuperset(where.providers))


def _has_no_chosen_blocks(request: Request) -> bool:
    """Whether the method trains something else than parts of blocks: all of the base, or what stands in front of it."""
    method = METHODS.get(_method(request))
    return method is not None and (method.moves_all or (method.prompt is not None and method.adapter is None))


def _starts_anew(request: Request) -> bool:
    """Whether the method can't go on with an adapter: it makes none that peft reads, or begins with the base's own weights."""
    method = METHODS.get(_method(request))
    return method is not None and (bool(method.moves) or method.inserted_behind is not None or method.starts_anew)


def _method(request: Request) -> str:
    return str(request.training.get("method", AUTO))


CONTRADICTIONS: Final[tuple[Contradiction, ...]] = (
    Contradiction(
        lambda request: request.where.host is not None and set(request.where.providers) - {HOST} != set(),
        "the host {request.where.host} is a machine of yours, and provider {request.where.providers[0]} is another",
        "leave one of them out",
        ("where", "host"),
    ),
    Contradiction(
        lambda request: request.where.spot is True and _rents_nothing(request),
        "no machine of your own is sold as spot",
        "leave spot out",
        ("where", "spot"),
    ),
    Contradiction(
        lambda request: bool(request.where.allow_from) and _rents_nothing(request),
        "allow_from opens the firewall of a rented machine, and this job rents none",
        "leave allow_from out",
        ("where", "allow_from"),
    ),
    Contradiction(
        lambda request: request.loop.init_adapter is not None and _starts_anew(request),
        "init_adapter goes on with an adapter of an earlier run, and method {method} can't",
        "leave init_adapter out, or choose method lora",
        ("loop", "init_adapter"),
    ),
    Contradiction(
        lambda request: request.loop.layers is not None and _has_no_chosen_blocks(request),
        "layers says which blocks are trained, and method {method} chooses none",
        "leave layers out, or choose method lora",
        ("loop", "layers"),
    ),
    Contradiction(
        lambda request: request.loop.warmup_steps is not None and request.loop.warmup_epochs is not None,
        "the warm-up is said in steps and in epochs",
        "leave warmup_steps or warmup_epochs out",
        ("loop", "warmup_epochs"),
    ),
    Contradiction(
        lambda request: request.loop.warmup_steps is not None and request.loop.warmup_steps >= (request.loop.max_steps or inf),
        "the warm-up of {request.loop.warmup_steps} steps leaves none of max_steps {request.loop.max_steps} at the whole rate",
        "a smaller warmup_steps, or a larger max_steps",
        ("loop", "warmup_steps"),
    ),
    Contradiction(
        lambda request: request.loop.warmup_epochs is not None and request.loop.warmup_epochs >= request.loop.epochs,
        "the warm-up of {request.loop.warmup_epochs:g} epochs leaves none of {request.loop.epochs:g} at the whole rate",
        "a smaller warmup_epochs, or more epochs",
        ("loop", "warmup_epochs"),
    ),
    Contradiction(
        lambda request: request.loop.early_stopping_evaluations is not None and request.loop.evaluations == 0,
        "early stopping counts evaluations, and there are none",
        "evaluations: 4, or leave early_stopping_evaluations out",
        ("loop", "early_stopping_evaluations"),
    ),
)


def consistent(request: Request) -> Request:
    """`request` itself, when its wishes can all be fulfilled; a `RequestError` about the first two that cannot."""
    for wrong in CONTRADICTIONS:
        if wrong.holds(request):
            sentence = wrong.sentence.format(request=request, method=_method(request))
            raise RequestError(sentence, hint=wrong.hint, place=wrong.place)
    return request
