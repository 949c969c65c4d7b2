"""python -m remote check: what a data file holds, before anybody pays for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.asking.request import DataAsked
from planner.estimators.sequences import laid_out, packed_rows, rows_read
from planner.estimators.work import work_of
from remote.__main__ import main
from remote.contract import LINES_TOLD, DataSource, LongRows, Reading, Strategy
from remote.data.byte_tokenizer import byte_tokenizer
from remote.data.check import BORDERS, BYTES, DataReport, Lines, check_data, counter_of, profile_of
from remote.data.labelled import Labelled
from remote.data.rows import Document, Rows, read_rows
from remote.data.seen import MOST_CHARACTERS, Piece, Seen
from remote.data.split import load_data
from remote.data.tokens import encode_rows, ready
from remote.data.twins import Twins, repeated, shared


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["check", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_it_says_into_how_many_rows_packing_would_lay_them(tmp_path: Path) -> None:
    """Of lengths that hold the longest; of a single row, or of labels, nothing."""
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps({"text": "a" * 99}) for _ in range(40)))
    assert check_data(path, BYTES).packed == ((1024, 4, 0.977), (2048, 2, 0.977), (4096, 1, 0.977))
    path.write_text("\n".join(json.dumps({"text": "a" * length}) for length in (1024, 999)))
    assert check_data(path, BYTES).packed[0] == (2048, 1, round(2025 / 2048, 3))
    path.write_text(json.dumps({"text": "a"}))
    assert check_data(path, BYTES).packed == ()


def test_without_a_model_tokens_are_guessed_and_marked_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "a" * 36, "completion": "b" * length}) for length in (36, 360)))
    code, report = checked(capsys, str(path))
    assert (code, report["rows"], report["basis"]) == (0, 2, "estimated from characters")
    assert (report["tokens"], report["max_tokens"], report["mean_tokens"]) == (
        55 + 145,
        145,
        100,
    )  # 10 for the marks of two turns, 25 for a system prompt
    assert report["histogram"] == {"<= 64": 1, "<= 256": 1}
    assert report["profile"] == [[55, 0.5], [145, 0.5]]


def test_a_guess_leaves_room_for_a_system_prompt_only_where_none_is_brought(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """10 tokens are for the marks of two turns, 25 for the prompt that templates write where a row brings none."""
    turns = [{"role": "user", "content": "a" * 36}, {"role": "assistant", "content": "b" * 36}]
    own = [{"role": "system", "content": "c" * 36}, *turns]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps({"messages": each}) for each in (turns, own)))
    assert checked(capsys, str(tmp_path / "data.jsonl"))[1]["profile"] == [[45, 0.5], [55, 0.5]]


def test_a_letter_of_another_script_is_guessed_by_its_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.txt").write_text("привет" * 6)
    assert checked(capsys, str(tmp_path / "data.txt"))[1]["tokens"] == 20 + 1


ANSWER = {"role": "assistant", "content": "Hallo"}
ROWS = (
    {"messages": [{"role": "system", "content": "Be  brief."}, {"role": "user", "content": "Größe? 你好"}, ANSWER]},
    {"prompt": "An <|eos|> inside,\n and lines ", "completion": " it   is one token"},
    {"instruction": "Say", "input": "it", "output": "Itself."},
    {"text": "a document, 🙂"},
)


@pytest.mark.torch
def test_bytes_are_counted_as_the_trainer_counts_them(tmp_path: Path) -> None:
    """Row by row the same as by the tokenizer and the template that models of random weights get."""
    for row in ROWS:
        (tmp_path / "data.jsonl").write_text(json.dumps(row))
        told, counted = (check_data(tmp_path / "data.jsonl", by) for by in (BYTES, counter_of(byte_tokenizer())))
        assert told == msgspec.structs.replace(counted, basis=BYTES.basis)


@pytest.mark.torch
@pytest.mark.parametrize("row", ROWS)
def test_the_least_length_is_the_one_below_which_the_trainer_learns_nothing(tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    least = check_data(tmp_path / "data.jsonl", BYTES).least_seq_len
    assert least is not None
    rows, tokenizer = read_rows(tmp_path / "data.jsonl").rows, byte_tokenizer()
    ready(tokenizer)
    written = [row for row in rows if not isinstance(row, Labelled)]
    assert encode_rows(written, tokenizer, least).examples
    assert not encode_rows(written, tokenizer, least - 1).examples


def as_asked(report: DataReport) -> DataAsked:
    """The data of a job that learns from all of these rows."""
    return DataAsked(
        num_examples=report.rows,
        mean_tokens=report.mean_tokens,
        max_tokens=report.max_tokens,
        profile=report.profile,
        exchanges=report.exchanges,
        basis=report.basis,
        beginnings=report.beginnings,
    )


LATE = (  # tokens before the answer, of the answer: in bytes, with the marks of the plain template
    (9, 4),
    (60, 3),
    (12, 50),
    (2, 2),
    (200, 5),
)


@pytest.mark.torch
@pytest.mark.parametrize("long_rows", [None, "cut", "split", "drop"])
@pytest.mark.parametrize("seq_len", [8, 16, 32, 61, 62, 128, 201, 202, 300])
def test_what_a_cut_leaves_of_the_rows_is_foreseen_as_the_trainer_finds_it(
    tmp_path: Path, seq_len: int, long_rows: LongRows | None
) -> None:
    """How many are learned from whole, cut, or not at all, and on which lines the latter stand."""
    lines = [json.dumps({"prompt": "q" * before, "completion": "a" * answer}) for before, answer in LATE]
    (tmp_path / "data.jsonl").write_text("\n\n".join(lines))
    asked, tokenizer = as_asked(check_data(tmp_path / "data.jsonl", BYTES)), byte_tokenizer()
    asked = msgspec.structs.replace(asked, reading=Reading(long_rows=long_rows))
    ready(tokenizer)
    source = DataSource(train=str(tmp_path / "data.jsonl"), held_out_rows=0, long_rows=long_rows)
    found = load_data(source, tokenizer, seq_len=seq_len, seed=0, warn=lambda **_data: None).train_read
    assert rows_read(asked, seq_len) == found
    assert found.used < len(LATE) or seq_len >= 202


@pytest.mark.torch
@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("long_rows", ["cut", "drop"])
def test_tokens_of_rows_that_are_left_out_are_not_counted(tmp_path: Path, long_rows: LongRows, *, packing: bool) -> None:
    """Of long rows some have an answer within the length and are cut, and some have none and are left out."""
    lengths = [(20, 10)] * 120 + [(40, 100)] * 15 + [(400, 10)] * 15
    rows = [json.dumps({"prompt": "q" * before, "completion": "a" * answer}) for before, answer in lengths]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    asked, tokenizer = as_asked(check_data(tmp_path / "data.jsonl", BYTES)), byte_tokenizer()
    asked = msgspec.structs.replace(asked, reading=Reading(long_rows=long_rows, packing=packing))
    ready(tokenizer)
    source = DataSource(train=str(tmp_path / "data.jsonl"), held_out_rows=0, long_rows=long_rows)
    trained = load_data(source, tokenizer, seq_len=100, seed=0, warn=lambda **_data: None).train
    work = work_of(asked, Strategy(method="lora", seq_len=100), on_cpu=False)
    rows_laid, _ = packed_rows(asked, 100)
    for number, mean in ((rows_laid.number, rows_laid.mean), *(() if packing else ((work.num_examples, work.data_mean),))):
        assert number * mean == pytest.approx(sum(example.num_tokens for example in trained), rel=0.02)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("long_rows", "told"),
    [
        ("split", "3 rows split into pieces of at most 62 tokens; the longest has 92 tokens"),
        ("drop", "3 rows left out, for they have more than 62 tokens (lines 1, 2, 3); the longest has 92 tokens"),
    ],
)
def test_what_becomes_of_long_conversations_is_told_and_foreseen(tmp_path: Path, long_rows: LongRows, told: str) -> None:
    """With three exchanges of 30 tokens each, two of which fit."""
    turns = [{"role": role, "content": "x" * 14} for _ in range(3) for role in ("user", "assistant")]
    turns[-1] = {"role": "assistant", "content": "x" * 16}
    rows = [json.dumps({"messages": turns})] * 3 + [json.dumps({"messages": turns[:2]})]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    asked = msgspec.structs.replace(as_asked(check_data(tmp_path / "data.jsonl", BYTES)), reading=Reading(long_rows=long_rows))
    tokenizer, said = byte_tokenizer(), []
    ready(tokenizer)
    source = DataSource(train=str(tmp_path / "data.jsonl"), held_out_rows=0, long_rows=long_rows)
    data = load_data(source, tokenizer, seq_len=62, seed=0, warn=lambda **data: said.append(data["message"]))
    assert [words.partition(": ")[2] for words in said] == [told]
    assert rows_read(asked, 62) == data.train_read
    laid = laid_out(data.train_read.used, asked.profile, seq_len=62, long_rows=long_rows, exchanges=asked.exchanges)
    assert laid.number == len(data.train)
    assert laid.number * laid.mean == pytest.approx(sum(example.num_tokens for example in data.train))


@pytest.mark.torch
def test_a_row_that_is_left_out_is_told_with_its_line(tmp_path: Path) -> None:
    """By the trainer, on the box: a row of one is not "1 rows"."""
    lines = [json.dumps({"prompt": "q" * before, "completion": "a" * answer}) for before, answer in LATE]
    (tmp_path / "data.jsonl").write_text("\n\n".join(lines))
    tokenizer, told = byte_tokenizer(), []
    ready(tokenizer)
    source = DataSource(train=str(tmp_path / "data.jsonl"), held_out_rows=0)
    load_data(source, tokenizer, seq_len=62, seed=0, warn=lambda **data: told.append(data))
    (warning,) = told
    assert (warning["truncated"], warning["dropped"]) == (2, 1)
    assert "2 rows cut at 62 tokens; 1 row left out" in warning["message"]
    assert "(line 9)" in warning["message"]


def test_rows_beyond_the_few_that_are_known_are_counted_by_their_share(tmp_path: Path) -> None:
    """Half of 200 rows begin too late: about so many are foreseen, the first of them by line."""
    lines = [json.dumps({"prompt": "q" * (10 + 90 * (place % 2)), "completion": "a"}) for place in range(200)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    read = rows_read(as_asked(check_data(tmp_path / "data.jsonl", BYTES)), 64)
    assert read.left_out == pytest.approx(100, abs=4)
    assert (read.used, read.cut, len(read.left_out_lines)) == (200 - read.left_out, 0, LINES_TOLD)
    assert not [line for line in read.left_out_lines if line % 2]


@pytest.mark.torch
def test_with_a_model_they_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    byte_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "data.txt").write_text("abc\nabcde\n")
    code, report = checked(capsys, str(tmp_path / "data.txt"), "--model", str(tmp_path / "model"))
    assert (code, report["tokens"], report["basis"]) == (0, 4 + 6, "counted by the model's tokenizer")


@pytest.mark.torch
def test_a_process_that_only_counts_loads_no_torch(tmp_path: Path) -> None:
    """Torch is two thirds of the wait, and a tokenizer has no use for it."""
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "abcd", "completion": "efghi"}))
    byte_tokenizer().save_pretrained(tmp_path / "model")
    words = ["-X", "importtime", "-m", "remote", "check", str(tmp_path / "data.jsonl"), "--model", str(tmp_path / "model")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["tokens"] == 5 + 6  # a line end, an end of sequence
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"transformers", "tokenizers"} <= loaded
    assert not {name for name in loaded if name.partition(".")[0] == "torch"}


def test_a_tokenizer_that_cannot_be_read_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.txt").write_text("abc\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "base.gguf").write_bytes(b"GGUF")
    for model in (tmp_path, tmp_path / "base.gguf"):
        code, report = checked(capsys, str(tmp_path / "data.txt"), "--model", str(model))
        assert code == 2
        assert report["error"].startswith(f"the tokenizer of {model} can't be read: ")


def test_rows_are_read_as_the_job_will_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Format and number of rows are part of the question."""
    (tmp_path / "data.jsonl").write_text('{"text": "one"}\n' * 5)
    assert checked(capsys, str(tmp_path / "data.jsonl"), "--max-rows", "2")[1]["rows"] == 2
    assert checked(capsys, str(tmp_path / "data.jsonl"), "--format", "chat")[1]["num_broken"] == 5


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=300))
def test_a_profile_keeps_what_it_sums_up(lengths: list[int]) -> None:
    """Shortest first, shares that sum to one, the mean of the rows, nothing beyond the longest."""
    profile = profile_of(lengths)
    tokens, shares = zip(*profile, strict=True)
    assert list(tokens) == sorted(tokens)
    assert sum(shares) == pytest.approx(1)
    assert sum(length * share for length, share in profile) == pytest.approx(sum(lengths) / len(lengths), abs=0.001)
    assert min(lengths) <= tokens[0] <= tokens[-1] <= max(lengths)
    assert len(profile) <= len(BORDERS)


