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

from remote.contract import place_words
from remote.data.files import FORMS, files_of, packed, parts, records
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


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, form: str) -> None:
    """As in a CSV: either of them would be learned, and nobody told which."""
    table = pa.table([["one"], ["x"], ["y"]], names=["text", "label", "label"])
    path = tmp_path / f"rows.{form}"
    if form == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(UnreadableData, match=rf"rows.{form}: the header names 'label' twice"):
        read_rows(path)


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
        ("a.jsonl", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff", "a.jsonl is a binary file and no text"),
        (
            "a.jsonl",
            b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
            "a.jsonl is a binary file and no text: by its first bytes it is a PDF",
        ),
        ("a.csv", b"PK\x03\x04\x14\0\x06\0\x08\0\xff", "by its first bytes it is a ZIP, as .docx and .xlsx are"),
        ("a.jsonl", b"\x7fELF\x02\x01\x01\0\xff", "by its first bytes it is a program"),
        ("a.jsonl", as_gzip(LINE), "packed by gzip, so its name ends with .gz"),
        ("a.jsonl", b"\xff\xfe\0\0\xffabc", "a.jsonl is a binary file and no text"),
        ("a.jsonl", LINE + '{"text": "ä"}'.encode("latin-1"), "a.jsonl:2: not UTF-8 text (byte 0xe4)"),
        ("a.csv.gz", as_gzip("text\nä\n".encode("latin-1")), "a.csv.gz:2: not UTF-8 text (byte 0xe4)"),
        (
            "a.txt",
            "ab\n".encode("utf-16-le"),
            "a.txt is UTF-16LE, as the zeros in it say; save it as UTF-8 (`iconv -f UTF-16LE",
        ),
        ("a.txt", "ab\n".encode("utf-16-be"), "a.txt is UTF-16BE, as the zeros in it say"),
        ("a.csv", "text\nab\n".encode("utf-16-le"), "a.csv is UTF-16LE, as the zeros in it say"),
        ("a.jsonl", '{"text": "ä"}\n'.encode("utf-16-le"), "a.jsonl is UTF-16LE, as the zeros in it say"),
        ("a.txt", b"plain\na\0b\n", "a.txt:2: holds NUL, as a binary file does"),
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


# ── several files ──────────────────────────────────────────────────────────────────────────────────────────────────


def shelf(folder: Path) -> Path:
    """Three files of one text a line each, written in another order than that of their names, and others that hold no rows."""
    for name in ("b.jsonl", "deep/a.jsonl", "a.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f'{{"text": "first of {name}"}}\n\n{{"text": "last of {name}"}}\n')
    (folder / "README.md").write_text("# no rows")
    (folder / ".hidden.jsonl").write_text("no rows")
    return folder


WHOLE = ["a.jsonl", "b.jsonl", "deep/a.jsonl"]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((".",), WHOLE),
        (("*.jsonl",), ["a.jsonl", "b.jsonl"]),
        (("**/a.jsonl",), ["a.jsonl", "deep/a.jsonl"]),
        (("b.jsonl", "a.jsonl"), ["a.jsonl", "b.jsonl"]),
        (("deep", "b.jsonl"), ["b.jsonl", "deep/a.jsonl"]),
        (("?.jsonl", "b.jsonl", "deep/*"), WHOLE),
    ],
)
def test_a_folder_a_pattern_and_a_list_are_read_in_the_order_of_their_names(
    tmp_path: Path, named: tuple[str, ...], expected: list[str]
) -> None:
    """However they were named, and each file once."""
    first, *more = (shelf(tmp_path) / name for name in named)
    rows = read_rows(first, more=more)
    texts = [row.text for row in rows.rows if isinstance(row, Document)]
    assert texts == [f"{which} of {name}" for name in expected for which in ("first", "last")]
    assert [place_words(line, rows.files) for line in rows.lines] == [f"{name}:{n}" for name in expected for n in (1, 3)]


