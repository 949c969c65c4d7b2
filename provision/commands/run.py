"""`rentune run`, also installed as `provision-and-run`"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from catalogs.hardware import ANYWHERE
from planner.asking.options.kinds import USD
from planner.asking.options.table import request_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from catalogs.hardware import Offer
    from planner.plan import Plan
    from provision.home.places import Places
    from provision.prepare.ahead import Open, Outlook
    from provision.prepare.choosing import Chosen, KeyQuestion
    from provision.prepare.inputs import BaseModel
    from provision.prepare.limits.outlay import Taken
    from provision.prepare.preview import Preview
    from provision.state.shared import Place


@click.command("run")
@request_options
@click.option("--host-key", help='The host\'s key for --host: "ssh-ed25519 AAAA…" or "SHA256:…".')
@click.option("--assume-price", type=USD, help="Dollars per hour that this machine is taken to cost, to rehearse the bill.")
@click.option("--keep-box-on-failure", is_flag=True, help="Leave the box to its deadline when training failed.")
@click.option("--dearer", is_flag=True, help="Where this offer can't be had, take another even at over a quarter more.")
@click.option(
    "--alert",
    "alerts",
    multiple=True,
    metavar="URL|COMMAND|@FILE",
    help="Tell it of the run as JSON; may be repeated. @FILE: it stands there, and not in the list of processes.",
)
@click.option("--state", envvar="RENTUNE_STATE", metavar="URL", help="Keep its state at s3://, gs:// or az://…: see resume.")
@click.option("--pack-first", is_flag=True, help="Pack the base here before anything is rented; later runs find it.")
@click.option("--preview", is_flag=True, help="Show what would be created, and create nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--detach", is_flag=True, help="Return at once; a supervisor of its own holds the box and ends it.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON; asks nothing, so it needs --yes.")
def command(**options: Any) -> int:
    """Rent, train, bring the adapter home, tear down, account.

    JOB is a job file or a saved plan; options overrule what it says. The plan is shown first. Exit 0: trained and gone;
    1: failed and gone; 2: refused; 3: something may still bill; 5: trained in part, for its deadline came first, and gone;
    130: interrupted and gone.
    """
    import os
    import time
    from pathlib import Path

    from planner.asked import at_its_place
    from planner.report.words import note
    from provision.account.ledger import Ledger
    from provision.envelope.show import say
    from provision.home.places import CACHE_VARIABLE, read_places, require_folder
    from provision.parts import require_parts
    from provision.prepare.beside import beside_words, plan_in
    from provision.prepare.choosing import KeyQuestion, choose_plan
    from provision.prepare.inputs import find_base, require_hub_access
    from provision.prepare.inputs.foreseen import foreseen
    from provision.prepare.limits.deadline import require_time_to_train
    from provision.prepare.limits.outlay import Taken
    from provision.prepare.limits.policy import state_place
    from provision.prepare.limits.room import require_room
    from provision.prepare.opening import Agreed, open_run
    from provision.providers import require_provider, vouched_key
    from provision.state.shared import Place
    from provision.walk.crash import crash_around, read_crash_point

    crash_point = read_crash_point(os.environ)  # refused while nothing is opened
    quiet = options["as_json"]
    question = KeyQuestion(options["host_key"], ask=_ask_for_key if not quiet and _somebody_is_there() else None)
    chosen = choose_plan(options, question)
    if options["pack_first"]:
        chosen = _packed_first(chosen, options, question)
    opened = _open(chosen, options, _look_ahead())
    plan, alternatives = opened.plan, opened.alternatives
    with at_its_place(options, Path.cwd()):
        base = find_base(plan.request.model)
    places = read_places()
    require_folder(places.cache, variable=CACHE_VARIABLE)
    Ledger(places.ledger).require_place()
    alerts = _checked_alerts(places, options["alerts"])
    url = state_place(places, options["state"])
    place = Place(url) if url else None
    taken = Taken(pushes=place is not None)
    require_time_to_train(plan, taken)
    tight = require_room(plan, places)
    _show(opened, taken, quiet=quiet)
    others = beside_words(plan, Ledger(places.ledger).runs().values(), now_s=time.time(), plan_of=plan_in(places))
    for told in filter(None, (tight, others, *foreseen(plan.request))):
        say(note(told), err=quiet)
    require_parts(plan.offer.provider, places)  # nobody is asked to agree to what this machine can't do
    require_hub_access(base, os.environ)
    require_provider(plan.offer.provider, places=places, user_at_host=plan.request.where.host)
    base = _pinned(base, plan, is_preview=options["preview"], quiet=quiet)  # the last, as the only one that asks the network
    if options["preview"]:
        return _preview(plan, places, taken, as_json=quiet)
    _ask(plan, options)
    run_id = open_run(
        plan,
        base,
        places=places,
        ledger=Ledger(places.ledger, around=crash_around(crash_point)),
        clock=time.time,
        agreed=Agreed(
            host_key=question.agreed or vouched_key(plan.request.where.host),
            alerts=alerts,
            alternatives=alternatives,
            dearer=options["dearer"],
            taken=taken,
        ),
    )
    if place is not None:
        _publish(place, run_id, places)
    if not quiet:
        click.echo(f"Run {run_id}")
    return _detach(run_id, places, as_json=quiet) if options["detach"] else _drive(run_id, places, question, as_json=quiet)


def _packed_first(chosen: Chosen, options: dict[str, Any], question: KeyQuestion) -> Chosen:
    """With its base packed at home, where that is cheaper; of a preview as it is."""
    from provision.envelope.show import say
    from provision.home.places import read_places
    from provision.prepare.choosing import choose_plan
    from provision.prepare.inputs.packed_first import packed_first
    from provision.prepare.quantizing import quantize_here

    def tell(words: str) -> None:
        say(f"Note: {words}.", err=options["as_json"])

    if options["preview"]:
        tell("a preview packs nothing: what is shown is of the base as it is")
        return chosen
    return packed_first(
        chosen,
        lambda folder: choose_plan(options | {"model": folder}, question),
        cache=read_places().cache,
        pack=quantize_here,
        say=tell,
    )


def _pinned(base: BaseModel, plan: Plan, *, is_preview: bool, quiet: bool) -> BaseModel:
    """The base at the revision that its hub has now. Raises HubSilent; in a preview that is told and no more."""
    import os

    from provision.envelope.show import say
    from provision.errors import HubSilent
    from provision.prepare.inputs.hub import pinned

    try:
        return pinned(base, plan.request.revision, os.environ)
    except HubSilent as error:
        if not is_preview:
            raise
        say(f"Note: {error} Nothing of that is in a preview; a run is not begun without it.", err=quiet)
        return base


def _look_ahead() -> Callable[[Offer], Outlook]:
    """At the real clouds; what their quotas don't admit is kept for `plan`."""
    import os

    from provision.home.places import read_places
    from provision.prepare.ahead import LookAhead
    from provision.prepare.asking import market
    from provision.prepare.limits.quotas import remember_today

    return LookAhead(os.environ, market().gpus, remember=remember_today(read_places().quotas))


