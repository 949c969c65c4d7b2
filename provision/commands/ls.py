"""`rentune ls`"""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from provision.errors import BadInput, Exit
from provision.home.clocks import CLOCKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from provision.account.receipt.value import Receipt
    from provision.account.runs import RunState
    from provision.charge.ownerless.elsewhere import Elsewhere
    from provision.charge.ownerless.looking import Sky
    from provision.charge.ownerless.orphans import Orphans
    from provision.home.places import Places, RunFolder
    from provision.report.tables import Table
    from provision.seam import Owned, Resource
    from provision.state.shared import Shared
    from provision.watch.view import View

SHOWN = 20
BOOKS_OPEN = "ended, books open"
ORPHAN = "orphan"
BOX_GONE = "box gone"  # of a run that nobody controls either: nothing of it computes any more
IN_PART = "trained in part"
STATUSES: Mapping[int, str] = {
    Exit.OK: "trained",
    Exit.IN_PART: IN_PART,
    Exit.IN_DOUBT: "trained, in doubt",
    Exit.FAILED: "failed",
    Exit.INTERRUPTED: "interrupted",
}  # of a run that is over; of a code that this version does not know it only says that it ended
ASSUMED = "*"
NOT_AT_HOME = "result not at home"


@click.command("ls")
@click.option("--orphans", is_flag=True, help="Only what nobody controls: from the ledger, and by tag at each provider.")
@click.option("--region", "regions", multiple=True, metavar="REGION", help="With --orphans: look there alone; may be repeated.")
@click.option("--all-regions", is_flag=True, help="With --orphans: look in every region, as it does unless told otherwise.")
@click.option("--all", "everything", is_flag=True, help=f"Every run, not only the newest {SHOWN}.")
@click.option("--state", metavar="URL", help="Runs whose state lies there, whoever opened them.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def command(
    orphans: bool,  # noqa: FBT001 - click hands it over by name, as the others
    regions: tuple[str, ...],
    all_regions: bool,  # noqa: FBT001
    everything: bool,  # noqa: FBT001
    state: str | None,
    as_json: bool,  # noqa: FBT001
) -> int:
    """Runs, and what may still bill.

    With --orphans: exit 3 when something is found, a line of the ledger can't be read, or a provider could not be asked where a
    run was opened or whose credentials are here. Other clouds that can't be asked from here are named. AWS is asked region by
    region, so there --region (a name, or a pattern such as 'eu-*') saves time; the others show all regions in one list, and are
    asked for all.
    """
    from provision.charge.ownerless.regions import require_one_wish
    from provision.home.places import read_places

    if orphans and state is not None:
        raise BadInput(
            "--orphans asks providers and --state a store: two things to do.", hint="rentune ls --orphans, then --state"
        )
    require_one_wish(regions, everywhere=all_regions, orphans=orphans)
    places = read_places()
    if state is not None:
        return _show_shared(state, places, everything, as_json=as_json)
    return show_orphans(places, regions, as_json=as_json) if orphans else _show_runs(places, everything, as_json=as_json)


def _show_runs(places: Places, everything: bool, *, as_json: bool) -> int:  # noqa: FBT001
    from provision.account.ledger import Ledger
    from provision.charge.ownerless.elsewhere import ask_stores, in_other_hands
    from provision.commands.problems import ledger_problems
    from provision.envelope.show import show

    elsewhere = in_other_hands(places, ask_stores(places, CLOCKS), now_s=time.time())
    ledger = Ledger(places.ledger)
    runs = list(ledger.runs().values())
    shown = runs if everything else runs[-SHOWN:]
    rows = [_row(state, places, elsewhere.get(state.run_id)) for state in shown]
    title = f"{len(rows)} of {len(runs)} runs"
    return show("ls", rows, lambda: _draw(rows, title=title), as_json=as_json, errors=ledger_problems(ledger))


def _row(state: RunState, places: Places, elsewhere: Elsewhere | None) -> dict[str, Any]:
    """As this home has it; where another machine has the run, or may have, this home knows neither its end nor its sum."""
    row = describe(state, places, now_s=time.time())
    if elsewhere is None:
        return row
    row |= {"status": elsewhere.words, "machine": elsewhere.machine}
    return row if elsewhere.machine else row | {"usd": None, "phase": None}


