"""The memory estimate against a campaign of `benchmarks.gpu_memory`, by method and by component.

    python -m benchmarks.gpu_memory_compare runs.jsonl [--engine trace] [--write]

With --write the table goes into benchmarks/results/. Lines of a rehearsal hold no figure of CUDA and are left out.
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

from catalogs.catalog import Catalog, CatalogError, read_catalog
from planner.estimate import answer

RESULTS: Final = Path(__file__).with_name("results")


class Pair(NamedTuple):
    """One quantity of one run. Bytes."""

    variation: str
    quantity: str
    predicted: int
    measured: int

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def pairs(lines: Iterator[Mapping[str, Any]], catalog: Catalog, engine: str) -> Iterator[Pair | str]:
    """Everything that can be compared; a sentence for each run that can't."""
    for line in lines:
        if line.get("allocated_bytes") is None:
            yield f"{line['name']}: {line['end']}, {line.get('message') or line['figures']}"
            continue
        made = answer({**line["case"], "engine": engine, **_card(line["device_name"], catalog)}, catalog, None)
        if "error" in made:
            yield f"{line['name']}: no estimate, {made['error']['message']}"
            continue
        measured = quantities_measured(line)
        for quantity, predicted in quantities_predicted(made["vram"]).items():
            if measured.get(quantity):
                yield Pair(line["name"].partition("/")[0], quantity, predicted, measured[quantity])


def quantities_predicted(vram: Mapping[str, Any]) -> dict[str, int]:
    """What the estimate says of the quantities that a run shows."""
    parts = vram["components"]
    lying = parts["weights"] + parts["adapter"] + parts["optimizer"]
    return {
        "allocated": vram["allocated_peak_bytes"],
        "reserved": vram["reserved_peak_bytes"],
        "process": vram["process_peak_bytes"],
        "context": vram["process_peak_bytes"] - vram["reserved_peak_bytes"],
        "evaluation": vram["evaluation_peak_bytes"],
        "weights": parts["weights"],
        "adapter": parts["adapter"],
        "optimizer": parts["optimizer"],
        "above what lies": vram["allocated_peak_bytes"] - lying,
    }


def quantities_measured(line: Mapping[str, Any]) -> dict[str, int]:
    """The same of a run: differences between what was allocated when. cuBLAS's workspaces come with the first step, and are
    counted with the optimizer's states there.
    """
    noted = line["allocated_bytes"]
    return {
        "allocated": noted["step"],
        "reserved": line["reserved_peak_bytes"],
        "process": line["process_bytes"],
        "context": line["context_bytes"],
        "evaluation": noted["evaluation"],
        "weights": noted["weights"],
        "adapter": noted["adapter"] - noted["weights"],
        "optimizer": noted["states"] - noted["adapter"],
        "above what lies": noted["step"] - noted["states"],
    }


def _card(device_name: str, catalog: Catalog) -> dict[str, str]:
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


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole: a campaign that was killed leaves one that is not."""
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--engine", choices=("closed_form", "trace"), default="closed_form")
    parser.add_argument("--write", action="store_true")
    said = parser.parse_args()
    lines = list(lines_of(said.runs))
    made = list(pairs(iter(lines), read_catalog(), said.engine))
    found = [pair for pair in made if isinstance(pair, Pair)]
    text = table(found, [sentence for sentence in made if isinstance(sentence, str)])
    print(text)
    if said.write and found:
        device = lines[0]["device_name"].replace(" ", "-")
        versions = ", ".join(f"{name} {version}" for name, version in lines[0]["versions"].items())
        title = f"# GPU memory: predicted ({said.engine}) against measured on {lines[0]['device_name']}\n\n{versions}\n\n"
        (RESULTS / f"gpu_memory_{device}_{said.engine}.md").write_text(f"{title}{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
