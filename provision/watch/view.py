"""What the trainer has said of a run so far: its events folded into one frozen value. Pure.

Event kinds and the keys of their `data` are listed in docs/trainer.md; what is not known here is passed over.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from provision.words import METRICS
from remote.contract import Event, Measured, Phase, parse_event

# What a step says of memory, the best meter first: a GPU's process, its allocator, the process's RAM.
MEMORY_KEYS: Final = ("peak_vram_process_bytes", "peak_vram_reserved_bytes", "peak_vram_allocated_bytes", "peak_ram_bytes")

FIRST_BYTES: Final = 16 * 1024 * 1024  # assumed: 60,000 events, which take a tenth of a gigabyte of this machine's memory
LAST_BYTES: Final = 3 * FIRST_BYTES  # assumed
MOST_NAMED: Final = 1000  # assumed: phases, and evaluations, of which each event makes a copy

TOLD: Final = ("warning", "strategy_changed")  # kinds whose sentence is said to whoever watches

TELLING_STEPS: Final = 3  # assumed: the first is slow, and says nothing of the others


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the trainer as its events tell it so far."""

    phase: str | None = None
    phase_since_s: float | None = None  # wall clock; None once the phase has ended
    phase_s: dict[str, float] = {}  # of phases that ended, restarts added up
    step: int = 0
    num_steps: int | None = None
    steps_per_epoch: float | None = None
    loss: float | None = None
    tokens_per_s: float | None = None
    train_started_at_s: float | None = None  # as far as these events tell: the view may begin in the middle
    train_started_step: int = 0  # steps that were done by then
    last_at_s: float | None = None
    last_monotonic_s: float | None = None  # by the box's clock, which begins anew when it is rebooted
    memory_bytes: int | None = None  # peak so far
    held_out: tuple[tuple[int, float], ...] = ()  # step, mean held-out loss; a handful
    metrics: dict[str, float] = {}  # of a classification: the newest figures of held-out rows
    last_checkpoint_at_s: float | None = None
    last_word: str | None = None  # newest warning or progress sentence

    @property
    def eta_s(self) -> float | None:
        """Seconds of training still to come at the pace so far; None before a step of known length."""
        done = self.step - self.train_started_step
        if self.num_steps is None or done < 1 or self.train_started_at_s is None or self.last_at_s is None:
            return None
        return (self.last_at_s - self.train_started_at_s) / done * max(0, self.num_steps - self.step)

    def outlasts(self, deadline_at_s: float) -> bool:
        """Whether the training would end after the deadline at the pace so far, as far as a few steps tell."""
        if self.eta_s is None or self.last_at_s is None or self.step - self.train_started_step < TELLING_STEPS:
            return False
        return self.last_at_s + self.eta_s > deadline_at_s

    def phase_s_until(self, end_s: float) -> dict[str, float]:
        """Seconds by phase when the trainer was ended from outside: the phase that it was in counts until then."""
        if self.phase is None or self.phase_since_s is None:
            return self.phase_s
        return self.phase_s | {self.phase: self.phase_s.get(self.phase, 0.0) + max(0.0, end_s - self.phase_since_s)}


def after(view: View, event: Event) -> View:
    """The view once `event` is known as well."""
    change = _CHANGES.get(event.kind, _nothing)(view, event)
    return msgspec.structs.replace(view, last_at_s=event.at_s, last_monotonic_s=event.monotonic_s, **change)


def restart_words(view: View, event: Event) -> str | None:
    """That the trainer was started again with this event, and that its box was rebooted before, where the view of all events
    until then shows it; where it goes on from. None of any other event.

    Each start begins with the environment, and only the first is numbered 0.
    """
    if event.kind == "resumed":
        return f"going on from step {event.data.get('step', '?')} of {event.data.get('total_steps', '?')}"
    if event.kind != "phase_started" or event.phase != Phase.ENVIRONMENT or event.seq == 0:
        return None
    rebooted = view.last_monotonic_s is not None and event.monotonic_s < view.last_monotonic_s
    return "the trainer was started again" + (": its box was rebooted" if rebooted else "")


def fold(events: Iterable[Event]) -> View:
    """All events, oldest first."""
    view = View()
    for event in events:
        view = after(view, event)
    return view


