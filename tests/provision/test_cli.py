"""The command line: its surface, its codes, its words."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import click
import pytest

from catalogs.failure import Failure
from catalogs.models import ModelUnknown
from catalogs.read import CatalogError
from planner.asking.options import plan_command
from planner.asking.request import RequestError
from planner.refusals import CaseRefused
from provision.cli import COMMANDS, call, rentune
from provision.envelope import Problem, enclose, enclose_error, render_json
from provision.envelope.failure import tell
from provision.errors import Exit, RentuneError, TrainingFailed, WrongHostKey

DOCS = Path(__file__).parents[2] / "docs"

PLAN_OPTIONS = """
    --allow-from --alpha --data --dropout --epochs --examples --global-batch-size --gpu --gpu-budget
    --gradient-accumulation-steps --gradient-checkpointing --host --max-cost --max-hours --max-vram --method
    --micro-batch-size --model --num-gpus --on-demand --optimizer --overrule-policy --provider --quant --rank --region --seq-len
    --spot --tag --target-modules --tokens --top
"""
# The surface. A change here is a change of what people have in their scripts: say so in the changelog.
SURFACE: dict[str, str] = {
    "plan": f"{PLAN_OPTIONS} --explain --json --save",
    "run": f"{PLAN_OPTIONS} --alert --assume-price --detach --host-key --json --keep-box-on-failure --yes",
    "estimate": """
        --adapter-dtype --alpha --attention --autocast --double-quant --dropout --engine --from --gpu --gpu-memory-gib
        --gradient-accumulation-steps
        --gradient-checkpointing --json --kbit-upcast --loss --method --micro-batch-size --model --no-double-quant --num-gpus
        --optimizer --param-dtype --quant --rank --seq-len --sharding --target-modules --task
    """,
    "check": "--json --model",
    "catalog list": "--gpu --json --max-price --min-vram --on-demand --provider --region --spot --top",
    "catalog storage": "--json --provider",
    "ls": "--all --json --orphans",
    "logs": "--controller --events --follow --offset -f",
    "resume": "--json",
    "down": "--discard --json --orphans",
    "doctor": "--install --json",
    "report": "--by --html --json --since",
}


def commands() -> dict[str, click.Command]:
    """Every command that does something, under the words that call it."""
    context = click.Context(rentune)
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = rentune.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {below}": command.commands[below] for below in command.commands}
        else:
            found[name] = command
    return found


def options_of(command: click.Command) -> set[str]:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)}


def test_the_surface_is_pinned() -> None:
    """Commands and options, by name."""
    assert {name: options_of(command) for name, command in commands().items()} == {
        name: set(words.split()) for name, words in SURFACE.items()
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_help_is_the_commands_own(name: str) -> None:
    """What stands in the list is the first sentence of the command's help."""
    command = rentune.get_command(click.Context(rentune), name)
    assert command is not None
    assert (command.help or "").splitlines()[0] == COMMANDS[name].help


def test_help_stands_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """Plan, Run, Account."""
    assert call(["--help"]) == Exit.OK
    assert re.findall(r"^(Plan|Run|Account):$", capsys.readouterr().out, re.MULTILINE) == ["Plan", "Run", "Account"]


