"""Every figure says whether it is measured, derived or assumed; what documents repeat of them is what the code says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import planner
import provision
from benchmarks.offers.measured_runs import folds
from planner.estimators import calibration as known
from planner.strategy.stack import PINNED_VERSIONS

ROOT = Path(__file__).parents[3]
PLANNER = Path(planner.__path__[0])  # the installed package, which need not stand beside the tests
ROOMS = (PLANNER, Path(provision.__path__[0]))
MODULES = {f"{room.name}/{path.relative_to(room)}": path for room in ROOMS for path in sorted(room.rglob("*.py"))}
BASIS = re.compile(r"measured|derived|assumed|fitted|arXiv|source=", re.IGNORECASE)
DATES = {"date", "dt.date"}
NOT_FIGURES = {
    r"[A-Z_]+_VERSION": "the version of a format of ours",
    r"[KMG]I?B|TERA|GFLOPS|KWH|UNITS|SECONDS_PER_[A-Z]+|[A-Z]+_BY_UNIT": "a unit: true by definition",
    r"FP32|SSH_PORT|PR_SET_CHILD_SUBREAPER|SOLE_STORAGE": "a name for a number that others have fixed",
    r"SHOWN|NAMES_SHOWN|MAX_NAMES|MAX_REJECTIONS|COLUMNS|CENTS|SPANS|TICKS|LOG_TAIL_LINES|NUMBER_COLUMNS_FROM"
    r"|[A-Z_]+_WIDTH|[A-Z_]+_HEIGHT|[A-Z_]+_CHARS|LONGEST_WORDS|MAX_POINTS": "how much a screen shows: no estimate has it",
    r"[A-Z]+_EXAMPLES": "an example of what to type",
}


def numbers_in(node: ast.AST) -> Iterator[ast.Constant]:
    """The numbers of a value; a rule in a lambda compares with numbers and states none."""
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value != 0:
        yield node
    if isinstance(node, ast.Call) and ast.unparse(node.func) in DATES:
        return
    for child in ast.iter_child_nodes(node):
        yield from numbers_in(child)


def figures_of(text: str) -> Iterator[tuple[str, str, set[int]]]:
    """Module-level figures: the name, what is said of the whole (above it, and in its first line), and lines with numbers."""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(target, ast.Name) or not isinstance(node, ast.AnnAssign | ast.Assign) or node.value is None:
            continue
        first = node.lineno - 1
        while first > 0 and lines[first - 1].startswith("#"):
            first -= 1
        if numbered := {number.lineno for number in numbers_in(node.value)}:
            yield target.id, "\n".join(lines[first : node.lineno]), numbered


def unsaid(text: str) -> list[str]:
    """Figures without a basis, of a table each line without one, unless one is said of the whole table."""
    lines = text.splitlines()
    return [
        f"{number}: {name}"
        for name, whole, numbered in figures_of(text)
        if not BASIS.search(whole) and not any(re.fullmatch(pattern, name) for pattern in NOT_FIGURES)
        for number in sorted(numbered)
        if not BASIS.search(lines[number - 1])
    ]


@pytest.mark.parametrize("module", MODULES)
def test_a_figure_names_its_basis(module: str) -> None:
    assert unsaid(MODULES[module].read_text()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("LIMIT_S = 5.0", ["1: LIMIT_S"]),
        ("LIMIT_S: float = 5.0  # as long as it takes", ["1: LIMIT_S"]),
        ("LIMIT_S = 5.0  # assumed: nobody waits longer", []),
        ("# measured: 3 s\nLIMIT_S = 5.0\nOTHER_S = 4.0", ["3: OTHER_S"]),
        ("# measured: 3 s\n\nLIMIT_S = 5.0", ["3: LIMIT_S"]),
        ('TABLE = {\n    "a": 1,  # derived\n    "b": 2,\n}', ["3: TABLE"]),
        ('TABLE = {  # derived: their names\n    "a": 1,\n    "b": 2,\n}', []),
        ("PLAN_VERSION = 3", []),
    ],
)
def test_a_figure_without_basis_is_found(text: str, found: list[str]) -> None:
    """Each line speaks for itself: what stands above one figure says nothing of the next."""
    assert unsaid(text) == found


def test_every_exemption_is_needed() -> None:
    names = {name for path in MODULES.values() for name, _, _ in figures_of(path.read_text())}
    for pattern in NOT_FIGURES:
        for alternative in pattern.split("|"):
            assert any(re.fullmatch(alternative, name) for name in names), alternative


# ── figures that stand in documents, too ───────────────────────────────────────────────────────────────────────────────


def test_the_derivations_repeat_the_code_s_figures() -> None:
    text = (ROOT / "docs/derivations.md").read_text()
    said = (
        f"at {known.CPU_GFLOPS_PER_CORE_FP32:g} (fp32) or {known.CPU_GFLOPS_PER_CORE_BF16:g} (bf16 autocast) GFLOP/s per core",
        f"from {known.SPREAD_CPU_FAST:g} times faster to {known.SPREAD_CPU_SLOW:g} times slower",
        f"(GEMM + {known.ATTENTION_PENALTY:g} · attention FLOPs)",
        f"/ ({known.BANDWIDTH_SHARE:g} · bandwidth)",
        f"t_micro = M + {known.IMPERFECT_OVERLAP:g} m",
        f"allocated × {1 + known.MARGIN_SHARE:g} (full fine-tuning {1 + known.MARGIN_SHARE_FULL:.2f})",
        f"busy is {known.BUSY_SHARE_OF_TDP_HGX:g} × TDP",
        f"{known.BUSY_SHARE_OF_TDP:g} × TDP and {known.HOST_W:g} W of host",
    )
    flowing = " ".join(text.split())
    assert [words for words in said if words not in flowing] == []


def table_of(path: Path, *, first: str) -> list[list[str]]:
    """The rows of the table whose first column is headed so."""
    _, _, below = path.read_text().partition(f"| {first} |")
    rows = below.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_spreads_are_what_the_benchmark_derived_and_hold_what_they_promise() -> None:
    """By the rule, to two decimals; four of five runs of each class lie inside. The widest comes first."""
    [result] = (ROOT / "benchmarks/results").glob("estimate_speed_*.md")
    rows = table_of(result, first="class")
    assert {name: float(ruled) for name, _, ruled, _, _ in rows} == known.SPREADS
    assert all(int(inside.rstrip("%")) >= 80 for *_, inside in rows)
    assert list(known.SPREADS.values()) == sorted(known.SPREADS.values(), reverse=True)
    documented = table_of(ROOT / "docs/derivations.md", first="class")
    assert [(int(runs), float(factor), inside) for _, runs, factor, inside in documented] == [
        (int(runs), float(ruled), inside.replace("%", " %")) for _, runs, ruled, _, inside in rows
    ]


TABLE = """id,model,gpu,tokens_per_s_per_gpu
one-001,mistralai/Mistral-7B-v0.1,A100-SXM4-80GB,3324
one-002,mistralai/Mistral-7B-v0.1,H100 SXM5,
"""
CASES = """
from __future__ import annotations
from dataclasses import dataclass

