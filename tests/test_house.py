"""The rules of the house that no linter knows: what an import may load, which tables agree, what a package must carry.

The packages are looked at where Python finds them: in this checkout, or installed from the wheel.
"""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("catalogs", "planner", "provision", "remote")
HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "bitsandbytes",
    "accelerate",
    "pulumi",
    "pulumi_aws",
    "pulumi_hcloud",
    "pulumi_digitalocean",
    "pulumi_gcp",
    "google.auth",
    "paramiko",
    "obstore",
    "boto3",
)
COMMANDS = ("plan", "estimate", "check", "quantize", "catalog", "run", "ls", "logs", "resume", "down", "doctor", "report")
THE_QUESTION = ("plan", "--model", "32b", "--gpu-budget", "16GB")
ONE_CASE = '{"model": "7b", "gpu": "RTX 4090"}\n'


def folder(room: str) -> Path:
    """Where Python finds a room."""
    spec = find_spec(room)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours, by its dotted name."""
    for room in ROOMS:
        yield room, folder(room) / "__init__.py"
        for info in pkgutil.walk_packages([str(folder(room))], prefix=f"{room}."):
            if not info.name.endswith("__main__"):
                path = folder(room).joinpath(*info.name.split(".")[1:])
                yield info.name, path / "__init__.py" if info.ispkg else path.with_suffix(".py")


MODULES = dict(modules())


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def importers(library: str) -> set[str]:
    """Modules of ours that import `library` anywhere in them."""
    return {name for name, path in MODULES.items() if any(f"{i}.".startswith(f"{library}.") for i in imports(path))}


def run_python(code: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], input=text, capture_output=True, text=True, check=False)


# ── imports ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_importing_every_module_prints_nothing_and_changes_nothing() -> None:
    """Import is free of effects: no output, no thread, no child, no change of environment, folder or signal handlers."""
    code = """
import importlib, os, signal, sys, threading
def state():
    handlers = [signal.getsignal(n) for n in signal.valid_signals()]
    umask = os.umask(0o22)
    os.umask(umask)
    return dict(os.environ), os.getcwd(), handlers, threading.active_count(), umask
before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
assert state() == before
"""
    ours = [name for name in MODULES if not name.startswith("provision.clouds.programs.")]  # a cloud's SDK does as it likes
    done = run_python(code, *ours)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        *((name, "--help") for name in COMMANDS),
        THE_QUESTION,
        (*THE_QUESTION, "--json"),
        ("plan", "--model", "1b", "--provider", "local"),
        ("estimate", "--from", "-"),
    ],
    ids=" ".join,
)
def test_planning_and_help_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """`plan`, `estimate` and every `--help` answer without torch, Pulumi or SSH."""
    code = """
