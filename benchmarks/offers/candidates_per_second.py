"""How many candidates a second a plan decides on, start-up included: whole processes, processor time, the fastest of ten.

    python -m benchmarks.offers.candidates_per_second [--write]

A candidate is a strategy on an offer that no wish refuses and that has as many GPUs. Most are pruned by a bound: an offer whose
price times the shortest conceivable time is more than the plans that were found, a strategy of which more rests on the GPU than
the card has. Goals: 100,000 a second, 500 strategies, 200 MB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import Final

import msgspec

from benchmarks.machine import RESULTS, describe_machine
from planner.plan import Considered

RESULT: Final = RESULTS / "candidates_per_second.md"
RUNS: Final = 10
MB: Final = 1e6
RENTUNE: Final = (sys.executable, "-c", "import sys; from provision.start import main; sys.exit(main())")
QUESTIONS: Final = (
    "plan --model 32b --gpu-budget 16GB --json",
    "plan --model 7b --json",
    "plan --model 70b --json",
    "plan --model 8b --method full --json",
)


class Counted(msgspec.Struct, frozen=True):
    """What the answer says of the search."""

    considered: Considered


class Answer(msgspec.Struct, frozen=True):
    """The envelope, as far as it is read here."""

    data: Counted


class Cost(msgspec.Struct, frozen=True, order=True):
    """What a process took."""

    processor_s: float
    memory_mb: float


def counted(question: str) -> Considered:
    """How much the search looked at; it warms the disk, too."""
    done = subprocess.run([*RENTUNE, *question.split()], capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Answer).data.considered


def cost(question: str) -> Cost:
    """Processor seconds and the most memory of one process."""
    with subprocess.Popen([*RENTUNE, *question.split()], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MB)


def row(question: str) -> str:
    """A line of the table."""
    looked_at = counted(question)
    best = min(cost(question) for _ in range(RUNS))
    candidates = looked_at.num_candidates
    pruned = f"{looked_at.num_strategies:,} | {looked_at.num_offers_admitted:,} | {candidates:,} | {looked_at.num_pruned:,}"
    figures = f"{pruned} | {best.processor_s:.3f}"
    return f"| `rentune {question}` | {figures} | {candidates / best.processor_s:,.0f} | {best.memory_mb:.0f} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    write = parser.parse_args().write
    goals = f"Goals: 100,000 a second, 500 strategies, 200 MB. Fastest of {RUNS} processes, start-up included"
    head = "| question | strategies | offers | candidates | pruned | processor s | candidates a second | MB |"
    text = "\n".join(
        [
            "# Candidates a second",
            "",
            describe_machine(),
            "",
            head,
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(row, QUESTIONS),
            "",
            f"{goals}, by `python -m benchmarks.offers.candidates_per_second --write`.",
            "",
        ]
    )
    print(text)
    if write:
        RESULT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
