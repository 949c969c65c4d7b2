"""Runs through faults drawn by seed on the real engine: kills × resume × network × API, and whether every promise holds.

    python -m benchmarks.renting.chaos_engine [--write] [--first 0] [--schedules 20] [--at-once 2]

Needs root and the engine (`make pulumi`). Engine, programs, machines, SSH, trainer and seconds are real; the cloud is our own
fake, with a bill. `tests/faults/drawn/on_engine.py` says what is drawn and what is judged. Two to four minutes a schedule; most
of that is waiting for a deadline, so two are played side by side. Only all of them are written; fewer, from any seed on, are
shown. The same question in virtual time, by hundreds: `benchmarks/renting/chaos.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from benchmarks.machine import RESULTS, describe_machine
from provision.clouds.engine.build import find_engine
from provision.home.places import read_places
from tests.doubles.hosting.machines import lacks
from tests.faults.drawn.on_engine import GRACE_S, MOST_LINES, SILENT_S, Played, Schedule, draw, play

RESULT: Final = RESULTS / "chaos_engine.md"
WHAT: Final = f"""Each schedule is one run of a model of two layers at our own fake cloud, in the words of Google Cloud or of
RunPod, with a machine behind each instance, a price of $3.60 an hour, and a deadline that its cap of 14 to 20 cents sets to two
minutes or three. Drawn are: one to three controllers, each a process that is left in peace or struck, it, its engine or both,
by SIGKILL, SIGTERM or SIGINT; refused or lost calls; lists that lag up to 5 s, slow boots and deletes; cuts of the machines'
cable; a training that ends before the deadline or never; at RunPod a lease of 25 or 35 seconds, or none. What must hold: no
box stands {GRACE_S:.0f} s after the deadline, though nobody came; never two at once; no controller that is past it is silent
for {SILENT_S:.0f} s, or writes more than {MOST_LINES} lines; one `down` afterwards closes everything; the ledger's dollars are
at least the fake cloud's bill less one minute and at most the cap, and so is the bill; the adapter is at home, or the receipt
says why not."""
SCHEDULES: Final = 20
COLUMNS: Final = (
    "seed | cloud | controllers, what strikes | lease | calls refused | cuts | boxes | adapter | billed $ | ledger $ | cap $"
)


def main() -> int:
    """Print the table; exit 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--schedules", type=int, default=SCHEDULES)
    parser.add_argument("--at-once", type=int, default=2)
    asked = parser.parse_args()
    if asked.write and (asked.first, asked.schedules) != (0, SCHEDULES):
        parser.error(f"{RESULT.name} holds seeds 0 to {SCHEDULES - 1}: --write takes neither --first nor --schedules")
    engine = find_engine(read_places(os.environ))
    if lack := "" if engine else "The Pulumi engine is not built; build it with: make pulumi":
        raise SystemExit(lack)
    if lack := lacks():
        raise SystemExit(lack)
    assert engine
    began_s = time.perf_counter()
    seeds = range(asked.first, asked.first + asked.schedules)
    with ThreadPoolExecutor(asked.at_once) as side_by_side:
        played = list(side_by_side.map(partial(_play, engine=engine), map(draw, seeds)))
    text = report(played, time.perf_counter() - began_s, load=psutil.getloadavg()[2])
    print(text)
    if asked.write:
        RESULT.write_text(text)
    return 1 if any(each.broken for each in played) else 0


def _play(schedule: Schedule, engine: Path) -> Played:
    with tempfile.TemporaryDirectory(prefix="rentune-chaos-") as folder:
        played = play(schedule, Path(folder), engine)
        words = "; ".join(played.broken) or "ok"
        print(f"seed {schedule.seed} ({schedule.cloud}, {played.took_s:.0f} s): {words}", flush=True)
        if played.broken:
            for told in ("controllers.out", "home/ledger.jsonl"):  # the folder is gone in a moment
                print((Path(folder) / told).read_text(), flush=True)
    return played


def report(played: list[Played], took_s: float, *, load: float) -> str:
    """The whole result file. `load` is the machine's mean of the last 15 minutes, these schedules included."""
    calls = sum(fault.times for each in played for _, fault in each.schedule.faults)
    sums = (
        f"**{sum(not each.broken for each in played)} of {len(played)} kept every promise**, in {took_s / 60:.0f} minutes: "
        f"{sum(len(each.schedule.controllers) for each in played)} controllers drawn, "
        f"{sum(each.struck for each in played)} struck, "
        f"{calls} refused or lost calls planted, {sum(len(each.schedule.cuts) for each in played)} cuts, "
        f"{sum(each.schedule.lease_s is not None for each in played)} runs under a lease, of which "
        f"{sum(each.leases_ended > 0 for each in played)} saw it end; "
        f"{sum(each.trained for each in played)} runs ended with an adapter at home; "
        f"${sum(each.billed_usd for each in played):.3f} billed, ${sum(each.ledger_usd for each in played):.3f} in the ledgers."
        f" The machine's load was {load:.1f} over the last 15 minutes, this measurement included."
    )
    table = [f"| {COLUMNS} | |", f"|{' --- |' * (COLUMNS.count('|') + 2)}", *map(_row, played)]
    parts = ["# Runs through drawn faults, on the real engine", describe_machine(), WHAT, sums, "\n".join(table)]
    return "\n\n".join(parts) + "\n"


def _row(played: Played) -> str:
    drawn = played.schedule
    cells = (
        drawn.seed,
        drawn.cloud,
        ", ".join(
            each.command if each.struck_after_s is None else f"{each.command}: {each.number.name} to {each.struck}"
            for each in drawn.controllers
        ),
        _lease_words(played),
        ", ".join(f"{fault.verb} {fault.times}×" for _, fault in drawn.faults),
        len(drawn.cuts),
        played.boxes,
        "at home" if played.trained else "none, and told",
        f"{played.billed_usd:.3f}",
        f"{played.ledger_usd:.3f}",
        drawn.max_usd,
        "; ".join(played.broken) or "ok",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _lease_words(played: Played) -> str:
    if played.schedule.lease_s is None:
        return ""
    return f"{played.schedule.lease_s:.0f} s{', ended' if played.leases_ended else ''}"


if __name__ == "__main__":
    sys.exit(main())
