"""How long the rows of a data file are, asked at home: the trainer's answer, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner.asking.data import DataFile
from planner.asking.request import RequestError
from provision.prepare.inputs.counting import Data, has_tokenizer, look_through, measured, trains_on_bytes
from provision.prepare.inputs.parts import hub_words
from remote.contract import Reading
from remote.data.byte_tokenizer import byte_tokenizer
from remote.data.check import BYTES_PER_TOKEN, TOKENS_OF_DEFAULT_SYSTEM, TOKENS_PER_MESSAGE, check_data, counter_of
from tests.provision.plans import TINY_CONFIG

PAIR = {"prompt": "p" * 36, "completion": "c" * 72}


class Heard:
    """What was said to the person who waits."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of three rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(PAIR) for _ in range(3)))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder whose tokenizer counts bytes."""
    byte_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_without_a_tokenizer_tokens_are_estimated_and_nothing_is_kept(data: Path, tmp_path: Path) -> None:
    """The marks of the turns included, and the system prompt that most templates write."""
    heard = Heard()
    lengths = measured(DataFile(path=str(data), model="7b"), cache=tmp_path / "cache", say=heard)
    assert lengths.mean_tokens == round(108 / BYTES_PER_TOKEN) + 2 * TOKENS_PER_MESSAGE + TOKENS_OF_DEFAULT_SYSTEM
    assert (lengths.num_rows, lengths.basis, lengths.documents) == (3, "estimated from characters", False)
    assert heard.lines == []
    assert not (tmp_path / "cache").exists()


def test_labels_that_the_task_does_not_read_are_counted(tmp_path: Path) -> None:
    """Only beside a text: a pair of prompt and completion learns none, whatever else stands in its row."""
    rows = {"labelled": {"text": "good", "label": "pos"}, "plain": {"text": "good"}, "pair": PAIR | {"label": "pos"}}
    unread = {}
    for name, row in rows.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(row))
        unread[name] = measured(DataFile(path=str(path), model="7b"), cache=tmp_path, say=Heard()).unread_labels
    assert unread == {"labelled": 1, "plain": 0, "pair": 0}


@pytest.mark.torch
def test_the_tokenizer_of_a_model_counts_as_the_trainer_does_and_once(data: Path, model: Path, tmp_path: Path) -> None:
    """The second time the answer lies in the cache; other rows, another tokenizer or another question are counted anew."""
    heard = Heard()
    file = DataFile(path=str(data), model=str(model))
    first, again = (measured(file, cache=tmp_path / "cache", say=heard) for _ in range(2))
    trainers = check_data(data, counter_of(byte_tokenizer()))
    assert first == again
    assert (first.num_rows, first.mean_tokens, first.profile) == (trainers.rows, trainers.mean_tokens, trainers.profile)
    assert first.basis == "counted by the model's tokenizer"
    assert heard.lines == ["Counting the tokens of rows.jsonl by the tokenizer of model …"]
    assert (
        measured(
            DataFile(path=str(data), model=str(model), reading=Reading(max_rows=2)), cache=tmp_path / "cache", say=heard
        ).num_rows
        == 2
    )
    data.write_text(json.dumps(PAIR))
    assert measured(file, cache=tmp_path / "cache", say=heard).num_rows == 1
    os.utime(model / "tokenizer.json", ns=(0, 0))
    measured(file, cache=tmp_path / "cache", say=heard)
    assert len(heard.lines) == 4


@pytest.mark.torch
def test_a_file_of_held_out_rows_is_counted_along(data: Path, model: Path, tmp_path: Path) -> None:
    """By one process, whole whatever the other's limit, and kept; one that can't be read is told to whoever asks for it."""
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("\n".join(json.dumps(PAIR) for _ in range(5)))
    heard, cache = Heard(), tmp_path / "cache"
    both = DataFile(path=str(data), model=str(model), reading=Reading(max_rows=2), along=str(held_out))
    assert measured(both, cache=cache, say=heard).num_rows == 2
    assert measured(DataFile(path=str(held_out), model=str(model)), cache=cache, say=heard).num_rows == 5
    assert heard.lines == [f"Counting the tokens of {data.name} and {held_out.name} by the tokenizer of model …"]

    held_out.write_text("no rows")
    data.write_text(data.read_text() + "\n" + json.dumps(PAIR))
    assert measured(DataFile(path=str(data), model=str(model), along=str(held_out)), cache=cache, say=heard).num_rows == 4
    with pytest.raises(RequestError, match=r"held_out\.jsonl"):
        measured(DataFile(path=str(held_out), model=str(model)), cache=cache, say=heard)


@pytest.mark.parametrize("name", ["shape", "shape/config.json"])
def test_a_model_of_random_weights_is_counted_in_bytes(name: str, data: Path, tmp_path: Path) -> None:
    """As its trainer will, exactly and without any library: the letters, and a mark after each turn. It says so."""
    (tmp_path / "shape").mkdir()
    (tmp_path / "shape" / "config.json").write_text(json.dumps(TINY_CONFIG))
    heard = Heard()
    lengths = measured(DataFile(path=str(data), model=str(tmp_path / name)), cache=tmp_path / "cache", say=heard)
    assert (lengths.mean_tokens, lengths.max_tokens, lengths.basis) == (
        110,
        110,
        "counted as bytes, for the model has no tokenizer",
    )
    assert heard.lines == []