def _show_shared(url: str, places: Places, everything: bool, *, as_json: bool) -> int:  # noqa: FBT001
    """What their books say, and this home where it knows more; nothing comes here by that."""
    from provision.account.ledger import Ledger
    from provision.commands.problems import unseen_problems
    from provision.envelope.show import show
    from provision.state.shared import shared_runs

    runs, unseen = shared_runs(url, ledger=Ledger(places.ledger))
    rows = [_shared_row(shared, places) for shared in (runs if everything else runs[-SHOWN:])]
    title = f"{len(rows)} of {len(runs)} runs at {url}"
    code = Exit.STILL_BILLS if unseen else Exit.OK
    errors = unseen_problems(unseen)
    return show("ls", rows, lambda: _draw_shared(rows, title=title), as_json=as_json, errors=errors, exit_code=code)


def _draw_shared(rows: list[dict[str, Any]], *, title: str) -> None:
    from provision.state.mirror import unsent_words

    _draw(rows, title=title)
    for row in rows:
        if row["unsent_lines"] and row["deadline_in_s"] is None:  # of a run that goes on its controller sends them
            click.echo(unsent_words(row["run_id"]))


def _shared_row(shared: Shared, places: Places) -> dict[str, Any]:
    """As of a run of this home; whether somebody is in charge its book knows, not the processes of this machine."""
    row = describe(shared.state, places, now_s=time.time())
    machine = shared.holder.machine if shared.holder is not None else None
    if machine is not None and not shared.state.over:
        row["status"] = f"running on {machine}"
    return row | {"machine": machine, "unsent_lines": shared.num_unsent}


def show_orphans(places: Places, regions: tuple[str, ...], *, as_json: bool, sky: Sky | None = None) -> int:
    """Print what nobody controls, and answer with the exit code. `regions`, `sky`: as of a look."""
    from provision.charge.ownerless.looking import look_for_orphans
    from provision.charge.rings.alarm import ring_for_strays
    from provision.commands.problems import unseen_problems
    from provision.envelope.show import say, show

    found = look_for_orphans(places, CLOCKS, *regions, sky=sky)
    ring_for_strays(found.strays, found, places=places, note=partial(say, err=True))
    rows = [describe(state, places, now_s=time.time()) for state in found.runs]
    data: dict[str, Any] = {
        "runs": rows,
        "strays": _items(found.strays, found),
        "over": found.over,
        "off": _items(found.off, found),
        "elsewhere": found.elsewhere,
        "kept": _items(found.kept, found),
        "others": _items(found.others, found),
        "unasked": found.unasked,
        "only_in": found.only_in,
        "accounts": found.accounts,
        "clock_ahead_s": found.ahead_s,
    }
    code = Exit.OK if found.nothing else Exit.STILL_BILLS
    errors = unseen_problems(found.unseen)
    return show("ls", data, lambda: _draw_orphans(found, rows), as_json=as_json, errors=errors, exit_code=code)


def _items(resources: tuple[tuple[str, Resource], ...], found: Orphans) -> list[dict[str, Any]]:
    """Each with what it costs on, and what it has cost by its tags; None where it has no bill of its own."""
    from provision.account.upkeep import is_billed, spent, upkeep

    return [
        {
            "provider": provider,
            "resource": each,
            "costs_on": upkeep(each, found.rule(provider, each)) if is_billed(each) else None,
            "spent": spent(each, found.rule(provider, each), now_s=found.seen_at_s),
        }
        for provider, each in resources
    ]


