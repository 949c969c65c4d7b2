"""`rentune down`"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from provision.envelope import Problem
    from provision.home.places import Places
    from provision.provisioner import Teardown


@click.command("down")
@click.argument("run", required=False)
@click.option(
    "--orphans",
    is_flag=True,
    help="End what nobody controls and was rented from here. With RUN: what carries its tag, whoever rented it.",
)
@click.option("--volumes", is_flag=True, help="End the volumes that are kept; with RUN: that run's, or the one of that name.")
@click.option("--discard", is_flag=True, help="Do not bring home a result that is finished.")
@click.option(
    "--state", envvar="RENTUNE_STATE", metavar="URL", help="Where its state lies, if it was opened on another machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def command(run: str | None, orphans: bool, volumes: bool, discard: bool, state: str | None, as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """End a run, or everything of yours that nobody controls.

    RUN is an id, or four or more letters of its start or end. A result that is finished and still on the box comes home first;
    a box whose result does not come is not ended.

    What carries our tag but was rented elsewhere is listed and left alone until its deadline: somebody may watch it. So is a
    run of yours that another machine has in hand.
    `rentune down --orphans RUN` ends one such run all the same.

    Exit 0: nothing of it is left; 3: something still is, or nobody could see.
    """
    import os

    from provision.account.naming import LEAST_LETTERS
    from provision.commands.problems import unseen_problems
    from provision.commands.whereabouts import run_brought
    from provision.envelope.show import show
    from provision.errors import BadInput, Exit
    from provision.home.interrupt import interruptible
    from provision.home.places import read_places
    from provision.report.tables import teardown_words
    from provision.walk.crash import read_crash_point

    read_crash_point(os.environ)  # refused before anything is looked at
    if orphans and volumes:
        raise BadInput("--orphans and --volumes are two things to do.", hint="rentune down --orphans, then --volumes")
    if run is None and not orphans and not volumes:
        raise BadInput("Say which run, or --orphans.", hint="rentune down RUN, or rentune down --orphans")
    if run == "":
        raise BadInput("The run's id is empty.", hint="rentune ls")
    places = read_places()
    if run is not None and not orphans:
        with suppress(BadInput):  # it may be nobody's run that a cloud still lists
            run = run_brought(run, state, places, least_letters=LEAST_LETTERS).run_id
    with interruptible():
        if volumes:
            teardowns, unseen, others = _end_volumes(places, run)
        elif orphans or (run is not None and _is_stray(places, run)):
            teardowns, unseen, others = _end_orphans(places, run, discard=discard)
        else:
            teardowns, unseen, others = (_end_run(str(run), places, discard=discard),), {}, ()
    clean = all(teardown.clean for teardown in teardowns) and not unseen

    def draw() -> None:
        for teardown in teardowns:
            click.echo(f"{teardown.run_id}: {teardown_words(teardown)}")
        if not teardowns and run is not None and volumes:
            click.echo(f"No volume of {run} is kept anywhere that could be seen.")
        elif not teardowns and run is not None:
            click.echo(f"Nothing that could be seen carries the tag of {run}.")
        elif not teardowns and volumes:
            click.echo("No volume is kept anywhere that could be seen.")
        elif not teardowns and not others:
            click.echo("Nothing of ours is left anywhere that could be seen.")
        for sentence in others:
            click.echo(sentence)

    errors = unseen_problems(unseen) + _open_books(places, teardowns)
    code = Exit.OK if clean else Exit.STILL_BILLS
    return show("down", teardowns, draw, as_json=as_json, errors=errors, exit_code=code)


def _open_books(places: Places, teardowns: tuple[Teardown, ...]) -> tuple[Problem, ...]:
    """Runs that were ended and have no receipt: nothing of them bills, and nobody can say what they cost."""
    from provision.account.ledger import Ledger
    from provision.envelope import Problem
    from provision.prepare.opening import lost_papers

    runs = Ledger(places.ledger).runs()
    ended = (runs[teardown.run_id] for teardown in teardowns if teardown.clean and teardown.run_id in runs)
    return tuple(
        Problem(
            message=f"The books of run {state.run_id} are open.",
            hint=None if lost_papers(places.run(state.run_id)) else f"rentune resume {state.run_id} closes them.",
        )
        for state in ended
        if state.billed is None
    )


def _is_stray(places: Places, run: str) -> bool:
    """Whether what carries the tag of a run that the ledger does not know is the user's to end."""
    from provision.account.ledger import Ledger
    from provision.account.naming import fitting
    from provision.charge.looking import look_for_orphans
    from provision.charge.orphans import stray_run_ids

    runs = Ledger(places.ledger).runs()
    if fitting(run, runs):
        return False
    return run in stray_run_ids(look_for_orphans(places))


