"""What the box tells while it works: one line each."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from remote.contract.value import MOST, SCHEMA_VERSION, Count, Measure, Value, decode

# What the events' data count or measure, whatever the kind; the losses apart, none of it is below zero.
LOSSES: Final = ("loss", "mean_loss")
FIGURES: Final = (
    *LOSSES, "step", "total_steps", "seconds", "step_s", "planned_step_s", "tokens", "tokens_per_s", "size_bytes",
    "fetched_bytes", "peak_vram_process_bytes", "peak_vram_reserved_bytes", "peak_vram_allocated_bytes", "peak_ram_bytes",
    "batch_s", "eta_s", "spent_usd", "forecast_s", "save_s", "judging_s",
)  # fmt: skip


class Event(Value, frozen=True, kw_only=True):
    """One JSON line of the box's `events.jsonl`.

    Kinds so far: machine, phase_started, phase_ended, progress, probe, step, evaluation, checkpoint, checkpoint_pushed,
    checkpoint_not_pushed, preflight, telemetry, strategy_changed, resumed, sample, verified, warning, spot_notice, ended.
    docs/trainer.md lists what `data` holds for each. A reader keeps what it does not know.
    """

    seq: Count  # 0, 1, 2, … across restarts of the trainer
    kind: str
    phase: str  # a Phase value; of a newer box perhaps one that is not known here
    at_s: Measure  # wall clock, Unix
    monotonic_s: Measure
    data: dict[str, Any] = {}
    schema_version: int = SCHEMA_VERSION


def parse_event(line: bytes) -> Event | None:
    """Read one line of `events.jsonl`; None for a line that a kill cut short (the next start goes on in a new line), and for
    one whose figures are none, or beyond all that is counted here. A figure that is null was not metered, and is left out.
    """
    try:
        event = decode(line, Event)
    except msgspec.DecodeError:
        return None
    untold = {key for key in FIGURES if event.data.get(key, 0) is None}
    if not all(_is_figure(key, event.data[key]) for key in FIGURES if key in event.data and key not in untold):
        return None
    told = {key: value for key, value in event.data.items() if key not in untold}
    return msgspec.structs.replace(event, data=told) if untold else event


def _is_figure(key: str, value: object) -> bool:
    least = -MOST if key in LOSSES else 0
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= MOST
