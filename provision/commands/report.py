"""`rentune report`"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.asking.options.plain import OneOf

if TYPE_CHECKING:
    from provision.account.receipt.value import Receipt
    from provision.account.runs import RunState
    from provision.errors import Refused
    from provision.home.places import Places, RunFolder

PERIOD = re.compile(r"(\d+)([hdw])")
SECONDS_BY_UNIT = {"h": 3600, "d": 86_400, "w": 604_800}
SUMS = "rentune report --since 30d has its sums"
DOLLARS = ("planned_usd", "metered_usd", "assumed_usd")  # what is assumed is part of what was metered
GROUPS = ("provider", "model", "tag")  # the first where none is said


@click.command("report")
@click.argument("run", required=False)
@click.option("--html", type=click.Path(), help="Write the report as one HTML file.")
@click.option("--since", help="Add up the runs of this period: 12h, 30d, 4w.")
@click.option("--by", type=OneOf(GROUPS), help="What the runs of --since are added up by; provider if not said.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(run: str | None, html: str | None, since: str | None, by: str | None, as_json: bool) -> int:  # noqa: FBT001
    """Planned against metered: one run, or many added up.

    Without RUN and --since it is the run that ended last.
    """
    from provision.errors import BadInput
    from provision.home.places import read_places

    if run is not None and since is not None:
        raise BadInput("Say a run or a period, not both.", hint="rentune report RUN, or rentune report --since 30d --by tag")
    if html is not None and since is not None:
        raise BadInput("--html writes the report of one run, and --since adds up many.", hint="rentune report RUN --html FILE")
    if by is not None and since is None:
        raise BadInput("--by adds up the runs of a period, and none is said.", hint=f"rentune report --since 30d --by {by}")
    places = read_places()
    if since is not None:
        return _report_period(read_period(since), by or GROUPS[0], places, as_json=as_json)
    return _report_run(run if run is not None else _newest(places), places, html, as_json=as_json)


def _newest(places: Places) -> str:
    """The run with a receipt that ended last, told on stderr with how many there are. Refused where there is none."""
    from provision.account.ledger import Ledger
    from provision.errors import Refused

    states = [state for state in Ledger(places.ledger).runs().values() if places.run(state.run_id).receipt.exists()]
    runs = [state.run_id for state in sorted(states, key=lambda state: state.billed.at_s if state.billed else 0.0)]
    if not runs:
        raise Refused("No run has a receipt yet.", hint="rentune ls")
    which = "The only run with a receipt" if len(runs) == 1 else f"The last to end of {len(runs)} runs with a receipt"
    click.echo(f"{which}: {runs[-1]}", err=True)
    return runs[-1]


def _report_run(run: str, places: Places, html: str | None, *, as_json: bool) -> int:
    from catalogs.user_file import as_said
    from provision.account.ledger import Ledger
    from provision.charge.finding import find_run
    from provision.envelope.show import console, show
    from provision.errors import BadInput
    from provision.report.tables import headline
    from provision.report.terminal import print_report
    from provision.walk.books import read_receipt, write_page

    state = find_run(Ledger(places.ledger), run)
    folder = places.run(state.run_id)
    receipt = read_receipt(folder) or _brought(state, places)
    if receipt is None:
        raise without_receipt(find_run(Ledger(places.ledger), run), folder)
    if html is not None:
        try:
            write_page(folder, Path(html))
        except OSError as error:
            raise BadInput(
                f"{as_said(html)} can't be written: {error.strerror}.", hint="--html FILE, in a folder that is there"
            ) from None

    def draw() -> None:
        if html is None:
            print_report(receipt, console(), report_file=str(folder.report) if folder.report.exists() else None)
        else:  # all of it stands there
            click.echo(f"{headline(receipt)}\nReport:  {html}")

    return show("report", receipt, draw, as_json=as_json)


def _brought(state: RunState, places: Places) -> Receipt | None:
    """The receipt that another machine has written, from where the run's state lies; None where nobody has.

    Raises Refused where that can't be asked: whether the run is over is known there alone.
    """
    from provision.charge.controller import lock_of
    from provision.errors import Refused, RentuneError
    from provision.home.clocks import CLOCKS
    from provision.state.link import read_link
    from provision.state.shared import refresh_papers
    from provision.walk.books import read_receipt

    folder = places.run(state.run_id)
    link = read_link(folder)
    if link is None:
        return None
    try:
        with lock_of(folder, CLOCKS) as alone:  # a controller that lives here has it all
            if alone:
                refresh_papers(state.run_id, places)
    except RentuneError as error:
        raise Refused(
            f"Run {state.run_id} has no receipt here, and its state at {link.url} can't be asked: {error}",
            hint=f"rentune ls --state {shlex.quote(link.url)}",
        ) from None
    return read_receipt(folder)


def without_receipt(state: RunState, folder: RunFolder) -> Refused:
    """Why a run has no receipt that could be shown. Of one that is over only the ledger's line can be left."""
    from provision.charge.controller import Hands, hands_of
    from provision.errors import Refused

    run_id = state.run_id
    if folder.receipt.exists():
        return Refused(f"{folder.receipt} is damaged.", hint=SUMS)
    if state.over and state.billed:
        return Refused(f"Run {run_id} is over, and its receipt is no longer there: {folder.receipt}.", hint=SUMS)
    if hands_of(state, folder.lock, now_s=time.time()) is Hands.HELD:
        return Refused(f"Run {run_id} is not over yet, so it has no receipt.", hint=f"rentune logs -f {run_id} follows it")
    return Refused(f"Run {run_id} has no receipt yet.", hint=f"rentune resume {run_id}, or rentune down {run_id}")