@pytest.mark.parametrize("name", [*COMMANDS, "catalog list"])
def test_help_loads_nothing_heavy(name: str) -> None:
    """No torch, no Pulumi, no paramiko, no rich: help is for reading at once."""
    script = (
        "import sys; from provision.cli import call; call(sys.argv[1:]); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *name.split(), "--help"], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert not {"torch", "transformers", "pulumi", "paramiko", "rich"} & set(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["paln"], "did you mean 'plan'?"),
        (["down"], "Say which run, or --orphans."),
        (["resume", "nothing"], "There is no run 'nothing'."),
        (["report", "--since", "soon"], "'soon' is not a period."),
        (["report"], "No run has a receipt yet."),
        (["report", "RUN", "--since", "1d"], "Say a run or a period, not both."),
        (["check", "/nowhere.jsonl"], "/nowhere.jsonl is not there."),
        (["ls", "--colour"], "No such option"),
        (["catalog", "list", "--gpu", "H1000"], "H1000"),
        (["catalog", "storage", "--provider", "aw"], 'did you mean "aws"?'),
        (["catalog", "list", "--region", "us-eats-1"], "nearest: "),
        (["catalog", "list", "--top", "-3"], "--top"),
        (["estimate"], "No model was named."),
        (["check", "/"], "/ is a folder."),
        (["check", "/dev/null"], "/dev/null is no regular file."),
        (["check", __file__, "--model", "owner/name"], "owner/name is no folder with a tokenizer, and no GGUF file."),
        (["logs", "nothing", "--offset", "-1"], "--offset"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, and below it what to type instead."""
    assert call(words) == Exit.REFUSED
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("Error: ")
    assert "Traceback" not in error


DATA = "data: {file: rows.jsonl}\n"
HERE = "where: {providers: [local]}\n"
TINY = {"model_type": "llama", "vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SMOL = "model: HuggingFaceTB/SmolLM2-135M\n"


def checked(job: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a look at this job, which lies beside its data and a small bare configuration."""
    (folder / "rows.jsonl").write_text('{"text": "a row of some words"}\n' * 40)
    (folder / "config.json").write_text(json.dumps(TINY | {"num_attention_heads": 4, "max_position_embeddings": 512}))
    (folder / "job.yaml").write_text(job)
    monkeypatch.chdir(folder)
    return call(["check", "job.yaml"])


@pytest.mark.parametrize("model", ["HuggingFaceTB/SmolLM2-135M", "config.json"])
def test_a_job_that_run_takes_passes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bare configuration, too: it is trained from random weights, as a rehearsal."""
    assert checked(f"model: {model}\n{DATA}{HERE}", tmp_path, monkeypatch) == Exit.OK
    told = capsys.readouterr()
    assert told.out.startswith("job.yaml can be run: 32 examples")
    assert "Error" not in told.err


@pytest.mark.parametrize(
    ("job", "sentences"),
    [
        ("model: 13b\n", ["13b is a shape without weights", "There is no data to train on."]),
        (f"model: nosuchmodel\n{DATA}{HERE}", ["no model nosuchmodel in the registry"]),
        (f'model: "a\\0b"\n{DATA}{HERE}', ["no model a\\x00b in the registry"]),
        (f"model: config.json\ntraining: {{seq_len: 100000}}\n{DATA}{HERE}", ["reads at most 512 tokens, not 100,000"]),
        (f"model: config.json\nloop: {{layers: [0, 5]}}\n{DATA}{HERE}", ["layers names block 5, and "]),
        (f"{SMOL}budget: {{max_cost: 0}}\n{DATA}where: {{providers: [aws]}}\n", ["No plan can be run as asked"]),
        (f"{SMOL}{DATA}where: {{host: '-oProxyCommand=id'}}\n", ["'-oProxyCommand=id' is not an address."]),
    ],
)
def test_what_plan_and_run_refuse_of_a_job_is_refused_by_a_look_at_it(
    job: str, sentences: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their words, and all of it at once where they stop at the first."""
    assert checked(job, tmp_path, monkeypatch) == Exit.REFUSED
    told = capsys.readouterr()
    assert told.out.startswith("job.yaml can't be run as it is: ")
    for sentence in sentences:
        assert sentence in told.err
    assert call(["check", "job.yaml", "--json"]) == Exit.REFUSED
    assert len(json.loads(capsys.readouterr().out)["errors"]) == len(sentences)


def test_a_limit_that_an_assumed_price_breaks_is_told_with_what_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan` knows no such price, and would show a plan that costs nothing."""
    assert checked(f"{SMOL}{DATA}{HERE}", tmp_path, monkeypatch) == Exit.OK
    words = ["run", "job.yaml", "--yes", "--assume-price", "5", "--max-cost"]
    assert call([*words, "0"]) == Exit.REFUSED
    told = capsys.readouterr().err
    assert "No plan can be run as asked: at $5 an hour it is over $0 at p90" in told
    assert re.search(r"Hint: --max-cost \d+\.\d\d\n", told)


@pytest.mark.parametrize(
    "words",
    [
        ["estimate", "--model", "7b", "--rank", "8", "--rank", "16"],
        ["estimate", "--model", "7b", "--double-quant", "--no-double-quant"],
        ["catalog", "list", "--spot", "--on-demand"],
        ["run", "--model", "7b", "--spot", "--on-demand"],
    ],
    ids=" ".join,
)
def test_an_option_that_contradicts_itself_is_refused_by_every_command(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The last one does not win in silence."""
    assert call(words) == Exit.REFUSED
    assert "was said twice, with different values" in capsys.readouterr().err


def test_every_option_of_estimate_says_what_it_is_and_its_true_default() -> None:
    """A default in the help text is the contract's."""
    case = json.loads((files("planner") / "estimate.schema.json").read_text())["$defs"]["case"]["properties"]
    for option in commands()["estimate"].params:
        assert isinstance(option, click.Option)
        assert option.help, option.name
        if named := re.search(r"(\S+) \(default\)", option.help):
            assert case[option.name].get("default", named[1]) == named[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "13b", "--gpu", "T4"], "GiB too much: loss takes 26.7 GiB, 27.5 GiB with a margin; 15.0 GiB are there"),
        (["--model", "13b", "--gpu", "T4"], "quant nf4 would fit."),
        (["--model", "7b", "--quant", "nf4", "--gpu-memory-gib", "16GB"], "Fit: fits, "),
        (["--model", "7b"], "Required of the card: "),
    ],
    ids=["both figures", "what would help", "a card by its memory", "no card"],
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
    assert "by its memory a card is named with --gpu-budget in a plan, --gpu-memory-gib in an" in capsys.readouterr().err


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


CALLED = [sys.executable, "-c", "import sys; from provision.cli import call; sys.exit(call(sys.argv[1:]))"]


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


def test_the_catalog_alone_lists_it(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for words in (["catalog"], ["catalog", "list"]):
        assert call(words) == Exit.OK
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert " offers" in told[0]


def test_a_look_at_data_is_a_table_with_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rounded for people, whole in JSON; each row that can't be used by its line."""
    (tmp_path / "rows.jsonl").write_text('{"text": "ab"}\n{"text": "abcd"}\n{"text": "abcd"}\n{oops\n')
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    words = ["check", str(tmp_path / "rows.jsonl"), "--model", str(tmp_path / "config.json")]
    assert call(words) == Exit.REFUSED
    text = " ".join(re.sub("[│┃]", " ", capsys.readouterr().out).split())
    for part in (
        "rows.jsonl: text",
        "rows 3",
        "can't be used 1",
        "tokens of a row, mean 4.3",
        "<= 64 tokens 3",
        "line 4: not JSON",
    ):
        assert part in text
    assert "Tokens are counted by the model's tokenizer" in text
    assert call([*words, "--json"]) == Exit.REFUSED
    assert json.loads(capsys.readouterr().out)["data"]["mean_tokens"] == pytest.approx(13 / 3)


def test_a_data_file_that_the_trainer_refuses_is_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What ends a run on the box ends the look at home; with --json as an error's envelope."""
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    assert call(["check", str(tmp_path / "data.parquet"), "--json"]) == Exit.REFUSED
    envelope = json.loads(capsys.readouterr().out)
    assert (envelope["status"], envelope["exit_code"]) == ("error", 2)


@pytest.mark.parametrize("words", [["ls"], ["ls", "--orphans"], ["down", "--orphans"], ["report", "--since", "1d"]])
def test_a_state_folder_that_is_none_is_told(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in its place, a folder in the ledger's place: neither reads as no runs."""
    (tmp_path / "file").touch()
    (tmp_path / "home" / "ledger.jsonl").mkdir(parents=True)
    for home, sentence in (("file", "is not a folder."), ("home", "is not a file.")):
        monkeypatch.setenv("RENTUNE_HOME", str(tmp_path / home))
        assert call(words) == Exit.REFUSED
        assert sentence in capsys.readouterr().err


def test_a_host_key_without_a_host_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be taken for a check that nobody makes."""
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "one"}\n')
    words = ["run", "--model", "7b", "--data", str(data), "--provider", "local", "--host-key", "SHA256:x", "--yes"]
    assert call(words) == Exit.REFUSED
    assert "--host-key is for a host of yours" in capsys.readouterr().err


def test_a_refused_run_names_the_plan_command_that_shows_why() -> None:
    """Typed as it stands, it asks for the same."""
    typed = [
        "job.yaml",
        "--model",
        "a b",
        "--gpu",
        "H100",
        "--gpu",
        "L4",
        "--on-demand",
        "--max-vram",
        "16GB",
        "--max-cost",
        "5",
    ]
    typed += ["--target-modules", "q_proj,v_proj", "--tag", "team=search", "--max-hours", "2h", "--provider", "AWS"]
    plan = commands()["plan"]
    umbrella = click.Context(rentune, **rentune.context_settings)  # a command keeps the help of the first that asks it
    asked = plan.make_context("plan", typed, parent=umbrella).params
    told = shlex.split(plan_command(asked))
    assert told[:2] == ["rentune", "plan"]
    assert plan.make_context("plan", told[2:], parent=umbrella).params == asked


def test_an_error_with_json_is_an_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read one form, whatever happened."""
    assert call(["resume", "nothing", "--json"]) == Exit.REFUSED
    assert json.loads(capsys.readouterr().out) == {
        "command": "resume",
        "status": "error",
        "data": None,
        "errors": [{"message": "There is no run 'nothing'.", "hint": "rentune ls"}],
        "exit_code": 2,
        "version": 1,
    }


@pytest.mark.parametrize(
    "words", [["ls"], ["ls", "--orphans"], ["catalog", "list", "--top", "2"], ["report", "--since", "30d"]]
)
def test_every_table_has_json(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The envelope's data is what the table shows."""
    assert call([*words, "--json"]) == Exit.OK
    envelope = json.loads(capsys.readouterr().out)
    assert envelope["status"] == "success"
    assert envelope["command"] == " ".join(word for word in words if not word.startswith("--") and not word[0].isdigit())
    assert call(words) == Exit.OK


def test_an_empty_ledger_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """A first look at a new machine."""
    assert call(["ls", "--orphans"]) == Exit.OK
    assert capsys.readouterr().out == "No orphans.\n"


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
    ("error", "code"),
    [
        (CatalogError("bad cell", file="gpus.csv", line=3), Exit.REFUSED),
        (RequestError("no such thing", hint="another"), Exit.REFUSED),
        (CaseRefused("rank", "too many", "fewer"), Exit.REFUSED),
        (ModelUnknown("no model", "another"), Exit.REFUSED),
        (TrainingFailed("no result", hint="resume"), Exit.FAILED),
        (click.Abort(), Exit.INTERRUPTED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_told_in_its_own_words_with_its_own_code(
    error: Exception, code: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lower floors refuse, whatever the class; only what runs can fail."""
    assert tell(error, ["plan"]) == code
    told = capsys.readouterr().err
    assert told.startswith(f"Error: {getattr(error, 'message', 'Interrupted.')}\n")
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
    ],
)
def test_output_fails_for_no_destination_with_a_traceback(redirection: str, code: int) -> None:
    """A narrow encoding, a closed and a full standard output."""
    command = f"{sys.executable} {Path(sys.executable).with_name('rentune')}"
    done = subprocess.run(redirection.format(command), shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
