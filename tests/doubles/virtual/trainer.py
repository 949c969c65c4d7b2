"""A trainer that works by the clock and goes on from its last checkpoint, and the lease of its box."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from provision.aboard.lease import FETCH_WAIT_S
from remote.contract import AdapterFile, EndReason, Event, JobSpec, Measured, Outcome, encode

WEIGHTS: Final = b"weights"
ADAPTER: Final = AdapterFile(path="adapter.safetensors", size_bytes=len(WEIGHTS), sha256=hashlib.sha256(WEIGHTS).hexdigest())
CHECKPOINT_S: Final = 120.0
SAVING_S: Final = 120.0  # before its deadline it saves and leaves


@dataclass(frozen=True)
class Training:
    """What a trainer meets: its seconds of work, and how it ends."""

    work_s: float
    crashes: bool = False  # without a result
    killed_after_s: float | None = None  # the first one is killed then


@dataclass
class Job:
    """A trainer at work on one box, by the clock. It goes on from its last checkpoint, called by its seconds of work."""

    training: Training
    run_id: str = ""
    events: bytes = b""
    deadline_at_s: float = float("inf")
    started_at_s: float | None = None
    done_s: float = 0.0
    rc: int | None = None
    killed: bool = False
    stopped: bool = False
    starts: int = 0
    outcome: Outcome | None = None
    saved_s: int = 0  # of work, in its newest checkpoint; 0 = there is none
    lease_s: float = float("inf")
    renewed_at_s: float = 0.0
    lease_ended_at_s: float | None = None
    fetched: bool = False

    # Each deed returns what the box says to it.

    def told(self, spec: JobSpec) -> str:
        self.run_id = spec.run_id
        self.deadline_at_s = spec.deadline_at_s or float("inf")
        return ""

    def given(self, saved_s: int) -> str:
        """A checkpoint of an earlier box."""
        self.done_s, self.saved_s = max(self.done_s, saved_s), max(self.saved_s, saved_s)
        return ""

    def brought_home(self, now_s: float) -> str:
        """It is told that its result is at home, by somebody who is there."""
        self.fetched, self.renewed_at_s = True, now_s
        return ""

    def start(self, now_s: float) -> str:
        if self.started_at_s is not None or (self.rc is not None and not self.killed):
            return ""
        self.started_at_s, self.rc, self.killed, self.stopped = now_s, None, False, False
        self.starts += 1
        self._say("phase_started", now_s)
        return ""

    def settle(self, now_s: float) -> None:
        """Let it have worked until now."""
        if self.started_at_s is None:
            return
        ends_at_s = self.started_at_s + self.training.work_s - self.done_s
        leaves_at_s = self.deadline_at_s - SAVING_S
        killed_after_s = self.training.killed_after_s
        killed_at_s = self.started_at_s + killed_after_s if killed_after_s and self.starts == 1 else float("inf")
        if killed_at_s <= min(now_s, ends_at_s, leaves_at_s):
            self._leave(killed_at_s, None)
        elif min(ends_at_s, leaves_at_s) <= now_s:
            self._end(ends_at_s, leaves_at_s)
        else:
            self._save(self.done_s + (now_s - self.started_at_s) // CHECKPOINT_S * CHECKPOINT_S)

    def stop(self, now_s: float) -> str:
        """SIGTERM: it saves and leaves."""
        self.settle(now_s)
        if self.started_at_s is not None:
            self.stopped = True
            self._leave(now_s, EndReason.INTERRUPTED)
        return ""

    def renew(self, now_s: float) -> bool:
        """Somebody is there; whether that came in time."""
        self.renewed_at_s = now_s
        return self.lease_ended_at_s is None

    def box_ends_at_s(self, now_s: float) -> float:
        """When its box ends itself by its lease, by what has happened until now; the trainer saves and leaves then."""
        strikes_s = self.renewed_at_s + self.lease_s
        if self.lease_ended_at_s is None and strikes_s <= now_s:
            self.settle(strikes_s)
            if self.fetched or self.outcome is None or not self.outcome.adapter:
                self.lease_ended_at_s = strikes_s
                if self.started_at_s is not None:
                    self._leave(strikes_s, EndReason.INTERRUPTED)
        if self.lease_ended_at_s is None:
            return float("inf")
        waits_s = FETCH_WAIT_S if self.saved_s and not self.fetched else 0.0
        return max(self.lease_ended_at_s, self.renewed_at_s if waits_s else 0.0) + waits_s

    @property
    def words(self) -> str:
        """What the shell function `state` says."""
        if self.started_at_s is not None:
            return "running"
        if self.killed:
            return "killed"
        return "never_started" if self.rc is None else f"ended {self.rc}{' stopped' * self.stopped}"

    def _end(self, ends_at_s: float, leaves_at_s: float) -> None:
        if self.training.crashes:
            self._leave(min(ends_at_s, leaves_at_s), EndReason.CRASHED)
        else:
            self._leave(min(ends_at_s, leaves_at_s), EndReason.COMPLETED if ends_at_s <= leaves_at_s else EndReason.DEADLINE)

    def _leave(self, at_s: float, reason: EndReason | None) -> None:
        """Without a reason: it was killed, and what it did since its last checkpoint is lost."""
        worked_s = at_s - (self.started_at_s or at_s)
        self.started_at_s = None
        if reason is None:
            self.killed = True
            self.done_s += worked_s // CHECKPOINT_S * CHECKPOINT_S
            self._save(self.done_s)
            return
        self._save(self.done_s + worked_s)
        adapter = (ADAPTER,) if reason in (EndReason.COMPLETED, EndReason.DEADLINE) else ()
        self.rc = 0 if adapter else 4 if reason is EndReason.INTERRUPTED else 11
        self.outcome = Outcome(
            run_id=self.run_id,
            reason=reason,
            message=f"It ended: {reason}.",
            phase_s={},
            measured=Measured(),
            adapter=adapter,
        )
        self._say("ended", at_s, reason=reason)

    def _save(self, work_s: float) -> None:
        self.saved_s = max(self.saved_s, int(work_s))

    def _say(self, kind: str, at_s: float, **data: Any) -> None:
        seq = self.events.count(b"\n")
        self.events += encode(Event(seq=seq, kind=kind, phase="train", at_s=at_s, monotonic_s=at_s, data=data)) + b"\n"