def _open(chosen: Chosen, options: dict[str, Any], look: Callable[[Offer], Outlook]) -> Open:
    """What was chosen, or what comes after it where that would be asked for in vain.

    Raises Refused where nothing is left, and where what is left is much dearer and nobody is asked about it.
    """
    from provision.errors import Refused
    from provision.prepare.ahead import first_open
    from provision.walk.offers.attempts import dearer_question

    opened = first_open((chosen.plan, *chosen.alternatives), look)
    dearer = dearer_question(opened.plan, chosen.plan) if opened.passed else None
    if dearer is not None and options["yes"] and not options["dearer"]:
        why = "; ".join(f"{each.offer}: {each.why}" for each in opened.passed)
        raise Refused(f"{why}. {dearer}", hint="--dearer agrees to it.")
    return opened


def _publish(place: Place, run_id: str, places: Places) -> None:
    """Before anything is rented. Where the store does not take it the run is over, and nothing was rented."""
    from provision.account.ledger import Ledger
    from provision.errors import RentuneError
    from provision.home.clocks import CLOCKS
    from provision.walk import renting

    try:
        place.publish(run_id, places)
    except (RentuneError, OSError):
        renting.end_unrented(run_id, ledger=Ledger(places.ledger), clock=CLOCKS.wall)
        raise


def _checked_alerts(places: Places, said: tuple[str, ...]) -> tuple[str, ...]:
    """Whom the run tells: as the organisation, the user and the command line say. Raises BadInput for what is no target."""
    from provision.prepare.limits.policy import read_policies
    from provision.watch.alerts import read_target, target_of

    targets = (*(target for policy in read_policies(places) for target in policy.alerts), *map(read_target, said))
    for target in targets:
        target_of(target)
    return targets


