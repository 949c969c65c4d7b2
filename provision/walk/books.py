"""The end of a run on paper: receipt, report, calibration rows, and the last line in the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from catalogs.written import write_beside
from planner.methods import METHODS
from planner.plan import Plan
from planner.saved import read_plan
from provision.account.lines import Billed
from provision.account.receipt.calibration import calibrations, was_shared
from provision.account.receipt.closing import AtHome, Closing, Told
from provision.account.receipt.reckoning import reckon, with_open_books
from provision.account.receipt.value import EndedBy, Receipt, Restart
from provision.account.runs import RunState
from provision.errors import ControlLost
from provision.home.checkpoints import steps_at_home
from provision.home.faults import keep_fault
from provision.home.places import RunFolder
from provision.home.whole import write_whole
from provision.redact import redact
from provision.report.cost import COST_FILE, render_cost
from provision.report.page import render_page
from provision.walk.driven import Run
from provision.walk.going_on import job_that_goes_on, stopped_at
from provision.walk.job.at_home import adapter_home, read_outcome
from provision.walk.job.carrying import forget_pushed, may_have_pushed, meter_pushes
from provision.watch.curves import trace_curves
from provision.watch.starts import held_out_twins, restarts_of
from provision.watch.view import View, base_fetched_bytes, fold, measured, read_events
from remote.contract import checkpoint_name, checkpoint_step, decode


def close_books(run: Run, *, message: str, interrupted: bool, ended_by: EndedBy | None = None) -> Receipt:
    """Reckon what is known, write it down, and say so in the ledger. Safe to call again.

    A result at home goes to where the run's state lies before that: whoever was cut off in between closes the books again.
    The receipt and the ledger's line come first: what only shows them can be made again. What can't be written is told.
    Books that stay open are told in the receipt that is returned, too, and in its exit code.
    """
    meter_pushes(run)
    outcome = read_outcome(run.folder)
    home = adapter_home(run, outcome) if outcome else None
    if outcome is not None and outcome.trained and home is not None:
        run.ledger.put_away(outcome, home)
    receipt = _reckoned(run, message=message, interrupted=interrupted, ended_by=ended_by)
    closes = f"rentune resume {run.run_id} closes them."
    with _passed_over(run, "The books could not be closed", hint=closes) as troubles:
        write_whole(run.folder.receipt, msgspec.json.format(msgspec.json.encode(receipt), indent=1))
        run.ledger.append(billed(receipt))
    with _passed_over(run, "The calibration rows could not be written"):
        shared = was_shared(run.run_id, run.ledger.runs().values(), now_s=run.clocks.wall())
        append_calibrations(run.places.calibration, run.plan, receipt, shared=shared)
    with _passed_over(run, "What it cost could not be written beside the adapter"):
        if receipt.trained and home:
            write_whole(home / COST_FILE, render_cost(receipt).encode())
    with _passed_over(run, "The report could not be drawn"):
        write_whole(run.folder.report, render_page(receipt, run.plan, trace_curves(read_events(run.folder.events))).encode())
    if run.state.over:
        shutil.rmtree(run.folder.keys, ignore_errors=True)
    if receipt.trained:
        shutil.rmtree(run.folder.checkpoints, ignore_errors=True)
        run.folder.go_on.unlink(missing_ok=True)
        forget_pushed(run)
    return with_open_books(receipt, troubles[0]) if troubles else receipt


def with_books_open(run: Run, *, message: str, interrupted: bool) -> Receipt:
    """What is known so far of a run that `resume` goes on with: neither its receipt nor a last line is written."""
    receipt = _reckoned(run, message=message, interrupted=interrupted, ended_by=None)
    return msgspec.structs.replace(receipt, ending=msgspec.structs.replace(receipt.ending, left_open=True))


def _reckoned(run: Run, *, message: str, interrupted: bool, ended_by: EndedBy | None) -> Receipt:
    state = run.state
    events = read_events(run.folder.events)
    outcome = read_outcome(run.folder)
    if outcome is None and run.folder.outcome.exists():
        message = f"{message} {run.folder.outcome} is damaged and was passed over.".strip()
    home = adapter_home(run, outcome) if outcome else None
    checkpoint = last_checkpoint(run.folder)
    heard_s = fold(events).phase_s_until(_last_rented_s(state, run.clocks.wall()))
    return reckon(
        run.plan,
        state,
        Told(
            outcome=outcome,
            phase_s=outcome.phase_s if outcome else heard_s,
            last_phase_s=heard_s if run.folder.tries.exists() else None,
            heard=measured(events),
            base_fetched_bytes=base_fetched_bytes(events),
            random_base=run.base.kind == "config",
            restarts=tuple(Restart(**each._asdict()) for each in restarts_of(events)),
            held_out_twins=held_out_twins(events),
        ),
        home=AtHome(
            adapter_folder=str(home) if home else None,
            checkpoint_folder=checkpoint,
            go_on=_go_on(run, checkpoint, fold(events)),
            is_elsewhere=may_have_pushed(run),
        ),
        closing=Closing(at_s=run.clocks.wall(), interrupted=interrupted, ended_by=ended_by, message=message),
    )


def billed(receipt: Receipt) -> Billed:
    """The receipt as the ledger's last line."""
    return Billed(
        run_id=receipt.run_id,
        at_s=receipt.span.ended_at_s,
        exit_code=receipt.exit_code,
        trained=receipt.trained,
        planned_usd=receipt.planned_usd,
        metered_usd=receipt.metered_usd,
        wall_s=receipt.span.wall_s,
        phase_s={figure.name: figure.metered for figure in receipt.phases if figure.metered is not None},
    )


