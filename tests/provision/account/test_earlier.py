"""Calibration rows read back: what an earlier run took, without what its own plan had already learned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planner.estimators.duration import CPU_STACK, GPU_STACK
from planner.estimators.learned import Seen
from provision.account.earlier import STEP, STEPS, read_seen
from provision.account.receipt import Calibration


def rows(run_id: str, *, predicted: float, measured: float, steps: int = 100, **changes: Any) -> list[Calibration]:
    """A run's rows as they are written after it."""
    key = {"gpu": changes.pop("gpu", "L4"), "quant": changes.pop("quant", "nf4")}
    row = Calibration(
        run_id=run_id,
        at_s=0.0,
        key=key,
        quantity=STEP,
        unit="s",
        predicted=predicted,
        measured=measured,
        versions={},
        **changes,
    )
    return [row, msgspec.structs.replace(row, quantity=STEPS, unit="steps", predicted=steps, measured=steps, learned=1.0)]


def written(folder: Path, *kinds: list[Calibration], more: bytes = b"") -> tuple[Seen, ...]:
    """What is read of these rows."""
    path = folder / "calibration.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for kind in kinds for row in kind) + more)
    return read_seen(path)


def test_runs_of_a_kind_are_one_mean(tmp_path: Path) -> None:
    """By card and quantization; a CPU's runs are another stack's."""
    found = written(
        tmp_path,
        rows("a", predicted=1.0, measured=1.1),
        rows("b", predicted=2.0, measured=2.6),
        rows("c", predicted=1.0, measured=1.0, gpu="cpu", quant="none"),
    )
    assert [(each.stack, each.gpu, each.quant, each.num_runs) for each in found] == [
        (GPU_STACK, "L4", "nf4", 2),
        (CPU_STACK, "cpu", "none", 1),
    ]
    assert found[0].mean_log == pytest.approx((math.log(1.1) + math.log(1.3)) / 2)


def test_what_a_plan_had_learned_is_taken_out_again(tmp_path: Path) -> None:
    """Else a right correction would be unlearned by the run that proves it."""
    [found] = written(tmp_path, rows("a", predicted=1.3, measured=1.3, learned=1.3))
    assert found.mean_log == pytest.approx(math.log(1.3))


def test_short_runs_wild_ones_and_broken_lines_teach_nothing(tmp_path: Path) -> None:
    """A line that another version wrote, or half of one, is no reason to refuse a plan."""
    short, wild = rows("a", predicted=1.0, measured=1.5, steps=5), rows("b", predicted=1.0, measured=50.0)
    nothing = rows("c", predicted=0.0, measured=1.0)
    assert written(tmp_path, short, wild, nothing, more=b'{"run_id": "d"}\n\xff\n{"half') == ()