THROUGHPUT_SOURCES = {}

@dataclass(frozen=True)
class Unscored:
    reason: str

def map_row(row, sources):
    if not row["tokens_per_s_per_gpu"]:
        return Unscored("nothing measured")
    return {"id": row["id"], "model": row["model"], "gpu": row["gpu"], "micro_batch_size": 4, "seq_len": 4096, "stack": "trl"}
"""


def test_a_table_of_published_runs_is_scored_beside_the_campaigns_that_are_committed(tmp_path: Path) -> None:
    """By the command as it is documented: a row without a case is left out, what lies in benchmarks/data is read."""
    table, cases = tmp_path / "runs.csv", tmp_path / "cases.py"
    table.write_text(TABLE)
    cases.write_text(CASES)
    command = [sys.executable, "-m", "benchmarks.offers.fit_constants", str(table)]
    done = subprocess.run([*command, "--cases", str(cases)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 runs, Python" in done.stdout
    assert "79 runs of our own" in done.stdout
    unread = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert unread.returncode == 2
    assert "--cases names the module" in unread.stderr


def test_every_published_run_is_left_out_with_its_source_and_its_family_of_cards() -> None:
    """The split is committed; the folds of the result are its groups, each as large as it says."""
    parted = folds()
    assert all(name.rpartition("-")[0] == source for name, (source, _) in parted.items())
    [result] = (ROOT / "benchmarks/results").glob("estimate_speed_*.md")
    for place, first in enumerate(("source left out", "GPU family left out")):
        told = {name: int(runs) for name, runs, *_ in table_of(result, first=first) if not name.startswith("pooled")}
        split = Counter(fold[place] for fold in parted.values())
        assert told.keys() == split.keys()
        # of a run that was faster than its card can be, the fit knows nothing
        assert sum(split.values()) - sum(told.values()) == 1
        assert all(split[name] - 1 <= runs <= split[name] for name, runs in told.items())


def test_the_pinned_stack_is_the_box_s_lock() -> None:
    """Estimates are made for the releases that the box installs."""
    lock = (PLANNER.parent / "remote/requirements.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\\n]+)", lock, re.MULTILINE))
    assert {name: pinned[name] for name in PINNED_VERSIONS} == PINNED_VERSIONS
