"""Fit the speed constants that planner/estimators/calibration.py marks "fitted", and show how far off they leave each group.

    python -m benchmarks.offers.fit_constants measured_throughput.csv --cases cases.py [--fit] [--leave-one-out] [--out FILE.md]
    python -m benchmarks.offers.fit_constants runs.jsonl [--fit] [--leave-one-out]
    python -m benchmarks.offers.fit_constants --rows ~/.local/state/rentune/calibration.jsonl

`measured_runs` says what either file holds, and what `cases.py` is. Which runs are left out together is in
`data/throughput_folds.csv`; of runs that are not in it, those of one source and of one GPU family. Without
--fit the constants as they stand are scored. Coordinate descent on the mean |ln(predicted / measured)|, each clipped at 1;
sources that are no PEFT weigh less. Each constant starts from what is known of it without these runs, and pays for leaving it
(`PRIORS`). The host of a campaign of ours (`data/`) is fitted with it, and tells a slow host from a wrong constant.
The fitted values are rounded by hand before they are written down. The spreads of calibration.SPREADS follow from the errors
on sources that the fit had not seen, by one rule (`spread_by_rule`); --leave-one-out sets the two side by side.

With --rows, nothing is fitted: what rentune predicted and metered in runs of one's own, quantity by quantity.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.offers.measured_runs import (
    CAMPAIGNS,
    DATA,
    MOST_OF_THE_PEAK,
    Run,
    Scored,
    beyond_the_card,
    folds,
    read_runs,
    score,
    slow_hosts,
)
from planner.estimators import calibration
from planner.estimators.time import attention, demand, launches, links, speed
from provision.account.receipt.calibration import Calibration


class Prior(NamedTuple):
    """What a constant is taken for before a run is looked at, and the standard deviation of its logarithm around that."""

    value: float
    sigma: float


# What arithmetic, code or another's figures say of each; a fit leaves it where the runs have nothing to say about it.
PRIORS: Mapping[str, Prior] = {
    "COMPUTE_EFFICIENCY": Prior(0.98, 0.03),  # assumed: the best matmul, nearly
    "ALPHA": Prior(60, 0.4),  # assumed: what a compiled block moves (20), and each piece of it in a kernel of its own
    "BETA_EAGER": Prior(6, 0.4),  # derived: dropout, a product's input, its output scaled and added
    "BETA_FUSED": Prior(2.5, 0.4),  # derived: read for the product, read and written where it is added
    "LAUNCH_S": Prior(12e-6, 0.3),  # assumed: 5 us of the driver's, and as much of Python's and torch's
    "CHECKPOINT_LAUNCHES": Prior(50, 0.7),  # assumed: hooks, contexts, and the state of random numbers kept and put back
    "PACKED_LAUNCHES": Prior(6, 0.7),  # assumed: an operator of Python's own, its look-ups, two kernels
    "HOST_S_PER_UNIT": Prior(0.4e-3, 0.7),  # assumed: hooks before and behind, a gather, a reduction: some 40 calls
    "LAUNCHES_PER_EXPERT": Prior(12, 0.7),  # derived: a look-up, a gather, three products, an activation, a sum
    "KAPPA_EARLY": Prior(20, 0.5),  # assumed: several times what later kernels move
    "EXPERT_HALF_WIDTH": Prior(5_000, 0.5),  # assumed
    "LOW_PRECISION_SPEEDUP": Prior(
        1.5, 0.2
    ),  # derived: the products alone 1.76 times as fast (stas00/ml-engineering), casts take
    "NVLINK_SHARE": Prior(0.8, 0.1),  # measured: what nccl-tests show on HGX machines
    "OPTIMIZER_BYTES_16": Prior(28, 0.4),  # derived: seven reads and writes in 16 bits, twice, being foreach's
    "OPTIMIZER_BYTES_32": Prior(60, 0.4),  # derived: the same in 32 bits
}
# The host of a campaign of ours against those of the published runs, which are what a plan takes for the middle. It tells a
# slow host from a wrong constant, and is no constant of the plan: which host a box will have, nobody knows.
HOST_PRIOR = Prior(1.5, 1.0)  # assumed: of a shared machine, and next to nothing known
STEPS = (1.25, 1.12, 1.06, 1.03, 1.015)


def loss(runs: Sequence[Run], hosts: Mapping[str, float]) -> float:
    """Summed over runs, by weight."""
    return sum(run.weight * min(1.0, abs(score(run, hosts).error)) for run in runs)


def surprise(prior: Prior, value: float) -> float:
    """What a value costs that lies so far from what was taken for it; a standard deviation weighs as much as a run lost."""
    return (math.log(value / prior.value) / prior.sigma) ** 2


class Reads:
    """The constants, with a note of which of them were read."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.names.add(name)
        return getattr(calibration, name)


