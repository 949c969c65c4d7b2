"""How a failure is told: one sentence, a next step, a code; with --json an envelope."""

from __future__ import annotations

import ast
import errno
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from catalogs.bases.models import ModelUnknown
from catalogs.failure import Failure
from catalogs.read import CatalogError
from planner.asking.request import RequestError
from planner.refusals import CaseRefused
from provision.cli import call
from provision.envelope import Problem, enclose, enclose_error, render_json
from provision.envelope.failure import tell
from provision.envelope.show import show
from provision.errors import Exit, RentuneError, TrainingFailed, WrongHostKey
from tests.provision.plans import tiny_files

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("paramiko", Exit.REFUSED, "This needs the package paramiko, which is not installed."),
        ("pulumi.automation", Exit.REFUSED, "This needs the package pulumi.automation, which is not installed."),
        ("stranger", Exit.FAILED, "rentune has a fault of its own"),
    ],
)
def test_a_package_of_an_extra_that_is_missing_is_no_fault(
    name: str, code: Exit, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The planner alone is installed without it: what brings it is said."""
    assert tell(ModuleNotFoundError(f"No module named {name!r}", name=name), ["ls"]) == code
    told = capsys.readouterr().err
    assert words in told
    assert ("paramiko<" in told) == (code == Exit.REFUSED)


@pytest.mark.parametrize(
    "words",
    [
        "run job.yaml --yes",
        "ls",
        "ls --orphans",
        "logs 1",
        "resume 1",
        "down 1",
        "down --orphans",
        "report",
        "report 1",
        "report --since 1d",
    ],
)
@pytest.mark.parametrize(
    ("home", "sentence"),
    [
        ("file", "is not a folder."),
        ("circle", "is not a folder."),
        ("circle/below", "circle is not a folder."),
        ("home", "is not a file."),
        ('a"b', "can't be used: '\"' in its path"),
        ("a\nPermitEmptyPasswords yes", r"can't be used: '\n' in its path"),
        ("linked", r"can't be used: '\n' in its path"),
    ],
)
def test_a_state_folder_that_is_none_is_told(
    words: str, home: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Something else in its place or the ledger's, or a name that an SSH server's configuration would take for two lines:
    every command that needs it says so, and none reads it as no runs.
    """
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "home" / "ledger.jsonl").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("a\nb")
    (tmp_path / "job.yaml").write_text(
        f"model: {tiny_files(tmp_path)[0]}\ndata: {{file: rows.jsonl}}\nwhere: {{providers: [local]}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RENTUNE_HOME", str(tmp_path / home))
    assert call(words.split()) == Exit.REFUSED
    assert sentence in (told := capsys.readouterr()).err
    assert "RENTUNE_HOME=FOLDER" in told.err
    assert not (tmp_path / "home" / "runs").exists()


