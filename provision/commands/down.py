"""`rentune down`"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from provision.commands.ending import EndedRun


@click.command("down")
@click.argument("run", required=False)
@click.option(
    "--orphans",
    is_flag=True,
    help="End what nobody controls and was rented from here. With RUN: what carries its tag, whoever rented it.",
)
@click.option("--region", "regions", multiple=True, metavar="REGION", help="With --orphans: end what lies there; repeatable.")
@click.option("--all-regions", is_flag=True, help="With --orphans: whatever the region, as it does unless told otherwise.")
@click.option("--volumes", is_flag=True, help="End the volumes that are kept; with RUN: that run's, or the one of that name.")
@click.option("--gone", is_flag=True, help="Say that nothing of RUN is left, where nobody can be asked; asks for its id.")
@click.option("--discard", is_flag=True, help="Do not bring home a result that is finished.")
@click.option(
    "--state", envvar="RENTUNE_STATE", metavar="URL", help="Where its state lies, if it was opened on another machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def command(
    run: str | None,
    orphans: bool,  # noqa: FBT001 - click hands it over by name, as the others
    regions: tuple[str, ...],
    all_regions: bool,  # noqa: FBT001
    volumes: bool,  # noqa: FBT001
    gone: bool,  # noqa: FBT001
    discard: bool,  # noqa: FBT001
    state: str | None,
    as_json: bool,  # noqa: FBT001
) -> int:
    """End a run, or everything of yours that nobody controls.

    RUN is an id, or four or more letters of its start or end. A result that is finished and still on the box comes home first;
    a box whose result does not come is not ended.

    What carries our tag but was rented elsewhere is listed and left alone until five minutes after its deadline, by its cloud's
    clock: somebody may watch it. So is a run of yours that another machine has in hand.
    `rentune down --orphans RUN` ends one such run all the same. With --region (a name, or a pattern such as 'eu-*') only what
    lies there is ended, at whichever cloud, and AWS is asked there alone; what was seen elsewhere is named and left alone.

    Where a box was ended by hand and its cloud can't be asked any more, as with a token that was revoked, `rentune down --gone
    RUN` closes the books of that run after its deadline. The ledger says who has said so.

    Exit 0: nothing of it is left; 3: something still is, or nobody could see.
    """
    import os
    import time

    from provision.account.ledger import Ledger
    from provision.account.naming import LEAST_LETTERS
    from provision.charge.ownerless.regions import require_one_wish
    from provision.commands.ending import act_for, open_books
    from provision.commands.problems import unseen_problems
    from provision.commands.whereabouts import run_brought
    from provision.envelope.show import say, show
    from provision.errors import BadInput, Exit
    from provision.home.interrupt import interruptible
    from provision.home.places import read_places
    from provision.walk.crash import read_crash_point

    read_crash_point(os.environ)  # refused before anything is looked at
    _require_one_thing(run, orphans=orphans, volumes=volumes, gone=gone)
    require_one_wish(regions, everywhere=all_regions, orphans=orphans)
    places = read_places()
    if run is not None and not orphans:
        with suppress(BadInput):  # it may be nobody's run that a cloud still lists
            run = run_brought(run, state, places, least_letters=LEAST_LETTERS).run_id
    with interruptible():
        act = act_for(places, run, orphans=orphans, volumes=volumes, gone=gone, regions=regions)
        ended = act(places, run, discard=discard)
    runs = ended.runs(Ledger(places.ledger), now_s=time.time())
    clean = all(teardown.clean for teardown in ended.teardowns) and not ended.unseen

    def draw() -> None:
        told = [sentence for run in runs for sentence in _sentences(run)]
        for sentence in (*(told or ended.nothing), *ended.others):
            click.echo(sentence)
        for sentence in ended.limits:
            say(sentence)

    errors = unseen_problems(ended.unseen) + open_books(places, ended.teardowns)
    code = Exit.OK if clean else Exit.STILL_BILLS
    notes = (*(() if runs else ended.nothing), *ended.others, *ended.limits)
    return show("down", runs, draw, as_json=as_json, errors=errors, notes=notes, exit_code=code)


def _require_one_thing(run: str | None, *, orphans: bool, volumes: bool, gone: bool) -> None:
    """Raises BadInput for a question that asks for nothing, or for two things at once."""
    from provision.errors import BadInput

    if orphans and volumes:
        raise BadInput("--orphans and --volumes are two things to do.", hint="rentune down --orphans, then --volumes")
    if gone and (run is None or orphans or volumes):
        raise BadInput("--gone is said of one run, by itself.", hint="rentune down --gone RUN")
    if run is None and not orphans and not volumes:
        raise BadInput("Say which run, or --orphans.", hint="rentune down RUN, or rentune down --orphans")
    if run == "":
        raise BadInput("The run's id is empty.", hint="rentune ls")


def _sentences(run: EndedRun) -> tuple[str, ...]:
    """What is told of one run that was ended, or was to be."""
    from provision.commands.ending import cost_sentences, learned_sentences
    from provision.report.tables import left_sentences, teardown_words

    return (
        f"{run.run_id}: {teardown_words(run)}",
        *cost_sentences(run),
        *learned_sentences(run),
        *left_sentences(run, run.costs_on),
    )