def test_each_of_several_text_files_is_one_document_and_a_lone_one_has_a_document_a_line(tmp_path: Path) -> None:
    """A folder of essays was learned line by line, as if each sentence were a text of its own."""
    (tmp_path / "a.txt").write_text("\nIt begins.\n\nIt ends.\n")
    alone = read_rows(tmp_path)
    assert [row.text for row in alone.rows if isinstance(row, Document)] == ["It begins.", "It ends."]
    with gzip.open(tmp_path / "b.txt.gz", "wt") as packed:
        packed.write("Another.\n")
    (tmp_path / "c.txt").write_text("\n \n")
    rows = read_rows(tmp_path)
    assert [row.text for row in rows.rows if isinstance(row, Document)] == ["It begins.\n\nIt ends.", "Another."]
    assert [place_words(line, rows.files) for line in rows.lines] == ["a.txt:2", "b.txt.gz:1"]
    assert rows.format == "text"


def test_a_broken_row_of_several_files_is_told_with_its_file(tmp_path: Path) -> None:
    (shelf(tmp_path) / "deep" / "a.jsonl").write_text('{"text": "fine"}\n{"text": 3}\n')
    (broken,) = read_rows(tmp_path).broken
    assert str(broken) == 'deep/a.jsonl:2: "text" must be text, not a number'


def test_the_line_of_a_single_file_needs_no_name() -> None:
    assert place_words(1204, ()) == "1,204"


@pytest.mark.parametrize(
    ("named", "words"),
    [("empty", "the folder empty holds no file of rows"), ("*.csv", "no file is named like"), ("gone.jsonl", "can't be read")],
)
def test_what_names_no_file_is_told(tmp_path: Path, named: str, words: str) -> None:
    (shelf(tmp_path) / "empty").mkdir()
    with pytest.raises(UnreadableData, match=words):
        read_rows(tmp_path / named)


def test_a_whole_disk_is_no_folder_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_FILES", 2)
    with pytest.raises(UnreadableData, match="holds more than 2 files; name the one that holds the rows"):
        read_rows(shelf(tmp_path))


def saved(folder: Path, texts: list[str], *, shards: int = 1) -> Path:
    """A data set, saved by `datasets` itself."""
    import datasets

    datasets.Dataset.from_dict({"text": texts}).save_to_disk(folder, num_shards=shards)
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_a_data_set_saved_by_datasets_is_read_in_its_order(tmp_path: Path, shards: int) -> None:
    texts = [f"row {number}" for number in range(3_000)]
    rows = read_rows(saved(tmp_path / "set", texts, shards=shards))
    assert [row.text for row in rows.rows if isinstance(row, Document)] == texts
    assert len(files_of(tmp_path / "set")) == shards


def test_an_arrow_file_of_its_own_kind_is_read_too(tmp_path: Path) -> None:
    table = pa.table({"text": ["one", "two"]})
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    assert [row.text for row in read_rows(tmp_path / "rows.arrow").rows if isinstance(row, Document)] == ["one", "two"]


def test_a_data_set_of_several_splits_says_which_to_name(tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_dict({"text": ["a"]})
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(tmp_path / "set")
    with pytest.raises(UnreadableData, match=r"set holds the data sets train, test; name one of them, such as set/train"):
        read_rows(tmp_path / "set")
    assert len(read_rows(tmp_path / "set" / "train").rows) == 1


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("[]", "is not as `datasets` writes it"),
        ('{"_data_files": [{"filename": "../rows.jsonl"}]}', r"lacks \.\./rows.jsonl"),
        ('{"_data_files": [{"filename": "data.arrow"}]}', "lacks data.arrow"),
        ('{"_data_files": [], "_indices_data_files": [{"filename": "x"}]}', "picked by index"),
    ],
)
def test_a_folder_that_is_no_whole_data_set_is_refused(tmp_path: Path, state: str, words: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "state.json").write_text(state)
    with pytest.raises(UnreadableData, match=words):
        read_rows(tmp_path / "set")


def test_what_is_no_arrow_is_told(tmp_path: Path) -> None:
    (tmp_path / "rows.arrow").write_bytes(b"no arrow at all, whatever its name says")
    with pytest.raises(UnreadableData, match=r"rows.arrow: no Arrow that can be read"):
        read_rows(tmp_path / "rows.arrow")
