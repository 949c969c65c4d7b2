"""The memory estimate against a campaign of `benchmarks.estimates.gpu_memory`, by method and by component.

    python -m benchmarks.estimates.gpu_memory_compare runs.jsonl … [--engine trace] [--write]

Of several files the last line of a case counts. With --write the tables go into benchmarks/results/. Lines of a rehearsal
hold no figure of CUDA and are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.machine import RESULTS
from catalogs.catalog import Catalog, CatalogError, read_catalog
from planner.estimate import answer
from planner.units import GIB

SPEED: Final = "tokens per second"


class Pair(NamedTuple):
    """One quantity of one run: bytes, or tokens per second."""

    variation: str
    quantity: str
    predicted: int
    measured: int
    inside: bool | None = None  # whether p10 to p90 hold it, of what has a range

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def pairs(lines: Iterator[Mapping[str, Any]], catalog: Catalog, engine: str) -> Iterator[Pair | str]:
    """Everything that can be compared; a sentence for each run that can't."""
    for line in lines:
        if line.get("allocated_bytes") is None:
            yield f"{line['name']}: {line['end']}, {line.get('message') or line['figures']}"
            continue
        made = answer({**line["case"], "engine": engine, **card_of(line["device_name"], catalog)}, catalog, None)
        if "error" in made:
            yield f"{line['name']}: no estimate, {made['error']['message']}"
            continue
        measured = quantities_measured(line)
        for quantity, predicted in quantities_predicted(made["vram"]).items():
            if measured.get(quantity):
                yield Pair(line["name"].partition("/")[0], quantity, predicted, measured[quantity])
        if "time" in made and line.get("tokens_per_s"):
            planned, measured_speed = made["time"]["tokens_per_s"], line["tokens_per_s"]
            held = planned["p10"] <= measured_speed <= planned["p90"]
            yield Pair(line["name"].partition("/")[0], SPEED, round(planned["p50"]), round(measured_speed), held)


def quantities_predicted(vram: Mapping[str, Any]) -> dict[str, int]:
    """What the estimate says of the quantities that a run shows."""
    parts = vram["components"]
    states = parts["optimizer"] + parts["workspaces"]  # cuBLAS's come with the first step, too
    lying = parts["weights"] + parts["adapter"] + states
    return {
        "allocated": vram["allocated_peak_bytes"],
        "reserved": vram["reserved_peak_bytes"],
        "process": vram["process_peak_bytes"],
        "context": vram["process_peak_bytes"] - vram["reserved_peak_bytes"],
        "evaluation": vram["evaluation_peak_bytes"],
        "weights": parts["weights"],
        "adapter": parts["adapter"],
        "optimizer and workspaces": states,
        "above what lies": vram["allocated_peak_bytes"] - lying,
    }


def quantities_measured(line: Mapping[str, Any]) -> dict[str, int]:
    """The same of a run: differences between what was allocated when."""
    noted = line["allocated_bytes"]
    return {
        "allocated": noted["step"],
        "reserved": line["reserved_peak_bytes"],
        "process": line["process_bytes"],
        "context": line["context_bytes"],
        "evaluation": noted["evaluation"],
        "weights": noted["weights"],
        "adapter": noted["adapter"] - noted["weights"],
        "optimizer and workspaces": noted["states"] - noted["adapter"],
        "above what lies": noted["step"] - noted["states"],
    }


def card_of(device_name: str, catalog: Catalog) -> dict[str, str]:
    """The card by the catalog's name for it; none where it has none."""
    try:
        return {"gpu": catalog.gpu(device_name.removeprefix("NVIDIA ")).gpu.name}
    except CatalogError:
        return {}


def table(found: list[Pair], left_out: list[str]) -> str:
    """Median, 95th percentile and worst error by quantity and by variation, as Markdown."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in found:
        groups["all", pair.quantity].append(pair.error)
        groups[pair.variation, pair.quantity].append(pair.error)
    lines = ["| cases | quantity | runs | median | p95 | worst | bias |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for (variation, quantity), errors in groups.items():
        sizes = sorted(map(abs, errors))
        p95 = sizes[round(0.95 * (len(sizes) - 1))]
        bias = statistics.median(errors)
        figures = f"{statistics.median(sizes):.2%} | {p95:.2%} | {sizes[-1]:.2%} | {bias:+.2%}"
        lines.append(f"| {variation} | {quantity} | {len(sizes)} | {figures} |")
    return "\n".join([*lines, "", *(f"- left out: {sentence}" for sentence in left_out)])


def rows(by_case: Mapping[str, list[Pair | str]]) -> str:
    """A line for each case, as Markdown: what was measured, and how far off the estimate is."""
    lines = [
        "| case | allocated, GiB | error | reserved, GiB | error | evaluation, GiB | error | tokens/s | error | p10-p90 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in by_case.items():
        told = {pair.quantity: pair for pair in found if isinstance(pair, Pair)}
        cells = [
            f"{pair.measured / GIB:.2f} | {pair.error:+.2%}" if pair is not None else " | "
            for pair in (told.get("allocated"), told.get("reserved"), told.get("evaluation"))
        ]
        cells.append(_speed_cells(told.get(SPEED)))
        if told:
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _speed_cells(speed: Pair | None) -> str:
    return " | | " if speed is None else f"{speed.measured:,} | {speed.error:+.0%} | {'inside' if speed.inside else 'outside'}"


def held(found: list[Pair]) -> str:
    """How many of what has a range lie within it."""
    ranged = [pair.inside for pair in found if pair.inside is not None]
    return f"Tokens per second lie between p10 and p90 in {sum(ranged)} of {len(ranged)} cases." if ranged else ""


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole: a campaign that was killed leaves one that is not."""
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--engine", choices=("closed_form", "trace"), default="closed_form")
    parser.add_argument("--write", action="store_true")
    said = parser.parse_args()
    lines = list({line["name"]: line for runs in said.runs for line in lines_of(runs)}.values())
    catalog = read_catalog()
    by_case = {line["name"]: list(pairs(iter([line]), catalog, said.engine)) for line in lines}
    made = [each for found in by_case.values() for each in found]
    found = [pair for pair in made if isinstance(pair, Pair)]
    text = table(found, [sentence for sentence in made if isinstance(sentence, str)])
    print(text, held(found), sep="\n\n")
    if said.write and found:
        device = lines[0]["device_name"].replace(" ", "-")
        versions = ", ".join(f"{name} {version}" for name, version in lines[0]["versions"].items())
        title = f"# GPU memory: predicted ({said.engine}) against measured on {lines[0]['device_name']}\n\n{versions}\n\n"
        whole = f"{title}{text}\n\n{held(found)}\n\n## Case by case\n\n{rows(by_case)}\n"
        (RESULTS / f"gpu_memory_{device}_{said.engine}.md").write_text(whole, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