import sys
from provision.cli import main
sys.argv = ["rentune", *sys.argv[1:]]
code = main()
print(*sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
sys.exit(code)
"""
    done = run_python(code, *arguments, text=ONE_CASE)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert set(HEAVY) & set(done.stderr.split()) == set()


def test_cases_in_bulk_load_neither_the_search_nor_what_it_tells() -> None:
    """They cost a fifth of a kept trace's time."""
    code = "import sys\nfrom provision.cli import main\ncode = main()\nprint(*sys.modules, file=sys.stderr)\nsys.exit(code)"
    done = run_python(code, "estimate", "--from", "-", text=ONE_CASE)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert "planner.estimate" in loaded
    assert {"planner.search", "planner.report", "planner.edges"} & loaded == set()


def test_who_drives_or_ends_a_run_goes_by_the_clocks_that_it_is_handed() -> None:
    """A date by one clock and a wait by another disagree once a machine sleeps, or its clock is set. The real ones come in at
    one place, with all else that lies outside of a run.
    """
    rooms = {name: imports(path) for name, path in MODULES.items() if name.startswith(("provision.walk", "provision.charge"))}
    assert [name for name, taken in rooms.items() if "time" in taken] == []
    assert [name for name, taken in rooms.items() if "provision.home.clocks.CLOCKS" in taken] == ["provision.walk.edges"]


def test_the_trace_is_read_without_torch() -> None:
    """It imports torch inside functions, so that reading a kept trace, or a table of its, needs none."""
    traces = [name for name in MODULES if name.startswith("planner.estimators.trace")]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    done = run_python(code, *traces)
    assert done.returncode == 0, done.stderr
    assert {"torch", "transformers", "peft", "bitsandbytes"} & set(done.stdout.split()) == set()


def test_the_engine_is_called_in_one_place() -> None:
    """Cloud programs declare resources by `pulumi`; its Automation API, which no import contract can name, is the stack's."""
    assert importers("pulumi.automation") == {"provision.clouds.engine.stack", "provision.clouds.engine.runner"}


# ── tables that must agree ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_trained_method_has_a_formula_and_a_builder() -> None:
    """What CAPABILITIES promises stands in the planner's METHODS and in the trainer's ADAPTERS."""
    from planner.methods import METHODS
    from remote.adapters import ADAPTERS
    from remote.contract import CAPABILITIES

    assert set(CAPABILITIES.methods) == set(ADAPTERS)
    assert set(CAPABILITIES.methods) <= set(METHODS)


def test_every_kind_of_adapter_has_tensors_operations_and_targets() -> None:
    """What hangs on linears is written in four tables of the planner."""
    from typing import get_args

    from planner.estimators.memory.step.adapters import ADAPTED
    from planner.methods import ADAPTERS, DEFAULT_TARGETS, METHODS, Kind

    assert set(get_args(Kind)) == set(ADAPTERS) == set(ADAPTED)
    assert {name for name, method in METHODS.items() if method.adapter is not None} == set(DEFAULT_TARGETS)


@pytest.mark.torch
def test_formulas_and_trainer_put_the_same_bottlenecks_in_the_same_places() -> None:
    """The file that travels with a result can import neither, and the planner nothing of the trainer: so each has its words."""
    from catalogs.bases.models import resolve_model
    from planner.estimators.memory.step.numerics import numerics_of
    from planner.methods import inserted as counted
    from planner.strategy.stack import PINNED_STACK
    from remote.adapters import bottleneck as built
    from remote.adapters import inserted as asked
    from remote.contract import Loop, Strategy

    assert set(counted.PLACES) == set(asked.CHOICES[asked.AFTER]) == set(built.PLACES)
    assert set(counted.NON_LINEARITIES) == set(asked.CHOICES[asked.NON_LINEARITY]) == set(built.NON_LINEARITIES)
    unsaid = Strategy(method="bottleneck", rank=8)
    told = asked.bottleneck_options(unsaid, Loop())
    assert set(told["after"]) == set(counted.PLACES)
    numerics = numerics_of(resolve_model("smollm2-135m"), unsaid, flash=True, stack=PINNED_STACK)
    assert numerics.non_linearity == told["non_linearity"] == signature(built.insert).parameters["non_linearity"].default


@pytest.mark.torch
def test_adalora_starts_with_the_rank_that_is_counted() -> None:
    from peft import AdaLoraConfig

    from planner.methods.adapters import OPTIONS
    from remote.adapters.configs import ADALORA_START

    assert OPTIONS["adalora"]["init_r"] == ADALORA_START == AdaLoraConfig(total_step=1).init_r


def test_job_file_and_strategy_speak_the_contract_of_estimate() -> None:
    """`training:` of a job file takes the case keys of the frozen schema; a Strategy's fields are among them, but for
    `streaming`, which spells out an `offload`.
    """
    from planner.asking.case import Case
    from remote.contract import Strategy

    schema = json.loads((folder("planner") / "estimate.schema.json").read_text())
    keys = set(schema["$defs"]["case"]["properties"])
    assert set(Case.__struct_fields__) == keys
    assert set(Strategy.__struct_fields__) - keys == {"streaming"}


def test_the_two_locks_agree() -> None:
    """Test tools and training stack live in one environment, so no package has two versions."""
    read = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)
    stack = read.findall((folder("remote") / "requirements.txt").read_text())
    for lock in ("dev", "light"):
        pinned = dict(read.findall((ROOT / f".ci/locks/{lock}.txt").read_text()))
        several = {name for name, _ in stack if sum(name == other for other, _ in stack) > 1}
        assert {name: pinned[name] for name, _ in stack if name in pinned and name not in several} == {
            name: version for name, version in stack if name in pinned and name not in several
        }


# ── what a package and a checkout carry ────────────────────────────────────────────────────────────────────────────


def test_locks_name_no_index() -> None:
    """Where packages come from is the machine's business."""
    for path in [*(ROOT / ".ci/locks").iterdir(), *folder("remote").glob("requirements*")]:
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", path.read_text()), path


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_carries_its_types(room: str) -> None:
    """Each package has a `py.typed`, installed or not."""
    assert (folder(room) / "py.typed").exists()


@pytest.mark.parametrize(
    "path",
    [
        "planner/estimate.schema.json",
        "remote/requirements.txt",
        "remote/requirements-stored.txt",
        "provision/clouds/engine/go.mod",
        "provision/clouds/engine/go.sum",
    ],
)
def test_the_package_carries_its_data(path: str) -> None:
    """What the code reads beside itself is in the wheel, too."""
    room, _, rest = path.partition("/")
    assert (folder(room) / rest).stat().st_size > 0


def test_every_module_says_what_it_is_for() -> None:
    """The tree can be read by its docstrings."""
    silent = [
        name for name, path in MODULES.items() if (body := path.read_text()).strip() and not ast.get_docstring(ast.parse(body))
    ]
    assert silent == []


def test_no_module_is_named_for_nothing() -> None:
    """A file is named for the noun it holds."""
    vague = {"utils", "util", "common", "helpers", "helper", "manager", "base_class", "core", "misc"}
    assert {name for name in MODULES if name.rpartition(".")[2] in vague} == set()