def test_an_error_with_json_is_an_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read one form, whatever happened."""
    assert call(["resume", "nothing", "--json"]) == Exit.REFUSED
    assert json.loads(capsys.readouterr().out) == {
        "command": "resume",
        "status": "error",
        "data": None,
        "errors": [{"message": "There is no run 'nothing'.", "hint": "rentune ls"}],
        "notes": [],
        "exit_code": 2,
        "version": 1,
    }


def test_the_envelope_tells_success_from_half_of_it() -> None:
    """Data with an error is partial; without data it is an error."""
    problem = Problem(message="aws could not be asked")
    assert enclose("ls", []).status == "success"
    assert enclose("ls", [], errors=(problem,), exit_code=3).status == "partial"
    assert enclose_error("ls", problem, exit_code=2).status == "error"
    assert json.loads(render_json(enclose("ls", {"usd": 1})))["data"] == {"usd": 1}


def test_every_exit_code_is_in_the_docs() -> None:
    """One table, and nothing beside it."""
    table = (DOCS / "exit-codes.md").read_text()
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {int(code) for code in Exit}


def test_every_failure_of_ours_has_one_root() -> None:
    """What is not derived from it would be told as a fault of the program's own."""
    named = (RequestError, CaseRefused, ModelUnknown, CatalogError, RentuneError)
    assert all(issubclass(kind, Failure) for kind in named)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CatalogError("bad cell", file="gpus.csv", line=3), Exit.REFUSED, "gpus.csv:3: bad cell"),
        (RequestError("no such thing", hint="another"), Exit.REFUSED, "No such thing."),
        (CaseRefused("rank", "too many", "fewer"), Exit.REFUSED, "too many"),
        (ModelUnknown("no model", "another"), Exit.REFUSED, "No model."),
        (TrainingFailed("No result.", hint="resume"), Exit.FAILED, "No result."),
        (click.Abort(), Exit.INTERRUPTED, "Interrupted."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_told_in_its_own_words_with_its_own_code(
    error: Exception, code: Exit, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lower floors refuse, whatever the class; only what runs can fail. What they say without a place is a sentence."""
    assert tell(error, ["plan"]) == code
    told = capsys.readouterr().err
    assert told.startswith(f"Error: {said}\n")
    assert (f"Hint: {getattr(error, 'hint', None)}" in told) == (getattr(error, "hint", None) is not None)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ValueError("cannot convert float NaN to integer"),
            "Error: rentune has a fault of its own: ValueError: cannot convert",
        ),
        (RecursionError("maximum depth"), "Error: rentune has a fault of its own: RecursionError"),
        (IsADirectoryError(21, "Is a directory", "/tmp/x"), "Error: /tmp/x: Is a directory"),
    ],
)
def test_what_nobody_foresaw_is_a_sentence_too(error: Exception, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback reaches a person who did not ask for one; the exit code says failed."""
    assert tell(error, ["plan"]) == Exit.FAILED
    told = capsys.readouterr().err
    assert told.startswith(sentence)
    assert "Traceback" not in told


@pytest.mark.parametrize("words", [["check"], ["plan"], ["run"], ["plan", "--model", "7b", "--data"]])
def test_a_name_that_no_file_can_have_is_bad_input(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever opens it first: it was typed."""
    assert call([*words, "x" * 300]) == Exit.REFUSED
    assert capsys.readouterr().err.startswith("Error: ")


def test_another_host_key_is_refused_before_anything_is_begun() -> None:
    """Nothing was sent and nothing rented: what was typed, or who answers there, is to be looked at."""
    assert tell(WrongHostKey("Somebody else answered; nothing was sent."), ["run"]) == Exit.REFUSED


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        ("PYTHONIOENCODING=ascii {} catalog list --top 1 > /dev/null", 0),
        ("{} catalog list --top 1 >&-", 0),
        ("{} catalog list --top 1 > /dev/full", 1),
        ("{} catalog list --top 1 --json > /dev/full", 1),
        ("{} estimate --model 7b --gpu H100 --json > /dev/full", 1),
        ("{} plan --model 7b --json > /dev/full", 1),
        ("{} ls --json > /dev/full", 1),
        ("{} report nothing --json > /dev/full", 2),
        ("{} report nothing 2> /dev/full", 2),
    ],
)
def test_output_fails_for_no_destination_with_a_traceback(redirection: str, code: int) -> None:
    """A narrow encoding, a closed and a full standard output: a sentence, and the code of what the command found out."""
    command = f"{sys.executable} {Path(sys.executable).with_name('rentune')}"
    done = subprocess.run(redirection.format(command), shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith("Hint: ")]
    assert len(told) <= 1
    assert bool(told) is redirection.endswith(" > /dev/full"), "what went wrong is told where it can be"


def test_an_output_that_takes_nothing_hides_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """What still bills is in the exit code and on stderr all the same."""

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    bills = Problem(message="It still bills.", hint="rentune down 1")
    assert show("down", {}, full, as_json=False, errors=(bills,), exit_code=Exit.STILL_BILLS) == Exit.STILL_BILLS
    assert capsys.readouterr().err == "Error: No space left on device\nError: It still bills.\nHint: rentune down 1\n"
    assert show("ls", {}, full, as_json=False) == Exit.FAILED


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("Add --yes to run it.", "add --yes to run it"),
        ("See whether it answers: ssh me@there", "see whether it answers: ssh me@there"),
        ("Leave it out. Then nothing is asked.", "leave it out. Then nothing is asked."),
        ("--method lora", "--method lora"),
        ("HOME=FOLDER says where", "HOME=FOLDER says where"),
        ("did you mean rank?", "did you mean rank?"),
    ],
)
def test_every_hint_begins_small_whichever_floor_it_comes_from(
    hint: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on from the word before it; what is to be typed stays as it is."""
    tell(RentuneError("It failed.", hint=hint), [])
    assert capsys.readouterr().err.splitlines()[-1] == f"Hint: {shown}"


def _messages(tree: ast.AST) -> Iterator[str]:
    """Texts of a module that are no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("room", ["catalogs", "planner", "provision", "remote"])
def test_no_message_names_a_page_that_only_a_checkout_has(room: str) -> None:
    """Whoever installed the wheel can't open it: a message says the thing itself, or what to type."""
    package = Path(importlib.import_module(room).__file__ or "").parent
    named = [
        (file.name, text)
        for file in package.rglob("*.py")
        for text in _messages(ast.parse(file.read_text(encoding="utf-8")))
        if re.search(r"\bdocs/[a-z]", text) and "://" not in text and "docs." not in text
    ]
    assert named == []


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "--model", "7b", "--keep-volume", ""],
        ["plan", "--model", "7b", "--save", ""],
        ["plan", "--model", "7b", "--html", ""],
        ["estimate", "--model", "7b", "--plot", ""],
        ["doctor", "--permissions", ""],
    ],
    ids=lambda words: " ".join(words[-2:]),
)
def test_a_name_that_is_empty_is_quoted(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing stood there, between two blanks."""
    assert call(words) == Exit.REFUSED
    told = capsys.readouterr().err
    assert "''" in told
    assert "  " not in told.splitlines()[0]


def test_what_happened_and_what_to_do_are_two_sentences() -> None:
    """In running text, whatever another program's words ended with; a message that has its stop gets no second."""
    assert TrainingFailed("left before the deadline, with time to save", hint="It came early.").in_full == (
        "left before the deadline, with time to save. It came early."
    )
    assert TrainingFailed("It left.", hint="Run it again.").in_full == "It left. Run it again."
    assert TrainingFailed("as another program said it").in_full == "as another program said it"
