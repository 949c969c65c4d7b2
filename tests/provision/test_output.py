"""What becomes of a command when nobody reads what it prints, by real pipes whose other end is closed."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from contextlib import suppress
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
import termios
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


# ── what a terminal gets to see ────────────────────────────────────────────────────────────────────────────────────

HOSTILE = "a\x1b[2J\x1b]0;owned\x07b\x9b31m\x08\x7f\u202ec"
HARMLESS = r"a\u001b[2J\u001b]0;owned\u0007b\u009b31m\u0008\u007f\u202ec"


def on_terminal(code: str, *words: str) -> str:
    """What the terminal is sent that a program runs on, its standard error as well."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 200))
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as program:
        os.close(theirs)
        sent = b""
        with suppress(OSError):  # EIO: the other side is closed
            while chunk := os.read(ours, 4096):
                sent += chunk
        os.close(ours)
        program.wait()
    return sent.decode()


def commands_in(sent: str) -> set[str]:
    """The control characters that it was sent, with what follows those that begin a sequence; CR and LF end a line there."""
    sequences = r"\x1b(?:\[[0-9;?]*.|[^\[])"
    alone = r"[\x00-\x09\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
    return set(re.findall(f"{sequences}|{alone}", sent))


def test_a_hostile_text_is_shown_and_does_nothing() -> None:
    """Clear the screen, name the window, ring, turn red, rub out, turn around: whichever way it is printed."""
    code = """
import sys, click
from provision.output import make_safe
make_safe(outlives_reader=False)
text = sys.argv[1]
print(text)
click.echo(text, err=True)
print(text, file=sys.stderr)
sys.stdout.writelines([text])
"""
    sent = on_terminal(code, HOSTILE)
    assert commands_in(sent) == set()
    assert sent.count(HARMLESS) == 4


def test_what_rich_draws_keeps_its_colours_and_shows_the_text_between() -> None:
    """A table that is drawn anew, a note beside it, and something printed by another way meanwhile."""
    code = """
import sys
from rich.live import Live
from rich.text import Text
from rich.table import Table
from provision.output import make_safe
make_safe(outlives_reader=False)
from provision.envelope.show import console
drawn = console()
table = Table("head", "other")
table.add_row(Text(sys.argv[1], style="bold red"), "[green]fine[/]")
with Live(table, console=drawn, transient=True) as live:
    drawn.print("note " + sys.argv[1], markup=False, style="dim")
    print(sys.argv[1])
    live.refresh()
drawn.print(table)
"""
    sent = on_terminal(code, HOSTILE)
    seen = commands_in(sent)
    assert {"\x1b[1;31m", "\x1b[2m", "\x1b[32m", "\x1b[?25l", "\x1b[2K"} <= seen, "rich draws"
    assert seen.isdisjoint({"\x1b[2J", "\x1b]", "\x07", "\x9b", "\x08", "\x7f", "\u202e"})
    assert sent.count(r"a\u001b[2J\u001b]") >= 3  # what rings or rubs out rich drops itself


def test_a_log_is_text_on_a_terminal_and_byte_for_byte_elsewhere(tmp_path: Path) -> None:
    """Whoever reads along must not be at the mercy of a box; a bar of progress is a line each time that it was drawn."""
    log = tmp_path / "log"
    log.write_bytes(f"10 %\r20 %\r\n{HOSTILE}\xff".encode() + b"\xff\n")
    code = """
import sys
from pathlib import Path
from provision.output import make_safe
make_safe(outlives_reader=False)
from provision.commands.logs import _copy
_copy(Path(sys.argv[1]), 0, lambda: True)
"""
    sent = on_terminal(code, str(log))
    assert commands_in(sent) == set()
    assert sent.startswith(f"10 %\r\n20 %\r\n{HARMLESS}")
    piped = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, check=True)
    assert piped.stdout == log.read_bytes()


@pytest.mark.parametrize("words", ["check", "plan", "run"])
def test_a_files_name_does_nothing_to_the_terminal(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a\x1b[2J\x1b]0;owned\x07.yaml"
    (tmp_path / name).write_text("model: no-such-model\ntask: \x1b[31m\n")
    sent = on_terminal(WAY_IN, words, name)
    assert r"\u001b[2J" in sent
    assert commands_in(sent) == set()


def test_what_our_own_plans_are_drawn_with_goes_out() -> None:
    sent = on_terminal(WAY_IN, "plan", "--model", "7b")
    assert {"\x1b[1m", "\x1b[0m"} <= commands_in(sent) <= {"\x1b[1m", "\x1b[2m", "\x1b[0m"}


def test_a_json_answer_stays_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a\x9b31m\x7f.jsonl"
    done = subprocess.run([sys.executable, "-c", WAY_IN, "check", name, "--json"], capture_output=True, check=False)
    assert "\\u009b31m" in done.stdout.decode()
    assert name in json.loads(done.stdout)["errors"][0]["message"]
