"""The job on a box that answers: started where it does not run, followed to its end, its results brought home."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from provision.aboard import job, ship
from provision.aboard.checkpoints import ship_checkpoints
from provision.aboard.compiler import ensure_compiler
from provision.aboard.readers import ensure_readers
from provision.aboard.renewal import mark_fetched
from provision.errors import (
    BoxLost,
    ConnectionFailed,
    ControlLost,
    Declined,
    HomeFailed,
    ProvisionError,
    Reason,
    RentuneError,
    ResultOnBox,
    Scope,
    Spoilt,
    TrainingFailed,
    WrongHostKey,
)
from provision.handoff import Handoff, hand_off
from provision.home.whole import at_home, write_whole
from provision.prepare.inputs import hub_secrets, input_files
from provision.prepare.inputs.base_files import unread_of
from provision.seam import Box
from provision.ssh import Shell
from provision.walk.driven import Run
from provision.walk.job.at_home import of_another, result_waits
from provision.walk.job.carrying import Carrier, bring_learned, ended_after, granted
from provision.walk.job.driver_awaited import driver_awaited
from provision.walk.job.foresight import Foresight
from provision.walk.job.patience import (
    HOME_WAIT_S,
    armed_again,
    is_overdue,
    more_time,
    patiently,
    pause,
    require_time,
    require_time_to_ask,
    unasked,
    wait_for_box,
)
from provision.walk.job.stopping import leaving_s
from provision.walk.job.tending import begin_anew, begun_by_somebody, ended_by_lease
from provision.walk.phases import Phases
from provision.watch.view import read_events
from provision.words import seconds_words
from remote.contract import EndReason, Event, JobSpec, Outcome, Phase, decode, encode

MAX_RESTARTS: Final = 3  # assumed: a trainer that is killed more often will be killed again
LOG_TAIL_LINES: Final = 5
PAST_S: Final = 600.0  # assumed: past its deadline a box that bills is listened to no longer; 1 GB of adapter at 2 MB/s
BUILD_LINE_S: Final = 20.0  # assumed: between two lines on the terminal, of minutes
MOST_WORDS: Final = 80  # assumed: characters of such a line
KILLED: Final = "The trainer was killed"
REBOOTED: Final = "The box was rebooted, which ended the trainer"
LEASE_ENDED: Final = "Nobody had renewed its lease, which stopped the trainer"
OVERDUE: Final = "The box says that its trainer runs, long past the deadline, so the run counts as over."


def require_inputs(run: Run) -> None:
    """Raises TrainingFailed when what the box will need is no longer at home."""
    missing = [str(path) for path in input_files(run.plan, run.base) if not path.exists()]
    if missing:
        raise TrainingFailed(f"{missing[0]} is no longer there.", hint="Put it back and resume, or end the run.")


UNFIT: Final = (EndReason.PREFLIGHT, EndReason.STALLED)  # ends that are a machine's fault, as far as anybody can tell


def train(run: Run, phases: Phases, shell: Shell, box: Box) -> None:
    """Start the trainer unless it runs or has ended, follow it to its end, and bring home what there is: where there is no
    result, what it had saved. One that its box says to run on and on after the deadline is asked for a result once.

    Ctrl-C stops the trainer; where that had a result already, it comes home all the same, else its last checkpoint does, unless
    Ctrl-C comes once more.
    Raises ResultOnBox when there is a result and it can't be brought home.
    """
    try:
        with ended_after(shell, max(0.0, run.left_s) + PAST_S) if box.ours else nullcontext():
            _follow(run, phases, shell, box)
            outcome = _bring_home(run, phases, shell, box)
    except KeyboardInterrupt:
        _announce_end(run)
        if not stopped_with_result(run, shell, box, otherwise="once more Ctrl-C goes straight to the teardown"):
            raise
        run.display.note("The result is on the box and is brought home first; once more Ctrl-C gives it up.")
        outcome = _bring_home(run, phases, shell, box)
    except (BoxLost, ControlLost, ResultOnBox):
        raise
    except Exception:  # whatever it was, the box goes now, and what it has learned goes with it
        bring_learned(run, shell, box)
        raise
    if not outcome.trained:
        bring_learned(run, shell, box)
        raise _without_result(run, outcome, box)


def _without_result(run: Run, outcome: Outcome, box: Box) -> RentuneError:
    """A rented machine that is not what was ordered, or on which a step hung, is declined by us: another may do."""
    words = f"The trainer ended without a result ({outcome.reason.value}): {outcome.message}"
    if outcome.reason in UNFIT and box.ours:
        return Declined(words, reason=Reason.HOST, scope=Scope.OFFER)
    return TrainingFailed(words, hint=more_time(run) if outcome.reason is EndReason.DEADLINE else None)


def _bring_home(run: Run, phases: Phases, shell: Shell, box: Box) -> Outcome:
    """Fetch until it is here or the deadline comes. Raises ResultOnBox where the box has the only copy, or may have."""
    try:
        with phases.timed(Phase.FETCH):
            return patiently(run, lambda: fetch(run, shell, box))
    except (BoxLost, ControlLost, ResultOnBox, TrainingFailed):
        raise
    except Exception as error:
        waits = result_waits(run)
        if box.ours and (run.left_s <= 0 or not waits):
            raise
        if not waits:
            raise unasked(run, str(error)) from error
        until = " until the box's deadline" if box.ours else ""
        raise ResultOnBox(
            f"The result is on the box and could not be brought home: {error}",
            hint=f"rentune resume {run.run_id} tries again{until}.",
        ) from error


def _start(run: Run, phases: Phases, shell: Shell, box: Box, *, again: bool) -> None:
    """Ship what the box lacks and start the trainer. One that ran before has its inputs there: `again` asks home for none.

    Nothing is done where an earlier try has started it and the answer was lost: it runs from what would be written over.
    """
    standing = job.state(shell, box).state
    if standing == "unknown":
        raise ConnectionFailed(f"{box.host} does not say whether the trainer runs.")
    if standing in ("running", "ended"):
        return
    with phases.timed(Phase.ENVIRONMENT):
        ship.require_cache(shell, box)
        ship.ship_package(shell, box)
        python = _ensured_environment(run, shell, box)
    handed = _handoff(run, box)
    if not again:
        with phases.timed(Phase.DOWNLOAD):
            require_inputs(run)
            files = {Path(home): there for home, there in handed.files.items()}
            base = [Path(run.base.path)] if run.base.path is not None else []
            ship.ship_inputs(shell, box, files, leave_out={folder: unread_of(folder) for folder in base if folder.is_dir()})
            ship_checkpoints(shell, box, run.folder.checkpoints)
    secrets = hub_secrets(run.base, os.environ)
    armed_again(run, box)  # a reboot may have come before, too: while the environment was built
    grants = granted(run, again=again)
    job.start(shell, box, handed.spec, python=python, secrets=secrets, grants=grants, clock=run.clocks.wall)


def _ensured_environment(run: Run, shell: Shell, box: Box) -> str:
    """Of the interpreter that trains. Where the deadline has ended the build, that is what is told of it."""
    try:
        heard = Build(run).said
        python = ship.ensure_environment(shell, box, progress=heard)
        ensure_compiler(shell, box, run.plan.strategy, python, progress=heard)
        return ensure_readers(shell, box, run.plan.strategy, python, progress=heard)
    except ProvisionError:
        require_time(run)
        raise


class Build:
    """Hears whoever builds the environment: every word goes to its log, one now and then to the terminal. A disk that is full
    stands in no way.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._began_s = run.clocks.steady()
        self._next_s: float | None = None

    def said(self, line: str) -> None:
        """Told of hundreds of packages nobody sees what they wait for."""
        now_s, word = self._run.clocks.steady(), line.strip()
        with suppress(OSError), self._run.folder.environment_log.open("a") as log:
            log.write(f"{line.rstrip()}\n")
        if self._next_s is None:
            log_at = self._run.folder.environment_log
            self._run.display.note(f"The trainer's environment is built there; all that is said of it: {log_at}")
        elif now_s >= self._next_s and word:
            self._run.display.note(f"  after {seconds_words(now_s - self._began_s)}: {word[:MOST_WORDS]}")
        else:
            return
        self._next_s = now_s + BUILD_LINE_S


