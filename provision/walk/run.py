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
from typing import Final

from provision.account.ledger import Created, Ended
from provision.account.receipt import Receipt
from provision.errors import ProvisionError, RentuneError, ResultOnBox
from provision.provisioner import Answer, Box, ResourceEnd, Teardown
from provision.redact import redact
from provision.ssh import Shell, replace_host_key
from provision.ssh.keys import client_key
from provision.walk.books import close_books
from provision.walk.console import told_with_console
from provision.walk.held import Run
from provision.walk.lease import end, leased
from provision.walk.patience import gone_too_soon, has_gone, listed, patiently, require_box
from provision.walk.phases import Phases
from provision.walk.training import require_inputs, train
from remote.contract import Phase

BOOT_FACTOR: Final = 3.0  # assumed: of the planned p90, before a box that does not answer is given up


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
        _end_what_is_left(run, keep=ending.keeps_box)
    with ending.told(), phases.timed(Phase.CONFIRM):
        _confirm(run)
    return close_books(run, message=ending.message, interrupted=ending.interrupted)


class Ending:
    """What stopped a walk: the first failure in a sentence, and whether the user asked for it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._result_on_box = False
        self.message = ""
        self.interrupted = False

    @property
    def keeps_box(self) -> bool:
        """Whether the box is left to its deadline: it holds the only result, or the user wants to look at a failure."""
        failed = bool(self.message) and not self.interrupted
        return self._result_on_box or (failed and self._run.state.opened.keep_box_on_failure)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn whatever the block raises into words: money is involved, so the books are closed in any case."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
            self._say("Stopped by the user.")
        except RentuneError as error:
            self._result_on_box = self._result_on_box or isinstance(error, ResultOnBox)
            self._say(" ".join(filter(None, (str(error), error.hint))))
        except Exception as error:  # noqa: BLE001 - a fault of ours; the traceback is kept, the box is not
            with suppress(OSError), self._run.folder.controller_log.open("a") as log:
                log.write(redact(traceback.format_exc()))
            self._say(f"The controller failed: {error!r}. Details: {self._run.folder.controller_log}")

    def _say(self, words: str) -> None:
        words = redact(words)
        self.message = self.message or words
        with suppress(OSError):  # nobody reads along any more
            self._run.display.note(words)


# ── the box ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _train_in_box(run: Run, phases: Phases) -> None:
    """Everything between the first and the last second that may bill."""
    adopted = _standing_box(run)
    if adopted is None:
        with phases.timed(Phase.PREPARE):
            require_inputs(run)
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
            shell = (told_with_console if adopted is None else patiently)(run, lambda: _connect(run, box))
            held.callback(shell.close)
            box = _with_own_host_key(run, shell, box)
        train(run, phases, shell, box)


def _connect(run: Run, box: Box) -> Shell:
    """One try, as long as a boot may take. Raises ConnectionFailed, TrainingFailed when the box has gone."""
    key = client_key(run.folder.keys, run_id=run.run_id).private
    return Shell.connect(
        box,
        key=key,
        deadline_s=min(run.left_s, _boot_s(run)),
        lifetime_s=run.left_s,
        while_silent=lambda: require_box(run, box),
    )


def _standing_box(run: Run) -> Box | None:
    """The box of an earlier controller, if it still stands; what an unfinished `create` left is ended first.

    Raises TrainingFailed when the box has gone without us, ProvisionError when its remains can't be ended.
    """
    state = run.state
    if not state.rentals or state.rentals[-1].ended_at_s is not None:
        return None
    if state.box is not None:
        if has_gone(run):
            _end(run)
            raise gone_too_soon(run)
        return state.box
    if not _end(run).clean:
        raise ProvisionError("An earlier attempt left something that could not be ended.", hint=f"rentune down {run.run_id}")
    return None


def _end(run: Run) -> Teardown:
    return end(run.launch, provisioner=run.provisioner, ledger=run.ledger, clock=run.clock)


def _end_what_is_left(run: Run, *, keep: bool) -> None:
    """For an end that came before the lease began: nothing was rented yet, or the asking was cut off."""
    state = run.state
    if not state.rentals:
        nothing = Teardown.destroyed(run.run_id, "Nothing was rented.")
        run.ledger.append(Ended(run_id=run.run_id, at_s=run.clock(), teardown=nothing))
    elif state.teardown is None and not (keep and state.box):
        _end(run)


def _boot_s(run: Run) -> float:
    planned = run.plan.duration.phase_s.get(Phase.BOOT)
    return max(run.least_boot_s, BOOT_FACTOR * planned.p90 if planned else 0.0)


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
    owned = listed(run)
    if owned.nothing:
        return
    left = tuple(ResourceEnd(resource=resource, gone=Answer.NO, at_s=run.clock()) for resource in owned.resources)
    doubt = (
        Teardown.orphaned(run.run_id, owned.message or f"{len(left)} of its resources are still listed.", resources=left)
        if left
        else Teardown.unknown(run.run_id, owned.message, resources=teardown.resources)
    )
    run.ledger.append(Ended(run_id=run.run_id, at_s=run.clock(), teardown=doubt))
