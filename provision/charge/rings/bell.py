"""What rings while a run is driven: its start and end, the trainer's own news, its budget, a box that still bills."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from typing import Final

import msgspec

from provision.account.bill import usd_so_far
from provision.account.ledger import Ledger
from provision.account.receipt.value import Ending, Receipt
from provision.account.runs import RunState
from provision.charge.rings.budget import note_told, untold_shares
from provision.errors import BadInput, ControlLost, Exit, OwnEnded
from provision.home.faults import apart
from provision.home.places import RunFolder
from provision.report.words import trained_words
from provision.walk.driven import Run
from provision.walk.phases import Display
from provision.watch.alerts import Alert, Kind, Post, Target, target_of
from provision.words import spent_words, usd_words
from remote.contract import EndReason, Event, Phase, decode

LOOK_S: Final = 15.0  # assumed: a dollar at the dearest hour of the catalog takes longer
LEASE_HAD_ENDED: Final = "as its lease had ended"
LEAVE_S: Final = 5.0  # assumed: a webhook answers within one second; a machine that shuts down kills what is left after 90 s
HARMLESS_ENDS: Final = frozenset({EndReason.COMPLETED, EndReason.STOPPED_EARLY, EndReason.INTERRUPTED, EndReason.DEADLINE})


@contextmanager
def bell(run: Run) -> Iterator[Bell]:
    """A bell for the block. On the way out it waits a moment for what is on its way."""
    post = Post(targets_here(run.folder, run.display.note), told=run.display.note)
    ringing = Bell(run, post)
    try:
        yield ringing
    except OwnEnded as error:
        ringing.own_ended(error)
        raise
    except ControlLost:
        raise  # the run goes on, and whoever has it rings
    except Exception as error:
        ringing.failed(error)
        raise
    except KeyboardInterrupt:
        ringing.cut_off()
        raise
    finally:
        ringing.stop()
        post.close()


class Bell:
    """Rings for one run. `run` is the same run with a display that hears what the trainer says."""

    def __init__(self, run: Run, post: Post, *, look_s: float = LOOK_S) -> None:
        self.run = replace(run, display=_Listening(run.display, run.folder, self._entered, self._heard))
        self._post = post
        self._look_s = look_s
        self._ledger = Ledger(run.places.ledger)  # its own: it is read from another thread
        self._ledger.remember(run.run_id)
        self._over = threading.Event()
        self._is_rung = False
        self._one_at_a_time = threading.Lock()

    def started(self) -> None:
        """A controller has taken charge; from here on the budget is looked at."""
        again = bool(self._state.rentals)
        self._is_rung = True
        self._ring(
            "started", f"{self._name} {'is taken up again' if again else 'begins'}.", command=f"rentune logs -f {self._id}"
        )
        if self._post.has_targets and self._state.opened.max_usd:
            threading.Thread(target=self._watch_budget, name="budget", daemon=True).start()

    def finished(self, receipt: Receipt) -> None:
        """The books are closed, or are left open for `resume`; what may still bill rings twice."""
        self._tell_shares()
        if receipt.ending.left_open:
            text = f"{self._name} is left open: what it has pushed to object storage could not be fetched."
            self._ring("let_go", text, exit_code=receipt.exit_code, command=f"rentune resume {self._id}")
            return
        ended = trained_words(receipt) if receipt.trained else _without_result(receipt.ending)
        spent = spent_words(receipt.metered_usd, assumed=receipt.assumed)
        text = f"{self._name} {ended} (exit {receipt.exit_code}) for {spent}."
        self._ring("finished", text, exit_code=receipt.exit_code, command=f"rentune report {self._id}")
        if receipt.exit_code == Exit.STILL_BILLS:
            command = receipt.teardown.command if receipt.teardown else None
            self._ring_still_bills(exit_code=receipt.exit_code, command=command)

    def failed(self, error: Exception) -> None:
        """The controller itself has died of something, after it took charge."""
        if self._is_rung:
            text = f"The controller of run {self._id} failed ({type(error).__name__}); its box may still bill."
            self._ring("crashed", text, command=f"rentune resume {self._id}")

    def own_ended(self, error: OwnEnded) -> None:
        """Another machine has the run, which rings for it; what was ordered here beside that rings here."""
        if error.bills:
            self._ring("still_bills", str(error), exit_code=Exit.STILL_BILLS, command=f"rentune down {self._id}")
        else:
            self._ring("moved", str(error), command=error.hint)

    def cut_off(self) -> None:
        """Somebody would not wait for the end that was asked for, after it took charge."""
        if self._is_rung and self._state.may_bill:
            self._ring_still_bills(exit_code=Exit.STILL_BILLS, command=None)
        elif self._is_rung:
            text = f"{self._name} was interrupted before its books were closed; nothing of it bills."
            self._ring("finished", text, exit_code=Exit.INTERRUPTED, command=f"rentune down {self._id}")

    def let_go(self, left: str) -> None:
        """Its machine shuts down and the run is left; `left`: to what. Waits a moment for whom it tells: nobody else will."""
        if self._is_rung:
            text = f"{self._name} has nobody in charge any more: its controller's machine shuts down. {left}"
            self._ring("let_go", text, command=f"rentune resume {self._id}")
            self._post.close(patience_s=LEAVE_S)

    def _ring_still_bills(self, *, exit_code: int, command: str | None) -> None:
        self._ring(
            "still_bills", still_bills_words(self._id), exit_code=exit_code, command=command or f"rentune down {self._id}"
        )

    def stop(self) -> None:
        """The budget is no longer looked at."""
        self._over.set()

    def _entered(self, phase: str) -> None:
        """A second box is asked for only where the first came to nothing, or was taken away."""
        rentals = self._state.rentals
        if phase == Phase.CREATE and len(rentals) > 1:
            *_, before, now = rentals
            why = f" ({before.tried.reason})" if before.tried else ""
            text = f"{self._name} goes on from {before.offer.key}{why} to {now.offer.key}."
            self._ring("moved", text, command=f"rentune logs {self._id}")

    def _heard(self, event: Event) -> None:
        if event.kind in NEWS:
            kind, words = NEWS[event.kind]
            if text := words(event):
                self._ring(kind, f"{self._name}: {text}", command=f"rentune logs {self._id}")

    def _watch_budget(self) -> None:
        """At once, too: what was spent while nobody was in charge is told by whoever takes charge next."""
        self._tell_shares()
        while not self._over.wait(self._look_s):
            self._tell_shares()

    def _tell_shares(self) -> None:
        with apart(self.run.folder), self._one_at_a_time:
            for share in untold_shares(self._state, self.run.folder, now_s=self.run.clocks.wall()):
                self._ring("budget", share_words(self._state, share))
                note_told(share, self.run.folder)

    def _ring(self, kind: Kind, text: str, *, exit_code: int | None = None, command: str | None = None) -> None:
        """Whatever is wrong with an alert is wrong with the alert alone."""
        if not self._post.has_targets:
            return
        with apart(self.run.folder):
            alert = alert_of(self._state, kind, text, at_s=self.run.clocks.wall(), command=command)
            self._post.send(msgspec.structs.replace(alert, exit_code=exit_code))

    @property
    def _id(self) -> str:
        return self.run.run_id

    @property
    def _name(self) -> str:
        return f"Run {self._id}"

    @property
    def _state(self) -> RunState:
        return self._ledger.runs()[self._id]


def alert_of(state: RunState, kind: Kind, text: str, *, at_s: float, command: str | None) -> Alert:
    """What the ledger knows of a run, around a sentence."""
    opened, rental = state.opened, state.rental
    where = rental.offer if rental else opened
    return Alert(
        kind=kind,
        run_id=state.run_id,
        at_s=at_s,
        text=text,
        model=opened.model,
        provider=where.provider,
        region=where.region,
        instance_type=where.instance_type,
        spent_usd=usd_so_far(state, now_s=at_s),
        max_usd=opened.max_usd,
        deadline_at_s=state.deadline_at_s,
        command=command,
    )


def still_bills_words(run_id: str) -> str:
    return f"The box of run {run_id} may still bill: nobody has seen it gone."


def share_words(state: RunState, share: int) -> str:
    return f"Run {state.run_id} has spent {share} % of its {usd_words(state.opened.max_usd or Decimal(0))}."


def targets_here(folder: RunFolder, note: Callable[[str], None]) -> Iterator[Target]:
    """Those that can be used still: a command may have gone since the run was opened."""
    return usable(read_targets(folder), lambda why: note(f"{why} The run goes on without it."))


def usable(targets: Iterable[str], note: Callable[[str], None]) -> Iterator[Target]:
    """Each that is one; of the others it is told why not."""
    for text in targets:
        try:
            yield target_of(text)
        except BadInput as error:
            note(str(error))


def read_targets(folder: RunFolder) -> tuple[str, ...]:
    """Whom the run tells, as it was written down when it was opened."""
    with suppress(OSError, msgspec.DecodeError):
        return decode(folder.alerts.read_bytes(), tuple[str, ...])
    return ()


def _without_result(ending: Ending) -> str:
    if ending.ended_by == "lease":
        return f"ended without a result, {LEASE_HAD_ENDED}"
    return "ended without a result"


def _probe_words(event: Event) -> str:
    step_s, planned_s = event.data.get("step_s"), event.data.get("planned_step_s")
    planned = f", planned {planned_s:.2f}" if planned_s else ""
    return f"the probe measured {step_s:.2f} s a step{planned}." if step_s else "the probe is done."


def _end_words(event: Event) -> str | None:
    reason = event.data.get("reason")
    return None if reason in HARMLESS_ENDS else f"the trainer ended without a result ({reason})."


def _again_words(event: Event) -> str:
    return f"the trainer was started again, at step {event.data.get('step')} of {event.data.get('total_steps')}."


# Of the trainer's events those that ring. What its messages say stays at home: it may quote the data.
NEWS: Final[Mapping[str, tuple[Kind, Callable[[Event], str | None]]]] = {
    "probe": ("probed", _probe_words),
    "ended": ("crashed", _end_words),
    "resumed": ("crashed", _again_words),
    "spot_notice": ("spot_notice", lambda _: "the provider takes the spot machine back."),
}


class _Listening:
    """A display that also hands on what the run enters and the trainer says."""

    def __init__(
        self, display: Display, folder: RunFolder, enter: Callable[[str], None], hear: Callable[[Event], None]
    ) -> None:
        self._display = display
        self._folder = folder
        self._enter = enter
        self._hear = hear
        self.note = display.note

    def phase(self, name: str) -> None:
        self._display.phase(name)
        with apart(self._folder):
            self._enter(name)

    def event(self, event: Event) -> None:
        self._display.event(event)
        with apart(self._folder):
            self._hear(event)
