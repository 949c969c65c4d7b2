"""What rentune costs in time: a whole local run beside the bare script that does the same load, steps, evaluations, samples
and reload check. Goal: at most 1.25 times as long, for a run of no more
than three minutes.

    python -m benchmarks.training.whole_run [--write] [--steps 8] [--rounds 2]

Both find the stack installed and the base converted to safetensors. They take turns, so that a busy minute hits both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import RESULTS, describe_machine
from provision.home.places import read_places
from remote.bases.on_disk import prepare_base
from remote.contract import ModelSource

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
BASE = "SmolLM2-135M-Instruct.Q4_1.gguf"
RESULT = RESULTS / "whole_run.md"
GOAL = 1.25


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Wall-clock seconds of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    return time.perf_counter() - started


def job_text(model: str, steps: int) -> str:
    """The demo's job on a folder of safetensors, cut to `steps`, evaluated before and after."""
    lines = (DEMO / "job.yaml").read_text().splitlines()
    changed = {"model:": f"model: {model}", "  max_steps:": f"  max_steps: {steps}", "  evaluations:": "  evaluations: 0"}
    text = "\n".join(next((new for key, new in changed.items() if line.startswith(key)), line) for line in lines)
    return text.replace("generated/", f"{DEMO}/generated/")


def report(ours: list[float], bare: list[float], steps: int) -> str:
    """The result file."""
    ratio = statistics.median(ours) / statistics.median(bare)
    rows = [
        f"| `rentune run JOB.yaml --yes` | {statistics.median(ours):.1f} | {min(ours):.1f} | {max(ours):.1f} |",
        f"| `python -m benchmarks.training.bare_script` | {statistics.median(bare):.1f} | {min(bare):.1f} | {max(bare):.1f} |",
    ]
    head = ["| whole process | median s | min s | max s |", "| --- | --- | --- | --- |"]
    what = (
        f"SmolLM2-135M, LoRA rank 8 on all linears, fp32, {steps} steps of 8 rows, two evaluations of 200 rows, three "
        f"samples from base and tuned model, reload check. {len(ours)} runs of each, taking turns."
    )
    verdict = f"**Ratio of medians: {ratio:.2f}** (goal: at most {GOAL})."
    return (
        "\n\n".join(["# A whole local run beside the bare script", describe_machine(), what, "\n".join(head + rows), verdict])
        + "\n"
    )


def main() -> int:
    """Print the table; exit 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    subprocess.run([sys.executable, str(DEMO / "make_data.py")], check=True)
    source = ModelSource(kind="gguf", location=str(read_places().cache / "bases" / BASE))
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="rentune-bench-") as name:
        folder = Path(name)
        model = prepare_base(source, cache=folder / "models", dtype="float32", seed=0)
        job = folder / "job.yaml"
        job.write_text(job_text(model, asked.steps))
        environment = os.environ | {"RENTUNE_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        data = [str(DEMO / "generated" / "train.jsonl"), str(DEMO / "generated" / "held_out.jsonl")]
        rentune = [str(Path(sys.executable).parent / "rentune"), "run", str(job), "--yes"]
        script = [
            sys.executable,
            "-m",
            "benchmarks.training.bare_script",
            model,
            *data,
            str(folder / "adapter"),
            "--steps",
            str(asked.steps),
        ]
        for turn in range(asked.rounds):
            ours.append(seconds(rentune, environment))
            bare.append(seconds(script, environment))
            print(f"round {turn + 1}: rentune {ours[-1]:.1f} s, bare script {bare[-1]:.1f} s", flush=True)
    text = report(ours, bare, asked.steps)
    print(text)
    if asked.write:
        RESULT.write_text(text)
    return 0 if statistics.median(ours) <= GOAL * statistics.median(bare) else 1


if __name__ == "__main__":
    sys.exit(main())