def _show(opened: Open, taken: Taken, *, quiet: bool) -> None:
    """The plan on stdout, what was passed over for it, and how many may take its place.

    Where stdout is for JSON, on stderr what is risky about it.
    """
    import time

    from planner.report import render_plan
    from planner.report.legend import TIGHT
    from planner.report.lines import wrapped
    from planner.report.words import note
    from provision.envelope.show import say, width_columns
    from provision.prepare.beside import environment_words
    from provision.prepare.limits.deadline import deadline_words, forsaken_words, lease_words
    from provision.providers import never_met, reach_words

    plan, alternatives = opened.plan, opened.alternatives
    for each in opened.passed:
        say(note(f"{each.offer} is passed over: {each.why}"), err=quiet)
    if quiet:
        if plan.verdict == "tight":
            say(note(f"this plan is tight: {TIGHT}"), err=True)
        if unmet := never_met(plan.offer.provider):
            say(note(unmet), err=True)
        return
    click.echo(render_plan(plan, width=width_columns(), colour=sys.stdout.isatty()))
    if unmet := never_met(plan.offer.provider):
        say(note(unmet))
    if there_first := environment_words(plan):
        say(there_first)
    now_s = time.time()
    deadline, forsaken = (tell(plan, now_s=now_s, taken=taken) for tell in (deadline_words, forsaken_words))
    told = f"Deadline: {deadline}\nIf this machine dies meanwhile: {forsaken}"
    if lease := lease_words(plan, taken):
        told += f"\nLease: {lease}"
    if reach := reach_words(plan.offer.provider, plan.request.where.allow_from):
        told += f"\nSSH: {reach}."
    click.echo("\n".join(wrapped(told, width_columns())))
    if opened.quota is not None:
        say(f"Quota: {opened.quota}.")
    if alternatives:
        number = "one other offer" if len(alternatives) == 1 else f"one of {len(alternatives)} others"
        say(f"Where that offer can't be had, {number} may take its place; at over a quarter more only with a yes (--dearer).")


def _ask(plan: Plan, options: dict[str, Any]) -> None:
    from provision.errors import Refused

    if options["yes"]:
        return
    if options["as_json"] or not _somebody_is_there():
        raise Refused("Nobody is there to agree to the plan.", hint="Add --yes to run it without being asked.")
    if not click.confirm("Run it, tight as it is?" if plan.verdict == "tight" else "Run it?"):
        raise Refused("Nothing was rented.")


def _preview(plan: Plan, places: Places, taken: Taken, *, as_json: bool) -> int:
    import os
    import time

    from provision.envelope.show import show
    from provision.prepare.preview import preview

    seen = preview(plan, places=places, environment=os.environ, now_s=time.time(), taken=taken)
    return show("run", seen, lambda: _draw_preview(seen), as_json=as_json)


def _draw_preview(seen: Preview) -> None:
    """What the order comes to, then each resource with what is asked of it."""
    import datetime as dt

    from planner.asking.request import OWN_MACHINES
    from planner.report.lines import wrapped
    from provision.clouds.programs import CLOUDS
    from provision.envelope.show import console, say, width_columns
    from provision.report.tables import Table
    from provision.report.terminal import draw

    for each in seen.resources:
        title = f"{each.kind} ({each.name})"
        rows = tuple(each.properties.items())
        console().print(draw(Table(title=title, columns=("property", "value"), rows=rows, of_words=True)))
    where = "" if seen.provider in OWN_MACHINES or seen.region == ANYWHERE else f" in {seen.region}"
    price = "" if not seen.usd_per_hour else f", {seen.purchase.replace('_', ' ')}: ${seen.usd_per_hour} an hour"
    deadline = dt.datetime.fromtimestamp(seen.deadline_at_s).astimezone()
    order = (
        f"{seen.instance_type}{where} at {seen.provider}{price}, "
        f"{seen.disk_gib} GiB of disk, ended at {deadline:%Y-%m-%d %H:%M %Z} at the latest."
    )
    click.echo("\n".join(wrapped(order, width_columns())))
    if seen.provider in CLOUDS and not CLOUDS[seen.provider].packages:  # no vendor's plugin stands between
        title = CLOUDS[seen.provider].title
        say(f"{title} was asked nothing: neither the key nor what is free there was tried.")
    click.echo("Nothing was created." if seen.resources else f"At {seen.provider} nothing is created. Nothing was done.")


def _ask_for_key(fingerprint: str) -> bool:
    return click.confirm(f"The host shows the key {fingerprint}. Is it the right one?", err=True)


def _detach(run_id: str, places: Places, *, as_json: bool) -> int:
    from provision.account.ledger import Ledger
    from provision.charge.ends.verdicts import told_if_cut_off
    from provision.charge.supervise import start_supervisor
    from provision.envelope.show import show
    from provision.home.clocks import CLOCKS

    with told_if_cut_off(run_id, Ledger(places.ledger)):
        pid = start_supervisor(run_id, places=places, clocks=CLOCKS)

    def draw() -> None:
        for line in (f"In charge: process {pid}", f"Watch:     rentune logs -f {run_id}", f"End:       rentune down {run_id}"):
            click.echo(line)  # the commands, so that they can be copied

    return show("run", {"run_id": run_id, "pid": pid}, draw, as_json=as_json)


def _drive(run_id: str, places: Places, question: KeyQuestion, *, as_json: bool) -> int:
    from provision.commands.driving import drive_and_report

    return drive_and_report(run_id, places, command="run", as_json=as_json, confirm=question)


def _somebody_is_there() -> bool:
    """Whether a question can be answered: standard input is a terminal. It may also be closed."""
    return sys.stdin is not None and sys.stdin.isatty()
