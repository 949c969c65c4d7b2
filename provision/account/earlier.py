"""Earlier runs of this home, as far as they teach a plan: `calibration.jsonl` -> what is known of steps, kind by kind."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from planner.estimators.duration import CPU_STACK, GPU_STACK
from planner.estimators.learned import Seen

STEP: Final = "optimizer step"
STEPS: Final = "optimizer steps"
LEAST_STEPS: Final = 20  # assumed: in a shorter run the first steps, which warm up, weigh too much
WILDEST: Final = 8.0  # assumed: a run that is further off met something else than a wrong constant


class Row(msgspec.Struct, frozen=True):
    """What is read of a calibration row."""

    run_id: str
    key: dict[str, str]
    quantity: str
    predicted: float
    measured: float
    learned: float = 1.0  # the factor of still earlier runs within `predicted`


def read_seen(path: Path) -> tuple[Seen, ...]:
    """Kinds of runs with their mean. Lines that cannot be read teach nothing."""
    rows = [row for line in path.read_bytes().splitlines() if (row := _row(line)) is not None]
    long_enough = {row.run_id for row in rows if row.quantity == STEPS and row.measured >= LEAST_STEPS}
    logs: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.quantity != STEP or row.run_id not in long_enough or min(row.predicted, row.measured, row.learned) <= 0:
            continue
        off = row.measured / (row.predicted / row.learned)
        if 1 / WILDEST <= off <= WILDEST:
            gpu = row.key.get("gpu", "")
            logs[CPU_STACK if gpu == "cpu" else GPU_STACK, gpu, row.key.get("quant", "")].append(math.log(off))
    return tuple(Seen(*kind, sum(each) / len(each), len(each)) for kind, each in sorted(logs.items()))


def _row(line: bytes) -> Row | None:
    try:
        return msgspec.json.decode(line, type=Row)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
