"""The walk: from the opened line in the ledger to the receipt. It may be entered again wherever a run stands.

prepare      what the box will need is at home
create       a box, leased: from here on every way out ends in a teardown
boot         it answers, with the host key that we know
environment  the trainer and its interpreter are there
download     base and data are there
…            the trainer's own phases, followed by their events
fetch        adapter, outcome and log come home, hashes compared
teardown     the lease ends
confirm      the provider lists nothing of this run
receipt      planned against metered
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from planner.plan import Plan
from provision.aboard import job, ship
from provision.account.books import close_books
from provision.account.ledger import Created, Ended
from provision.account.receipt import Receipt
from provision.charge.held import Run
from provision.charge.phases import Phases
from provision.errors import ConnectionFailed, ProvisionError, RentuneError, TrainingFailed, WrongHostKey
from provision.handoff import Handoff, hand_off
from provision.lease import end, leased
from provision.prepare.inputs import input_files
from provision.provisioner import Answer, Box, ResourceEnd, Teardown
from provision.ssh import Shell, replace_host_key
from provision.ssh.keys import client_key
from remote.contract import LOG_FILE, JobSpec, Outcome, Phase, decode, encode

MAX_RESTARTS: Final = 3  # assumed: a trainer that is killed more often will be killed again
RECONNECT_S: Final = 5.0  # assumed: pause between two tries to reach a box that has gone silent
BOOT_FACTOR: Final = 3.0  # assumed: of the planned p90, before a box that does not answer is given up
LEAST_BOOT_S: Final = 60.0
STOP_PATIENCE_S: Final = 10.0  # assumed: enough for a checkpoint of an adapter
LOG_TAIL_LINES: Final = 5


def walk(run: Run) -> Receipt:
    """Go on from where the run stands, to its receipt. The caller holds the run's lock.

    What fails is told in the receipt, after the teardown; nothing is raised.
    """
    phases = Phases(run.run_id, run.ledger, run.display, clock=run.clock, crash_point=run.crash_point)
    ending = Ending(run)
    with ending.told():
        if not run.state.ended:
            _train_in_box(run, phases)
    with ending.told():
        _end_what_is_left(run, keep=ending.failed and run.state.opened.keep_box_on_failure)
    with ending.told(), phases.timed(Phase.CONFIRM):
        _confirm(run)
    return close_books(run, message=ending.message, interrupted=ending.interrupted)


class Ending:
    """What stopped a walk: the first failure in a sentence, and whether the user asked for it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.message = ""
        self.interrupted = False

    @property
    def failed(self) -> bool:
        return bool(self.message) and not self.interrupted

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn whatever the block raises into words: money is involved, so the books are closed in any case."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
            self._say("Stopped by the user.")
        except RentuneError as error:
            self._say(" ".join(filter(None, (str(error), error.hint))))
        except Exception as error:  # noqa: BLE001 - a fault of ours; the traceback is kept, the box is not
            with self._run.folder.controller_log.open("a") as log:
                log.write(traceback.format_exc())
            self._say(f"The controller failed: {error!r}. Details: {self._run.folder.controller_log}")

    def _say(self, words: str) -> None:
        self._run.display.note(words)
        self.message = self.message or words


# ── the box ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _train_in_box(run: Run, phases: Phases) -> None:
    """Everything between the first and the last second that may bill."""
    with phases.timed(Phase.PREPARE):
        missing = [str(path) for path in input_files(run.plan, run.base) if not path.exists()]
        if missing:
            raise TrainingFailed(f"{missing[0]} is no longer there.", hint="Put it back and resume, or end the run.")
    adopted = _standing_box(run)
    with ExitStack() as held:
        held.callback(phases.end)  # of the teardown; what the lease does on its way out lies in between
        lease = leased(
            run.plan.offer,
            run.launch,
            provisioner=run.provisioner,
            ledger=run.ledger,
            clock=run.clock,
            box=adopted,
            keep_on_failure=run.state.opened.keep_box_on_failure,
        )
        if adopted is None:
            with phases.timed(Phase.CREATE):
                box = held.enter_context(lease)
        else:
            box = held.enter_context(lease)
        held.callback(phases.begin, Phase.TEARDOWN)
        with phases.timed(Phase.BOOT):
            shell = Shell.connect(
                box, key=client_key(run.folder.keys, run_id=run.run_id).private, deadline_s=min(run.left_s, _boot_s(run.plan))
            )
            held.callback(shell.close)
            box = _with_own_host_key(run, shell, box)
        _train(run, phases, shell, box)


def _standing_box(run: Run) -> Box | None:
    """The box of an earlier controller, if it still stands; what an unfinished `create` left is ended first.

    Raises TrainingFailed when the box has gone without us, ProvisionError when its remains can't be ended.
    """
    state = run.state
    owned = run.provisioner.owned(run.run_id)
    if state.box is not None and state.rentals and state.rentals[-1].ended_at_s is None:
        if owned.complete is Answer.YES and not owned.resources:
            _end(run)
            raise TrainingFailed("The box is gone; it was ended by its deadline or by somebody else.")
        return state.box
    if state.rentals and state.rentals[-1].ended_at_s is None and not _end(run).clean:
        raise ProvisionError("An earlier attempt left something that could not be ended.", hint=f"rentune down {run.run_id}")
    return None


def _end(run: Run) -> Teardown:
    return end(run.launch, provisioner=run.provisioner, ledger=run.ledger, clock=run.clock)


def _end_what_is_left(run: Run, *, keep: bool) -> None:
    """For an end that came before the lease began: nothing was rented yet, or the asking was cut off."""
    state = run.state
    if not state.rentals:
        nothing = Teardown(run_id=run.run_id, verdict="destroyed", resources=(), message="Nothing was rented.")
        run.ledger.append(Ended(run_id=run.run_id, at_s=run.clock(), teardown=nothing))
    elif state.teardown is None and not (keep and state.box):
        _end(run)