# What no constant moves, and a fit asks for thousands of times: which job a run is, and what follows from that alone.
REMEMBERED = (
    (demand, "timed"), (demand, "_flops_by_kernel"), (demand, "forward_share"), (demand, "adapted_linears"),
    (demand, "adapter_params"), (demand, "expert_params"), (demand, "state_bytes"), (launches, "_counted"),
    (demand, "attention_kernel"),
)  # fmt: skip


def remember() -> None:
    """Forget none of it while this process lives: the caches of a plan are smaller than the runs are many."""
    for module, name in REMEMBERED:
        function = vars(module)[name]
        vars(module)[name] = lru_cache(maxsize=None)(getattr(function, "__wrapped__", function))


READERS = (speed, demand, attention, launches, links)  # modules that read constants


def readers(runs: Sequence[Run]) -> Mapping[str, list[Run]]:
    """The runs whose estimate reads a constant, by its name: the others need not be scored again when it moves."""
    found: dict[str, list[Run]] = {name: [] for name in PRIORS}
    for run in runs:
        reads = Reads()
        for module in READERS:
            vars(module)["known"] = reads
        score(run)
        for name in reads.names & PRIORS.keys():
            found[name].append(run)
    for module in READERS:
        vars(module)["known"] = calibration
    return found


def fit(runs: Sequence[Run], beside: Sequence[Run] = ()) -> dict[str, float]:
    """Move one constant at a time from its prior, in the module itself, where that makes loss and surprise less; and between
    them the host of each campaign `beside`, whose pace is returned.
    """
    every = [*runs, *beside]
    for name, prior in PRIORS.items():
        setattr(calibration, name, prior.value)
    reading = readers(every)
    hosts = {run.source: HOST_PRIOR.value for run in beside}
    of_source = {source: [run for run in beside if run.source == source] for source in hosts}
    for step in STEPS:
        for name, prior in PRIORS.items():

            def moved(value: float, name: str = name, prior: Prior = prior) -> float:
                setattr(calibration, name, value)
                return loss(reading[name], hosts) + surprise(prior, value)

            moved(_better(getattr(calibration, name), step, moved))
        for source, own in of_source.items():

            def slowed(value: float, source: str = source, own: Sequence[Run] = own) -> float:
                hosts[source] = value
                return loss(own, hosts) + surprise(HOST_PRIOR, value)

            slowed(_better(hosts[source], step, slowed))
    return hosts


def _better(value: float, step: float, cost: Callable[[float], float]) -> float:
    """As many steps up or down as make it cost less; else where it was."""
    best = cost(value)
    for factor in (step, 1 / step):
        while (other := cost(value * factor)) < best - 1e-3:
            value, best = value * factor, other
    return value


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


def spread_by_rule(errors: Sequence[float]) -> float:
    """The factor that holds INSIDE of these errors, in hundredths."""
    return math.ceil(100 * math.exp(sorted(errors)[math.ceil(INSIDE * len(errors)) - 1])) / 100


def spreads(unseen: Sequence[Scored]) -> Iterable[str]:
    """Class by class: the factor by the rule, the one in calibration.SPREADS, and the share of runs that this one holds."""
    yield "| class | runs | spread by the rule | checked in | inside p10-p90 |"
    yield "| --- | --- | --- | --- | --- |"
    for name, checked_in in calibration.SPREADS.items():
        members = [item for item in unseen if item.kind == name]
        if not members:  # no run waited for its disk
            continue
        errors = [abs(item.error) for item in members]
        ruled = spread_by_rule(errors)
        inside = sum(item.inside_class for item in members) / len(members)
        yield f"| {name} | {len(members)} | {ruled:.2f} | {checked_in:.2f} | {inside:.0%} |"


LONGEST_OF_ALL = 8192  # tokens; beyond them all runs here are one source's, MPT's


def left_out(runs: Sequence[Run], beside: Sequence[Run], group_of: Callable[[Run], str]) -> dict[str, list[Scored]]:
    """Fit without a group and score it: what the constants are worth on runs not seen. `beside` is always fitted with."""
    kept = {name: getattr(calibration, name) for name in PRIORS}
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[group_of(run)].append(run)
    scored = {}
    for name, held in sorted(groups.items()):
        fit([run for run in runs if group_of(run) != name], beside)
        scored[name] = [score(run) for run in held]
    for constant, value in kept.items():
        setattr(calibration, constant, value)
    return scored


