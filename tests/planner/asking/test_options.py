"""One table makes the options, the Request and the command under the answer."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from planner.asking.data import DataFile, Lengths, measured_data
from planner.asking.jobfile import read_job
from planner.asking.options.command_line import YOUR_DATA, plan_command, run_command
from planner.asking.options.overlay import request_of
from planner.asking.options.table import OPTIONS, request_options, said
from planner.asking.request import RequestError, Where
from planner.refusals import CaseRefused
from remote.contract import Reading
from tests.planner.builders import counted, make_request, parsed


def test_options_fill_the_request() -> None:
    """Each its field, in its unit."""
    request = request_of(
        parsed(
            *("--model", "32b", "--gpu-budget", "16GB", "--gpu", "L4", "--gpu", "T4", "--spot", "--max-cost", "$5"),
            *("--max-hours", "90m", "--rank", "8", "--target-modules", "q_proj,v_proj", "--tag", "team=a=b", "--epochs", "1"),
        )
    )
    assert (request.model, request.training) == ("32b", {"rank": 8, "target_modules": ["q_proj", "v_proj"]})
    assert (request.where.gpu_memory_gib, request.where.gpus, request.where.spot) == (16.0, ("L4", "T4"), True)
    assert (request.budget.max_usd, request.budget.max_hours) == (Decimal(5), 1.5)
    assert (request.loop.epochs, request.tags) == (1.0, {"team": "a=b"})


def test_max_vram_is_another_word_for_the_gpu_budget() -> None:
    """Both spellings are in use."""
    assert request_of(parsed("--model", "7b", "--max-vram", "24")).where.gpu_memory_gib == 24.0


def test_a_trainer_s_names_of_options_are_taken() -> None:
    """As people type them for Transformers, TRL and PEFT; the command that is printed has ours."""
    theirs = parsed("--model-name-or-path", "7b", "--lora-r", "8", "--max-length", "256", "--lr", "1e-4", "--optim", "sgd")
    ours = parsed("--model", "7b", "--rank", "8", "--seq-len", "256", "--learning-rate", "1e-4", "--optimizer", "sgd")
    assert theirs == ours
    assert "--rank 8" in plan_command(theirs)


def test_a_learning_rate_that_was_said_stands() -> None:
    """Over a job file's, and where the method has another of its own."""
    said = request_of(parsed("--model", "7b", "--method", "full", "--learning-rate", "1e-4"))
    assert (said.loop.learning_rate, said.said_of_loop) == (1e-4, ("learning_rate",))
    job = read_job("model: 7b\nloop: {learning_rate: 0.01}", name="job.yaml")
    assert request_of(parsed("job.yaml", "--lr", "3e-4"), start=job).loop.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("--task", "clasification"), 'there is no "clasification"; did you mean "classification"?'),
        (("--goal", "fast"), 'there is no "fast"; did you mean "fastest"?'),
        (("--goal", "7"), 'there is no "7"; one of cheapest, fastest, balanced'),
    ],
)
def test_a_word_that_is_none_of_a_few_is_answered_with_the_one_that_was_meant(words: tuple[str, str], meant: str) -> None:
    done = CliRunner().invoke(click.command()(request_options(lambda **_: None)), ["--model", "7b", *words])
    assert done.exit_code == 2
    assert meant in done.output


def test_an_option_said_twice_alike_is_said_once() -> None:
    """A script may append what is there already; 16 and 16GB are the same."""
    options = parsed("--max-vram", "16", "--gpu-budget", "16GB", "--spot", "--spot", *("--tag", "team=a") * 2)
    assert (options["gpu_budget"], options["spot"], options["tag"]) == (16.0, True, (("team", "a"),))


def test_nothing_said_is_nothing_asked() -> None:
    """Defaults are the planner's, not click's."""
    assert said(parsed()) == {}
    with pytest.raises(RequestError, match="no model was named"):
        request_of(parsed())


