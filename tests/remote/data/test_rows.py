"""Rows as people write them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.data.rows import Conversation, Document, Message, UnreadableData, read_rows

QUESTION = Conversation(messages=(Message(role="user", content="2+2?"), Message(role="assistant", content="4")))


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trl.jsonl", '{"prompt": "2+2?", "completion": "4"}'),
        ("alpaca.jsonl", '{"instruction": "2+2?", "input": "", "output": "4"}'),
        ("dolly.ndjson", '{"instruction": "2+2?", "context": null, "response": "4"}'),
        ("openai.jsonl", '{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}'),
        ("sharegpt.json", '[{"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}]'),
        ("wrapped.json", '{"data": [{"question": "2+2?", "answer": "4"}]}'),
        ("table.csv", "prompt,response\n2+2?,4\n"),
        ("table.tsv", "prompt\tresponse\n2+2?\t4\n"),
    ],
)
def test_each_common_way_to_write_a_question_and_its_answer_reads_the_same(tmp_path: Path, name: str, content: str) -> None:
    assert read_rows(written(tmp_path, name, content)).rows == (QUESTION,)


def test_an_input_stands_below_its_instruction_and_a_system_message_above(tmp_path: Path) -> None:
    row = {"system": "Be brief.", "instruction": "Add.", "input": "2, 2", "output": "4"}
    (read,) = read_rows(written(tmp_path, "a.jsonl", json.dumps(row))).rows
    assert isinstance(read, Conversation)
    assert [(m.role, m.content) for m in read.messages] == [
        ("system", "Be brief."),
        ("user", "Add.\n\n2, 2"),
        ("assistant", "4"),
    ]


def test_a_text_file_is_one_document_a_line(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path, "a.txt", "one\n\ntwo\n"))
    assert (rows.format, rows.rows) == ("text", (Document(text="one"), Document(text="two")))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{not json}", "not JSON"),
        ("[1, 2]", "a row must be an object, not a list"),
        ('{"prompt": "x"}', "none of the keys output, response, completion, answer"),
        ('{"prompt": "x", "completion": 7}', '"completion" must be text, not a number'),
        ('{"prompt": "x", "completion": "  "}', '"completion" is empty'),
        ('{"prompt": "x", "completion": "a \\ud800 b"}', "\\ud800 is half of a surrogate pair, and no character"),
        ('{"prompt": "x \\udfff", "completion": "y"}', "\\udfff is half of a surrogate pair, and no character"),
        ('{"prompt": "x", "system": "\\ud83d", "completion": "y"}', "\\ud83d is half of a surrogate pair"),
        ('{"prompt": "x", "id": ' + "1" * 5_000 + "}", "not JSON that can be read (a number has too many digits)"),
        ('{"text": "of another kind"}', "none of the keys instruction, prompt, question"),
    ],
)
def test_a_broken_row_is_told_with_its_line_and_the_others_are_kept(tmp_path: Path, row: str, why: str) -> None:
    rows = read_rows(written(tmp_path, "a.jsonl", f'{{"prompt": "2+2?", "completion": "4"}}\n\n{row}\n'))
    assert rows.rows == (QUESTION,)
    (broken,) = rows.broken
    assert re.match(rf"a\.jsonl:3:(\d+:)? {re.escape(why)}", str(broken))


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([], "must be a list of messages"),
        ([{"role": "user", "content": "x"}], "no message of the assistant"),
        ([{"role": "wizard", "content": "x"}], "message 1 has the role 'wizard'"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": None}], "message 2 must have text"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}], "message 2, the assistant's, is empty"),
        (["hello"], "message 1 must be an object, not text"),
    ],
)
def test_a_broken_conversation_says_which_message_is_wrong(tmp_path: Path, turns: object, why: str) -> None:
    rows = read_rows(written(tmp_path, "a.jsonl", json.dumps({"messages": turns})))
    assert why in str(rows.broken[0])


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (
            "a.xlsx",
            "",
            "unknown kind of file; write it as .jsonl, .ndjson, .json, .csv, .tsv, .txt, .parquet, .arrow, or one of",
        ),
        ("a.jsonl", "\n", "holds no rows"),
        ("a.json", '{"rows": []}', "must hold a list of rows"),
        ("a.json", "[1,", "a.json:1:4: not JSON"),
        ("a.json", f"[{'1' * 5_000}]", "holds a number of too many digits"),
    ],
)
def test_a_file_that_holds_nothing_readable_says_what_to_do(tmp_path: Path, name: str, content: str, why: str) -> None:
    with pytest.raises(UnreadableData) as caught:
        read_rows(written(tmp_path, name, content))
    assert why in str(caught.value)


def test_what_a_broken_row_quotes_can_be_printed(tmp_path: Path) -> None:
    (broken,) = read_rows(written(tmp_path, "a.jsonl", '{"\\ud800": 1}')).broken
    assert "found: \\ud800" in str(broken)


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    assert read_rows(written(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude00"}')).rows == (Document(text="\U0001f600"),)


def test_a_cell_of_a_table_may_be_as_long_as_a_text_in_json(tmp_path: Path) -> None:
    """The csv module's own limit, which is the whole process's, stays what it was."""
    before = csv.field_size_limit()
    text = "a" * (before + 1)
    assert read_rows(written(tmp_path, "a.csv", f"text\n{text}\n")).rows == (Document(text=text),)
    assert csv.field_size_limit() == before


def test_text_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes('{"text": "né"}'.encode("latin-1"))
    with pytest.raises(UnreadableData, match=r"latin\.jsonl:1: not UTF-8 text \(byte 0xe9\); save it as UTF-8"):
        read_rows(tmp_path / "latin.jsonl")
    late = '{"text": "plain"}\n' * 20_000 + '{"text": "né"}\n'  # far behind what is read at once
    (tmp_path / "late.jsonl").write_bytes(late.encode("latin-1"))
    with pytest.raises(UnreadableData, match=r"late\.jsonl:20001: not UTF-8"):
        read_rows(tmp_path / "late.jsonl")


def test_what_is_missing_at_the_end_of_a_line_is_told_of_that_place(tmp_path: Path) -> None:
    (broken,) = read_rows(written(tmp_path, "a.jsonl", '{"text": "x"\n{"text": "y"}\n')).broken
    assert str(broken).startswith("a.jsonl:1:13: not JSON")


@pytest.mark.parametrize("around", ["[{}]", '{{"data": [], "n": 1}}', '{{"meta": {{"data": [1]}},\n "data" : [{}]}}'])
def test_rows_of_a_json_list_have_the_lines_on_which_they_begin(tmp_path: Path, around: str) -> None:
    """However it is laid out."""
    rows = ['{"text": "one"}', '{"text":\n "two"}', '{"text": "three, [and]"}']
    opening, closing = around.replace("[]", "[{}]").format("\0").split("\0")
    text = opening + "\n\n" + ",\n".join(rows[:2]) + " , " + rows[2] + "\n" + closing
    first = opening.count("\n") + 3
    assert read_rows(written(tmp_path, "a.json", text)).lines == (first, first + 1, first + 2)


def test_keys_that_are_not_those_of_the_first_row_are_named(tmp_path: Path) -> None:
    turn = {"role": "assistant", "content": "y"}
    rows = json.dumps({"messages": [turn]}) + '\n{"text": "x", "id": 1}\n'
    (broken,) = read_rows(written(tmp_path, "a.jsonl", rows)).broken
    assert broken.why == "none of the keys messages, conversations (found: id, text)"


def test_no_more_rows_are_read_than_asked_for(tmp_path: Path) -> None:
    assert len(read_rows(written(tmp_path, "a.txt", "one\ntwo\nthree\n"), max_rows=2).rows) == 2


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_whatever_people_write_comes_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs), encoding="utf-8")
    rows = read_rows(path)
    assert [tuple(m.content for m in row.messages) for row in rows.rows if isinstance(row, Conversation)] == pairs
    assert not rows.broken


def test_a_table_is_never_read_in_part(tmp_path: Path) -> None:
    """A comma that nobody quoted, and two columns of one name, would each leave text out in silence; an empty end does not."""
    (tmp_path / "a.csv").write_text("prompt,completion\nHello, world,bye\nOne,two,\n")
    read = read_rows(tmp_path / "a.csv")
    assert [(row.line, row.why) for row in read.broken] == [
        (2, "3 cells under a header of 2: put a text that holds the separator in quotes")
    ]
    assert read.lines == (3,)
    (tmp_path / "b.csv").write_text("prompt,prompt,completion\nlost,kept,bye\n")
    with pytest.raises(UnreadableData, match=r"b\.csv:1: the header names 'prompt' twice"):
        read_rows(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("name", "table", "meant"),
    [
        ("rows.csv", "question;answer\nWhy?;So.\n", "separated by ';'?"),
        ("rows.csv", "Question;Answer\nWhy, then?;So.\n", "separated by ';'?"),
        ("rows.csv", "question\tanswer\nWhy?\tSo.\n", r"separated by '\t'?"),
        ("rows.tsv", "question,answer\nWhy?,So.\n", "separated by ','?"),
        (
            "rows.csv",
            "Question, Answer\nWhy?,So.\n",
            "header ' Answer': did you mean 'answer'?; header 'Question': did you mean",
        ),
        ("rows.csv", "ask,reply\nWhy?,So.\n", '"question" with "answer"'),
        ("rows.csv", "review,label\nGood,pos\n", "--task classification"),
    ],
)
def test_a_table_that_is_nearly_right_is_told_what_was_meant(name: str, table: str, meant: str, tmp_path: Path) -> None:
    """Its keys are known ones, written otherwise, or all in one."""
    (tmp_path / name).write_text(table)
    assert meant in read_rows(tmp_path / name).broken[0].why