def test_nothing_has_no_profile() -> None:
    assert profile_of([]) == ()


def test_broken_rows_are_listed_and_the_exit_code_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.jsonl").write_text('{"text": "fine"}\n{oops\n')
    code, report = checked(capsys, str(tmp_path / "data.jsonl"))
    assert (code, report["rows"], report["num_broken"]) == (2, 1, 1)
    assert report["broken"][0].startswith("data.jsonl:2:")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = checked(capsys, str(tmp_path / "nowhere.jsonl"))
    assert code == 2
    assert report == {"error": "nowhere.jsonl can't be read: No such file or directory"}


# ── what the model sees ────────────────────────────────────────────────────────────────────────────────────────────

TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "So soon"},
]


@pytest.mark.torch
def test_the_first_rows_are_shown_as_the_model_sees_them_with_what_is_learned_marked(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("\n" + json.dumps({"messages": TURNS}))
    (seen,) = check_data(tmp_path / "data.jsonl", counter_of(byte_tokenizer())).seen
    assert seen == Seen(
        line=2,
        tokens=3 + 5 + 4 + 8,
        learned_tokens=5 + 8,
        pieces=(
            Piece(text="Hi\n", learned=False),
            Piece(text="Yes?<|eos|>", learned=True),
            Piece(text="Bye\n", learned=False),
            Piece(text="So soon<|eos|>", learned=True),
        ),
    )


def test_of_a_long_row_both_ends_are_shown(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text(f"begin {'x' * 10_000} end")
    (piece,) = check_data(tmp_path / "data.txt", BYTES).seen[0].pieces
    assert len(piece.text) <= MOST_CHARACTERS
    assert piece.text.startswith("begin xxx")
    assert piece.text.endswith("xxx end<|eos|>")


@pytest.mark.torch
def test_a_template_that_ends_no_turn_is_told_by_the_lines_of_rows_with_several(tmp_path: Path) -> None:
    """The last answer is ended in any case; one before it would teach the model to talk on."""
    tokenizer = byte_tokenizer()
    each = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    tokenizer.chat_template = each + "{% if add_generation_prompt %}assistant: {% endif %}"
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps({"messages": turns}) for turns in (TURNS[:2], TURNS, TURNS)))
    assert check_data(tmp_path / "data.jsonl", counter_of(tokenizer)).unended == Lines(rows=2, first=(2, 3))


