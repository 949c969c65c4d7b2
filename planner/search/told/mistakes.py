"""Words about what is trained that this base or method does not take: mistakes of the job, not refusals of the market."""

from __future__ import annotations

from typing import Final

from planner.asking.request import Request, RequestError
from planner.search.figures import Figures
from planner.search.ways.strategies import refusals_of_all

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
    ladders = figures.ladders(request.where.num_gpus or 1, computes_in="bfloat16").usual
    refused = refusals_of_all((ladder[0] for ladder in ladders), lambda way: figures.vram(way, None))
    if not refused or any(error.key not in said for error in refused):
        return  # one can be done, or the search tells it beside what else stands in the way
    first = refused[0]
    of_layers = first.key == "method_options" and first.key not in request.training
    raise RequestError(first.message, hint=first.hint, place=("loop", "layers") if of_layers else first.place)