def _handoff(run: Run, box: Box) -> Handoff:
    """The job as it was handed over the first time; a restarted trainer must read the same."""
    handed = hand_off(
        run.plan,
        run.base,
        run_id=run.run_id,
        job_folder=job.job_folder(box),
        billed_since_s=run.state.rentals[-1].started_at_s,
        started_at_s=run.clocks.wall(),
        deadline_at_s=run.state.deadline_at_s,
    )
    with suppress(OSError, msgspec.DecodeError):  # an unreadable one is made anew
        return msgspec.structs.replace(handed, spec=decode(run.folder.job.read_bytes(), JobSpec))
    write_whole(run.folder.job, encode(handed.spec))
    return handed


def _follow(run: Run, phases: Phases, shell: Shell, box: Box) -> None:
    """Until the job has ended, started where it is not, or is overdue. A silent box is waited for until the deadline."""
    restarts, hearers = 0, (phases.heard, Carrier(run, shell, box).heard, Foresight(run).heard)
    while True:
        seen = job.state(shell, box)
        standing = seen.state
        if standing in ("never_started", "killed"):
            if run.left_s <= 0 and left_result(shell, box):  # it was finished, and killed on its way out
                return
            require_time(run)
            if standing == "killed":
                restarts = allow_restart(run, shell, box, restarts, why=REBOOTED if seen.rebooted else KILLED)
                driver_awaited(run, shell, box)  # by this boot: a reboot loads it anew
            elif ended_by_lease(run, shell, box):  # before it had begun
                begin_anew(run, shell, box)
            with begun_by_somebody(run, shell, box):
                learned = standing == "killed"  # and its checkpoints are on the box
                begin = partial(_start, run, phases, shell, box, again=learned)
                patiently(run, begin, home_wait_s=math.inf if learned else HOME_WAIT_S)
        elif standing == "unknown":
            wait_for_box(run)
            continue
        elif standing == "running" and is_overdue(run):
            run.display.note(OVERDUE)
            return
        _hear(run, shell, box, hearers)
        if job.state(shell, box).state == "ended":
            return


