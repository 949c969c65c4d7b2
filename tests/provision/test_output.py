"""What becomes of a command when nobody reads what it prints, by real pipes whose other end is closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provision.cli import COMMANDS
from provision.envelope import Problem
from provision.envelope.show import complain
from provision.errors import Exit

WAY_IN = "import sys; from provision.start import main; sys.exit(main())"
ACTING = {"run", "resume", "down"}


def unread(words: list[str], *, stderr_too: bool = False) -> tuple[int, str]:
    """Exit code and stderr of a command whose output nobody reads from its first letter on."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", WAY_IN, *words]
    stderr = writer if stderr_too else subprocess.PIPE
    done = subprocess.run(command, stdout=writer, stderr=stderr, text=True, check=False)
    os.close(writer)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "plan --help",
        "plan --model 7b",
        "plan --model 7b --json",
        "estimate --model 7b",
        "estimate --model 7b --json",
        "estimate --from cases.jsonl",
        "catalog list",
        "catalog models --json",
        "check cases.jsonl",
        "ls",
        "doctor",
        "report --since 30d",
    ],
)
def test_a_command_that_only_tells_ends_as_unix_tools_do(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it prints with, and without a word."""
    (tmp_path / "cases.jsonl").write_text('{"model": "7b"}\n' * 3)
    monkeypatch.chdir(tmp_path)
    assert unread(words.split()) == (Exit.UNREAD, "")


def test_so_it_does_where_its_errors_have_no_reader_either() -> None:
    assert unread(["ls"], stderr_too=True)[0] == Exit.UNREAD
    assert unread(["plan"], stderr_too=True)[0] == Exit.REFUSED


def test_a_command_that_acts_on_a_run_comes_to_its_end() -> None:
    """Its box would bill on otherwise: the exit code is what it did."""
    assert {name for name, entry in COMMANDS.items() if entry.acts} == ACTING
    assert unread(["down", "--orphans"], stderr_too=True) == (Exit.OK, "")
    code, told = unread(["down", "nothing"])
    assert (code, "Traceback" in told) == (Exit.REFUSED, False)


def test_what_is_said_after_the_reader_left_goes_nowhere_and_nothing_fails() -> None:
    """More than any buffer holds, and by both outputs."""
    code = """
import sys
from provision.output import make_safe
make_safe(outlives_reader=True)
for _ in range(300):
    print("x" * 1000, flush=True)
    print("y" * 1000, file=sys.stderr)
sys.stdout.buffer.write(b"z" * 100_000)
sys.exit(7)
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 7


def test_a_terminal_too_narrow_for_tables_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the answer, which is laid out as narrow as its words allow."""
    monkeypatch.setenv("COLUMNS", "40")
    done = subprocess.run(
        [sys.executable, "-c", WAY_IN, "estimate", "--model", "7b"], capture_output=True, text=True, check=False
    )
    assert done.stderr == "Note: this is laid out for 60 columns, the least that its tables need; here are 40.\n"
    assert max(map(len, done.stdout.splitlines())) <= 60


def test_an_error_is_broken_between_words_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What to type stays whole, and so does a path. A program that reads along gets its sentence in one line."""
    problem = Problem(message="word " * 30 + "/" + "x" * 80, hint="rentune " + "x" * 100)
    complain(problem)
    assert len(capsys.readouterr().err.splitlines()) == 2
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    complain(problem)
    *message, path, hint = capsys.readouterr().err.splitlines()
    assert len(message) > 1
    assert all(len(line) <= 70 and line.endswith("word") for line in message)
    assert path == "/" + "x" * 80
    assert hint == f"Hint: {problem.hint}"
