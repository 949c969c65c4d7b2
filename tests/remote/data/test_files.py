"""Data in every form that it is kept in: packed, in columns, in another encoding."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.data.files import FORMS, packed, records
from remote.data.rows import Conversation, Document, Message, UnreadableData, read_rows

QUESTION = Conversation(messages=(Message(role="user", content="2+2?"), Message(role="assistant", content="4")))
LINE = b'{"prompt": "2+2?", "completion": "4"}\n'


def as_gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)  # some are parameters: no two processes may name one test by two times


def as_zstd(content: bytes) -> bytes:
    packed_up: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed_up


PACKERS = {".gz": as_gzip, ".zst": as_zstd}


def parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", LINE),
        ("rows.json", b"[" + LINE.strip() + b"]"),
        ("rows.csv", b"prompt,completion\n2+2?,4\n"),
        ("ROWS.TSV", b"prompt\tcompletion\n2+2?\t4\n"),
    ],
)
def test_a_packed_file_reads_as_what_was_packed(tmp_path: Path, name: str, content: bytes, packing: str) -> None:
    path = tmp_path / f"{name}{packing}"
    path.write_bytes(PACKERS[packing](content))
    assert read_rows(path).rows == (QUESTION,)


@given(
    texts=st.lists(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip), min_size=1)
)
def test_whatever_the_texts_each_form_holds_the_same_rows(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("forms")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    (folder / "rows.jsonl").write_bytes(lines)
    for packing, pack in PACKERS.items():
        (folder / f"rows.jsonl{packing}").write_bytes(pack(lines))
    parquet(folder / "rows.parquet", {"text": texts})
    read = [read_rows(path) for path in sorted(folder.iterdir())]
    assert len(read) == 4
    assert all(rows.rows == read[0].rows and rows.lines == tuple(range(1, len(texts) + 1)) for rows in read)


def test_parquet_holds_conversations_as_lists_of_structs(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    assert read_rows(parquet(tmp_path / "chat.parquet", {"messages": [turns]})).rows == (QUESTION,)


def test_a_broken_row_of_parquet_is_told_by_its_number(tmp_path: Path) -> None:
    rows = read_rows(parquet(tmp_path / "rows.parquet", {"prompt": ["a", "b"], "completion": ["c", None]}))
    assert [str(each) for each in rows.broken] == ['rows.parquet:2: "completion" must be text, not null']


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl.gz", LINE, "no whole file of .gz"),
        ("a.jsonl.gz", as_gzip(LINE * 1_000)[:-20], "no whole file of .gz"),
        ("a.jsonl.zst", LINE, "a.jsonl.zst can't be read"),
        ("a.parquet", LINE, "no Parquet that can be read"),
        ("a.parquet.gz", b"", "Parquet is packed already"),
        ("a.gz", as_gzip(LINE), "unknown kind of file"),
        (
            "a.csv",
            "prompt,completion\nä,b\n".encode("utf-16"),
            "a.csv is UTF-16, as its byte-order mark says; save it as UTF-8 (`iconv",
        ),
        ("a.csv", "prompt,completion\nä,b\n".encode("utf-32"), "a.csv is UTF-32"),
        ("a.jsonl", LINE + '{"text": "ä"}'.encode("latin-1"), "a.jsonl:2: not UTF-8 text (byte 0xe4)"),
        ("a.csv.gz", as_gzip("text\nä\n".encode("latin-1")), "a.csv.gz:2: not UTF-8 text (byte 0xe4)"),
        ("a.txt", "ab\n".encode("utf-16-le"), "a.txt:1: holds NUL"),
        ("a.csv", "text\nab\n".encode("utf-16-le"), "a.csv:1: holds NUL"),
        ("a.jsonl", LINE * 40_000 + b'{"text": "\xc3', "a.jsonl:40001: not UTF-8 text"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableData) as caught:
        list(records(tmp_path / name))
    assert why in str(caught.value)


@pytest.mark.parametrize("packing", PACKERS)
def test_a_file_that_unpacks_without_end_is_left_at_a_bound(
    tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "MAX_UNPACKED_BYTES", 1_000_000)
    path = tmp_path / f"bomb.txt{packing}"
    path.write_bytes(PACKERS[packing](bytes(100_000_000)))
    with pytest.raises(UnreadableData, match="unpacks to more than 1,000,000 bytes"):
        list(records(path))


def test_a_mark_of_utf_8_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(as_gzip(b"\xef\xbb\xbftext\nhello\n"))
    assert read_rows(tmp_path / "a.csv.gz").rows == (Document(text="hello"),)


def test_each_form_is_named_where_a_file_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.doc").write_bytes(b"")
    with pytest.raises(UnreadableData) as caught:
        list(records(tmp_path / "a.doc"))
    assert all(form in str(caught.value) for form in (*FORMS, *packed.PACKED))
