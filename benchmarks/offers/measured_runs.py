"""Measured runs as the speed estimate sees them: read, planned, and how far off the plan is. `fit_constants` fits to them.

A line of a JSONL file is {"case": {a case of the estimate contract}, "tokens_per_s_per_gpu": 3447.1}. Those of campaigns of
our own lie in `data/`. A CSV is a table of published runs as `measured_throughput.csv` has them; what a row means,
a module beside it says: `map_row(row, THROUGHPUT_SOURCES)` makes a case (a dict), or something else where it says too little.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import ModelUnknown, resolve_model
from catalogs.catalog import read_catalog
from catalogs.hardware import Gpu
from planner.asking.case import Case, read_case, stack_of, strategy_of
from planner.estimators import calibration
from planner.estimators.time.demand import flops_of, tokens_per_step
from planner.estimators.time.speed import StepTime, step_time
from planner.estimators.time.timed import timed
from planner.estimators.time.trust import Spread, run_class, spread_of
from planner.strategy.stack import Stack
from planner.units import TERA
from remote.contract import Strategy

DATA = Path(__file__).parents[1] / "data"
CAMPAIGNS = "steps_*.jsonl"  # of DATA: whole steps of single cases, which a fit can read; other files there are of other kinds
FOLDS = DATA / "throughput_folds.csv"  # which run is left out with which: id, source, GPU family
# Which package brought a source's kernels, where its table says so and no case does: MPT's has "flash (triton)".
NAMED_KERNELS: Final[Mapping[str, Mapping[str, str]]] = {"mpt": {"triton-pre-mlir": "2.0"}}


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
    spread: Spread

    @property
    def inside(self) -> bool:
        """Whether the measurement lies between p10 and p90."""
        return -math.log(self.spread.fast) <= self.error <= math.log(self.spread.slow)

    @property
    def inside_class(self) -> bool:
        """Whether it lies within the factor of its class alone, whatever a slow host may take."""
        return abs(self.error) <= math.log(calibration.SPREADS[self.kind])


MOST_OF_THE_PEAK = 0.9  # assumed: no training comes nearer to what a card's datasheet promises


def beyond_the_card(run: Run) -> bool:
    """Whether it is told to have computed faster than its card can, nothing being computed twice: it ran on another."""
    peak = run.gpu.bf16_tflops or run.gpu.fp16_tflops
    if peak is None or run.stack.matmul_dtype != "as_compute":
        return False
    mean = run.case.mean_seq_len or float(run.case.seq_len)
    once = msgspec.structs.replace(run.strategy, gradient_checkpointing="off")
    job = timed(run.architecture, once, run.stack, task=run.case.task, mean_seq_len=mean)
    return run.tokens_per_s_per_gpu * flops_of(job) / job.tokens > MOST_OF_THE_PEAK * peak * TERA


def read_runs(path: Path, cases: Path | None = None) -> tuple[list[Run], int]:
    """The runs, and how many have a model that the registry does not know. `cases`: the module that reads rows of a CSV."""
    catalog = read_catalog()
    runs, unknown = [], 0
    for row in _published(path, cases) if cases is not None else map(json.loads, path.read_text().splitlines()):
        case = read_case(row["case"])
        try:
            architecture = resolve_model(case.model)
        except ModelUnknown:
            unknown += 1
            continue
        gpu = catalog.gpu(case.gpu or "").gpu
        runs.append(Run(case, strategy_of(case), stack_of(case), architecture, gpu, row["tokens_per_s_per_gpu"]))
    return runs, unknown


def _published(path: Path, cases: Path) -> Iterator[dict[str, Any]]:
    """Rows of a CSV as lines of a JSONL file have them; a row that says too little for a case is left out."""
    module = _module(cases)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            case = module.map_row(row, module.THROUGHPUT_SOURCES)
            if not isinstance(case, dict):
                continue
            named = NAMED_KERNELS.get(row["id"].rpartition("-")[0])
            said = case if named is None else case | {"versions": dict(named)}
            yield {"case": said, "tokens_per_s_per_gpu": float(row["tokens_per_s_per_gpu"])}


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("rows_to_cases", path)
    if spec is None or spec.loader is None:
        sys.exit(f"{path} is no Python module: name the one that makes cases of rows")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def folds() -> dict[str, tuple[str, str]]:
    """Run -> (source, GPU family): with which others it is left out of a fit."""
    with FOLDS.open(newline="") as file:
        return {row["id"]: (row["source"], row["gpu_family"]) for row in csv.DictReader(file)}


def step_of(run: Run) -> StepTime:
    """As planned."""
    case = run.case
    return step_time(
        run.architecture,
        run.strategy,
        task=case.task,
        gpu=run.gpu,
        stack=run.stack,
        mean_seq_len=case.mean_seq_len or float(case.seq_len),
        interconnect=case.interconnect,
    )


def score(run: Run, hosts: Mapping[str, float] | None = None) -> Scored:
    """`hosts`: how many times as long as planned each source's host takes; None = as planned, which is what a plan is."""
    case, strategy, stack = run.case, run.strategy, run.stack
    mean = case.mean_seq_len or float(case.seq_len)
    step = step_of(run)
    if hosts is not None:
        step = msgspec.structs.replace(step, host_s=step.host_s * hosts.get(run.source, 1.0))
    per_gpu = tokens_per_step(strategy, stack, mean) / step.step_s(strategy.gradient_accumulation_steps) / case.num_gpus
    error = math.log(per_gpu / run.tokens_per_s_per_gpu)
    kind = run_class(run.architecture, strategy, run.gpu, step)
    return Scored(run, error, kind, spread_of(kind, step, strategy.gradient_accumulation_steps))


def slow_hosts(beside: Sequence[Run]) -> Iterable[str]:
    """How many times as long as planned the host took, over the runs that it held up: what SLOW_HOST follows from."""
    held = [item for item in map(paced, beside) if item is not None]
    if not held:
        return
    yield f"Host against plan, {len(held)} of {len(beside)} runs of our own that it held up: {_quantiles(held)}."


def paced(run: Run) -> float | None:
    """How many times as long as planned the host of this run took; None where the GPU may have decided."""
    case, strategy = run.case, run.strategy
    mean = case.mean_seq_len or float(case.seq_len)
    step = step_of(run)
    measured_s = tokens_per_step(strategy, run.stack, mean) / run.tokens_per_s_per_gpu / case.num_gpus
    by_gpu_s = msgspec.structs.replace(step, host_s=0.0).step_s(strategy.gradient_accumulation_steps)
    if measured_s < WELL_ABOVE * by_gpu_s:
        return None
    return (measured_s - step.once_s) / (strategy.gradient_accumulation_steps * step.host_s)


def _quantiles(values: Sequence[float]) -> str:
    ordered = sorted(values)
    shares = {share: ordered[math.ceil(share / 100 * len(ordered)) - 1] for share in (10, 50, 80, 90)}
    return ", ".join(f"{value:.2f} at p{share}" for share, value in shares.items())


WELL_ABOVE = 1.25  # assumed: a step that takes so much longer than its GPU needs was held up by its host
