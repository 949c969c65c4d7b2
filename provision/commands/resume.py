"""`rentune resume`"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from provision.account.runs import RunState
    from provision.errors import Refused
    from provision.home.places import RunFolder


@click.command("resume")
@click.argument("run")
@click.option(
    "--state", envvar="RENTUNE_STATE", metavar="URL", help="Where its state lies, if it was opened on another machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
def command(run: str, state: str | None, as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """Take control of a run again, wherever it stands.

    A trainer that runs is followed, one that ended is brought home, one that was killed goes on from its checkpoint. When
    the box is gone the books are closed with what is here.

    A run that was opened with --state can be taken up on any machine that has its passphrase (RENTUNE_STATE_PASSPHRASE). One
    machine at a time has it: another is refused until the first has let go, or was silent for a minute and a half.
    """
    from provision.charge.controller import controlled_by_another, lives_on
    from provision.commands.driving import drive_and_report
    from provision.commands.whereabouts import run_brought
    from provision.errors import EndUnseen, MissingPart, PapersLost, Refused
    from provision.home.places import read_places
    from provision.prepare.papers import lost_papers

    places = read_places()
    stands = run_brought(run, state, places, up_to_date=True)
    folder = places.run(stands.run_id)
    if stands.over and stands.billed:
        raise _over(stands, folder)
    if lives_on(stands):
        raise controlled_by_another(stands.run_id, stands)
    if lost := lost_papers(folder):
        refusal = Refused if not stands.may_bill else PapersLost
        what = "is damaged" if lost[0].exists() else "is missing"
        raise refusal(f"{lost[0]} {what}, and the run can't go on without it.", hint=f"rentune down {stands.run_id}")
    try:
        return drive_and_report(stands.run_id, places, command="resume", as_json=as_json, goes_on=True)
    except MissingPart as error:
        if not stands.may_bill:
            raise
        what = f"{error} Nobody is in charge of run {stands.run_id}, and its box may bill until its deadline."
        raise EndUnseen(what, hint=error.hint) from None


def _over(state: RunState, folder: RunFolder) -> Refused:
    """A run that is over can only be looked at, where its receipt is still there."""
    from provision.commands.report import without_receipt
    from provision.errors import Refused
    from provision.walk.books import read_receipt

    if read_receipt(folder) is None:
        return without_receipt(state, folder)
    if folder.go_on.exists():
        said = f"Run {state.run_id} is over; another one goes on with the weights of its checkpoint, for what was left."
        return Refused(said, hint=f"rentune run {shlex.quote(str(folder.go_on))}")
    return Refused(f"Run {state.run_id} is over.", hint=f"rentune report {state.run_id}")
