"""A run driven in the foreground: `run` and `resume`."""

from __future__ import annotations

import sys
import time
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

from provision.account.bill import usd_so_far
from provision.account.ledger import Ledger
from provision.charge.attendant import Attendant
from provision.charge.driving import drive
from provision.charge.ends.verdicts import told_if_cut_off
from provision.charge.finding import find_run
from provision.charge.supervise import hand_over
from provision.envelope import Problem
from provision.errors import Exit
from provision.providers import Confirm
from provision.walk.edges import Edges
from provision.watch.progress import LineDisplay, LiveDisplay

if TYPE_CHECKING:
    from provision.account.receipt.value import Receipt
    from provision.home.places import Places


LONGER: Final = "a larger --max-hours or --max-cost"  # of a run whose ledger does not say which of them set its deadline


def drive_and_report(
    run_id: str, places: Places, *, command: str, as_json: bool, goes_on: bool = False, confirm: Confirm | None = None
) -> int:
    """Drive a run to its end, show its report, and return its exit code. `goes_on` as in `drive`."""
    from provision.envelope.show import console, show
    from provision.report.terminal import print_report

    with told_if_cut_off(run_id, Ledger(places.ledger)):
        receipt = _watched(run_id, places, quiet=as_json, goes_on=goes_on, confirm=confirm)
    report = places.run(run_id).report
    report_file = str(report) if report.exists() else None  # a full disk takes none, which was told
    return show(
        command,
        receipt,
        lambda: print_report(receipt, console(), report_file=report_file),
        as_json=as_json,
        errors=problems_of(receipt, places),
        exit_code=receipt.exit_code,
    )


def _watched(run_id: str, places: Places, *, quiet: bool, goes_on: bool, confirm: Confirm | None) -> Receipt:
    from planner.saved import read_plan
    from provision.envelope.show import columns_of, console

    leave = partial(hand_over, run_id, places=places)
    if quiet or not sys.stdout.isatty():
        out = sys.stderr if quiet else sys.stdout
        reader = Attendant(confirm=confirm, hand_over=leave)
        return drive(run_id, Edges(places, LineDisplay(out, columns=columns_of(out))), goes_on=goes_on, attendant=reader)
    ledger = Ledger(places.ledger)
    state = find_run(ledger, run_id)
    ledger.remember(run_id)
    opened = state.opened
    folder = places.run(run_id)
    plan = read_plan(folder.plan.read_text(), name=str(folder.plan))

    def spent_usd() -> Decimal:
        return usd_so_far(find_run(ledger, run_id), now_s=time.time())

    def deadline_at_s() -> float:
        return find_run(ledger, run_id).deadline_at_s

    with LiveDisplay(console(), plan, opened_at_s=opened.at_s, deadline_at_s=deadline_at_s, spent_usd=spent_usd) as display:
        watcher = Attendant(confirm=confirm, agrees=partial(_agrees, display), hand_over=leave)
        return drive(run_id, Edges(places, display), goes_on=goes_on, attendant=watcher)


def _agrees(display: LiveDisplay, question: str) -> bool:
    """Ask whoever watches, where somebody can answer. Nothing bills meanwhile."""
    import click

    if sys.stdin is None or not sys.stdin.isatty():
        return False
    with display.paused():
        return click.confirm(question, err=True)


def problems_of(receipt: Receipt, places: Places) -> tuple[Problem, ...]:
    """What is wrong with how it ended, and what to type."""
    if receipt.exit_code == Exit.OK:
        return ()
    if receipt.exit_code == Exit.STILL_BILLS:
        hint: str | None = next_command(receipt)
    else:
        hint = f"{_longer(receipt.run_id, places)} leaves more time" if receipt.in_part else None
    if receipt.exit_code == Exit.IN_DOUBT:
        return tuple(Problem(message=f"{doubt.message[0].upper()}{doubt.message[1:]}.") for doubt in receipt.doubts)
    return (Problem(message=receipt.ending.message or "The run ended without a result.", hint=hint),)


def _longer(run_id: str, places: Places) -> str:
    """What would have moved the deadline that cut it short."""
    state = Ledger(places.ledger).runs().get(run_id)
    return LONGER if state is None or state.more_time is None else state.more_time


def next_command(receipt: Receipt) -> str:
    """What ends a box that may still bill; for one that was kept with a result in it, what brings that home first."""
    if receipt.teardown is not None:
        return receipt.teardown.command or f"rentune down {receipt.run_id}"
    return f"rentune {'resume' if receipt.ending.result_made else 'down'} {receipt.run_id}"