def _boot_s(plan: Plan) -> float:
    planned = plan.duration.phase_s.get(Phase.BOOT)
    return max(LEAST_BOOT_S, BOOT_FACTOR * planned.p90 if planned else 0.0)


def _with_own_host_key(run: Run, shell: Shell, box: Box) -> Box:
    if not box.replace_host_key:
        return box
    box = replace_host_key(shell, box)
    run.ledger.append(Created(run_id=run.run_id, at_s=run.clock(), box=box))
    return box


def _confirm(run: Run) -> None:
    """Ask once more what carries our tag. Something there, or nobody to ask, takes a clean verdict back."""
    teardown = run.state.teardown
    if teardown is None or not teardown.clean:
        return
    owned = run.provisioner.owned(run.run_id)
    if owned.complete is Answer.YES and not owned.resources:
        return
    left = tuple(ResourceEnd(resource=resource, gone=Answer.NO, at_s=run.clock()) for resource in owned.resources)
    doubt = Teardown(
        run_id=run.run_id,
        verdict="orphaned" if left else "unknown",
        resources=left or teardown.resources,
        message=owned.message or f"{len(left)} of its resources are still listed.",
        command=f"rentune down {run.run_id}",
    )
    run.ledger.append(Ended(run_id=run.run_id, at_s=run.clock(), teardown=doubt))


# ── the job on it ──────────────────────────────────────────────────────────────────────────────────────────────────


def _train(run: Run, phases: Phases, shell: Shell, box: Box) -> None:
    """Start the trainer unless it runs or has ended, follow it to its end, and bring home what there is."""
    try:
        if job.state(shell, box).state in ("never_started", "killed"):
            _start(run, phases, shell, box)
        _follow(run, phases, shell, box)
    except KeyboardInterrupt:
        run.display.note("Stopping the trainer; once more Ctrl-C goes straight to the teardown.")
        _stop(run, shell, box)
        raise
    with phases.timed(Phase.FETCH):
        outcome = _fetch(run, shell, box)
    if not outcome.trained:
        raise TrainingFailed(f"The trainer ended without a result ({outcome.reason.value}): {outcome.message}")


def _start(run: Run, phases: Phases, shell: Shell, box: Box) -> None:
    with phases.timed(Phase.ENVIRONMENT):
        ship.ship_package(shell, box)
        python = ship.ensure_environment(shell, box, progress=run.display.note)
    with phases.timed(Phase.DOWNLOAD):
        handed = _handoff(run, box)
        ship.ship_inputs(shell, box, {Path(home): there for home, there in handed.files.items()})
    job.start(shell, box, handed.spec, python=python)


def _handoff(run: Run, box: Box) -> Handoff:
    """The job as it was handed over the first time; a restarted trainer must read the same."""
    handed = hand_off(
        run.plan,
        run.base,
        run_id=run.run_id,
        job_folder=job.job_folder(box),
        started_at_s=run.clock(),
        deadline_at_s=run.state.deadline_at_s,
    )
    if run.folder.job.exists():
        return msgspec.structs.replace(handed, spec=decode(run.folder.job.read_bytes(), JobSpec))
    run.folder.job.write_bytes(encode(handed.spec))
    return handed


def _follow(run: Run, phases: Phases, shell: Shell, box: Box) -> None:
    """Until the job has ended. A silent box is waited for until the deadline; a killed trainer is started again."""
    restarts = 0
    while True:
        try:
            for event in job.events(shell, box, run.folder.events):
                phases.heard(event)
        except WrongHostKey:
            raise
        except ConnectionFailed as error:
            run.display.note(f"{error} The run goes on without us; trying again.")
        standing = job.state(shell, box).state
        if standing == "ended":
            return
        if standing == "killed":
            restarts += 1
            if restarts > MAX_RESTARTS:
                raise TrainingFailed(f"The trainer was killed {restarts} times.", hint=f"Its log: {run.folder.log}")
            run.display.note("The trainer was killed; starting it again from its last checkpoint.")
            _start(run, phases, shell, box)
        if standing == "unknown":
            _wait_for_box(run)


def _wait_for_box(run: Run) -> None:
    owned = run.provisioner.owned(run.run_id)
    if owned.complete is Answer.YES and not owned.resources:
        raise TrainingFailed("The box went away while it trained.")
    if run.left_s <= 0:
        raise ConnectionFailed("The box did not answer until the deadline.")
    run.sleep(min(RECONNECT_S, max(0.0, run.left_s)))


def _stop(run: Run, shell: Shell, box: Box) -> None:
    """Ask the trainer to save and leave, then bring home its words. What fails here must not delay the teardown."""
    with suppress(RentuneError):
        job.stop(shell, box, patience_s=STOP_PATIENCE_S)
        _fetch(run, shell, box)


def _fetch(run: Run, shell: Shell, box: Box) -> Outcome:
    """Log, outcome and adapter, in the order of what is lost most easily. Raises TrainingFailed without an outcome."""
    with suppress(RentuneError):
        shell.get(f"{job.job_folder(box)}/{LOG_FILE}", run.folder.log)
    outcome = job.outcome(shell, box)
    if outcome is None:
        raise TrainingFailed(f"The trainer left no outcome. Its last words: {last_words(run.folder.log)}")
    run.folder.outcome.write_bytes(encode(outcome))
    if outcome.adapter:
        ship.fetch_adapter(shell, box, outcome, run.adapter_folder)
    return outcome


def last_words(log: Path) -> str:
    """The end of a log, on one line."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return " / ".join(line.strip() for line in lines[-LOG_TAIL_LINES:] if line.strip()) or "none."
