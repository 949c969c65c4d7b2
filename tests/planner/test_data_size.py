"""Rows and tokens of a data file, without a tokenizer and without training on it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from planner import data_size
from planner.data_size import (
    CHARACTERS_PER_TOKEN,
    TEMPLATE_TOKENS_PER_MESSAGE,
    DataError,
    measure_text,
    read_lengths,
    read_tokenizer,
)

PAIR = {"prompt": "p" * 36, "completion": "c" * 72}
CHAT = {"messages": [{"role": "user", "content": "u" * 36}, {"role": "assistant", "content": "a" * 72}]}
MARKS = 2 * TEMPLATE_TOKENS_PER_MESSAGE


@pytest.mark.parametrize(
    ("name", "text", "num_tokens"),
    [
        ("a.jsonl", json.dumps(PAIR), 30 + MARKS),
        ("a.jsonl", json.dumps(CHAT), 30 + MARKS),
        ("a.jsonl", json.dumps(PAIR | {"id": "x" * 1_000}), 30 + MARKS),
        ("a.json", json.dumps([PAIR]), 30 + MARKS),
        ("a.json", json.dumps({"data": [PAIR]}), 30 + MARKS),
        ("a.csv", f"prompt,completion\n{'p' * 36},{'c' * 72}\n", 30 + MARKS),
        ("a.tsv", f"question\tanswer\n{'p' * 36}\t{'c' * 72}\n", 30 + MARKS),
        ("a.jsonl", json.dumps({"text": "t" * 36}), 10 + TEMPLATE_TOKENS_PER_MESSAGE),
        ("a.txt", "t" * 36, 10 + TEMPLATE_TOKENS_PER_MESSAGE),
    ],
)
def test_characters_make_tokens_whatever_the_format(name: str, text: str, num_tokens: int) -> None:
    """3.6 characters a token, and the marks of the turns; columns that are not trained on don't count."""
    assert CHARACTERS_PER_TOKEN == 3.6
    lengths = measure_text(text, name=name)
    assert (lengths.num_rows, lengths.max_tokens, lengths.basis) == (1, num_tokens, "estimated from characters")


def test_mean_longest_and_the_first_rows_only() -> None:
    """Blank lines are no rows."""
    text = "\n".join(["t" * 36, "", "t" * 72, "t" * 720])
    lengths = measure_text(text, name="a.txt", max_rows=2)
    assert (lengths.num_rows, lengths.mean_tokens, lengths.max_tokens) == (2, 20.0, 25)


def test_a_tokenizer_counts_where_one_is_handed_in() -> None:
    """And the basis says so."""
    lengths = measure_text(json.dumps(PAIR), name="a.jsonl", count=lambda text: len(text) // 2)
    assert (lengths.max_tokens, lengths.basis) == (54 + MARKS, "counted by the model's tokenizer")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": ', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", '{"text": "x"}\n[1]', "a.jsonl, line 2: a row must be an object"),
        ("a.jsonl", '{"foo": "x", "bar": 1}', "a.jsonl, line 1: no known keys .found: bar, foo"),
        ("a.jsonl", "\n\n", "a.jsonl holds no rows"),
        ("a.json", "{", "a.json is not JSON"),
        ("a.json", '{"rows": 1}', "must hold a list of rows"),
        ("a.csv", 'prompt,completion\n"a,b\n', "not a table"),
        ("a.parquet", "x", "unknown kind of file"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_its_line(name: str, text: str, words: str) -> None:
    """Before anything is rented."""
    with pytest.raises(DataError, match=words):
        measure_text(text, name=name)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    """One sentence each."""
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="can't be read: No such file"):
        read_lengths(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"is not UTF-8 text \(byte 0\)"):
        read_lengths(tmp_path / "bad.jsonl")
    (tmp_path / "good.jsonl").write_text("\ufeff" + json.dumps(PAIR), encoding="utf-8")
    assert read_lengths(tmp_path / "good.jsonl").num_rows == 1


def test_the_tokenizer_of_a_model_folder_counts(tmp_path: Path) -> None:
    """One token a byte here; without a tokenizer in the folder nothing counts, and a broken one is refused."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert read_tokenizer(tmp_path) is None
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    count = read_tokenizer(tmp_path)
    assert count is not None
    assert count("seven b") == 7
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is no tokenizer"):
        read_tokenizer(tmp_path)


def test_planner_and_trainer_know_the_same_rows() -> None:
    """The planner may not import the trainer, so the two tables are held together here."""
    from remote.data import rows

    for name in ("PROMPT_KEYS", "CONTEXT_KEYS", "ANSWER_KEYS", "CHAT_KEYS"):
        assert getattr(data_size, name) == getattr(rows, name)
    assert set(data_size.READERS) == set(rows._FILES)


def test_a_row_that_is_nested_without_end_is_told_by_its_line() -> None:
    with pytest.raises(DataError, match="line 2: not JSON"):
        measure_text(json.dumps(PAIR) + "\n" + "[" * 100_000, name="deep.jsonl")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe would never end."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (tmp_path / "pipe.jsonl", tmp_path, tmp_path / ("x" * 5_000), Path("/dev/zero")):
        with pytest.raises(DataError, match="can't be read"):
            read_lengths(path)
