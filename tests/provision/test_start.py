"""The way in: what a plan does not use is not loaded for it, and whatever may start a thread is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provision.start import put_off, starts_no_thread


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that says when it is loaded."""
    (tmp_path / "said_when_loaded.py").write_text("import sys\nsys.loaded_late = True\nanswer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "loaded_late", False, raising=False)
    monkeypatch.delitem(sys.modules, "said_when_loaded", raising=False)
    return "said_when_loaded"


def test_a_module_that_is_put_off_is_loaded_when_something_of_it_is_asked_for(module: str) -> None:
    try:
        put_off(module)
        first, second = __import__(module), __import__(module)
        assert not sys.loaded_late  # type: ignore[attr-defined]
        assert (first is second, first.answer, sys.loaded_late) == (True, 42, True)  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match="has no attribute 'question'"):
            _ = first.question
    finally:
        sys.modules.pop(module, None)


def test_a_module_that_could_not_be_loaded_is_loaded_when_it_is_next_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left empty: what stopped it, such as Ctrl-C, may be over."""
    (tmp_path / "stopped_once.py").write_text("import sys\nif sys.stops:\n    raise KeyboardInterrupt\nanswer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "stops", True, raising=False)
    try:
        put_off("stopped_once")
        module = __import__("stopped_once")
        with pytest.raises(KeyboardInterrupt):
            _ = module.answer
        monkeypatch.setattr(sys, "stops", False)
        assert module.answer == 42
    finally:
        sys.modules.pop("stopped_once", None)


def test_a_module_that_is_there_or_nowhere_is_left_as_it_is() -> None:
    there = sys.modules["inspect"]
    put_off("inspect")
    put_off("no_module_has_this_name")
    assert (sys.modules["inspect"] is there, "no_module_has_this_name" in sys.modules) == (True, False)


@pytest.mark.parametrize(
    ("line", "alone"),
    [
        ("", True),
        ("--help", True),
        ("plan --help", True),
        ("plan --model 32b --gpu-budget 16GB --json", True),
        ("plan --model 7b --host me@there", False),
        ("plan --model 7b --host=me@there", False),
        ("plan --model 7b --data rows.jsonl", True),
        ("plan --data=rows/*.csv --model 7b", True),
        ("plan --model 7b --data rows.parquet", False),
        ("plan --model 7b --data hub:owner/rows/train.jsonl", False),
        ("plan --model 7b --data rows", False),
        ("plan --data rows.jsonl job.yaml", False),
        ("plan --data", True),
        ("plan job.yaml", False),
        ("run job.yaml", False),
        ("ls", False),
    ],
)
def test_modules_are_put_off_only_where_no_thread_can_start(line: str, alone: bool) -> None:
    assert starts_no_thread(line.split()) is alone


def test_a_file_that_is_there_may_be_a_job_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may name data that is read in threads; a folder called like the command is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "plan").mkdir()
    assert starts_no_thread(["plan", "job"])
    (tmp_path / "job").write_text("model: 7b\ndata: {file: rows}\n")
    assert [starts_no_thread(["plan", word, "--json"]) for word in ("job", "~/job", str(tmp_path / "job"), "none")] == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("words", [("--help",), ("plan", "--help"), ("plan", "--model", "7b")], ids=" ".join)
def test_a_plan_and_its_help_do_without_what_takes_longest_to_load(words: tuple[str, ...]) -> None:
    """But for what other packages that happen to be installed want of it: msgspec asks typing_extensions, where it is there."""
    code = f"""
import sys
sys.modules["typing_extensions"] = None
sys.argv = ["rentune", *{words!r}]
from provision import start
start.leave = lambda _code: None
code = start.main()
print("__getattr__" in vars(sys.modules["inspect"]), file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "True")


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--help",), 0), (("plan", "--model", "7b", "--json"), 0), (("plan", "--model", "7b", "--gpu-budget", "4GB"), 2)],
    ids=("help", "plan", "nothing fits"),
)
def test_an_answer_is_written_whole_and_ends_with_its_code(words: tuple[str, ...], code: int) -> None:
    """Through a pipe, where Python writes only when it is told to, or when it ends by itself."""
    way_in = "import sys; from provision.{} import main; sys.argv = ['rentune', *{!r}]; sys.exit(main())"
    here, plain = (
        subprocess.run([sys.executable, "-c", way_in.format(module, words)], capture_output=True, text=True, check=False)
        for module in ("start", "cli")
    )
    assert (here.returncode, here.stdout, here.stderr) == (code, plain.stdout, plain.stderr)


def test_a_plan_for_data_that_python_reads_loads_neither_inspect_nor_what_counts_exactly(tmp_path: Path) -> None:
    """Tokens are estimated without a tokenizer: no file is hashed, no process started. Each dataclass has a docstring:
    `dataclasses` makes one for a class that has none, with inspect.
    """
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 20)
    code = """
import sys
sys.modules["typing_extensions"] = None
sys.argv = ["rentune", "plan", "--model", "7b", "--data", "rows.jsonl"]
from provision import start
start.leave = lambda _code: None
code = start.main()
print("__getattr__" in vars(sys.modules["inspect"]), {"hashlib", "subprocess"} & set(sys.modules), file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (0, "True set()")


def test_an_output_that_takes_nothing_is_told_as_python_tells_it() -> None:
    way_in = "import sys; from provision.{} import main; sys.argv = ['rentune', '--help']; sys.exit(main())"
    with Path("/dev/full").open("w") as full:
        here, plain = (
            subprocess.run(
                [sys.executable, "-c", way_in.format(module)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
            for module in ("start", "cli")
        )
    assert (here.returncode, here.stderr) == (plain.returncode, plain.stderr)
    assert (here.returncode, here.stderr) == (1, "Error: No space left on device\n")
