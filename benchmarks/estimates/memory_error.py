"""How far predicted GPU memory is from measured runs, by method and kind, and whether any verdict was unsafe.

    python benchmarks/estimates/memory_error.py runs.jsonl [--out benchmarks/results/estimate_memory_DATE.md]

A line of the input is {"case": {a case of the estimate contract}, "outcome": "ok" or "oom", "allocated": bytes,
"reserved": bytes, "process": bytes}; what was not measured is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from catalogs.catalog import read_catalog
from planner.estimate import answer

KINDS = ("allocated", "reserved", "process")


def errors_of(row: dict[str, Any], vram: dict[str, Any]) -> dict[str, float]:
    """Signed relative error of each kind that was measured."""
    return {kind: vram[f"{kind}_peak_bytes"] / row[kind] - 1 for kind in KINDS if kind in row}


def render(errors: dict[tuple[str, str], list[float]], verdicts: Counter[tuple[str, str]]) -> Iterable[str]:
    yield "| group | kind | runs | median | p90 | worst | bias |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for (group, kind), values in sorted(errors.items()):
        sizes = sorted(abs(value) for value in values)
        figures = (statistics.median(sizes), sizes[int(0.9 * len(sizes))], sizes[-1])
        row = " | ".join(f"{figure:.2%}" for figure in figures)
        yield f"| {group} | {kind} | {len(sizes)} | {row} | {statistics.median(values):+.2%} |"
    yield ""
    for (outcome, verdict), count in sorted(verdicts.items()):
        yield f"- {'ran out of memory' if outcome == 'oom' else 'ran'}, called {verdict}: {count}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Score predicted GPU memory against measured runs.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    catalog = read_catalog()
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    verdicts: Counter[tuple[str, str]] = Counter()
    refused: Counter[str] = Counter()
    for line in options.runs.read_text().splitlines():
        row = json.loads(line)
        made = answer(row["case"], catalog, None)
        if "error" in made:
            refused[made["error"]["message"]] += 1
            continue
        verdicts[row["outcome"], made["fits"]["verdict"]] += 1
        source = str(row["case"]["id"]).rpartition("-")[0]
        for kind, error in errors_of(row, made["vram"]).items():
            errors[f"{source} {row['case']['method']}", kind].append(error)
            errors["all", kind].append(error)
    lines = ["# GPU memory: predicted against measured", "", *render(errors, verdicts)]
    lines += [f"- refused, {count} runs: {message}" for message, count in refused.items()]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