def read_events(path: Path) -> list[Event]:
    """The events that are at home already; lines that can't be read are passed over, and so is what is no file.

    Of more than any trainer says the first and the last.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        said = file.read(FIRST_BYTES)
        file.seek(max(len(said), file.seek(0, os.SEEK_END) - LAST_BYTES))
        said += file.read(LAST_BYTES)  # where something is left out, the two halves of lines that meet there are none
    return [event for line in said.splitlines() if (event := parse_event(line)) is not None]


def measured(events: Iterable[Event]) -> Measured:
    """What the steps say of themselves, for a trainer that was stopped before it added them up.

    One that was taken again after a restart counts once.
    """
    steps = {event.data.get("step"): event.data for event in events if event.kind == "step"}.values()
    step_s = [float(data["step_s"]) for data in steps if data.get("step_s")]
    tokens = sum(int(data.get("tokens", 0)) for data in steps)
    return Measured(
        steps=len(steps),
        tokens=tokens,
        step_s=statistics.median(step_s) if step_s else None,
        tokens_per_s=tokens / sum(step_s) if step_s else None,
        **{
            key: max(peaks) for key in MEMORY_KEYS if (peaks := [int(data[key]) for data in steps if data.get(key) is not None])
        },
    )


def base_fetched_bytes(events: Iterable[Event]) -> int | None:
    """What the box has fetched of a base from the hub, restarts added up; None of another base, or before it was there."""
    fetched = [int(event.data.get("fetched_bytes", 0)) for event in events if event.kind == "base"]
    return sum(fetched) if fetched else None


# ── one function per kind of event ─────────────────────────────────────────────────────────────────────────────────


def _nothing(_view: View, _event: Event) -> dict[str, Any]:
    return {}


def _phase_started(view: View, event: Event) -> dict[str, Any]:
    starts_training = event.phase == Phase.TRAIN and view.train_started_at_s is None
    return {"phase": str(event.phase), "phase_since_s": event.at_s} | (
        {"train_started_at_s": event.at_s} if starts_training else {}
    )


def _phase_ended(view: View, event: Event) -> dict[str, Any]:
    name = str(event.phase)
    if name not in view.phase_s and len(view.phase_s) >= MOST_NAMED:
        return {"phase_since_s": None}
    seconds = view.phase_s.get(name, 0.0) + float(event.data.get("seconds", 0.0))
    return {"phase_s": view.phase_s | {name: seconds}, "phase_since_s": None}


def _step(view: View, event: Event) -> dict[str, Any]:
    data = event.data
    loss, in_use = data.get("loss"), memory_bytes(data)
    step = int(data.get("step", view.step))
    missed = not view.step and step > 1  # the steps before were not told, so nothing says how long they took
    return ({"train_started_at_s": event.at_s, "train_started_step": step} if missed else {}) | {
        "step": step,
        "num_steps": data.get("total_steps", view.num_steps),
        "steps_per_epoch": step / data["epoch"] if data.get("epoch") else view.steps_per_epoch,
        "loss": loss if loss is not None else view.loss,
        "tokens_per_s": data.get("tokens_per_s", view.tokens_per_s),
        "memory_bytes": in_use if in_use is not None else view.memory_bytes,
    }


def memory_bytes(data: dict[str, Any]) -> int | None:
    """The peak that an event tells of, by the best meter; None when it tells of none."""
    return next((int(data[key]) for key in MEMORY_KEYS if data.get(key) is not None), None)


def _evaluation(view: View, event: Event) -> dict[str, Any]:
    loss = event.data.get("mean_loss")
    point = (int(event.data.get("step", view.step)), float(loss)) if loss is not None else None
    metrics = {name: float(event.data[name]) for name in METRICS if event.data.get(name) is not None}
    return {"held_out": (*view.held_out[1 - MOST_NAMED :], point), "metrics": metrics} if point else {}


def _checkpoint(_view: View, event: Event) -> dict[str, Any]:
    return {"last_checkpoint_at_s": event.at_s}


def _words(_view: View, event: Event) -> dict[str, Any]:
    message = event.data.get("message")
    return {"last_word": str(message)} if message else {}


def _progress(_view: View, event: Event) -> dict[str, Any]:
    data = event.data
    return {"last_word": f"{data.get('what', 'progress')}: {data.get('done', '?')} of {data.get('total', '?')}"}


_CHANGES = {
    "phase_started": _phase_started,
    "phase_ended": _phase_ended,
    "step": _step,
    "evaluation": _evaluation,
    "checkpoint": _checkpoint,
    "progress": _progress,
    "warning": _words,
    "strategy_changed": _words,
}
