"""Fit the speed constants that planner/estimators/calibration.py marks "fitted", and show how far off they leave each group.

    python benchmarks/fit_constants.py runs.jsonl [--fit] [--out benchmarks/results/estimate_speed_DATE.md]
    python benchmarks/fit_constants.py --rows ~/.local/state/rentune/calibration.jsonl

A line of the input is {"case": {a case of the estimate contract}, "tokens_per_s_per_gpu": 3447.1}. Without --fit the
constants as they stand are scored. Coordinate descent on the mean |ln(predicted / measured)|, each clipped at 1; sources
that are no PEFT weigh less. The fitted values are rounded by hand before they are written down. The spreads of
calibration.SPREADS follow from the errors by one rule (`spread_by_rule`); the output sets the two side by side.

With --rows, nothing is fitted: what rentune predicted and metered in runs of one's own, quantity by quantity.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import ModelUnknown, resolve_model
from catalogs.catalog import read_catalog
from catalogs.hardware import Gpu
from planner.asking.case import Case, read_case, stack_of, strategy_of
from planner.estimators import calibration, speed
from planner.estimators.speed import run_class, step_time, tokens_per_step
from planner.strategy.stack import Stack
from provision.account.receipt import Calibration
from remote.contract import Strategy

BOUNDS: Mapping[str, tuple[float, float]] = {
    "COMPUTE_EFFICIENCY": (0.8, 1.15),
    "ALPHA": (10, 120),
    "BETA_EAGER": (1, 14),
    "BETA_FUSED": (0.3, 8),
    "HOST_S_EAGER": (0.2e-3, 1.2e-3),
    "HOST_S_PER_UNIT": (0, 3e-3),
    "HOST_PER_EXPERT": (0, 0.5),
    "KAPPA_EARLY": (4, 40),
    "EXPERT_HALF_WIDTH": (1_000, 9_000),
    "LOW_PRECISION_SPEEDUP": (1.1, 2),
    "NVLINK_SHARE": (0.2, 1),
    "OPTIMIZER_BYTES_16": (14, 60),
    "OPTIMIZER_BYTES_32": (28, 120),
}
STEPS = (0.7, 0.85, 0.93, 1.07, 1.17, 1.4)


class Run(NamedTuple):
    """A measured run, ready to be predicted."""

    case: Case
    strategy: Strategy
    stack: Stack
    architecture: Architecture
    gpu: Gpu
    tokens_per_s_per_gpu: float

    @property
    def source(self) -> str:
        return (self.case.id or "").rpartition("-")[0]

    @property
    def family(self) -> str:
        """A100-SXM4-80GB and A100-PCIE-40GB are one family of GPUs, and so are all memory sizes of a card."""
        found = re.match(r"RTX (PRO )?\w+|[A-Za-z]+\d+", self.gpu.name)
        return found[0] if found else self.gpu.name

    @property
    def weight(self) -> float:
        """PEFT counts most; pre-training runs only hold the compute and link terms in place."""
        return (1.5 if self.case.method != "full" else 1.0) * (0.3 if self.source == "mpt" else 1.0)


class Scored(NamedTuple):
    run: Run
    error: float  # ln(predicted / measured)
    kind: calibration.RunClass

    @property
    def inside(self) -> bool:
        """Whether the measurement lies between p10 and p90."""
        return abs(self.error) <= math.log(calibration.SPREADS[self.kind])


def read_runs(path: Path) -> tuple[list[Run], int]:
    """The runs, and how many have a model that the registry does not know."""
    catalog = read_catalog()
    runs, unknown = [], 0
    for line in path.read_text().splitlines():
        row = json.loads(line)
        case = read_case(row["case"])
        try:
            architecture = resolve_model(case.model)
        except ModelUnknown:
            unknown += 1
            continue
        gpu = catalog.gpu(case.gpu or "").gpu
        runs.append(Run(case, strategy_of(case), stack_of(case), architecture, gpu, row["tokens_per_s_per_gpu"]))
    return runs, unknown


def score(run: Run) -> Scored:
    case, strategy, stack = run.case, run.strategy, run.stack
    mean = case.mean_seq_len or float(case.seq_len)
    step = step_time(
        run.architecture,
        strategy,
        task=case.task,
        gpu=run.gpu,
        stack=stack,
        mean_seq_len=mean,
        interconnect=case.interconnect,
    )
    per_gpu = tokens_per_step(strategy, stack, mean) / step.step_s(strategy.gradient_accumulation_steps) / case.num_gpus
    error = math.log(per_gpu / run.tokens_per_s_per_gpu)
    return Scored(run, error, run_class(run.architecture, strategy, run.gpu, step))


def loss(runs: Sequence[Run]) -> float:
    """Summed over runs, by weight."""
    return sum(run.weight * min(1.0, abs(score(run).error)) for run in runs)


class Reads:
    """The constants, with a note of which of them were read."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.names.add(name)
        return getattr(calibration, name)


