"""Files whose columns are called otherwise: said once which is which, they are read as any other."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from remote.__main__ import main
from remote.contract import DataSource
from remote.data.byte_tokenizer import byte_tokenizer
from remote.data.check import BYTES, check_data
from remote.data.labelled import Labelled
from remote.data.rows import Conversation, Document, Message, read_rows
from remote.data.split import load_data

ASKED = Conversation(messages=(Message(role="user", content="2+2?"), Message(role="assistant", content="4")))


@pytest.mark.parametrize(
    ("name", "content", "columns", "kind", "row"),
    [
        ("a.csv", "message,department\nhello,sales\n", {"text": "message", "label": "department"}, "classification",
         Labelled(text="hello", label="sales")),
        ("a.csv", "q,a,text\n2+2?,4,noise\n", {"prompt": "q", "completion": "a"}, "auto", ASKED),
        ("a.jsonl", '{"body": "hello", "prompt": "x", "completion": "y"}', {"text": "body"}, "auto", Document(text="hello")),
        ("a.json", '[{"turns": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}]',
         {"messages": "turns"}, "auto", ASKED),
    ],
)  # fmt: skip
def test_rows_are_read_by_the_columns_that_were_named_and_by_no_others(
    tmp_path: Path, name: str, content: str, columns: dict[str, str], kind: str, row: Any
) -> None:
    (tmp_path / name).write_text(content)
    assert read_rows(tmp_path / name, kind=kind, columns=columns).rows == (row,)


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("message,department\nhello,sales\n")
    (broken,) = read_rows(tmp_path / "a.csv", columns={"text": "mesage"}).broken
    assert broken.why == "no column 'mesage' (found: department, message); did you mean 'message'?"


@pytest.mark.parametrize(
    ("columns", "kind", "said"),
    [
        ({"prompt": "q"}, "auto", "no column is named for completion: say --column completion=… too"),
        ({"completion": "q"}, "auto", "no column is named for prompt: say --column prompt=… too"),
        ({"text": "q"}, "classification", "no column is named for label: say --column label=… too"),
        ({"label": "q"}, "classification", "no column is named for text: say --column text=… too"),
        (
            {"text_a": "q"},
            "classification",
            "no column is named for text_b and label: say --column text_b=… --column label=… too",
        ),
        ({"system": "q"}, "auto", "no known keys (found: system);"),
    ],
)
def test_where_too_few_columns_were_named_the_others_are(tmp_path: Path, columns: dict[str, str], kind: str, said: str) -> None:
    (tmp_path / "a.csv").write_text("q,a,team\n2+2?,4,blue\n")
    (broken,) = read_rows(tmp_path / "a.csv", kind=kind, columns=columns).broken
    assert broken.why.startswith(said)
    assert broken.why.endswith("; its other columns: a, team")


def test_rows_that_are_broken_in_one_way_are_told_once(tmp_path: Path) -> None:
    rows = ['{"body": "x"}'] * 30 + ["{", '{"text": "fine"}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    report = check_data(tmp_path / "a.jsonl", BYTES)
    assert (report.num_broken, report.rows, report.more_broken) == (31, 1, 0)
    first, second = report.broken
    assert first.startswith("a.jsonl:1: no known keys (found: body)")
    assert first.endswith("--column prompt=… (columns: in a job file) (and 29 like it)")
    assert second.startswith("a.jsonl:31:2: not JSON")


def told_to(warned: list[dict[str, Any]], **data: Any) -> None:
    warned.append(data)


def test_held_out_rows_that_are_learned_from_are_told(tmp_path: Path) -> None:
    """A model that knows them by heart is judged as if it had understood them."""
    (tmp_path / "a.csv").write_text("text\n" + "the same\n" * 5 + "".join(f"row {number}\n" for number in range(5)))
    (tmp_path / "b.csv").write_text("text\nthe same\nanother\n")
    for held_out, told in ((str(tmp_path / "b.csv"), ["1 of 2 held-out rows say word for word what is learned"]), (None, [])):
        warned: list[dict[str, Any]] = []
        source = DataSource(train=str(tmp_path / "a.csv"), held_out=held_out, held_out_rows=0)
        data = load_data(source, byte_tokenizer(), seq_len=64, seed=0, warn=partial(told_to, warned))
        assert data.held_out_read.twins == len(told), "the model card takes it from there"
        said = [each["message"] for each in warned]
        counted = [each["held_out_twins"] for each in warned]
        assert [each.partition(", so that")[0] for each in said] == told
        assert counted == [1] * len(told), "the receipt takes it from there"


def test_the_trainer_counts_and_learns_by_the_same_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, columns = tmp_path / "a.csv", {"prompt": "q", "completion": "a"}
    path.write_text("q,a\n" + "2+2?,4\n" * 10)
    assert main(["check", str(path), "--columns", json.dumps(columns)]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 10
    source = DataSource(train=str(path), columns=columns, held_out_rows=2)
    data = load_data(source, byte_tokenizer(), seq_len=64, seed=0, warn=lambda **_: None)
    assert (len(data.train), len(data.held_out)) == (8, 2)
