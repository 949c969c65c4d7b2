"""The command line: its surface, and what every command has in common."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from planner.asking.options.command_line import plan_command
from planner.asking.options.table import ALSO, OPTIONS
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.cli import COMMANDS, HELP, call, rentune
from provision.errors import Exit
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run

PLAN_OPTIONS = """
    --accuracy --allow-from --alpha --column --data --deployment --dropout --epochs --examples --global-batch-size --goal --gpu
    --gpu-budget --gradient-accumulation-steps --gradient-checkpointing --host --imbalance --keep-environment --keep-volume
    --learning-rate --lease --lr --max-cost --max-hours --max-steps --max-vram --method --micro-batch-size --model
    --no-keep-environment --no-offload-disk --num-gpus --offload-disk --on-demand --optimizer --overrule-policy
    --power-price --provider --quant --rank --region --revision --seq-len --spot --tag --target-modules --task
    --tokens --top --use-case
"""
# The surface. A change here is a change of what people have in their scripts: say so in the changelog.
SURFACE: dict[str, str] = {
    "plan": f"{PLAN_OPTIONS} --explain --force --gpus --html --json --ram --save --which-model",
    "run": f"""
        {PLAN_OPTIONS} --alert --assume-price --dearer --detach --host-key --json --keep-box-on-failure
        --pack-first --preview --state --yes
    """,
    "estimate": """
        --adapter-dtype --alpha --attention --autocast --double-quant --dropout --engine --explain --from --gpu
        --gpu-memory-gib --gradient-accumulation-steps --gradient-checkpointing --json --kbit-upcast --loss --measure --method
        --micro-batch-size --model --no-double-quant --num-gpus --num-virtual-tokens --offload --optimizer --param-dtype
        --plot --quant --rank --seq-len --sharding --target-modules --task --trainable-layers
    """,
    "check": "--column --host --host-key --json --model --task",
    "quantize": "--dtype --into --json --quant --single-quant",
    "catalog diff": "--json --provider --top",
    "catalog import": "--accept --json",
    "catalog list": "--gpu --json --max-price --min-vram --on-demand --provider --region --spot --top",
    "catalog models": "--json",
    "catalog refresh": "--accept --from --json --provider",
    "catalog show": "--json",
    "catalog storage": "--json --provider",
    "ls": "--all --all-regions --json --orphans --region --state",
    "logs": "--controller --events --follow --offset -f",
    "resume": "--json --state",
    "down": "--all-regions --discard --gone --json --orphans --region --state --volumes",
    "doctor": "--install --json --permissions",
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
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts)} - set(HELP)  # every command has it


def test_the_surface_is_pinned() -> None:
    """Commands and options, by name."""
    assert {name: options_of(command) for name, command in commands().items()} == {
        name: set(words.split()) for name, words in SURFACE.items()
    }


def test_an_option_s_words_may_be_parted_by_underscores(capsys: pytest.CaptureFixture[str]) -> None:
    """As trainers write them."""
    assert call(["estimate", "--model", "7b", "--lora_r", "8", "--per_device_train_batch_size", "2", "--json"]) == Exit.OK
    with_ours = capsys.readouterr().out
    assert call(["estimate", "--model", "7b", "--rank", "8", "--micro-batch-size", "2", "--json"]) == Exit.OK
    assert capsys.readouterr().out == with_ours


ALSO_TAKEN = """
    --lora-alpha --lora-dropout --lora-r --lora-target-modules --max-length --max-seq-length --model-name-or-path
    --model-revision --num-train-epochs --optim --per-device-train-batch-size
