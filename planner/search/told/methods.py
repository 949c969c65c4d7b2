"""A method that needs less memory, or a base in fewer bits, where nothing can be run with those that were said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.advise import METHOD_CHOICE, advise
from planner.asking.request import Request
from planner.asking.rules import AUTO, with_loop
from planner.choice.recipes import QLORA as QLORA_SOURCE
from planner.methods import METHODS, NF4, QLORA
from planner.refusals import CaseRefused
from planner.search.best import AIMS, best
from planner.search.floors import Floors
from planner.search.market.offers import Kind
from planner.search.ranking import Found, Question
from planner.search.told.concessions import Conceded

OF_OTHERS: Final = frozenset(
    {"method_options", "trainable_layers", "num_virtual_tokens"}
)  # options of one method mean none of another's
MOVED: Final = f"method {{method}}, as was said; {METHOD_CHOICE.value} {METHOD_CHOICE.reason} ({METHOD_CHOICE.source})"
UNPACKED: Final = f"weights in 16 bits; in 4, a base learned as well ({QLORA_SOURCE})"


def lighter(request: Request, architecture: Architecture) -> Iterator[Conceded]:
    """What to say instead of a method that moves a base's own weights, or of adapters on one in 16 bits; the mildest first."""
    said = request.training
    method = said.get("method", AUTO)
    if method not in METHODS or OF_OTHERS & said.keys() or request.loop.init_adapter is not None:
        return  # `auto` chooses among these itself, and `qlora` is the last of them
    if METHODS[method].moves_linears:
        given_up = MOVED.format(method=method)
        yield from (
            _with(request, architecture, {"method": word}, f"method {word} instead of {method}", given_up) for word in LIGHTER
        )
    elif said.get("quant") in (None, "none"):
        yield _with(request, architecture, {"quant": NF4["quant"]}, "the base held in 4 bits", UNPACKED)


LIGHTER: Final = (METHOD_CHOICE.value, QLORA)


def first_runnable(
    steps: Iterable[Conceded], question: Question, kinds: tuple[Kind, ...], floors: Floors
) -> tuple[Conceded, Found] | None:
    """The first of these with which this version can run the job as asked, and the best plan with it."""
    for step in steps:
        asked = step.asked_of(question)
        try:
            found = best(asked, kinds, floors.asking(step.request, step.advice), AIMS[asked.request.budget.goal]).found
        except CaseRefused:
            continue  # what else was said does not go with it
        if found is not None:
            return step, found
    return None


def _with(request: Request, architecture: Architecture, instead: dict[str, Any], change: str, given_up: str) -> Conceded:
    changed = msgspec.structs.replace(request, training=request.training | instead)
    changed = with_loop(changed, said=request.said_of_loop)
    return Conceded(
        request=changed,
        advice=advise(changed, architecture),
        change=f"with {change}",
        changes={f"training.{key}": value for key, value in instead.items()},
        given_up=given_up,
        is_advised=False,
    )
