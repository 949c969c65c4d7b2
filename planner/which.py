"""`plan --which-model`: no base is named, and the answer is which ones the card trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from catalogs.bases.models import registry
from planner.asked import read_asked
from planner.asking.data import Measure
from planner.asking.options.command_line import plan_command
from planner.asking.request import Request, RequestError
from planner.edges import Edges
from planner.plan import Plan, SearchResult
from planner.search.bases import BasesHeld, largest_held
from planner.search.market.offers import Market
from planner.view import View

CARDS: Final = ("gpu", "gpu_budget", "host")  # options that say what has to hold the base
OF_ONE_BASE: Final = (
    "job",
    "model",
    "revision",
    "gpus",
    "explain",
    "html",
    "save",
)  # about one that is named
NO_CARD: Final = '--gpu "RTX 4090", --gpu-budget 24GB or --host user@address'


def run_which(
    options: Mapping[str, Any],
    edges: Edges,
    view: View,
    *,
    measure: Measure,
    market_for: Callable[[Request], Market],
    enclose: Callable[[SearchResult | BasesHeld, str | None], str],
) -> int:
    """Answer as `run_plan` does. Returns 0 where there is a base that fits, else 2. Raises RequestError."""
    asked = _asked(options, edges, measure=measure)
    result = largest_held(asked, edges, market_for(asked))
    command = plan_command({**options, "model": result.bases[0].name}) if result.bases else None
    if options.get("json"):
        view.write(enclose(result, command))
    else:
        from planner.report.bases import render_bases

        view.write(render_bases(result, asked, command=command, width=view.width, colour=view.colour))
    return 0 if result.is_of_use else 2


def _asked(options: Mapping[str, Any], edges: Edges, *, measure: Measure) -> Request:
    """The job, with a base in its place that nobody named: tokens are estimated from characters as long as none is."""
    for option in OF_ONE_BASE:
        if options.get(option):
            said = "a job file" if option == "job" else f"--{option}"
            raise RequestError(f"--which-model looks for the base, and {said} is about one that is named", hint="leave one out")
    if not any(options.get(option) for option in CARDS):
        raise RequestError("--which-model needs to know the card", hint=NO_CARD)
    asked = read_asked({**options, "model": registry()[0].name}, folder=edges.folder, measure=measure)
    return asked.request if isinstance(asked, Plan) else asked