"""


def test_the_other_names_are_pinned_and_hide_no_option() -> None:
    """Those of the libraries that people come from; each leads to one of ours, and is the name of none."""
    assert {name for names in ALSO.values() for name in names} == set(ALSO_TAKEN.split())
    named = {flag for option in OPTIONS for flag in option.flags}
    assert ALSO.keys() <= named
    assert named.isdisjoint(ALSO_TAKEN.split())


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


def test_a_seller_without_offers_is_no_dead_end(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table says what to type."""
    assert call(["catalog", "list", "--provider", "hetzner", "--provider", "aws", "--top", "1"]) == 0
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "rentune catalog import" in line]
    assert told.startswith("hetzner: ")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_word_for_several_cards_says_which_is_listed(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a plan: the others may be what is meant."""
    assert call(["catalog", "list", "--gpu", "RTX 4060 Ti", "--top", "1", *(["--json"] if as_json else [])]) == 0
    told = " ".join(capsys.readouterr().out.replace("\\", "").split())
    assert '"RTX 4060 Ti" names several cards; RTX 4060 Ti 8GB is taken (also sold: RTX 4060 Ti 16GB)' in told


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
        (["report", "--since", "1d", "--html", "page.html"], "--html writes the report of one run"),
        (["check", "/nowhere.jsonl"], "/nowhere.jsonl is not there."),
        (["ls", "--colour"], "No such option"),
        (["catalog", "list", "--gpu", "H1000"], "H1000"),
        (["catalog", "storage", "--provider", "aw"], 'did you mean "aws"?'),
        (["catalog", "list", "--region", "us-eats-1"], "nearest: "),
        (["catalog", "list", "--provider", "hetzne"], "nearest: hetzner"),
        (["catalog", "show", "lamda"], "rentune catalog show lambda"),
        (["catalog", "show", "RTX 4091"], "nearest: RTX 4090"),
        (["catalog", "show", "aws us-east-1 g5.xlarg on_demand"], "rentune catalog show aws/us-east-1/g5.xlarge/on_demand"),
        (["catalog", "show", "g5.xlarge"], "/g5.xlarge/"),
        (["catalog", "show", "g5.xlarg"], "rentune catalog show aws/us-east-1/g5.xlarge/on_demand"),
        (["catalog", "show", "celar"], "Nothing is called celar"),
        (["catalog", "show", "TPU v4"], "nothing of Google's TPUs"),
        (["catalog", "show", "aws/us-east-1/g5.xlarg/on_demand"], "rentune catalog show aws/us-east-1/g5.xlarge/on_demand"),
        (["catalog", "refresh", "--provider", "gpc"], 'did you mean "gcp"?'),
        (["catalog", "diff", "/nowhere.csv"], "/nowhere.csv: can't be read"),
        (["plan", "--model", "7b", "--gpu", "here", "--power-price", "-1"], "-1"),
        (["catalog", "list", "--top", "-3"], "--top"),
        (["estimate"], "No model was named."),
        (["check", str(Path(__file__).parent)], "The folder commands holds no file of rows"),
        (["check", "/dev/null"], "/dev/null is no regular file."),
        (["check", __file__, "--model", "owner/name"], "The tokenizer of owner/name is not here"),
        (["check", __file__, "--model", "nowhere"], "nowhere is no folder with a tokenizer, and no GGUF file."),
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


@pytest.mark.parametrize("options", [[], ["--json", "--top", "2"], ["--provider", "aws"]])
def test_the_catalog_alone_lists_it(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With the options of the list; help is the group's."""
    told = []
    for words in (["catalog"], ["catalog", "list"]):
        assert call([*words, *options]) == Exit.OK
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "salad" in told[0] or "aws" in told[0]
    assert call(["catalog", "--help"]) == Exit.OK
    assert "storage" in capsys.readouterr().out


def test_the_models_that_are_known_by_name_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, and as JSON with where each figure is from."""
    assert call(["catalog", "models"]) == Exit.OK
    assert " deepseek-v3 " in capsys.readouterr().out
    assert call(["catalog", "models", "--json"]) == Exit.OK
    told = {base["name"]: base for base in json.loads(capsys.readouterr().out)["data"]}
    falcon = told["falcon-7b"]
    assert (falcon["num_params"], falcon["num_layers"], falcon["hidden_size"], falcon["gated"]) == (
        6_921_720_704,
        32,
        4544,
        False,
    )
    assert told["llama-3.1-8b"]["gated"]
    assert "tiiuae/falcon-7b" in falcon["source"]


def test_a_host_key_without_a_host_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be taken for a check that nobody makes."""
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "one"}\n')
    words = ["run", "--model", "7b", "--data", str(data), "--provider", "local", "--host-key", "SHA256:x", "--yes"]
    assert call(words) == Exit.REFUSED
    assert "--host-key is for a host of yours" in capsys.readouterr().err


