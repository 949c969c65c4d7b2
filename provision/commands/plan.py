"""`rentune plan`"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from planner.asking.options.plain import PlainCommand, help_option
from planner.asking.options.table import request_options, view_options

if TYPE_CHECKING:
    from planner.asking.request import Request
    from planner.plan import SearchResult
    from planner.report.words import Spelling
    from planner.search.bases import BasesHeld


@click.command("plan", cls=PlainCommand)
@request_options
@view_options
@help_option("-h", "--help")
def command(**options: Any) -> int:
    """Rank the ways to do a job by what the whole job costs.

    JOB is a job file or a saved plan; options overrule what it says. Nothing is rented.
    """
    from planner.cli import run_plan
    from planner.search.market.offers import Market, on_sale
    from planner.view import View
    from provision.envelope.show import width_columns
    from provision.prepare.asking import data_measure, market, offers_of_request, search_edges

    edges = search_edges()

    def market_for(request: Request) -> Market:
        return on_sale(market(), edges, beside=offers_of_request(request, quiet=options["json"]))

    return run_plan(
        options,
        edges,
        View(click.echo, width_columns(), sys.stdout.isatty()),
        measure=data_measure(quiet=options["json"]),
        market_for=market_for,
        enclose=_enclose,
        draw=_draw,
    )


def _draw(result: SearchResult, every: SearchResult, command: str | None, spelled: Spelling) -> str:
    from provision.report.plan_page import render_plan_page  # only where a page is wanted

    return render_plan_page(result, every, command=command, spelled=spelled)


def _enclose(result: SearchResult | BasesHeld, command: str | None) -> str:
    from provision.envelope import Problem, enclose, render_json
    from provision.errors import Exit

    if result.is_of_use:
        return render_json(enclose("plan", result))
    problem = Problem(message=_why_none(result), hint=command)
    return render_json(enclose("plan", result, errors=(problem,), exit_code=Exit.REFUSED))


def _why_none(result: SearchResult | BasesHeld) -> str:
    from planner.plan import SearchResult

    if isinstance(result, SearchResult):
        from planner.report.words import why_none

        return why_none(result)
    from planner.report.bases import why_none as why_no_base

    return why_no_base(result)