def describe(state: RunState, places: Places, *, now_s: float) -> dict[str, Any]:
    """One run as a row: what it is, where it stands or how it ended, what it has cost."""
    from provision.account.bill import cost_usd, costs_on, kept_usd_per_month
    from provision.account.upkeep import upkeep_words
    from provision.walk.books import read_receipt
    from provision.watch.view import fold, read_events

    over = state.over and state.billed is not None
    receipt = read_receipt(places.run(state.run_id)) if over else None
    heard = None if state.over else fold(read_events(places.run(state.run_id).events))
    return {
        "run_id": state.run_id,
        "model": state.opened.model,
        "provider": state.provider,
        "offer": state.rental.offer.key if state.rental else None,
        "status": _status_with_box(state, places, now_s=now_s),
        "phase": _phase(state, heard) if heard is not None else None,
        "training": _training(heard) if heard is not None else None,
        "reason": _reason(receipt),
        "reached": receipt.learning.reached if receipt else None,
        "opened_at_s": state.opened.at_s,
        "took_s": state.billed.wall_s if over and state.billed else now_s - state.opened.at_s,
        "usd": str(cost_usd(state, now_s=now_s)),
        "assumed": state.assumed,
        "keeps": [volume.id for volume in state.kept],
        "kept_usd_per_month": None if (monthly := kept_usd_per_month(state)) is None else str(monthly),
        "costs_on": {} if state.over else {id: upkeep_words(each) for id, each in costs_on(state).items()},
        "deadline_in_s": None if state.over else state.deadline_at_s - now_s,
        "lease_s": state.opened.lease_s,
        "cut_short_by_deadline": heard is not None and heard.outlasts(state.deadline_at_s),
        "tags": state.opened.tags,
    }


def _reason(receipt: Receipt | None) -> str | None:
    """The typed end of a run that is over; None where its trainer named none, or its receipt is gone.

    A trainer that came to its end and left nothing whole at home has not ended the run as it says.
    """
    if receipt is None:
        return None
    if receipt.ending.result_made and not receipt.trained:
        return NOT_AT_HOME
    return receipt.ending.ended_by or receipt.ending.reason


def _status_with_box(state: RunState, places: Places, *, now_s: float) -> str:
    """Where a run stands, with a look at a box on this machine: one that a reboot has ended trains no more."""
    told = status_in_books(state, places.run(state.run_id), now_s=now_s)
    return BOX_GONE if told == ORPHAN and _is_dead_here(state, places, now_s=now_s) else told


def _is_dead_here(state: RunState, places: Places, *, now_s: float) -> bool:
    """Whether its box was on this machine, and nothing of it runs. What can't be seen may run, and another computer's too."""
    from planner.asking.request import LOCAL
    from provision.account.runs import Standing
    from provision.charge.controller import Hands, hands_of
    from provision.prepare.papers import read_claim
    from provision.providers import provisioner_of_run
    from provision.seam import seen

    if state.provider != LOCAL or state.standing is not Standing.UP or state.box is None:
        return False
    folder = places.run(state.run_id)
    if not folder.root.exists() or hands_of(state, folder.lock, now_s=now_s) is not Hands.NOBODY:
        return False

    def asked() -> Owned:
        claim = read_claim(folder, state)
        return provisioner_of_run(claim, places=places).owned(claim)

    return seen(asked).lacks(state.box)


def status_in_books(state: RunState, folder: RunFolder, *, now_s: float) -> str:
    """One word or two for where a run stands, by its ledger and its lock alone."""
    from provision.charge.controller import Hands, hands_of

    is_held = hands_of(state, folder.lock, now_s=now_s) is Hands.HELD
    if state.over:
        if state.billed is None:
            return BOOKS_OPEN
        return STATUSES.get(state.billed.exit_code, "ended")
    if is_held:
        return "ending" if state.controlled and state.controlled.ending else "running"
    if state.opened.keep_box_on_failure and state.billed is not None:
        return "spared"
    return ORPHAN


def _phase(state: RunState, heard: View) -> str | None:
    """The trainer's phase where it is further than the controller's."""
    in_trainer = state.phase in ("download", "environment", "boot") and heard.phase is not None
    return heard.phase if in_trainer else state.phase


def _training(heard: View) -> dict[str, Any] | None:
    """How far it is; None before its first step, and once it is over."""
    if heard.phase not in ("train", "evaluate") or heard.num_steps is None or not 0 < heard.step < heard.num_steps:
        return None
    return {"step": heard.step, "num_steps": heard.num_steps, "eta_s": heard.eta_s}


