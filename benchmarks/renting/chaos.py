"""Runs through faults drawn by seed: crash × resume × network × API, and whether every promise holds.

    python -m benchmarks.renting.chaos [--write] [--first 0] [--schedules 400]

In virtual time, at the seam below which a provider is: walk, renting, ledger and the way in which lists are believed are
the product's; cloud, boxes, trainer and line are doubles (`tests/doubles/virtual/`). `tests/faults/drawn/schedule.py` says what
is drawn and what is judged. A seed that breaks a promise is printed; the same seed plays the same schedule again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.machine import RESULTS, describe_machine
from tests.faults.drawn.schedule import Played, draw, play

RESULT = RESULTS / "chaos.md"
WHAT = """Each schedule is one run in an account with its manners (lists up to 60 s late, boots up to 150 s, deletes up to 120
s, refused and lost calls), a line with cuts of 5 s to an hour and lost answers, a trainer that may crash or be
killed, a box, on demand or spot, that may be taken away, a disk that costs up to a third of it, a result whose way
home is billed, a clock at home that is set by up to an hour, a lease of 15 to 60 minutes in three of five, up to
two machines elsewhere, and one to five controllers, each killed, stopped by Ctrl-C or left in peace at any moment;
during one of four somebody types `down`, whose process lives to send its signal or does not. Then time passes. What
must hold: no box is ordered after a `down`, until somebody resumes the run; no box stands at deadline + grace,
though nobody came; never two at once; one `down` afterwards closes everything; the ledger's dollars are at least
the bill less one minute, and at most the cap; they are at most the bill and what nobody could see: ten minutes for
each attempt, and the time in which no box stood and nobody was in charge; the adapter is at home, or the receipt
says why not. Where a controller was killed while it asked for a box, and nobody came before the deadline, the
ledger takes it that there was one until then: hence the largest difference."""


def main() -> int:
    """Print the sums; exit 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--schedules", type=int, default=400)
    asked = parser.parse_args()
    began_s = time.perf_counter()
    played = []
    for seed in range(asked.first, asked.first + asked.schedules):
        with tempfile.TemporaryDirectory() as folder:
            played.append(play(draw(seed), Path(folder)))
        for words in played[-1].broken:
            print(f"seed {seed}: {words}", flush=True)
    text = report(played, time.perf_counter() - began_s)
    print(text)
    if asked.write:
        RESULT.write_text(text)
    return 1 if any(each.broken for each in played) else 0


def report(played: list[Played], took_s: float) -> str:
    """The result file."""
    schedules = [each.schedule for each in played]
    faults = [fault for each in schedules for _, fault in each.faults]
    rows = {
        "schedules (seeds)": f"{len(played)} ({schedules[0].seed} to {schedules[-1].seed})",
        "**promises broken**": str(sum(len(each.broken) for each in played)),
        "controllers": str(sum(len(each.controllers) for each in schedules)),
        "of them killed before their end": str(sum(each.kills for each in played)),
        "sent Ctrl-C, unless they ended before": str(sum(each.stops for each in played)),
        "during which somebody typed `down`": str(sum(each.told for each in played)),
        "refused, failed or lost calls that were planted": str(sum(fault.times for fault in faults)),
        "runs on spot machines": str(sum(each.spot for each in schedules)),
        "runs with a disk that is billed": str(sum(each.disk_gib > 0 for each in schedules)),
        "times that the clock at home was set": str(sum(len(each.clock_set) for each in schedules)),
        "runs under a lease": str(sum(each.lease_s is not None for each in schedules)),
        "boxes that their lease ended": str(sum(each.leases_ended for each in played)),
        "cuts of the line": str(sum(len(each.cuts) for each in schedules)),
        "attempts to rent a box": str(sum(each.attempts for each in played)),
        "runs by boxes rented": _counted(each.boxes for each in played),
        "runs that ended with an adapter at home": str(sum(each.trained for each in played)),
        "dollars billed by the fake cloud": f"{sum(each.billed_usd for each in played):.2f}",
        "dollars in the ledgers": f"{sum(each.ledger_usd for each in played):.2f}",
        "ledger above bill, median and most": _gaps(played),
        "seconds for all": f"{took_s:.0f}",
    }
    table = ["| what | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    broken = [f"- seed {each.schedule.seed}: {words}" for each in played for words in each.broken]
    parts = [
        "# Runs through drawn faults",
        describe_machine(),
        WHAT,
        "\n".join(table),
        *(["\n".join(broken)] if broken else []),
    ]
    return "\n\n".join(parts) + "\n"


def _counted(numbers: Iterable[int]) -> str:
    counts = Counter(numbers)
    return ", ".join(f"{number}: {counts[number]}" for number in sorted(counts))


def _gaps(played: list[Played]) -> str:
    gaps = [each.ledger_usd - each.billed_usd for each in played]
    return f"{statistics.median(gaps):.3f} and {max(gaps):.3f} dollars a run"


if __name__ == "__main__":
    sys.exit(main())