def readers(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    """The runs whose estimate reads a constant, by its name: the others need not be scored again when it moves."""
    found: dict[str, list[Run]] = {name: [] for name in BOUNDS}
    for run in runs:
        reads = Reads()
        vars(speed)["known"] = reads
        score(run)
        for name in reads.names & BOUNDS.keys():
            found[name].append(run)
    vars(speed)["known"] = calibration
    return found


def fit(runs: Sequence[Run], rounds: int = 3) -> None:
    """Move one constant at a time, in the module itself, as long as the loss falls."""
    reading = readers(runs)
    for _ in range(rounds):
        for name, (low, high) in BOUNDS.items():
            kept = getattr(calibration, name)
            best = loss(reading[name])
            tried = [kept * step for step in STEPS] + [low + (high - low) * part / 6 for part in range(7)]
            for value in (value for value in tried if low <= value <= high):
                setattr(calibration, name, value)
                if (now := loss(reading[name])) < best - 1e-3:
                    best, kept = now, value
            setattr(calibration, name, kept)


GROUPS: Mapping[str, Callable[[Run], bool]] = {
    "all": bool,
    "PEFT": lambda run: run.case.method != "full",
    "PEFT, one GPU, dense": lambda run: (
        run.case.method != "full" and run.case.num_gpus == 1 and not run.architecture.num_experts
    ),
    "PEFT, several GPUs, dense": lambda run: (
        run.case.method != "full" and run.case.num_gpus > 1 and not run.architecture.num_experts
    ),
    "PEFT, mixtures": lambda run: run.case.method != "full" and run.architecture.num_experts > 0,
    "full, one GPU": lambda run: run.case.method == "full" and run.case.num_gpus == 1,
    "full, several GPUs": lambda run: run.case.method == "full" and run.case.num_gpus > 1,
}


def render(scored: Sequence[Scored]) -> Iterable[str]:
    yield "| group | runs | median | p90 | bias | inside p10-p90 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    sources = sorted({item.run.source for item in scored})
    groups = {**GROUPS, **{f"source {name}": _is_from(name) for name in sources}}
    for name, belongs in groups.items():
        chosen = [item for item in scored if belongs(item.run)]
        sizes = sorted(abs(item.error) for item in chosen)
        if sizes:
            bias = statistics.median(item.error for item in chosen)
            inside = sum(item.inside for item in chosen) / len(chosen)
            p90 = sizes[int(0.9 * len(sizes))]
            yield f"| {name} | {len(sizes)} | {statistics.median(sizes):.1%} | {p90:.1%} | {bias:+.1%} | {inside:.0%} |"


def _is_from(source: str) -> Callable[[Run], bool]:
    return lambda run: run.source == source


INSIDE = 0.8  # what p10 to p90 promises
WIDENED = 4 / 3  # assumed: for runs that the fit has not seen; the table of left-out sources shows how far off it is there


def spread_by_rule(errors: Sequence[float]) -> float:
    """The factor that holds INSIDE of these errors, widened."""
    return math.exp(WIDENED * sorted(errors)[math.ceil(INSIDE * len(errors)) - 1])


def spreads(scored: Sequence[Scored]) -> Iterable[str]:
    """Class by class: the factor by the rule, the one in calibration.SPREADS, and the share of runs that this one holds."""
    yield "| class | runs | 80th percentile | spread by the rule | checked in | inside p10-p90 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, checked_in in calibration.SPREADS.items():
        members = [item for item in scored if item.kind == name]
        errors = [abs(item.error) for item in members]
        ruled = spread_by_rule(errors)
        inside = sum(item.inside for item in members) / len(members)
        yield f"| {name} | {len(members)} | {ruled ** (1 / WIDENED):.2f} | {ruled:.2f} | {checked_in:.2f} | {inside:.0%} |"


def leave_one_out(runs: Sequence[Run], name: str, group_of: Callable[[Run], str]) -> Iterable[str]:
    """Fit without a group, from the middle of the bounds, and score it: what the constants are worth on runs not seen."""
    kept = {name: getattr(calibration, name) for name in BOUNDS}
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[group_of(run)].append(run)
    yield f"| {name} left out | runs | median | p90 | bias | inside p10-p90 | p90 / p10, median |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    pooled: list[Scored] = []
    for left_out, held in sorted(groups.items()):
        for constant, (low, high) in BOUNDS.items():
            setattr(calibration, constant, (low + high) / 2)
        fit([run for run in runs if group_of(run) != left_out], rounds=2)
        scored = [score(run) for run in held]
        pooled += scored
        yield _left_out_row(left_out, scored)
    yield _left_out_row("pooled", pooled)
    for constant, value in kept.items():
        setattr(calibration, constant, value)


def _left_out_row(name: str, scored: Sequence[Scored]) -> str:
    sizes = sorted(abs(item.error) for item in scored)
    bias = statistics.median(item.error for item in scored)
    inside = sum(item.inside for item in scored) / len(scored)
    width = statistics.median(calibration.SPREADS[item.kind] ** 2 for item in scored)
    p90 = sizes[int(0.9 * len(sizes))]
    return f"| {name} | {len(scored)} | {statistics.median(sizes):.1%} | {p90:.1%} | {bias:+.1%} | {inside:.0%} | {width:.2f} |"


def calibration_rows(path: Path) -> Iterable[str]:
    """How far off the plans of one's own runs were, by quantity and machine."""
    rows = [msgspec.json.decode(line, type=Calibration) for line in path.read_bytes().splitlines()]
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.predicted > 0 and row.measured > 0:
            groups[row.quantity, row.key["provider"], row.key["gpu"]].append(math.log(row.predicted / row.measured))
    yield "| quantity | provider | GPU | runs | predicted / measured, median | worst |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for (quantity, provider, gpu), errors in groups.items():
        middle, worst = (math.exp(error) for error in (statistics.median(errors), max(errors, key=abs)))
        yield f"| {quantity} | {provider} | {gpu} | {len(errors)} | {middle:.2f} | {worst:.2f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fit or score the speed constants.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("runs", type=Path, nargs="?")
    source.add_argument("--rows", type=Path, metavar="CALIBRATION.JSONL", help="sum up the rows that runs of your own left")
    parser.add_argument(
        "--fit", action="store_true", help="fit before scoring; without it the constants are scored as they are"
    )
    parser.add_argument(
        "--leave-one-out", action="store_true", help="also fit without each source and each GPU family, and score it (minutes)"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.rows:
        print("\n".join(calibration_rows(options.rows)))
        return 0
    runs, unknown = read_runs(options.runs)
    if options.fit:
        fit(runs)
    scored = [score(run) for run in runs]
    lines = [
        "# Speed: predicted against measured",
        "",
        f"{len(runs)} runs ({unknown} more have a model that the registry does not know), Python {platform.python_version()}.",
        "Error = ln(tokens per second predicted / measured).",
        "",
        *render(scored),
        "",
        "Spreads: the 80th percentile of |error| of each class as a factor, to the power of 4/3.",
        "",
        *spreads(scored),
        "",
        "Constants: " + ", ".join(f"{name} {getattr(calibration, name):g}" for name in BOUNDS) + ".",
    ]
    if options.leave_one_out:
        lines += ["", "Fitted without a group of runs from the middle of the bounds, scored on it:"]
        lines += ["", *leave_one_out(runs, "source", lambda run: run.source)]
        lines += ["", *leave_one_out(runs, "GPU family", lambda run: run.family)]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
