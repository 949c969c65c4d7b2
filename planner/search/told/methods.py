"""A method that needs less memory, or a base in fewer bits, where nothing can be run with those that were said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from planner.advise import METHOD_CHOICE
from planner.asking.request import Request
from planner.asking.rules import AUTO
from planner.choice.recipes import QLORA as QLORA_SOURCE
from planner.methods import METHODS, NF4, QLORA
from planner.refusals import CaseRefused
from planner.search.floors import Floors
from planner.search.market.offers import Kind
from planner.search.ranking import Question
from planner.search.told.conceded import Conceded, Way
from planner.search.told.concessions import best_without
from remote.contract import Capabilities

OF_OTHERS: Final = frozenset(
    {"method_options", "trainable_layers", "num_virtual_tokens"}
)  # options of one method mean none of another's
MOVED: Final = f"method {{method}}, as was said; {METHOD_CHOICE.value} {METHOD_CHOICE.reason} ({METHOD_CHOICE.source})"
UNPACKED: Final = f"weights in 16 bits; in 4, a base learned as well ({QLORA_SOURCE})"


def otherwise(request: Request, capabilities: Capabilities) -> Iterator[Conceded]:
    """What to say instead of a method that the trainer cannot do for the task, whatever it runs on."""
    method = request.training.get("method", AUTO)
    if method in METHODS and request.loop.init_adapter is None and not capabilities.teaches(method, request.task):
        own = {f"training.{option}": None for option in OF_OTHERS & request.training.keys()}
        yield Conceded(
            changes={"training.method": USUAL, **own},
            words=f"with method {USUAL} instead of {method}",
            given_up=f"method {method}, which the trainer cannot do for task {request.task}",
        )


def lighter(request: Request) -> Iterator[Conceded]:
    """What to say instead of a method that moves a base's own weights, or of adapters on one in 16 bits; the mildest first."""
    said = request.training
    method = said.get("method", AUTO)
    if method not in METHODS or OF_OTHERS & said.keys() or request.loop.init_adapter is not None:
        return  # `auto` chooses among these itself, and `qlora` is the last of them
    if METHODS[method].moves_linears:
        given_up = MOVED.format(method=method)
        for word in LIGHTER:
            yield Conceded(
                changes={"training.method": word}, words=f"with method {word} instead of {method}", given_up=given_up
            )
    elif said.get("quant") in (None, "none"):
        yield Conceded(changes={"training.quant": NF4["quant"]}, words="with the base held in 4 bits", given_up=UNPACKED)


USUAL: Final = METHOD_CHOICE.value
LIGHTER: Final = (USUAL, QLORA)


def first_runnable(steps: Iterable[Conceded], question: Question, kinds: tuple[Kind, ...], floors: Floors) -> Way | None:
    """The first of these with which this version can run the job as asked, and the best plan with it."""
    for step in steps:
        try:
            way, _ = best_without(step, question, kinds, floors)
        except CaseRefused:
            continue  # what else was said does not go with it
        if way is not None:
            return way
    return None