def _report_period(seconds: int, by: str, places: Places, *, as_json: bool) -> int:
    from provision.account.ledger import Ledger
    from provision.commands.problems import ledger_problems
    from provision.envelope.show import console, show
    from provision.report.tables import Table
    from provision.report.terminal import draw
    from provision.words import usd_words

    since_s = time.time() - seconds
    ledger = Ledger(places.ledger)
    opened = [state for state in ledger.runs().values() if state.opened.at_s >= since_s]
    states = [state for state in opened if state.billed]
    if going_on := len(opened) - len(states):
        runs = "1 run of this period goes on and is" if going_on == 1 else f"{going_on} runs of this period go on and are"
        click.echo(f"{runs} not counted: rentune ls", err=True)
    sums = add_up(states, by)

    def show_sums() -> None:
        rows = tuple(map(_sum_row, sums))
        total = sum((row["metered_usd"] for row in sums), Decimal(0))
        columns = (by, "runs", "trained", "planned", "metered")
        planned = sum((row["planned_usd"] for row in sums), Decimal(0))
        totals = ("total", str(len(states)), "", usd_words(planned), usd_words(total))
        assumed = sum((state.billed.metered_usd for state in states if state.billed and state.assumed), Decimal(0))
        note = f"{usd_words(assumed)} of it is assumed (--assume-price): no provider bills that." if assumed else None
        console().print(
            draw(Table(title="Spent", columns=columns, rows=rows, total=None if by == "tag" else totals, note=note))
        )

    return show("report", sums, show_sums, as_json=as_json, errors=ledger_problems(ledger))


def _sum_row(row: dict[str, Any]) -> tuple[str, ...]:
    from provision.words import spent_words, usd_words

    metered = spent_words(row["metered_usd"], assumed=row["metered_usd"] == row["assumed_usd"])
    return row["name"], str(row["runs"]), str(row["trained"]), usd_words(row["planned_usd"]), metered


def read_period(text: str) -> int:
    """Seconds in 12h, 30d, 4w. Raises BadInput."""
    from provision.errors import BadInput

    found = PERIOD.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"{text!r} is not a period.", hint="--since 12h, --since 30d, --since 4w")
    return int(found[1]) * SECONDS_BY_UNIT[found[2]]


def add_up(states: list[RunState], by: str) -> list[dict[str, Any]]:
    """Dollars and counts by name, the dearest first. A run with two tags counts under each of them."""
    names: dict[str, Callable[[RunState], list[str]]] = {
        "provider": lambda state: [state.provider],
        "model": lambda state: [state.opened.model],
        "tag": lambda state: [f"{key}={value}" for key, value in state.opened.tags.items()] or ["no tag"],
    }
    sums: dict[str, dict[str, Any]] = {}
    for state in states:
        if state.billed is None:
            continue
        for name in names[by](state):
            row = sums.setdefault(name, {"name": name, "runs": 0, "trained": 0} | dict.fromkeys(DOLLARS, Decimal(0)))
            row["runs"] += 1
            row["trained"] += int(state.billed.trained)
            row["planned_usd"] += state.billed.planned_usd
            row["metered_usd"] += state.billed.metered_usd
            row["assumed_usd"] += state.billed.metered_usd * state.assumed
    return sorted(sums.values(), key=lambda row: row["metered_usd"], reverse=True)
