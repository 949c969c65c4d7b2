"""`rentune run`, also installed as `provision-and-run`"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from planner.options import USD, request_options

if TYPE_CHECKING:
    from planner.plan import Plan
    from provision.places import Places


@click.command("run")
@request_options
@click.option("--host-key", help='The host\'s key for --host: "ssh-ed25519 AAAA…" or "SHA256:…".')
@click.option("--assume-price", type=USD, help="Dollars per hour that this machine is taken to cost, to rehearse the bill.")
@click.option("--keep-box-on-failure", is_flag=True, help="Leave the box to its deadline when training failed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Return at once; a supervisor of its own holds the box and ends it.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON; asks nothing, so it needs --yes.")
def command(**options: Any) -> int:
    """Rent, train, bring the adapter home, tear down, account.

    JOB is a job file or a saved plan; options overrule what it says. The plan is shown first. Exit 0: trained and gone;
    1: failed and gone; 2: refused; 3: something may still bill; 130: interrupted and gone.
    """
    import time

    from provision.commands.show import console
    from provision.inputs import find_base
    from provision.ledger import Ledger
    from provision.opening import open_run, refuse_unrunnable
    from provision.places import read_places

    plan = _with_wishes(_planned(options), options)
    refuse_unrunnable(plan)
    base = find_base(plan.request.model, hub_id=_hub_id(plan.request.model))
    if not options["as_json"]:
        _show(plan)
    _ask(options)
    places = read_places()
    run_id = open_run(plan, base, places=places, ledger=Ledger(places.ledger), clock=time.time, host_key=options["host_key"])
    if not options["as_json"]:
        console().print(f"Run {run_id}")
    return _detach(run_id, places, as_json=options["as_json"]) if options["detach"] else _drive(run_id, places, options)


# ── the plan ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _planned(options: dict[str, Any]) -> Plan:
    """The saved plan, or the cheapest that this version can run. Raises Refused when there is none."""
    from planner.cli import answer, read_asked
    from planner.plan import Plan
    from provision.commands.asking import offers_of_request, search_edges
    from provision.errors import Refused

    edges = search_edges()
    asked = read_asked(options, folder=edges["folder"])
    if isinstance(asked, Plan):
        return asked
    from catalogs.catalog import read_catalog
    from provision.inputs import with_absolute_paths

    request = with_absolute_paths(asked)
    price = options["assume_price"]
    offers = offers_of_request(
        request, usd_per_hour=price or Decimal(0), host_key=options["host_key"], confirm=_confirm(options)
    )
    result = answer(request, catalog=read_catalog(), offers=offers, **edges)
    if result.recommended is None:
        reason = result.rejections[0].reason if result.rejections else "nothing on offer does this job"
        raise Refused(f"No plan can be run as asked: {reason}", hint=f"See why: rentune plan {_words(options)}")
    return result.recommended


def _words(options: dict[str, Any]) -> str:
    return str(options["job"] or f"--model {options['model']} …")


def _with_wishes(plan: Plan, options: dict[str, Any]) -> Plan:
    """What `run` alone can ask for, and paths that hold for a process elsewhere."""
    import msgspec

    from provision.inputs import with_absolute_paths

    request = with_absolute_paths(plan.request)
    keep = msgspec.structs.replace(request.keep, box_on_failure=request.keep.box_on_failure or options["keep_box_on_failure"])
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(request, keep=keep))


def _hub_id(model: str) -> str | None:
    """The hub id that the registry knows for a name; None for a size word, which names a shape only."""
    from catalogs.models import registry

    for row in registry():
        if model.lower() in (row.name.lower(), *(hub_id.lower() for hub_id in row.hub)) and row.hub:
            return next((hub_id for hub_id in row.hub if hub_id.lower() == model.lower()), row.hub[0])
    return None


def _show(plan: Plan) -> None:
    import shutil

    from planner.report import render_plan

    width = shutil.get_terminal_size((120, 24)).columns
    click.echo(render_plan(plan, width=width, colour=sys.stdout.isatty()))


def _ask(options: dict[str, Any]) -> None:
    from provision.errors import Refused

    if options["yes"]:
        return
    if options["as_json"] or not sys.stdin.isatty():
        raise Refused("Nobody is there to agree to the plan.", hint="Add --yes to run it without being asked.")
    if not click.confirm("Run it?"):
        raise Refused("Nothing was rented.")


def _confirm(options: dict[str, Any]) -> Any:
    """How a host key that nobody knows is asked about; None where nobody can be asked."""
    if options["host_key"] or options["as_json"] or not sys.stdin.isatty():
        return None
    return lambda fingerprint: click.confirm(f"The host shows the key {fingerprint}. Is it the right one?")


# ── the run ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _detach(run_id: str, places: Places, *, as_json: bool) -> int:
    from provision.commands.show import show
    from provision.supervise import start_supervisor

    pid = start_supervisor(run_id, places=places)

    def draw() -> None:
        click.echo(f"In charge: process {pid}. Watch: rentune logs -f {run_id}. End: rentune down {run_id}.")

    return show("run", {"run_id": run_id, "pid": pid}, draw, as_json=as_json)


def _drive(run_id: str, places: Places, options: dict[str, Any]) -> int:
    from provision.commands.driving import drive_and_report

    return drive_and_report(run_id, places, command="run", as_json=options["as_json"], confirm=_confirm(options))
