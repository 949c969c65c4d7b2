"""Whole runs of the trainer on this machine's GPU, against what was planned for them.

    python -m benchmarks.training.gpu_runs --out runs.jsonl              # on a machine with one NVIDIA GPU
    python -m benchmarks.training.gpu_runs --out runs.jsonl --only guards  # what keeps paid minutes from being wasted
    python -m benchmarks.training.gpu_runs --out dry.jsonl --device cpu  # a rehearsal with tiny shapes
    python -m benchmarks.training.gpu_runs --table runs.jsonl            # at home: what was planned against what was metered

Each job is what a box is told: `python -m remote job.json`, its base drawn at random, its rows made up. One is stopped by a
signal in the middle and started again; some are given less memory than they ask for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.estimates.gpu_memory import TINY, TINY_TOKENS
from benchmarks.estimates.gpu_memory_compare import card_of, lines_of
from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.asking.case import read_case, strategy_of
from planner.estimate import answer
from remote.contract import (
    EVENTS_FILE,
    JOB_FILE,
    MODEL_CACHE_VARIABLE,
    OUTCOME_FILE,
    DataSource,
    JobSpec,
    Loop,
    ModelSource,
    Outcome,
    decode,
    encode,
)

MODEL: Final = "llama-3.2-1b"
NUM_STEPS: Final = 24
NUM_ROWS: Final = 2000
SEED: Final = 7
RUN_LIMIT_S: Final = 90.0
LEAVE_S: Final = 20.0  # to save and leave, once it is told to
ROW_WORDS: Final = 120  # about 700 bytes, which are the tokens here: most rows are cut to the length


SHOWN: Final = ("phase_started", "phase_ended", "preflight", "strategy_changed", "probe", "telemetry", "warning", "ended")

# `python -m remote JOB` with a bound on what torch may take of the card.
CAPPED: Final = """
import runpy, sys, torch
torch.cuda.set_per_process_memory_fraction(float(sys.argv[1]) * 2**30 / torch.cuda.get_device_properties(0).total_memory)
del sys.argv[1]
runpy.run_module("remote", run_name="__main__", alter_sys=True)
"""


class Ordered(NamedTuple):
    """One job and what is done to it."""

    case: dict[str, Any]
    stopped_at_step: int | None = None  # then it is started again
    cap_gib: float | None = None  # more of the card's memory torch may not take
    num_steps: int = NUM_STEPS
    num_rows: int = NUM_ROWS


SHAPE: Final[dict[str, Any]] = {"model": MODEL, "micro_batch_size": 4, "seq_len": 512}
SMALL: Final[dict[str, Any]] = {**SHAPE, "model": "smollm2-360m"}
TINIEST: Final[dict[str, Any]] = {**SHAPE, "model": "smollm2-135m"}
JOBS: Final[dict[str, Ordered]] = {
    "lora": Ordered(SHAPE),
    "qlora, stopped and resumed": Ordered({**SHAPE, "quant": "nf4", "double_quant": True}, stopped_at_step=8),
    "full, 8-bit AdamW": Ordered({**SHAPE, "method": "full", "optimizer": "adamw_8bit"}),
    "int8": Ordered({**SMALL, "quant": "int8", "gradient_checkpointing": "reentrant"}),
    "guards, qlora that steps down": Ordered(
        {**TINIEST, "quant": "nf4", "double_quant": True, "micro_batch_size": 32, "gradient_checkpointing": "off"},
        cap_gib=3.0,
        num_steps=40,
        num_rows=400,
    ),
    "int8, small": Ordered({**TINIEST, "quant": "int8"}, num_steps=8, num_rows=100),
    "no room at all": Ordered(
        {**TINIEST, "gradient_checkpointing": "off", "seq_len": 2048}, cap_gib=0.4, num_steps=8, num_rows=100
    ),
}


def run(out: Path, device: str, only: Sequence[str]) -> None:
    """Every job, one after the other; a line for each as it ends. `only`: parts of names; empty = all."""
    chosen = {name: ordered for name, ordered in JOBS.items() if not only or any(part in name for part in only)}
    with tempfile.TemporaryDirectory() as folder, out.open("a", encoding="utf-8") as file:
        for name, ordered in chosen.items():
            line = {"name": name, **_carried_out(Path(folder), name, ordered, device)}
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(f"{name:32} {line.get('reason')}  {line['wall_s']:.0f} s", flush=True)


def _carried_out(root: Path, name: str, ordered: Ordered, device: str) -> dict[str, Any]:
    folder = root / name.replace(" ", "_").replace(",", "").replace(":", "")
    folder.mkdir()
    _lay_out(folder, name, ordered, device)
    started = time.monotonic()
    cap_gib = ordered.cap_gib if device == "cuda" else None
    codes = [_process(folder, root / "models", stop_at=ordered.stopped_at_step, cap_gib=cap_gib)]
    if ordered.stopped_at_step is not None:
        codes.append(_process(folder, root / "models", stop_at=None, cap_gib=cap_gib))
    said: dict[str, Any] = {"case": ordered.case, "exit_codes": codes, "wall_s": time.monotonic() - started, "device": device}
    events = list(lines_of(folder / EVENTS_FILE))
    kept = [event for event in events if event["kind"] not in {"step", "progress"}]
    said["events"] = kept
    said["step_s"] = [event["data"].get("step_s") for event in events if event["kind"] == "step"]
    machine: dict[str, Any] = next((event["data"] for event in events if event["kind"] == "machine"), {})
    said["machine"] = machine
    outcome = folder / OUTCOME_FILE
    if outcome.exists():
        read = decode(outcome.read_bytes(), Outcome)
        said |= {"reason": read.reason, "message": read.message, "outcome": json.loads(outcome.read_bytes())}
    said["log"] = (folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]
    return said


def _lay_out(folder: Path, name: str, ordered: Ordered, device: str) -> None:
    """The files of a job: configuration, rows, and the job itself."""
    config = dict(resolve_model(ordered.case["model"], base=None).config)
    case = dict(ordered.case)
    if device == "cpu":
        config |= {key: value for key, value in TINY.items() if key in config} | TINY_TOKENS | {"vocab_size": 512}
        case |= {"seq_len": 64, "autocast": "none", "param_dtype": "float32"}
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = ("rent", "tune", "plan", "pay", "adapter", "budget", "card", "step")
    with (folder / "train.jsonl").open("w", encoding="utf-8") as rows:
        for row in range(ordered.num_rows):
            text = " ".join(words[(row * 7 + place * (row % 5 + 1)) % len(words)] for place in range(ROW_WORDS))
            rows.write(json.dumps({"prompt": f"Row {row}?", "response": text}) + "\n")
    spec = JobSpec(
        run_id=f"gpu-{name.split(',')[0].replace(' ', '-').replace(':', '')}",
        model=ModelSource(kind="config", location="base"),
        data=DataSource(train="train.jsonl", format="instruction", held_out_rows=16),
        strategy=strategy_of(read_case(case)),
        loop=Loop(
            max_steps=ordered.num_steps,
            epochs=3,
            evaluations=1,
            seed=SEED,
            checkpoint_every_s=2.0,
            num_samples=1,
            sample_tokens=16,
        ),
        device="cpu" if device == "cpu" else "cuda",
    )
    (folder / JOB_FILE).write_bytes(encode(spec))


def _process(folder: Path, cache: Path, *, stop_at: int | None, cap_gib: float | None) -> int:
    """`python -m remote job.json`, told to leave once it has made step `stop_at`; its exit code."""
    environment = os.environ | {MODEL_CACHE_VARIABLE: str(cache)}
    start = ["-m", "remote"] if cap_gib is None else ["-c", CAPPED, str(cap_gib)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, *start, str(folder / JOB_FILE)], env=environment, stdout=log, stderr=log)
        try:
            for step in _steps_seen(folder, process):
                if stop_at is not None and step >= stop_at:
                    process.send_signal(signal.SIGTERM)
                    break
            return process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _steps_seen(folder: Path, process: subprocess.Popen[bytes]) -> Iterator[int]:
    """The number of the last step, again and again until the process ends or its time is up. What is told is shown at once."""
    began_s, seen, ended = time.monotonic(), 0, False
    while not ended and time.monotonic() < began_s + RUN_LIMIT_S:
        time.sleep(0.05)
        ended = process.poll() is not None  # what it said last is shown as well
        events = list(lines_of(folder / EVENTS_FILE)) if (folder / EVENTS_FILE).exists() else []
        for event in events[seen:]:
            if event["kind"] in SHOWN:
                shown = f"{event['kind']} {event['phase']} {json.dumps(event['data'])}"
                print(f"  {time.monotonic() - began_s:5.1f} s  {shown}", flush=True)
        seen = len(events)
        yield max((event["data"]["step"] for event in events if event["kind"] == "step"), default=0)


def table(runs: Path) -> str:
    """What was planned for each run's card against what its meters showed, as Markdown."""
    catalog = read_catalog()
    lines = ["| job | ended | quantity | planned | metered | error |", "| --- | --- | --- | --- | --- | --- |"]
    for line in lines_of(runs):
        measured = line.get("outcome", {}).get("measured", {})
        made = answer({**line["case"], **card_of(str(line["machine"].get("gpu", "")), catalog)}, catalog, None)
        if "error" in made or not measured.get("peak_vram_allocated_bytes"):
            lines.append(f"| {line['name']} | {line.get('reason')} | | | | {line.get('message', '')} |")
            continue
        vram = made["vram"]
        figures = {
            "allocated, GiB": (vram["allocated_peak_bytes"] / 2**30, measured["peak_vram_allocated_bytes"] / 2**30),
            "process, GiB": (vram["process_peak_bytes"] / 2**30, (measured.get("peak_vram_process_bytes") or 0) / 2**30),
            "step, s": (made["time"]["step_s"]["p50"], measured.get("step_s") or 0),
        }
        for quantity, (planned, metered) in figures.items():
            error = f"{planned / metered - 1:+.1%}" if metered else "not metered"
            lines.append(f"| {line['name']} | {line.get('reason')} | {quantity} | {planned:.3f} | {metered:.3f} | {error} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON lines of what the runs metered")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="*", default=(), help="parts of the names of jobs")
    parser.add_argument("--table", type=Path, help="show the table of such a file")
    said = parser.parse_args()
    if said.out is not None:
        run(said.out, said.device, said.only)
    if said.table is not None:
        print(table(said.table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
