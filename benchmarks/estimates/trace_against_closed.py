"""The closed form against the trace: families × ways to train × batches, every case by both, differences by where they lie.

    python -m benchmarks.estimates.trace_against_closed [--layers 2] [--every 1] [--processes 2] [--rows FILE] [--minutes 30]
        [--write] [--sample 150 --seed 7] [--classes]

Models are cut to a few layers: a step repeats them, and both estimators know it. Allocated peak; positive errors are
bytes that the closed form books too much. `--sample`: not the grid, but cases drawn at random (`trace_sample`).
`--classes`: neither, but families with a head that tells classes apart.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.estimates.trace_cases import (
    BESIDE_LINEARS,
    CLASS_FAMILIES,
    EXPERT_WAYS,
    FAMILIES,
    HUNG,
    HUNG_FAMILIES,
    HUNG_WAYS,
    SHAPES,
    SOME_BLOCKS,
    VOCABULARY_FAMILIES,
    VOCABULARY_WAYS,
    WAYS,
    Point,
    chosen_grid,
    class_grid,
    expert_grid,
    grid,
    hung_grid,
    vocabulary_grid,
)
from benchmarks.estimates.trace_sample import sample
from benchmarks.machine import RESULTS, describe_machine
from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from planner.refusals import CaseRefused
from planner.units import GIB

RESULT = RESULTS / "trace_against_closed.md"
OF_SAMPLE = RESULT.with_name("trace_sample.md")
OF_CLASSES = RESULT.with_name("trace_of_classes.md")

STRIDE = 23  # coprime to the number of ways and of batches: what a run has traced when it is cut short is of every kind


class Seen(msgspec.Struct, frozen=True):
    """What a trace says of a point. Bytes; `refused`: its sentence where it has none."""

    family: str
    way: str
    shape: str
    traced: int = 0
    instant: str = ""
    seconds: float = 0.0
    refused: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.family, self.way, self.shape


class Row(NamedTuple):
    """What both say of it. Bytes; `refused`: the sentence of whoever refused."""

    family: str
    way: str
    shape: str
    traced: int
    closed: int
    instants: str
    seconds: float
    refused: str

    @property
    def error(self) -> float:
        """(closed − traced) / traced."""
        return self.closed / self.traced - 1


def compare(point: Point) -> Row:
    """Both estimators on one case."""
    return _beside(point, _seen(point))


def _seen(point: Point) -> Seen:
    started_s = time.perf_counter()
    try:
        traced = trace_vram(point.config, point.strategy, task=point.task)
    except CaseRefused as refusal:
        return Seen(point.family, point.way, point.shape, refused=refusal.message)
    seconds = time.perf_counter() - started_s
    return Seen(point.family, point.way, point.shape, traced.allocated_peak_bytes, traced.peak_instant, seconds)


def _beside(point: Point, seen: Seen) -> Row:
    """The closed form beside a trace, at once: it is as it stands today, whenever the trace was made."""
    if seen.refused:
        return Row(*seen.key, 1, 1, "", 0.0, seen.refused)
    try:
        closed = estimate_vram(resolve_model(point.config, base=None), point.strategy, task=point.task)
    except CaseRefused as refusal:
        return Row(*seen.key, 1, 1, "", 0.0, refusal.message)
    instants = f"{seen.instant} / {closed.peak_instant}"
    return Row(*seen.key, seen.traced, closed.allocated_peak_bytes, instants, seen.seconds, "")


def compare_all(points: list[Point], processes: int, kept: Path | None, until_s: float = math.inf) -> list[Row]:
    """Rows in the order of the points, of those that are traced by then. Traces that `kept` holds are not made again, and new
    ones are added to it.
    """
    lines = [] if kept is None or not kept.exists() else [line for line in kept.open("rb") if line.endswith(b"\n")]
    known = {seen.key: seen for seen in (msgspec.json.decode(line, type=Seen) for line in lines)}
    to_do = [point for start in range(STRIDE) for point in points[start::STRIDE] if point.key not in known]
    made = map(_seen, to_do) if processes == 1 else _by_workers(to_do, processes)
    while time.monotonic() < until_s and (seen := next(made, None)) is not None:
        known[seen.key] = seen
        _note(seen, kept)
    return [_beside(point, known[point.key]) for point in points if point.key in known]


def _by_workers(points: list[Point], processes: int) -> Iterator[Seen]:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_seen, points, chunksize=4)


def _note(seen: Seen, kept: Path | None) -> None:
    if kept is not None:
        with kept.open("ab") as lines:
            lines.write(msgspec.json.encode(seen) + b"\n")


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _table(rows: list[Row], by: str) -> list[str]:
    lines = [f"| {by} | cases | median abs. error | 95th percentile | worst |", "| --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys(getattr(row, by) for row in rows):
        group = [row for row in rows if getattr(row, by) == name]
        errors = [abs(row.error) for row in group]
        worst = max(group, key=lambda row: abs(row.error)).error
        lines.append(
            f"| {name} | {len(group)} | {statistics.median(errors):.2%} | {percentile(errors, 0.95):.2%} | {worst:+.2%} |"
        )
    return lines


def _worst_and_refused(rows: list[Row]) -> list[str]:
    answered = [row for row in rows if not row.refused]
    return [
        "The twenty widest apart (instants: trace / closed form):",
        "",
        "| family | way | batch | trace GiB | closed GiB | error | instants |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row.family} | {row.way} | {row.shape} | {row.traced / GIB:.3f} | {row.closed / GIB:.3f} "
            f"| {row.error:+.2%} | {row.instants} |"
            for row in sorted(answered, key=lambda row: -abs(row.error))[:20]
        ),
        "",
        *(f"CaseRefused: {row.family}, {row.way}, {row.shape}: {row.refused}." for row in rows if row.refused),
    ]


def report_of_sample(rows: list[Row], num_asked: int, seed: int) -> str:
    """The result file of cases drawn at random."""
    errors = [row.error for row in rows if not row.refused]
    sizes = [abs(error) for error in errors]
    summary = (
        f"{len(rows)} of {num_asked} cases drawn with seed {seed}, each key by itself and none by hand; the trace refused "
        f"{len(rows) - len(errors)}. Allocated peak: median absolute error **{statistics.median(sizes):.2%}**, 95th percentile "
        f"**{percentile(sizes, 0.95):.2%}**, widest {min(errors):+.2%} and {max(errors):+.2%}; "
        f"{sum(error < -0.01 for error in errors)} more than 1 % low, "
        f"{sum(error > 0.01 for error in errors)} more than 1 % high."
    )
    command = f"By `python -m benchmarks.estimates.trace_against_closed --sample {num_asked} --seed {seed} --write`."
    heading = ["# Closed form against trace, of cases drawn at random", "", describe_machine(), "", summary, ""]
    return "\n".join([*heading, *_worst_and_refused(rows), "", command, ""])


def report_of_classes(rows: list[Row], layers: int) -> str:
    """The result file of what tells classes apart."""
    answered = [row for row in rows if not row.refused]
    sizes = [abs(row.error) for row in answered]
    summary = (
        f"{len(rows)} cases of {len(CLASS_FAMILIES)} families with a head of classes, 32 padded sentences of 128 tokens, "
        f"{layers} layers each; {len(rows) - len(answered)} refused. Allocated peak: median absolute error "
        f"**{statistics.median(sizes):.2%}**, 95th percentile **{percentile(sizes, 0.95):.2%}**, worst {max(sizes):.2%}."
    )
    command = "By `python -m benchmarks.estimates.trace_against_closed --classes --layers 6 --write`."
    heading = ["# Closed form against trace, of what tells classes apart", "", describe_machine(), "", summary, ""]
    tables = [*_table(answered, "family"), "", *_table(answered, "way"), ""]
    return "\n".join([*heading, *tables, *_worst_and_refused(rows), "", command, ""])


def report(rows: list[Row], layers: int, num_asked: int) -> str:
    """The result file."""
    answered, refused = [row for row in rows if not row.refused], [row for row in rows if row.refused]
    errors = [abs(row.error) for row in answered]
    summary = (
        f"{len(rows)} of {num_asked} cases ({len(FAMILIES)} families, {len(WAYS)} ways, {len(SHAPES)} batches, {layers} layers "
        f"each, and {len(BESIDE_LINEARS)} ways that hang nothing on linears; of {len(HUNG)} further methods "
        f"{len(HUNG_FAMILIES)} families and {len(HUNG_WAYS)} ways; {len(EXPERT_WAYS)} ways on experts; {len(SOME_BLOCKS)} in "
        f"chosen blocks; {len(VOCABULARY_FAMILIES)} families and {len(VOCABULARY_WAYS)} ways to train a vocabulary), "
        f"{len(refused)} refused. Allocated peak: median absolute error **{statistics.median(errors):.2%}**, "
        f"95th percentile **{percentile(errors, 0.95):.2%}**, worst {max(errors):.2%}; "
        f"{statistics.median(row.seconds for row in answered):.2f} s a trace (median)."
    )
    return "\n".join(
        [
            "# Closed form against trace",
            "",
            describe_machine(),
            "",
            summary,
            "",
            *_table(answered, "family"),
            "",
            *_table(answered, "way"),
            "",
            *_worst_and_refused(rows),
            "",
            "By `python -m benchmarks.estimates.trace_against_closed --rows FILE --write`, which goes on where it was stopped.",
            "",
        ]
    )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="take every n-th case")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rows", type=Path, help="file of finished traces, to go on from")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}, or {OF_SAMPLE.name}")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop then, and say how many cases are there")
    parser.add_argument("--sample", type=int, help="draw so many cases instead of taking the grid")
    parser.add_argument("--seed", type=int, default=7, help="of the sample")
    parser.add_argument("--classes", action="store_true", help="take families with a head of classes")
    said = parser.parse_args()
    until_s = time.monotonic() + 60 * said.minutes
    if said.sample is not None:
        drawn = list(sample(said.sample, said.seed))
        text = report_of_sample(compare_all(drawn, said.processes, said.rows, until_s), said.sample, said.seed)
        return _show(text, OF_SAMPLE if said.write else None)
    if said.classes:
        rows = compare_all(list(class_grid(said.layers))[:: said.every], said.processes, said.rows, until_s)
        return _show(report_of_classes(rows, said.layers), OF_CLASSES if said.write else None)
    of_layers = (hung_grid, expert_grid, vocabulary_grid)
    points = [*grid(said.layers, WAYS | BESIDE_LINEARS), *(point for part in of_layers for point in part(said.layers))]
    points += chosen_grid()
    asked = points[:: said.every]
    rows = compare_all(asked, said.processes, said.rows, until_s)
    return _show(report(rows, said.layers, len(asked)), RESULT if said.write else None)


def _show(text: str, into: Path | None) -> int:
    print(text)
    if into is not None:
        into.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
