"""How many different questions the closed form answers in a second of one core: in full, and when only the peak is asked for.

    python -m benchmarks.estimates.per_second [--write]

No question is asked twice. A way to train is a base, a method, a quantization and checkpointing; each is asked for with many
batches, as a search does. The first question of a way plays its blocks, and counts among the others. "New ways" are asked for
with one batch each. Fastest of `RUNS` runs, processor time. Goals: 5,000 and 20,000.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from benchmarks.machine import RESULTS, describe_machine
from catalogs.bases.architectures import Architecture
from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram, peak_bytes
from remote.contract import Strategy

RESULT: Final = RESULTS / "estimates_per_second.md"
RUNS: Final = 7
GOALS: Final = {"in full": 5_000, "the peak alone": 20_000}
ASKED: Final[dict[str, Callable[[Architecture, Strategy], object]]] = {"in full": estimate_vram, "the peak alone": peak_bytes}
MODELS: Final = ("llama-3.2-1b", "llama-3.1-8b", "qwen2.5-32b", "mistral-7b", "gemma-2-9b", "phi-2", "gpt2", "roberta-base")
METHODS: Final[tuple[dict[str, Any], ...]] = (
    {"method": "full", "optimizer": "adamw_8bit"},
    {"method": "lora", "rank": 16},
    {"method": "lora", "rank": 16, "quant": "nf4", "double_quant": True, "kbit_upcast": "full"},
    {"method": "dora", "rank": 8, "dropout": 0.1},
    {"method": "ia3"},
)
CHECKPOINTING: Final = ("off", "non_reentrant")
MICRO_BATCHES: Final = range(1, 17)
LENGTHS: Final = range(128, 2_049, 128)


def ways() -> Iterator[tuple[Architecture, dict[str, Any]]]:
    """Every base with every way to train it."""
    for name, method, checkpointing in itertools.product(MODELS, METHODS, CHECKPOINTING):
        yield resolve_model(name, base=None), method | {"gradient_checkpointing": checkpointing}


def questions(batches: Iterable[tuple[int, int]]) -> list[tuple[Architecture, Strategy]]:
    """Every way to train with every batch."""
    every = list(batches)
    return [
        (architecture, Strategy(micro_batch_size=size, seq_len=length, **way))
        for architecture, way in ways()
        for size, length in every
    ]


def per_second(ask: Callable[[Architecture, Strategy], object], asked: list[tuple[Architecture, Strategy]]) -> float:
    """Answers a second of processor time."""
    started = time.process_time()
    for architecture, strategy in asked:
        ask(architecture, strategy)
    return len(asked) / (time.process_time() - started)


def measured(what: str, batches: str) -> float:
    """The same in a new process, which has played nothing yet; the fastest of `RUNS`."""
    command = [sys.executable, "-m", "benchmarks.estimates.per_second", "--one", what, batches]
    return max(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(RUNS))


def answer_one(what: str, batches: str) -> float:
    """Answers a second in this process."""
    every = itertools.product(MICRO_BATCHES, LENGTHS) if batches == "many" else ((4, 1_024),)
    return per_second(ASKED[what], questions(every))


def main() -> int:
    """Print the table; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.one:
        print(answer_one(*said.one))
        return 0
    num_ways, num_batches = len(list(ways())), len(MICRO_BATCHES) * len(LENGTHS)
    lines = [
        "# Estimates a second",
        "",
        describe_machine(),
        "",
        "| asked for | questions | ways to train | answers a second | goal |",
        "| --- | --- | --- | --- | --- |",
    ]
    met = True
    for what, goal in GOALS.items():
        rate = measured(what, "many")
        met = met and rate >= goal
        lines.append(f"| {what} | {num_ways * num_batches:,} | {num_ways} | {rate:,.0f} | {goal:,} |")
    lines.append(f"| in full, new ways | {num_ways} | {num_ways} | {measured('in full', 'one'):,.0f} | |")
    text = "\n".join(
        [*lines, "", f"One core, fastest of {RUNS} processes, by `python -m benchmarks.estimates.per_second --write`.", ""]
    )
    print(text)
    if said.write:
        RESULT.write_text(text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