@contextmanager
def _passed_over(run: Run, what: str, *, hint: str = "") -> Iterator[list[str]]:
    """Tell a failure of the block and go on; the list that is yielded then holds what was told. The traceback of a fault of
    ours is kept in the run's directory.
    """
    troubles: list[str] = []
    try:
        yield troubles
    except ControlLost:
        raise  # they are another machine's to close
    except OSError as error:
        troubles.append(f"{what}: {error.strerror or error}. {hint}".strip())
    except Exception as error:  # noqa: BLE001 - a drawing must not keep the books open, nor hide the verdict
        troubles.append(redact(f"{what}: {error!r}. {hint}".strip()))
        keep_fault(run.folder)
    for trouble in troubles:
        with suppress(OSError):  # nobody reads along any more
            run.display.note(trouble)


def last_checkpoint(folder: RunFolder) -> str | None:
    """The folder of the newest checkpoint that is at home."""
    steps = steps_at_home(folder.checkpoints)
    return str(folder.checkpoints / checkpoint_name(steps[-1])) if steps else None


def write_go_on(run: Run) -> None:
    """The job file that goes on from what came home once the books were closed; nothing where nothing did."""
    _go_on(run, last_checkpoint(run.folder), fold(read_events(run.folder.events)))


def _go_on(run: Run, checkpoint: str | None, view: View) -> str | None:
    """Write the job file that goes on from that checkpoint; None where there is none, the method can't, or it can't be written,
    which is told.
    """
    if checkpoint is None or not METHODS[run.plan.strategy.method].goes_on:
        return None
    stopped = stopped_at(checkpoint_step(Path(checkpoint).name) or 0, run.plan, view)
    model = run.base.path or run.plan.request.model
    with _passed_over(run, "The job file that goes on could not be written") as troubles:
        said = job_that_goes_on(run.plan, run_id=run.run_id, model=model, checkpoint=checkpoint, stopped=stopped)
        write_whole(run.folder.go_on, said.encode())
    return None if troubles else str(run.folder.go_on)


def _last_rented_s(state: RunState, now_s: float) -> float:
    """When the last box was ended; a trainer without an outcome worked no longer than that."""
    ended_at_s = state.rental.ended_at_s if state.rental else None
    return now_s if ended_at_s is None else ended_at_s


def append_calibrations(path: Path, plan: Plan, receipt: Receipt, *, shared: bool = False) -> None:
    """One JSON line a figure that was both planned and metered, of a run that trained, and only once. `shared`: other runs were
    on its machine meanwhile.
    """
    written = path.read_bytes() if path.exists() else b""
    if not receipt.trained or f'"run_id":"{receipt.run_id}"'.encode() in written:
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("ab") as rows:
        rows.write(b"".join(msgspec.json.encode(row) + b"\n" for row in calibrations(plan, receipt, shared=shared)))


def read_receipt(folder: RunFolder) -> Receipt | None:
    """The receipt of a run whose books were closed. None also for a damaged one: closing the books makes it anew."""
    with suppress(OSError, msgspec.DecodeError):
        return decode(folder.receipt.read_bytes(), Receipt)
    return None


def write_page(folder: RunFolder, target: Path) -> None:
    """The HTML report of a closed run, made again at another place."""
    receipt = read_receipt(folder)
    if receipt is None:
        raise FileNotFoundError(folder.receipt)
    plan = read_plan(folder.plan.read_text(), name=str(folder.plan))
    write_beside(target, render_page(receipt, plan, trace_curves(read_events(folder.events))).encode())
