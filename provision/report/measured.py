"""`estimate --measure` as a table: what was predicted beside what a real step took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.report.tables import Table
from provision.report.words import NOTHING, percent_words
from provision.words import bytes_words, seconds_words
from remote.measured import StepMeasured


def measured_table(answer: dict[str, Any], measured: StepMeasured) -> Table:
    """One row a quantity. `answer`: the estimate contract's. A step that ran out of memory has its message instead."""
    versions = ", ".join(f"{name} {version}" for name, version in measured.versions.items())
    note = f"Random weights and tokens on {measured.device_name}; {versions}."
    if measured.end == "out_of_memory":
        note = f"It ran out of memory: {measured.message} {note}"
    return Table(
        title="Predicted and measured",
        columns=("figure", "predicted", "measured", "difference"),
        rows=tuple(_rows(answer, measured)),
        note=note,
    )


def _rows(answer: dict[str, Any], measured: StepMeasured) -> Iterator[tuple[str, ...]]:
    vram, seen = answer["vram"], measured.allocated_bytes or {}
    outside = vram["process_peak_bytes"] - vram["reserved_peak_bytes"]
    yield _row("allocated", vram["allocated_peak_bytes"], seen.get("step"))
    yield _row("evaluation", vram["evaluation_peak_bytes"], seen.get("evaluation"))
    yield _row("reserved", vram["reserved_peak_bytes"], measured.reserved_peak_bytes)
    yield _row("context and libraries", outside, measured.context_bytes)
    yield _row("process", vram["process_peak_bytes"], measured.process_bytes)
    predicted_s = answer["time"]["step_s"]["p50"] if "time" in answer else None
    yield (
        "a step",
        NOTHING if predicted_s is None else seconds_words(predicted_s),
        NOTHING if measured.step_s is None else seconds_words(measured.step_s),
        _difference(predicted_s, measured.step_s),
    )


def _row(name: str, predicted: int, measured: int | None) -> tuple[str, ...]:
    shown = NOTHING if measured is None else bytes_words(measured)
    return name, bytes_words(predicted), shown, _difference(predicted, measured)


def _difference(predicted: float | None, measured: float | None) -> str:
    """How far the prediction is off what was measured."""
    return NOTHING if not predicted or not measured else percent_words(predicted / measured - 1)