def _draw(rows: list[dict[str, Any]], *, title: str) -> None:
    from provision.envelope.show import console
    from provision.report.terminal import draw

    if not rows:
        click.echo("No runs yet.")
        return
    console().print(draw(table(rows, title=title)))


def table(rows: list[dict[str, Any]], *, title: str) -> Table:
    """Five columns, so that a terminal of 80 has room for them."""
    from provision.report.tables import Table
    from provision.words import model_words, usd_words

    assumed = any(row["assumed"] and row["usd"] is not None and Decimal(row["usd"]) for row in rows)
    return Table(
        title=title,
        columns=("run", "model", "at", "stands", "spent"),
        of_words=True,
        unbroken=("run",),
        rows=tuple(
            (
                row["run_id"],
                model_words(row["model"]),
                row["provider"],
                stands(row),
                "unknown" if row["usd"] is None else _spent(Decimal(row["usd"]), usd_words, assumed=row["assumed"]),
            )
            for row in rows
        ),
        note=f"{ASSUMED} assumed (--assume-price): no provider bills it." if assumed else None,
    )


def _spent(usd: Decimal, words: Callable[[Decimal], str], *, assumed: bool) -> str:
    """With a mark alone, so that what a run is at has the room: the note below says what it means."""
    return f"{words(usd)}{ASSUMED}" if assumed and usd else words(usd)


def stands(row: dict[str, Any]) -> str:
    """As in "trained in 3 min 05 s", "trained in part in 3 min 05 s: 31 of 60 steps (deadline)", "failed after 41.2 s:
    deadline", "running: train, step 31 of 60, 4 min 10 s left, 5 min 02 s since the start; deadline in 2 h 10 min".
    """
    from provision.report.words import part_words
    from provision.words import deadline_words, seconds_words

    took, left_s = seconds_words(row["took_s"]), row["deadline_in_s"]
    if left_s is None:
        link = "after" if row["status"] in ("failed", "interrupted", "ended") else "in"
        why = f": {row['reason']}" if row["reason"] and row["status"] == "failed" else ""
        why = f": {part_words(row['reached'])}" if row["status"] == IN_PART else why
        kept = f"; its volume is kept: {_monthly(row['kept_usd_per_month'])}" if row["keeps"] else ""
        return f"{row['status']} {link} {took}{why}{kept}" if row["status"] != BOOKS_OPEN else f"{BOOKS_OPEN}{kept}"
    if row["usd"] is None:
        return str(row["status"])
    deadline = deadline_words(left_s)
    if row["cut_short_by_deadline"] and left_s > 0:
        deadline += ", before the training is through: what is trained by then comes home"
    left = "".join(f"; {id}: {words}" for id, words in row["costs_on"].items())
    at = f"{row['phase'] or 'opened'}, "
    if (training := row["training"]) is not None:
        at += f"step {training['step']:,} of {training['num_steps']:,}, "
        at += "" if training["eta_s"] is None else f"{seconds_words(training['eta_s'])} left, "
    return f"{row['status']}: {at}{took} since the start; {deadline}{left}"


def _monthly(usd: str | None) -> str:
    return "at a price that is not known" if usd is None else f"${Decimal(usd):.2f} a month"


def _draw_orphans(found: Orphans, rows: list[dict[str, Any]]) -> None:
    from provision.charge.ownerless import orphans

    told = (
        orphans.kept_sentences,
        orphans.other_sentences,
        orphans.elsewhere_sentences,
        orphans.controlled_sentences,
        orphans.off_sentences,
    )
    for sentence in (sentence for sentences in told for sentence in sentences(found)):
        click.echo(sentence)
    if found.nothing:
        click.echo(orphans.none_words(found))
        _say_what_limits(found)
        return
    if rows:
        _draw(rows, title="Runs that nobody controls")
    for sentence in orphans.stray_sentences(found):
        click.echo(sentence)
    if rows or found.strays:
        click.echo(f"End them: rentune down --orphans.{' Go on with a run: rentune resume RUN.' if rows else ''}")
    _say_what_limits(found)


def _say_what_limits(found: Orphans) -> None:
    from provision.charge.ownerless.regions import limit_sentences
    from provision.envelope.show import say

    for sentence in limit_sentences(found):
        say(sentence)