def render_left_out(scored: Mapping[str, Sequence[Scored]], name: str) -> Iterable[str]:
    pooled = [item for group in scored.values() for item in group]
    unseen = {id(item): held for group in scored for item, held in _by_others_spreads(scored, group)}
    columns = "runs | median | p90 | bias | inside p10-p90 | inside, spreads left out too | p90 / p10, median"
    yield f"| {name} left out | {columns} |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for group, items in scored.items():
        yield _left_out_row(group, items, unseen)
    yield _left_out_row("pooled", pooled, unseen)
    short = [item for item in pooled if item.run.case.seq_len <= LONGEST_OF_ALL]
    yield _left_out_row(f"pooled, up to {LONGEST_OF_ALL:,} tokens", short, unseen)


def _by_others_spreads(scored: Mapping[str, Sequence[Scored]], group: str) -> Iterable[tuple[Scored, bool]]:
    """Whether each run of a group lies within the spreads that the other groups alone give: what the promise is worth where
    neither constants nor spreads have seen a run's like. A class that they have no run of takes their widest.
    """
    errors: dict[str, list[float]] = defaultdict(list)
    for item in (item for name, items in scored.items() if name != group for item in items):
        errors[item.kind].append(abs(item.error))
    factors = {kind: spread_by_rule(of_kind) for kind, of_kind in errors.items()}
    for item in scored[group]:
        yield item, abs(item.error) <= math.log(factors.get(item.kind, max(factors.values())))


def _left_out_row(name: str, scored: Sequence[Scored], unseen: Mapping[int, bool]) -> str:
    sizes = sorted(abs(item.error) for item in scored)
    bias = statistics.median(item.error for item in scored)
    inside = sum(item.inside for item in scored) / len(scored)
    width = statistics.median(item.spread.fast * item.spread.slow for item in scored)
    p90 = sizes[int(0.9 * len(sizes))]
    share = sum(unseen[id(item)] for item in scored) / len(scored)
    middle = statistics.median(sizes)
    return f"| {name} | {len(scored)} | {middle:.1%} | {p90:.1%} | {bias:+.1%} | {inside:.0%} | {share:.0%} | {width:.2f} |"


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
    parser.add_argument("--cases", type=Path, help="module that makes cases of a CSV's rows")
    source.add_argument("--rows", type=Path, metavar="CALIBRATION.JSONL", help="sum up the rows that runs of your own left")
    parser.add_argument(
        "--fit", action="store_true", help="fit before scoring; without it the constants are scored as they are"
    )
    parser.add_argument(
        "--leave-one-out", action="store_true", help="also fit without each source and each GPU family, and score it (minutes)"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="*",
        default=sorted(DATA.glob(CAMPAIGNS)),
        help="campaigns of ours, fitted with but never scored",
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.rows:
        print("\n".join(calibration_rows(options.rows)))
        return 0
    if options.runs.suffix == ".csv" and options.cases is None:
        parser.error(f"{options.runs} is a table: --cases names the module that makes cases of its rows")
    remember()
    told, unknown = read_runs(options.runs, options.cases)
    runs = [run for run in told if not beyond_the_card(run)]
    beside = [run for path in options.beside for run in read_runs(path)[0]]
    hosts = fit(runs, beside) if options.fit else {}
    scored = [score(run) for run in runs]
    lines = [
        "# Speed: predicted against measured",
        "",
        f"{len(runs)} runs, Python {platform.python_version()}. {unknown} more have a model that the registry does not know,",
        f"{len(told) - len(runs)} more than {MOST_OF_THE_PEAK:.0%} of the card's peak without computing anything twice.",
        "Error = ln(tokens per second predicted / measured).",
        "",
        *render(scored),
        "",
        "Constants: " + ", ".join(f"{name} {getattr(calibration, name):g}" for name in PRIORS) + ".",
    ]
    if hosts:
        paces = ", ".join(f"{source} {pace:.2f}" for source, pace in sorted(hosts.items()))
        lines += ["", f"Seconds of a launch in campaigns of our own, as a multiple: {paces}."]
    lines += ["", *slow_hosts(beside)]
    if options.leave_one_out:
        parted = folds()
        by_source = left_out(runs, beside, lambda run: parted.get(run.case.id or "", (run.source, ""))[0])
        lines += ["", "Fitted without a group of runs, scored on it:", "", *render_left_out(by_source, "source")]
        lines += [
            "",
            *render_left_out(
                left_out(runs, beside, lambda run: parted.get(run.case.id or "", ("", run.family))[1]), "GPU family"
            ),
        ]
        lines += [
            "",
            "Spreads: the 80th percentile of |error| of each class, its source left out, as a factor, rounded up.",
        ]
        lines += ["", *spreads([item for items in by_source.values() for item in items])]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