def test_a_place_to_crash_that_does_not_exist_is_refused_before_a_run_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RENTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RENTUNE_CRASH_AT", "lunch")
    assert call(["run", "--model", "smollm2-135m", "--provider", "local", "--yes"]) == Exit.REFUSED
    assert "RENTUNE_CRASH_AT=lunch names no crash point" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


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


@pytest.mark.parametrize(("said", "columns"), [("72", 72), ("1", 60), ("", 100)])
def test_output_is_as_wide_as_columns_says(
    said: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into a pipe, too, and whatever draws it; but no narrower than words are."""
    monkeypatch.setenv("COLUMNS", said)
    for words in (["doctor"], ["plan", "--model", "7b"]):
        call(words)
        widest = max(len(line) for line in capsys.readouterr().out.splitlines() if line.startswith(("┃", "─")))
        assert columns - 12 < widest <= columns


def test_an_empty_ledger_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """A first look at a new machine."""
    assert call(["ls", "--orphans"]) == Exit.OK
    assert capsys.readouterr().out.startswith("No orphans")


# ── runs that nobody controls ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def forsaken(run_id: str, places: Places, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run whose controller is gone, in this home."""
    monkeypatch.setenv("RENTUNE_HOME", str(places.home))
    return run_id


LOOKING = [
    ["run", "--model", "nothing/of-the-kind"],
    ["ls"],
    ["logs", "none"],
    ["resume", "none"],
    ["down", "none"],
    ["doctor", "none"],
]


@pytest.mark.parametrize("words", [*LOOKING, ["report"]], ids=lambda words: words[0])
def test_each_command_that_rents_or_accounts_says_that_a_run_is_controlled_by_nobody(
    forsaken: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line beside its own words, whatever comes of the command; with what to type."""
    call(words)
    told = capsys.readouterr()
    line = (
        f"Nobody here controls run {forsaken}, which has cost $0 so far. "
        f"Go on with it: rentune resume {forsaken}. End it: rentune down {forsaken}."
    )
    assert told.err.splitlines().count(line) == 1
    assert "Nobody here" not in told.out


@pytest.mark.usefixtures("forsaken")
@pytest.mark.parametrize(
    "words",
    [["--help"], ["ls", "--help"], ["plan", "--model", "nothing/of-the-kind"], ["estimate", "-h"], ["catalog", "show", "L4"]],
)
def test_whoever_only_plans_or_asks_for_help_is_not_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    call(words)
    assert "Nobody here" not in capsys.readouterr().err


def test_a_run_that_was_ended_is_not_told_of_and_several_are_one_line(
    forsaken: str, places: Places, plan: Plan, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command itself may have ended it."""
    other = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=lambda: 0.0)
    assert call(["ls"]) == Exit.OK
    assert "Nobody here controls 2 runs, which have cost $0 so far. See them: rentune ls --orphans" in capsys.readouterr().err
    assert call(["down", other]) == Exit.OK
    assert f"Nobody here controls run {forsaken}" in capsys.readouterr().err
    assert call(["doctor", forsaken[-5:]]) != Exit.OK
    assert "Nobody here" not in capsys.readouterr().err, "whoever names it knows of it"
    assert call(["down", forsaken]) == Exit.OK
    assert "Nobody here" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan", "--model", "7b", "--save", ""), "--save '' names no file"),
        (("plan", "--model", "7b", "--html", " "), "--html '' names no file"),
        (("plan", "--model", "7b", "--data", ""), "--data '' names no file"),
        (("plan", ""), "The job '' names no file"),
    ],
)
def test_a_name_that_is_nothing_is_told_as_that(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not as the folder that one stands in."""
    assert call(list(arguments)) == Exit.REFUSED
    assert said in capsys.readouterr().err