def test_a_data_file_is_measured_and_its_examples_may_be_fewer() -> None:
    """Tokens are counted, so they can't be stated as well."""
    request = request_of(parsed("--model", "7b", "--data", "a.jsonl", "--examples", "900"), measure=counted)
    assert (request.data.path, request.data.reading.max_rows, request.data.num_examples) == ("a.jsonl", 900, 720)
    with pytest.raises(RequestError, match="--tokens is for a job without a file"):
        request_of(parsed("--model", "7b", "--data", "a.jsonl", "--tokens", "5k"), measure=counted)


def test_the_file_of_a_job_stays_unless_another_is_named() -> None:
    """Fewer examples are its first rows, and another model counts them anew; its tokens can't be stated."""
    file = DataFile(path="job.jsonl", model="7b", reading=Reading(format="chat"))
    data = measured_data(file, measure=counted, held_out_path="apart.jsonl")
    start = make_request(data=data)
    asked: list[DataFile] = []

    def noted(file: DataFile) -> Lengths:
        asked.append(file)
        return counted(file)

    assert request_of(parsed("job.yaml", "--rank", "4"), start=start, measure=noted).data == data
    assert asked == []
    fewer = request_of(parsed("job.yaml", "--examples", "100"), start=start, measure=noted).data
    assert (fewer.path, fewer.num_examples, fewer.reading.max_rows, fewer.held_out_path) == (
        "job.jsonl",
        100,
        100,
        "apart.jsonl",
    )
    assert (fewer.held_out_rows, fewer.reading.format) == (1_000, "chat")
    request_of(parsed("job.yaml", "--model", "3b"), start=start, measure=noted)
    assert [(file.path, file.model) for file in asked[2:]] == [("job.jsonl", "3b"), ("apart.jsonl", "3b")]
    with pytest.raises(RequestError, match="--tokens is for a job without a file"):
        request_of(parsed("job.yaml", "--tokens", "5k"), start=start, measure=noted)


def test_stated_examples_have_the_length_that_was_said() -> None:
    """--seq-len says how long they are."""
    assert request_of(parsed("--model", "7b", "--examples", "10", "--seq-len", "2048")).data.mean_tokens == 2048.0


def test_options_overrule_a_job_file() -> None:
    """Only what they say."""
    start = make_request(training={"rank": 32, "quant": "nf4"}, tags={"a": "1"})
    request = request_of(parsed("job.yaml", "--rank", "4", "--tag", "b=2"), start=start)
    assert (request.model, request.training) == ("SmolLM2-135M", {"rank": 4, "quant": "nf4"})
    assert request.tags == {"a": "1", "b": "2"}


def test_full_tuning_learns_slower() -> None:
    """Its learning rate is a tenth of LoRA's."""
    assert request_of(parsed("--model", "7b", "--method", "full")).loop.learning_rate == pytest.approx(2e-5)


def test_the_command_is_what_was_typed() -> None:
    """Quoted for a shell, without what only shapes the answer."""
    words = (
        "--model",
        "my model",
        "--gpu-budget",
        "16GB",
        "--data",
        "a.jsonl",
        "--on-demand",
        "--tag",
        "a=b",
        "--top",
        "3",
        "--explain",
    )
    command = run_command(parsed(*words), changes={}, has_data=True, model=None)
    assert command == "rentune run --model 'my model' --data a.jsonl --gpu-budget 16GB --on-demand --tag a=b"


def test_the_command_of_a_way_out_carries_the_change() -> None:
    """A wish is replaced or left out; a shape gets the name of a model with weights; data must still be named."""
    options = parsed("--model", "32b", "--gpu-budget", "16GB", "--num-gpus", "4", "--tokens", "1M")
    command = run_command(
        options, changes={"where.gpu_memory_gib": 24.0, "where.num_gpus": None}, has_data=False, model="owner/name"
    )
    assert command == f"rentune run --model owner/name --data {YOUR_DATA} --gpu-budget 24GB"


def test_the_command_reads_back_to_the_same_request() -> None:
    """What is printed asks for what was planned."""
    words = (
        *("--model", "7b", "--data", "a.jsonl", "--rank", "8", "--alpha", "16", "--dropout", "0.05", "--quant", "nf4"),
        *("--target-modules", "q_proj,v_proj", "--gpu-budget", "22.5GB", "--gpu", "L4", "--spot", "--max-cost", "5.50"),
        *("--max-hours", "1.5", "--tag", "team=x", "--epochs", "0.5", "--global-batch-size", "8"),
    )
    command = run_command(parsed(*words), changes={}, has_data=True, model=None)
    again = parsed(*command.removeprefix("rentune run ").split())
    assert request_of(again, measure=counted) == request_of(parsed(*words), measure=counted)