def allow_restart(run: Run, shell: Shell, box: Box, restarts: int, *, why: str) -> int:
    """The number of restarts with this one; a lease that has ended is no fault of the trainer's, and counts for none.

    Raises TrainingFailed where it was killed too often, LeaseEnded of a rented box whose lease has ended.
    """
    if ended_by_lease(run, shell, box):
        begin_anew(run, shell, box)
        why = LEASE_ENDED
    else:
        restarts += 1
    if restarts > MAX_RESTARTS:
        raise TrainingFailed(f"The trainer was killed {restarts} times.", hint=f"Its log: {run.folder.log}")
    run.display.note(f"{why}; starting it again from its last checkpoint.")
    return restarts


def _hear(run: Run, shell: Shell, box: Box, hearers: tuple[Callable[[Event], object], ...]) -> None:
    """The trainer's events, each told to every hearer, until it ends or the line is cut."""
    try:
        with at_home(run.folder.events):
            heard = job.events(shell, box, run.folder.events, tell=run.display.note, given_up=lambda: is_overdue(run))
            for event in heard:
                for tell in hearers:
                    tell(event)
    except WrongHostKey:
        raise
    except ConnectionFailed as error:
        run.display.note(f"{error} The run goes on without us; trying again.")
    except HomeFailed as error:
        run.display.note(f"{error.in_full} The run goes on without us; trying again.")
        require_time_to_ask(run)
        pause(run)


def _announce_end(run: Run) -> None:
    """Say in the ledger that this controller is ending the run: whoever wants that, too, waits instead of asking again."""
    controlled = run.state.controlled
    if controlled is None:
        return
    with suppress(OSError):  # a full disk: who is not told waits a little longer, and the trainer must be stopped in any case
        run.ledger.append(msgspec.structs.replace(controlled, at_s=run.clocks.wall(), ending=True))


