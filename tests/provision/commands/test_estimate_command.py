"""`rentune estimate` as a person meets it: its options, its words, its lines of cases."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import click
import msgspec
import pytest
from jsonschema import Draft202012Validator

from catalogs.catalog import read_catalog
from planner.asking.case import read_case
from planner.estimate import answer, estimate
from planner.notices.assumed import cache_notice
from planner.units import MIB
from provision.cli import call
from provision.commands.estimate import command
from provision.errors import Exit
from provision.prepare.measuring import run_step
from provision.report.measured import measured_table
from remote.contract import Strategy
from remote.measured import StepMeasured
from tests.contracts import render_schema
from tests.planner.builders import TINY_LLAMA

CALLED = [sys.executable, "-c", "import sys; from provision.cli import call; sys.exit(call(sys.argv[1:]))"]


def test_every_option_of_estimate_says_what_it_is_and_its_true_default() -> None:
    """A default in the help text is the contract's."""
    case = json.loads((files("planner") / "estimate.schema.json").read_text())["$defs"]["case"]["properties"]
    for option in command.params:
        assert isinstance(option, click.Option)
        assert option.help, option.name
        if named := re.search(r"(\S+) \(default\)", option.help):
            assert case[option.name].get("default", named[1]) == named[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--model", "13b", "--gpu", "T4"],
            "GiB too much: backward takes 28.6 GiB, 29.5 GiB with a margin; 14.6 GiB are there",
        ),
        (["--model", "13b", "--gpu", "T4"], "quant nf4 would fit."),
        (["--model", "7b", "--quant", "nf4", "--gpu-memory-gib", "16GB"], "Fit: fits, "),
        (["--model", "7b", "--quant", "fp8", "--gpu", "T4"], "transformers unpacks FP8 weights to 16 bits on T4,"),
        (["--model", "7b"], "Required of the card: "),
        (
            ["--model", "7b", "--gpu", "H100"],
            "lora of rank 16, weights in bfloat16, micro-batch of 1 sequence of 2,048 tokens, gradient checkpointing non-",
        ),
        (
            ["--model", "8b", "--method", "full", "--gradient-accumulation-steps", "4", "--gradient-checkpointing", "off"],
            "Case: 8b (Llama-3.1-8B), full, weights in bfloat16, micro-batch of 1 sequence of 2,048 tokens × 4 a step,",
        ),
        (
            ["--model", "7b", "--gpu", "RTX 4060 Ti 16GB", "--gpu-memory-gib", "24"],
            "24 GiB are taken for the job, as was said; RTX 4060 Ti 16GB has 16",
        ),
        (["--model", "bert-base-uncased"], "MiB above required_bytes ("),
        (["--model", "gpt2"], "Note: seq_len: none was said, and 1,024 is estimated, not 2,048: gpt2 reads no more"),
    ],
    ids=[
        *("both figures", "what would help", "a card by its memory", "a card before FP8", "no card"),
        *("what is estimated", "all of it", "more than the card has", "spare cache", "a short reach"),
    ],
)
def test_an_estimate_says_what_is_required_and_what_would_fit(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in JSON, so in words."""
    assert call(["estimate", *words]) == Exit.OK
    assert sentence in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["plan", "estimate"])
def test_a_card_named_by_its_memory_is_sent_to_the_option_for_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([command, "--model", "7b", "--gpu", "16GB"]) == Exit.REFUSED
    assert "--gpu-budget in a plan takes the size that a card is sold with, --gpu-memory-gib" in " ".join(
        capsys.readouterr().err.split()
    )


def test_spare_cache_of_less_than_a_mebibyte_is_not_worth_a_note() -> None:
    """Two figures that look alike explain nothing."""
    vram = estimate(read_case({"model": "7b"}), read_catalog()).vram
    over = [msgspec.structs.replace(vram, process_peak_bytes=vram.required_bytes + more) for more in (0, MIB - 1, 300 * MIB)]
    none, little, much = (list(cache_notice(each)) for each in over)
    assert (none, little, [sentence.partition(" above")[0] for sentence in much]) == ([], [], ["process_peak_bytes is 300 MiB"])


@pytest.mark.parametrize("option", ["estimate --plot none/x.svg", "plan --html none/x.html", "plan --save none/x.yaml"])
def test_a_file_that_cant_be_written_is_refused_before_anything_is_reckoned(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traced step takes a minute, and so may a large file's rows: a base that nobody knows is not even looked for."""
    monkeypatch.chdir(tmp_path)
    assert call([*option.split(), "--model", "no-such-base"]) == Exit.REFUSED
    name = option.split()[-1]
    assert capsys.readouterr().err.startswith(f"Error: {name} can't be written: No such file or directory")


def test_a_closed_standard_input_is_one_sentence() -> None:
    """As a service or a scheduler may start a program."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *CALLED, "estimate", "--from", "-"], capture_output=True, text=True, check=False
    )
    assert done.returncode == Exit.REFUSED
    assert done.stderr == "Error: standard input is closed.\nHint: --from takes a file with one JSON object a line\n"


def test_one_line_of_cases_that_is_no_text_leaves_the_others_their_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cases.jsonl").write_bytes(b'{"model": "7b"}\n{"model": "\xff"}\n{"model": "3b"}\n')
    assert call(["estimate", "--from", str(tmp_path / "cases.jsonl")]) == Exit.FAILED
    answered = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["vram" in one for one in answered] == [True, False, True]
    assert answered[1]["error"]["message"] == "line 2 is not UTF-8 text"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_cases_of_two_bytes_a_letter_are_one_sentence(
    encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not an error a line."""
    cases = tmp_path / "cases.jsonl"
    cases.write_bytes('{"model": "7b"}\n{"model": "3b"}\n'.encode(encoding))
    assert call(["estimate", "--from", str(cases)]) == Exit.REFUSED
    assert f"{cases} is UTF-16 or UTF-32 text; save it as UTF-8." in " ".join(capsys.readouterr().err.split())


def test_a_case_that_says_a_key_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two values one would be dropped in silence."""
    (tmp_path / "cases.jsonl").write_text('{"model": "7b", "rank": 8, "rank": 64}\n{"model": "7b"}\n')
    assert call(["estimate", "--from", str(tmp_path / "cases.jsonl")]) == 1
    refused, answered = map(json.loads, capsys.readouterr().out.splitlines())
    assert refused["error"]["message"] == 'line 1 can\'t be read as JSON: it says "rank" twice'
    assert "vram" in answered


def test_an_error_names_its_line_whatever_is_wrong_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Blank lines have no answer, so the second answer may be of the third line."""
    (tmp_path / "cases.jsonl").write_text('{"model": "7b"}\n\n{"model": "7b", "rnk": 8}\n{"model": "no/such"}\n')
    assert call(["estimate", "--from", str(tmp_path / "cases.jsonl")]) == Exit.FAILED
    _, *answered = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [one["error"]["message"].partition(": ")[0] for one in answered] == ["line 3", "line 4"]


# ── --explain ──────────────────────────────────────────────────────────────────────────────────────────────────────

TOO_LARGE = ("--model", "8b", "--gpu", "RTX 4090", "--micro-batch-size", "4")


@pytest.mark.parametrize("columns", [80, 120])
def test_an_explanation_keeps_its_bars_whole(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a narrow terminal as on a wide one: no figure and no bar is cut, and the pieces stand under one another."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert call(["estimate", *TOO_LARGE, "--explain"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    bars = [re.search(r"[█·]{10,}", line) for line in lines]
    assert len({len(bar[0]) for bar in bars[:16] if bar}) == 1
    drawn = " ".join(lines)
    for words in ("GPU memory at the peak: loss", "the card has", "What would change it", "Largest micro-batch of such"):
        assert words in drawn
    assert "…" not in drawn


def test_an_explanation_in_json_stands_beside_the_contract_s_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is what it is without --explain, and the explanation has a schema of its own."""
    assert call(["estimate", *TOO_LARGE, "--json"]) == Exit.OK
    plain = json.loads(capsys.readouterr().out)
    assert call(["estimate", *TOO_LARGE, "--json", "--explain"]) == Exit.OK
    explained = json.loads(capsys.readouterr().out)
    Draft202012Validator(json.loads(render_schema("explanation"))).validate(explained.pop("explanation"))
    assert explained == plain


def test_many_cases_are_not_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["estimate", "--from", "-", "--explain"]) == Exit.REFUSED
    assert "--explain is for one case" in capsys.readouterr().err


# ── --measure ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "This machine has no NVIDIA GPU to measure on."),
        (["--loss", "fused_inplace"], "--measure runs the trainer's own step, which has no loss=fused_inplace yet."),
    ],
    ids=["no GPU", "not in the trainer"],
)
def test_a_step_that_can_t_be_measured_here_is_one_sentence(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi there, whatever this machine has
    assert call(["estimate", "--model", "1b", *words, "--measure"]) == Exit.REFUSED
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.torch
def test_a_step_is_run_in_a_process_of_its_own_and_shown_beside_what_was_predicted() -> None:
    """On the CPU, where no figure of CUDA can be had: the table says so by leaving them out."""
    strategy = Strategy(method="lora", rank=2, micro_batch_size=1, seq_len=16)
    measured = run_step(TINY_LLAMA, strategy, "cpu")
    assert measured.end == "measured"
    assert (measured.allocated_bytes, measured.process_bytes) == (None, None)
    answered = answer({"model": TINY_LLAMA, "seq_len": 16, "gpu": "T4"}, read_catalog(), None)
    rows = {row[0]: row[1:] for row in measured_table(answered, measured).rows}
    assert rows["allocated"][1:] == ("–", "–")
    assert rows["a step"][2] != "–"


def test_a_measured_step_stands_beside_its_prediction() -> None:
    """Figures made up here: no GPU has been met yet."""
    answered = answer({"model": "1b", "gpu": "T4"}, read_catalog(), None)
    seen = StepMeasured(
        end="measured",
        device_name="made up",
        versions={"torch": "2.15.0"},
        allocated_bytes={"step": answered["vram"]["allocated_peak_bytes"] * 2, "evaluation": 2**30},
        reserved_peak_bytes=2**33,
    )
    rows = {row[0]: row[1:] for row in measured_table(answered, seen).rows}
    assert rows["allocated"][2] == "−50 %"
    assert rows["process"][1:] == ("–", "–")


@pytest.mark.parametrize("columns", [60, 66, 80, 100])
def test_no_figure_is_cut_for_want_of_width(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """14.96 stood there as 14.9: what has no room goes whole, and is named."""
    monkeypatch.setenv("COLUMNS", str(columns))
    case = {"model": "8b", "gpu": "A5000", "engine": "closed_form"}
    assert call(["estimate", *(word for key, value in case.items() for word in (f"--{key}", value)), "--explain"]) == Exit.OK
    out = capsys.readouterr().out
    budget = out[: out.index("nvidia-smi")]
    vram = answer(case, read_catalog(), None)["vram"]
    for size in (*vram["components"].values(), vram["allocated_peak_bytes"], vram["required_bytes"]):
        assert not size or f" {size / 2**30:.2f} " in budget
    assert all(len(line) <= columns for line in out.splitlines())
    assert ("Left out for want of width: bar" in " ".join(out.split())) == (columns < 66)


def test_a_job_file_or_a_config_is_no_file_of_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, where each of its lines was refused by itself."""
    (tmp_path / "axolotl.yml").write_text("base_model: x\nlora_r: 8\n")
    assert call(["estimate", "--from", str(tmp_path / "axolotl.yml")]) == Exit.REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    assert "is no file of cases, which are JSON objects, one a line" in told.err
    assert "rentune plan" in told.err


def test_options_that_a_plan_refuses_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of --from keeps the contract's note."""
    assert call(["estimate", "--model", "7b", "--method", "qlora", "--quant", "none"]) == Exit.REFUSED
    assert "method qlora means quant nf4, not none" in capsys.readouterr().err
    noted = answer({"model": "7b", "method": "qlora", "quant": "none"}, read_catalog(), None)["warnings"]
    assert any("quant none is overruled" in note for note in noted)
