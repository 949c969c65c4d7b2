"""Tokens are made once of the same rows by the same tokenizer, and lie in a file that is read as it is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from remote.__main__ import check
from remote.contract import ROWS_CACHE_VARIABLE, DataSource, Task
from remote.data import kept
from remote.data.byte_tokenizer import byte_tokenizer
from remote.data.check import counter_of
from remote.data.kept import CLASSES, KEPT_FOLDERS, WRITTEN, Kept, pairs_of
from remote.data.rows import Conversation, Document, Message
from remote.data.split import Data, load_data
from remote.data.tokens import UntokenizableRow, ready

LINES: dict[Task, list[dict[str, str]]] = {
    "causal_lm": [{"text": f"row {number} " * (1 + number % 4)} for number in range(12)],
    "classification": [{"text": f"row {number} " * (1 + number % 4), "label": "ab"[number % 2]} for number in range(12)],
    "seq2seq": [{"prompt": f"ask {number} " * (1 + number % 4), "completion": f"say {number}"} for number in range(12)],
}


@pytest.fixture
def tokenizer() -> Any:
    made = byte_tokenizer()
    ready(made)
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def learned(folder: Path, tokenizer: Any, task: Task, cache: Path | None) -> Data:
    file = folder / f"{task}.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in LINES[task]))
    source = DataSource(train=str(file), held_out_rows=2)
    return load_data(source, tokenizer, seq_len=20, seed=3, warn=lambda **_: None, task=task, cache=cache)


def in_numbers(data: Data) -> list[Any]:
    """All that training sees of it."""
    return [
        [part.tolist() for part in (each.ids, each.labels, each.types) if part is not None] + [each.num_targets]
        for each in (*data.train, *data.held_out)
    ]


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After its call no tokens are made."""

    def forbid() -> None:
        def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
            pytest.fail("tokens were made anew")

        monkeypatch.setattr(kept, "_write", refuse)

    return forbid


@pytest.mark.parametrize("task", LINES)
def test_a_second_run_reads_the_first_ones_tokens_and_learns_the_same(
    task: Task, tmp_path: Path, cache: Path, tokenizer: Any, untouched: Callable[[], None]
) -> None:
    in_memory = in_numbers(learned(tmp_path, tokenizer, task, None))
    first = in_numbers(learned(tmp_path, tokenizer, task, cache))
    untouched()
    assert in_memory == first == in_numbers(learned(tmp_path, tokenizer, task, cache))


def test_tokens_are_views_of_a_mapped_file(tmp_path: Path, cache: Path, tokenizer: Any) -> None:
    """Nothing of them is in memory until it is looked at, and nothing can be written to them."""
    example = learned(tmp_path, tokenizer, "causal_lm", cache).train[0]
    below: Any = example.ids
    while isinstance(below.base, np.ndarray):
        below = below.base
    assert isinstance(below, np.memmap)
    assert not example.ids.flags.writeable


@pytest.mark.parametrize(
    "change", [lambda file: file.write_bytes(file.read_bytes()[:-4]), Path.unlink, lambda f: f.write_bytes(b"x")]
)
def test_a_torn_or_foreign_file_is_made_anew(
    change: Callable[[Path], Any], tmp_path: Path, cache: Path, tokenizer: Any
) -> None:
    whole = in_numbers(learned(tmp_path, tokenizer, "causal_lm", cache))
    (file,) = cache.glob("tokens-*/first.tokens")
    change(file)
    assert in_numbers(learned(tmp_path, tokenizer, "causal_lm", cache)) == whole


ROWS = (Conversation(messages=(Message(role="user", content="a"), Message(role="assistant", content="b"))),)


def another_template(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}"


def another_end(tokenizer: Any) -> None:
    tokenizer.eos_token = "z"


def another_word(tokenizer: Any) -> None:
    tokenizer.add_tokens(["ab"])


@pytest.mark.parametrize("change", [another_template, another_end, another_word])
def test_another_tokenizer_makes_its_own(change: Callable[[Any], None], cache: Path, tokenizer: Any) -> None:
    pairs_of(ROWS, WRITTEN, tokenizer, cache)
    change(tokenizer)
    pairs_of(ROWS, WRITTEN, tokenizer, cache)
    assert len(list(cache.iterdir())) == 2


def test_what_a_call_leaves_in_the_tokenizer_makes_no_other_tokens(cache: Path, tokenizer: Any) -> None:
    """Truncation is set in it by a call that cuts, and stays there."""
    pairs_of(ROWS, WRITTEN, tokenizer, cache)
    tokenizer("a b c", truncation=True, max_length=2)
    pairs_of(ROWS, WRITTEN, tokenizer, cache)
    assert len(list(cache.iterdir())) == 1


def test_a_template_that_writes_the_date_is_asked_anew_each_day(
    cache: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.chat_template += "{# strftime_now #}"
    for day in (3, 3, 4):
        monkeypatch.setattr(kept, "today", lambda day=day: f"2026-01-0{day}")
        pairs_of(ROWS, WRITTEN, tokenizer, cache)
    assert len(list(cache.iterdir())) == 2


def test_a_row_that_no_tokenizer_takes_leaves_nothing(cache: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(UntokenizableRow):
        pairs_of(ROWS, WRITTEN, tokenizer, cache)
    assert not list(cache.glob("*"))


def test_where_the_disk_takes_nothing_tokens_stay_in_memory(tmp_path: Path, tokenizer: Any) -> None:
    """The folder's place is a file's here."""
    (tmp_path / "taken").write_text("")
    pairs = pairs_of(ROWS, WRITTEN, tokenizer, tmp_path / "taken")
    assert [ids.tolist() for ids, _ in pairs] == [ids.tolist() for ids, _ in pairs_of(ROWS, WRITTEN, tokenizer, None)]


def test_only_the_newest_are_kept(cache: Path, tokenizer: Any) -> None:
    for number in range(KEPT_FOLDERS + 2):
        pairs_of([Document(text=f"row {number}")], WRITTEN, tokenizer, cache)
        for folder in cache.glob("tokens-*"):
            os.utime(folder, (folder.stat().st_mtime - 10,) * 2)
    assert len(list(cache.iterdir())) == KEPT_FOLDERS


def test_no_tokens_make_no_file_and_rows_without_any_are_kept_like_others(cache: Path, tokenizer: Any) -> None:
    assert len(pairs_of((), CLASSES, tokenizer, cache)) == 0
    pairs = pairs_of([Document(text=""), Document(text="a"), Document(text="")], WRITTEN, tokenizer, cache)
    assert isinstance(pairs, Kept)
    assert [len(ids) for ids, _ in pairs] == [
        len(ids) for ids, _ in WRITTEN.pairs([Document(text=t) for t in ("", "a", "")], tokenizer)
    ]


def test_what_check_has_counted_a_run_on_the_same_machine_need_not_make(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, untouched: Callable[[], None]
) -> None:
    byte_tokenizer().save_pretrained(tmp_path / "model")
    data = tmp_path / "causal_lm.jsonl"
    data.write_text("".join(f"{json.dumps(line)}\n" for line in LINES["causal_lm"]))
    monkeypatch.setenv(ROWS_CACHE_VARIABLE, str(cache))
    assert check([str(data), "--model", str(tmp_path / "model")]) == 0
    from remote.bases.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(str(tmp_path / "model"))
    ready(tokenizer)
    untouched()
    learned(tmp_path, tokenizer, "causal_lm", cache)
    counter_of(tokenizer, cache=cache).sizes([Document(text=line["text"]) for line in LINES["causal_lm"]])