def stopped_with_result(run: Run, shell: Shell, box: Box, *, otherwise: str) -> bool:
    """Ask the trainer to save and leave, and bring home its words; whether it had a result by then that is not at home.

    Where it had none its last checkpoint comes home. A box that does not answer must not delay the teardown; a host of the
    user's that does not bills nothing: raises ResultOnBox. `otherwise`: what whoever does not want to wait may do.
    """
    patience_s = leaving_s(_latest_events(run, shell, box), run.plan)
    if job.state(shell, box).state != "ended":
        run.display.note(f"Stopping the trainer, which may take up to {seconds_words(patience_s)}; {otherwise}.")
    try:
        job.stop(shell, box, patience_s=patience_s)
        with suppress(TrainingFailed, Spoilt):  # its word is another's, or none
            _fetch_outcome(run, shell, box)
    except (RentuneError, OSError) as error:
        if not box.ours:
            raise unasked(run, str(error)) from error
        return result_waits(run)
    if result_waits(run):
        return True
    bring_learned(run, shell, box)
    _fetch_log(run, shell, box)
    return False


def left_result(shell: Shell, box: Box) -> bool:
    """Whether there is a result on a box, as far as it says so."""
    with suppress(RentuneError):
        outcome = job.outcome(shell, box)
        return outcome is not None and bool(outcome.adapter)
    return False


def _latest_events(run: Run, shell: Shell, box: Box) -> list[Event]:
    """What the trainer said last, as the box has it; where that does not answer, as it is known here."""
    with suppress(RentuneError):
        return job.last_events(shell, box)
    return read_events(run.folder.events)


def fetch(run: Run, shell: Shell, box: Box) -> Outcome:
    """Outcome, adapter and log: what nobody has a copy of comes first, and the box hears of it once that is home. Raises
    TrainingFailed without an outcome.
    """
    outcome = _fetch_outcome(run, shell, box)
    if outcome is None:
        _fetch_log(run, shell, box)
        past = f"{OVERDUE} " if is_overdue(run) else ""
        raise TrainingFailed(f"{past}The trainer left no outcome. Its last words: {last_words(run.folder.log)}")
    if outcome.adapter:
        _fetch_adapter(run, shell, box, outcome)
    _fetch_log(run, shell, box)
    if outcome.adapter:
        with suppress(RentuneError):  # who ends the box now needs no word; it is for a box that nobody ends
            mark_fetched(shell, box)
    return outcome


def _fetch_outcome(run: Run, shell: Shell, box: Box) -> Outcome | None:
    outcome = job.outcome(shell, box)
    if outcome is not None:
        write_whole(run.folder.outcome, encode(outcome))
    return outcome


def _fetch_log(run: Run, shell: Shell, box: Box) -> None:
    """As much of it as is kept. What fails is told: no result waits for it, and no box."""
    try:
        if said := job.log(shell, box):
            write_whole(run.folder.log, said.encode())
    except (RentuneError, OSError) as error:
        run.display.note(f"The trainer's log did not come home: {error}")


def _fetch_adapter(run: Run, shell: Shell, box: Box, outcome: Outcome) -> None:
    """Into the first folder that takes it, and has no other file by a name of its own. Raises HomeFailed when none does."""
    for folder in run.adapter_folders:
        if folder != run.adapter_folders[-1] and (other := of_another(outcome, folder)):
            run.display.note(f"{folder / other} is another's. The adapter goes to {run.folder.adapter} instead.")
            continue
        try:
            with at_home(folder):
                ship.fetch_adapter(shell, box, outcome, folder)
            break
        except HomeFailed as error:
            if folder == run.adapter_folders[-1]:
                raise
            run.display.note(f"{error} The adapter goes to {run.folder.adapter} instead.")


def last_words(log: Path) -> str:
    """The end of a log, on one line."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " / ".join(line.strip() for line in lines[-LOG_TAIL_LINES:] if line.strip()) or "none."
