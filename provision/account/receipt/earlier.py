"""Earlier runs of this home, as far as they teach a plan: `calibration.jsonl` -> what is known of steps, kind by kind."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Final

import msgspec

from planner.estimators.time.duration import CPU_STACK, GPU_STACK
from planner.estimators.time.learned import Seen, cores_of, machine_of

STEP: Final = "optimizer step"  # as the receipt names these two figures, and the rows after it
STEPS: Final = "optimizer steps"
PLANNER: Final = "rentune"  # among a row's versions: the release whose estimate it judges
LEAST_STEPS: Final = 20  # assumed: in a shorter run the first steps, which warm up, weigh too much
RANDOM: Final = "random"  # weights of a rehearsal's base: a shape of two layers is all overhead, and says little of a real one
WILDEST: Final = 8.0  # assumed: a run that is further off met something else than a wrong constant


class Kind(msgspec.Struct, frozen=True):
    """What is read of a row's key."""

    gpu: str
    num_gpus: int
    quant: str
    provider: str
    instance_type: str
    weights: str = "given"


class Row(msgspec.Struct, frozen=True):
    """What is read of a calibration row."""

    run_id: str
    key: Kind
    versions: dict[str, str]
    quantity: str
    predicted: float
    measured: float
    shared: bool = False  # with other runs on its machine
    learned: float = 1.0  # the factor of still earlier runs within `predicted`


def read_seen(path: Path, *, version: str) -> tuple[Seen, ...]:
    """Kinds of runs with their mean. Lines that cannot be read teach nothing, nor do those of a release other than `version`:
    what its constants missed, the next one's may have put right. A run that shared its
    machine says nothing of one that does not.
    """
    read = (_row(line) for line in path.read_bytes().splitlines())
    rows = [row for row in read if row is not None and row.versions.get(PLANNER) == version]
    long_enough = {row.run_id for row in rows if row.quantity == STEPS and row.measured >= LEAST_STEPS}
    logs: dict[tuple[str, str, int, str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.quantity != STEP or row.run_id not in long_enough or row.key.weights == RANDOM or row.shared:
            continue
        if min(row.predicted, row.measured, row.learned) <= 0:
            continue
        off = row.measured / (row.predicted / row.learned)
        if 1 / WILDEST <= off <= WILDEST:
            key = row.key
            stack, gpu = (CPU_STACK, cores_of(key.provider)) if key.gpu == "cpu" else (GPU_STACK, key.gpu)
            logs[stack, gpu, key.num_gpus, key.quant, machine_of(key.provider, key.instance_type)].append(math.log(off))
    return tuple(Seen(*kind, sum(each) / len(each), len(each)) for kind, each in sorted(logs.items()))


def _row(line: bytes) -> Row | None:
    try:
        return msgspec.json.decode(line, type=Row, strict=False)  # every value of a key is a string
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