def test_weights_or_a_tokenizer_end_the_counting_in_bytes(model: Path, tmp_path: Path) -> None:
    """A folder without config.json is no model, and a size is none that lies here."""
    assert not trains_on_bytes(model)
    assert not trains_on_bytes(Path("7b"))
    (tmp_path / "config.json").touch()
    assert trains_on_bytes(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert not trains_on_bytes(tmp_path)


@pytest.mark.torch
def test_what_was_kept_and_is_damaged_is_counted_again(data: Path, model: Path, tmp_path: Path) -> None:
    """Neither that nor a cache that can't be written is in the way of an answer."""
    first = look_through(Data((data,)), model, cache=tmp_path / "cache", say=Heard())
    for kept in (tmp_path / "cache" / "counted").iterdir():
        kept.write_text("{")
    assert look_through(Data((data,)), model, cache=tmp_path / "cache", say=Heard()) == first
    (tmp_path / "file").touch()
    assert look_through(Data((data,)), model, cache=tmp_path / "file", say=Heard()) == first


@pytest.mark.torch
def test_a_tokenizer_that_cannot_be_read_is_told(data: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(RequestError, match=r"the tokenizer of .* can't be read"):
        measured(DataFile(path=str(data), model=str(tmp_path)), cache=tmp_path / "cache", say=Heard())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": ', "a.jsonl:2:9: not JSON"),
        ("a.jsonl", '{"text": "x"}\n[1]\n{}', "a.jsonl:2: a row must be an object, not a list; 2 rows can't be used in all"),
        ("a.jsonl", '{"text": "x"}\n' + "[" * 100_000, "a.jsonl:2: not JSON .nested too deep"),
        ("a.jsonl", "\n\n", "a.jsonl holds no rows"),
        ("a.json", "{", "a.json:1:2: not JSON"),
        ("a.json", "[" * 100_000, "a.json is nested too deep"),
        ("a.csv", 'prompt,completion\n"a,b\n', "a.csv:2: not a table"),
        ("a.csv", 'prompt;completion\n"a";"b"\n', "a.csv:2: not a table .its columns are separated by ';'; write commas"),
        ("a.xlsx", "x", "a.xlsx: unknown kind of file"),
        ("a.parquet", "x", "a.parquet: no Parquet that can be read"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_its_line(name: str, text: str, words: str, tmp_path: Path) -> None:
    """Before anything is rented."""
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=words) as refused:
        measured(DataFile(path=str(tmp_path / name), model="7b"), cache=tmp_path, say=Heard())
    assert refused.value.hint


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("rosw.jsonl", "did you mean rows.jsonl, which lies there?"), ("elsewhere.txt", "the path of a data file")],
)
def test_of_a_file_that_is_not_there_one_with_nearly_its_name_is_named(data: Path, asked: str, hint: str) -> None:
    with pytest.raises(RequestError, match="No such file") as refused:
        measured(DataFile(path=str(data.with_name(asked)), model="7b"), cache=data.parent, say=Heard())
    assert refused.value.hint == hint


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("tatsu-lab/alpaca", "hub:tatsu-lab/alpaca"),
        ("rows/train.jsonl.gz", None),
        ("a/b/c", None),
        ("./rows", None),
    ],
)
def test_what_may_be_a_data_set_of_the_hub_is_answered_with_its_name_there(name: str, command: str | None) -> None:
    """A plan knows it by its whole path."""
    assert hub_words(str(Path.cwd() / name)) == hub_words(name)
    assert hub_words(name) == (None if command is None else f"of a data set on the hub: {command}")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe would never end."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "pipe.jsonl", tmp_path / ("x" * 5_000), tmp_path / "none.jsonl", Path("/dev/zero")):
        with pytest.raises(RequestError, match="can't be read"):
            look_through(Data((path,)), None, cache=tmp_path, say=Heard())


def test_a_model_brings_its_tokenizer_in_a_folder_or_in_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "tokenizer.json").touch()
    (tmp_path / "base.gguf").touch()
    (tmp_path / "config.json").touch()
    there = [has_tokenizer(tmp_path / name) for name in ("folder", "base.gguf", "config.json", "", "none.gguf", "x" * 5_000)]
    assert there == [True, True, False, False, False, False]


@pytest.mark.torch
def test_planning_loads_no_tokenizer_library_itself(data: Path, model: Path, tmp_path: Path) -> None:
    """It counts by one all the same: in a process of its own."""
    (model / "config.json").write_text(json.dumps(TINY_CONFIG))
    script = (
        "import sys; from provision.cli import call; code = call(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr); sys.exit(code)"
    )
    words = ["plan", "--model", str(model), "--data", str(data), "--json"]
    environment = os.environ | {"RENTUNE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)["data"]["request"]["data"]["basis"] == "counted by the model's tokenizer"
    loaded = done.stderr.split()
    assert "planner" in loaded
    assert not {"torch", "transformers", "tokenizers", "numpy"} & set(loaded)