def _end_run(run: str, places: Places, *, discard: bool, meant: bool = True) -> Teardown:
    import sys

    from provision.account.ledger import Ledger
    from provision.account.naming import LEAST_LETTERS
    from provision.charge.control import end, find_run, told_if_cut_off, told_if_it_bills
    from provision.watch.progress import LineDisplay

    ledger = Ledger(places.ledger)
    run_id = find_run(ledger, run, least_letters=LEAST_LETTERS).run_id
    act = partial(end, run_id, places=places, display=LineDisplay(sys.stderr), discard=discard, meant=meant)
    with told_if_cut_off(run_id, ledger):
        return told_if_it_bills(run_id, ledger, act)


def _end_volumes(places: Places, run: str | None) -> tuple[tuple[Teardown, ...], dict[str, str], tuple[str, ...]]:
    """The ends of the volumes that were kept, and who could not be asked."""
    import os
    import sys

    from provision.account.ledger import Ledger
    from provision.charge.looking import look_for_orphans
    from provision.charge.volumes import end_volume, kept_volumes
    from provision.home.installation import known_installation
    from provision.watch.progress import LineDisplay

    found = look_for_orphans(places)
    volumes = kept_volumes(found, run, ledger=Ledger(places.ledger), installation=known_installation(places))
    said = LineDisplay(sys.stderr).note
    ended = (end_volume(provider, each, places=places, environment=os.environ, note=said) for provider, each in volumes)
    return tuple(ended), found.unseen, ()


def _end_orphans(
    places: Places, run: str | None, *, discard: bool
) -> tuple[tuple[Teardown, ...], dict[str, str], tuple[str, ...]]:
    """The teardowns, who could not be asked, and a sentence for each run in other hands. `run`: only that one.

    Raises BadInput where everybody could be asked, and nobody knows that run.
    """
    from provision.account.ledger import Ledger
    from provision.charge.control import end_stray, ended_or_told
    from provision.charge.looking import look_for_orphans
    from provision.charge.orphans import controlled_sentences, elsewhere_sentences, only_run, other_sentences, stray_run_ids
    from provision.errors import BadInput, HeldElsewhere

    if run in Ledger(places.ledger).runs():
        raise BadInput(f"{run} was opened here.", hint=f"rentune down {run}")
    found = look_for_orphans(places)
    if run is not None:
        found = only_run(found, run)
        if found.nothing:
            raise BadInput(f"Nothing anywhere that was asked carries the tag of {run!r}.", hint="rentune ls --orphans")
    acts = {
        **{run_id: partial(end_stray, run_id, provider, places=places) for run_id, provider in stray_run_ids(found).items()},
        **{state.run_id: partial(_end_run, state.run_id, places, discard=discard, meant=False) for state in found.runs},
    }
    left_alone = other_sentences(found) + elsewhere_sentences(found) + controlled_sentences(found)
    teardowns: list[Teardown] = []
    held: list[str] = []
    for run_id, act in acts.items():
        try:
            teardowns.append(ended_or_told(run_id, act))
        except HeldElsewhere as error:
            held.append(f"{error} It is left alone; to end it: rentune down {run_id}, there.")
    unasked = {f"the store of run {each.run_id}": each.why for each in found.elsewhere if each.machine is None}
    return tuple(teardowns), found.unseen | unasked, (*left_alone, *held)