@pytest.mark.torch
def test_a_start_that_text_and_template_both_write_is_told(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    ready(tokenizer)
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    rows = [{"prompt": "<|bos|>Hi", "completion": "Yes?"}, {"prompt": "Hi", "completion": "Yes?"}]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert check_data(tmp_path / "data.jsonl", counter_of(tokenizer)).begin_twice == Lines(rows=1, first=(1,))


@pytest.mark.torch
def test_a_row_without_a_token_that_carries_loss_is_told(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for message in messages if message['role'] == 'user' %}{{ message['content'] }}{% endfor %}"
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": "Hi", "completion": "Yes?"}))
    assert check_data(tmp_path / "data.jsonl", counter_of(tokenizer)).untaught == Lines(rows=1, first=(1,))


# ── rows that stand twice ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_row_that_stands_twice_is_told_with_both_lines(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("a\nb\n\na\na\nb\n")
    assert repeated(read_rows(tmp_path / "data.txt")) == Twins(rows=3, first=((4, 1), (5, 1), (6, 2)))


def test_a_row_is_the_same_in_whatever_form_it_was_written(tmp_path: Path) -> None:
    """Keys beside it and the order of keys are none of the row."""
    (tmp_path / "learned.jsonl").write_text(json.dumps({"prompt": "Hi", "completion": "Yes?", "id": 7}))
    (tmp_path / "judged.csv").write_text("answer,question\nNo,Ho\nYes?,Hi\n")
    learned, judged = read_rows(tmp_path / "learned.jsonl"), read_rows(tmp_path / "judged.csv")
    assert shared(learned, judged) == Twins(rows=1, first=((3, 1),))


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40))
def test_as_many_rows_are_twins_as_are_not_the_first_of_their_kind(texts: list[str]) -> None:
    folder_rows = read_rows_of(texts)
    assert repeated(folder_rows).rows == len(texts) - len(set(texts))
    assert shared(folder_rows, folder_rows).rows == len(texts)


def read_rows_of(texts: list[str]) -> Rows:
    return Rows(
        format="text", rows=tuple(Document(text=text) for text in texts), lines=tuple(range(1, len(texts) + 1)), broken=()
    )
