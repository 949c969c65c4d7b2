"""How long a trace takes: 1B to 70B in a warm process, and a kept one in a new process.

    python -m benchmarks.estimates.trace_seconds [--write]

LoRA r16 on all linears, AMP, checkpointing, 4 × 2,048 tokens. Goals: 70B in 7 s once torch is imported, a kept one in 0.2 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import RESULTS, describe_machine
from catalogs.bases.models import resolve_model
from planner.estimators.trace import trace_vram
from planner.units import GIB
from remote.contract import Strategy

RESULT = RESULTS / "trace_seconds.md"
MODELS = ("llama-3.2-1b", "llama-3.1-8b", "qwen2.5-32b", "llama-3-70b")
STRATEGY = Strategy(method="lora", rank=16, micro_batch_size=4, seq_len=2048)
RUNS = 3
KEPT = """
import sys, time
started = time.perf_counter()
from pathlib import Path
from catalogs.bases.models import resolve_model
from planner.estimators.trace import trace_vram
from remote.contract import Strategy
strategy = Strategy(method="lora", rank=16, micro_batch_size=4, seq_len=2048)
trace_vram(resolve_model(sys.argv[1], base=None).config, strategy, cache=Path(sys.argv[2]))
print(time.perf_counter() - started)
"""


def trace_seconds(model: str) -> tuple[float, float, int]:
    """Wall and processor seconds of the fastest of `RUNS` traces, and the peak."""
    config = resolve_model(model, base=None).config
    best = (float("inf"), float("inf"))
    peak = 0
    for _ in range(RUNS):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        peak = trace_vram(config, STRATEGY).allocated_peak_bytes
        best = min(best, (time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return (*best, peak)


def kept_seconds(model: str, folder: Path) -> float:
    """Seconds from a new process's first import of ours to the answer, the fastest of `RUNS`."""
    trace_vram(resolve_model(model, base=None).config, STRATEGY, cache=folder)
    command = [sys.executable, "-c", KEPT, model, str(folder)]
    return min(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(RUNS))


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    write = parser.parse_args().write
    trace_seconds(MODELS[0])  # imports
    lines = [
        "# Seconds of a trace",
        "",
        describe_machine(),
        "",
        "| model | peak GiB | s | processor s |",
        "| --- | --- | --- | --- |",
    ]
    for model in MODELS:
        wall_s, cpu_s, peak = trace_seconds(model)
        lines.append(f"| {model} | {peak / GIB:.2f} | {wall_s:.1f} | {cpu_s:.1f} |")
    with tempfile.TemporaryDirectory() as folder:
        kept_s = kept_seconds(MODELS[-1], Path(folder))
    note = f"A kept trace of {MODELS[-1]} in a new process: {kept_s:.2f} s. Fastest of {RUNS}, imports done."
    text = "\n".join([*lines, "", note, "", "By `python -m benchmarks.estimates.trace_seconds --write`.", ""])
    print(text)
    if write:
        RESULT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
