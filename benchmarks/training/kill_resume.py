"""A trainer killed with -9 at 36 moments that chance chooses, half of them within a save, against one that nobody touched.

    python -m benchmarks.training.kill_resume [--write] [--runs 6] [--kills 6]

Each run is killed so many times, started again each time, and let come to its end. Its weights must be those of the unbroken
run, to the bit. About ten seconds a kill on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.machine import RESULTS, describe_machine
from remote.contract import MODEL_CACHE_VARIABLE
from tests.remote.killing import LONG, Kill, finished, job_to_kill, killed

RESULT: Final = RESULTS / "kill_resume.md"
SEED: Final = 13
WHAT: Final = f"""LoRA with dropout on two blocks of random weights, {LONG.max_steps} steps, {LONG.evaluations} evaluations on
the way, a checkpoint every {LONG.checkpoint_every_s:g} s. Every other kill waits until a checkpoint is half written. *Equal*:
the adapter's file has the same SHA-256 as the unbroken run's, and every held-out row the same loss."""


class Broken(NamedTuple):
    """One run that was killed."""

    kills: tuple[Kill, ...]
    equal: bool
    took_s: float


def main() -> int:
    """Print the table; exit 1 if a run did not end as the unbroken one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--kills", type=int, default=6, help="of each run")
    asked = parser.parse_args()
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[MODEL_CACHE_VARIABLE] = f"{folder}/models"
        whole = finished(job_to_kill(Path(folder) / "whole"))
        broken = [_broken(Path(folder) / f"run{number}", chance, asked.kills, whole) for number in range(asked.runs)]
    text = report(broken)
    print(text)
    if asked.write:
        RESULT.write_text(text)
    return 0 if all(each.equal for each in broken) else 1


def _broken(folder: Path, chance: random.Random, num_kills: int, whole: object) -> Broken:
    began_s = time.perf_counter()
    job = job_to_kill(folder)
    tries = (killed(job, chance, in_save=number % 2 == 1) for number in range(num_kills))
    kills = tuple(kill for kill in tries if kill is not None)
    made = Broken(kills, finished(job) == whole, time.perf_counter() - began_s)
    print(made, flush=True)
    return made


def report(broken: list[Broken]) -> str:
    """The result file."""
    table = ["| run | killed during (after step) | within a save | equal |", "| --- | --- | --- | --- |"]
    for number, each in enumerate(broken, start=1):
        places = ", ".join(f"{kill.phase} ({kill.step})" for kill in each.kills)
        table.append(
            f"| {number} | {places} | {sum(kill.in_save for kill in each.kills)} | {'yes' if each.equal else '**no**'} |"
        )
    kills = [kill for each in broken for kill in each.kills]
    sums = (
        f"{len(kills)} kills, {sum(kill.in_save for kill in kills)} of them within a save; "
        f"{sum(each.equal for each in broken)} of {len(broken)} runs equal to the unbroken one, in "
        f"{sum(each.took_s for each in broken):.0f} s. Load of the machine at the end: {os.getloadavg()[1]:.1f}."
    )
    return "\n\n".join(["# Killed and resumed", describe_machine(), WHAT, sums, "\n".join(table)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