def test_names_are_the_contracts_keys_with_dashes() -> None:
    """Whoever knows the job file knows the options."""
    for option in OPTIONS:
        section, _, key = option.field.rpartition(".")
        if section == "training":
            assert option.flags[0] == "--" + key.replace("_", "-")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--gpu-budget", "lots"), 'is not a memory size such as "16GB"'),
        (("--tag", "x"), "write key=value"),
        (("--rank", "many"), "is not a valid integer"),
        (("--gpu-budgett", "16GB"), "--gpu-budget"),
        (("--spot", "--on-demand"), "--spot/--on-demand was said twice, with different values"),
        (("--rank", "8", "--rank", "16"), "--rank was said twice, with different values"),
        (("--gpu-budget", "16GB", "--max-vram", "24GB"), "--gpu-budget/--max-vram was said twice"),
        (("--column", "text=a", "--column", "text=b"), "--column says text twice, text=a and text=b; leave one of them out"),
        (("--tag", "team=a", "--tag", "x=y", "--tag", "team=b"), "--tag says team twice, team=a and team=b"),
    ],
)
def test_a_wrong_word_is_told_before_anything_is_planned(words: tuple[str, ...], sentence: str) -> None:
    """With the form that was expected, or the nearest option."""

    @click.command()
    @request_options
    def command(**_options: Any) -> None:
        raise AssertionError

    done = CliRunner().invoke(command, words)
    assert done.exit_code == 2
    assert sentence in done.output


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--epochs", "nan"), "epochs is nan"),
        (("--epochs", "inf"), "epochs is inf"),
        (("--seq-len", "0"), "seq_len is 0"),
        (("--seq-len", "0", "--tokens", "5k"), "seq_len is 0"),
        (("--rank", "0"), "rank is 0"),
        (("--alpha", "nan"), "alpha is nan"),
        (("--micro-batch-size", "-1"), "micro_batch_size is -1"),
        (("--method", "foo"), "there is no method foo"),
        (("--method", "lroa"), 'did you mean "lora"?'),
    ],
)
def test_an_option_beyond_sense_is_refused_in_one_sentence(words: tuple[str, ...], complaint: str) -> None:
    """By the table that holds for job files and estimates, too."""
    with pytest.raises((RequestError, CaseRefused), match=re.escape(complaint)):
        request_of(parsed("--model", "7b", *words))


FILE_OF_A_CLOUD = Where(
    providers=("gcp",), regions=("europe-*",), instance_types=("g2-standard-4",), gpus=("L4",), num_gpus=1, spot=True
)


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["--provider", "local"], Where(providers=("local",))),
        (["--host", "me@box"], Where(host="me@box")),
        (["--provider", "local", "--gpu", "T4"], Where(providers=("local",), gpus=("T4",))),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_machine_of_ones_own_overrules_what_a_file_says_of_machines_to_choose_from(words: list[str], where: Where) -> None:
    """Each of these wishes would refuse it; what options say beside it stands."""
    start = make_request(where=FILE_OF_A_CLOUD)
    assert request_of(parsed(*words), start=start).where == where


def test_another_provider_leaves_the_wishes_of_a_file_as_they_are() -> None:
    start = make_request(where=FILE_OF_A_CLOUD)
    asked = request_of(parsed("--provider", "aws"), start=start).where
    assert asked == msgspec.structs.replace(FILE_OF_A_CLOUD, providers=("aws",))


def test_names_that_change_stand_between_commas_however_they_came() -> None:
    """A way out's come as a tuple; typed as Python writes one they were no module's."""
    changes = {"training.target_modules": ("q_proj", "v_proj")}
    command = run_command(parsed("--model", "7b"), changes=changes, has_data=False, model=None)
    assert "--target-modules q_proj,v_proj" in command
