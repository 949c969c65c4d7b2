"""Words about what is trained that this base or method does not take: mistakes of the job, not refusals of the market."""

from __future__ import annotations

from typing import Final

from planner.asking.request import Request, RequestError
from planner.refusals import CaseRefused
from planner.search.figures import Figures

# Keys of `training` that name parts of a base or options of a method: whether there are such, only both tell
NAMING: Final = frozenset(
    {"target_modules", "modules_to_save", "method_options", "trainable_layers", "num_virtual_tokens", "dropout"}
)


def check_trained(request: Request, figures: Figures) -> None:
    """Raise RequestError where every way to train is refused for one of these keys as it was said, or for `layers`.

    They are looked at only where one was said.
    """
    layers = request.loop.layers is not None
    said = NAMING & request.training.keys() | ({"method_options"} if layers else set())
    if not said:
        return
    refused: list[CaseRefused] = []
    for ladder in figures.ladders(request.where.num_gpus or 1, computes_in="bfloat16").usual:
        try:
            figures.vram(ladder[0], None)
        except CaseRefused as error:
            refused.append(error)
            continue
        return
    first = refused[0]
    if any(error.key not in said for error in refused):
        return  # told by the search, beside what else stands in the way
    of_layers = first.key == "method_options" and first.key not in request.training
    raise RequestError(first.message, hint=first.hint, place=("loop", "layers") if of_layers else first.place)
