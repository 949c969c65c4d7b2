"""What a person names as a file, or pipes in, is read as a whole or refused in one sentence."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.user_file import (
    WIDE_MARKS,
    WIDE_UNMARKED,
    FileUnusable,
    absent_words,
    decode_object,
    read_stream,
    read_text,
    wide_encoding,
)
from remote.data.files import encodings


def test_a_pipe_is_read_to_its_end() -> None:
    """As it is: who knows what it holds reads the text."""
    assert read_stream(io.BytesIO(b"\xef\xbb\xbfone\ntwo"), max_bytes=10) == b"\xef\xbb\xbfone\ntwo"


def test_a_pipe_without_an_end_is_left_where_it_is_too_much() -> None:
    """No more is read than is needed to see that."""
    endless = io.BytesIO(b"x" * 1_000)
    with pytest.raises(FileUnusable, match="is too large: at most 10 bytes are read"):
        read_stream(endless, max_bytes=10)
    assert endless.tell() == 11


def test_a_pipe_that_gives_nothing_is_refused_with_its_reason() -> None:
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(FileUnusable, match="can't be read: I/O operation on closed file"):
        read_stream(closed, max_bytes=10)


def test_a_text_is_read_without_the_mark_of_some_editors(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfone")
    assert read_text(tmp_path / "marked", max_bytes=10) == "one"


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"a\xff")
    with pytest.raises(FileUnusable, match=r"is not UTF-8 text \(byte 1\)"):
        read_text(tmp_path / "latin", max_bytes=10)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_of_two_bytes_a_letter_is_called_that(encoding: str, tmp_path: Path) -> None:
    """As some shells write it, with a mark or without."""
    (tmp_path / "wide").write_bytes('{"model": "7b"}'.encode(encoding))
    with pytest.raises(FileUnusable, match="is UTF-16 or UTF-32 text; save it as UTF-8"):
        read_text(tmp_path / "wide", max_bytes=100)


@pytest.mark.parametrize("text", ['{"rank": 8, "rank": 64}', '{"options": {"a": 1, "a": 1}}', '[{"rank": 8, "rank": 8}]'])
def test_a_key_that_an_object_says_twice_is_refused(text: str) -> None:
    """At any depth, and with one value, too."""
    with pytest.raises(ValueError, match=r'it says "(rank|a)" twice'):
        decode_object(text)


def test_one_key_in_two_objects_is_two_keys() -> None:
    assert decode_object('[{"rank": 8}, {"rank": 8}]') == [{"rank": 8}, {"rank": 8}]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00\x00\xffabc", b"\x01\x00\x02\x00\x03\x00\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff"]
)
def test_a_binary_file_is_not_told_as_wide_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(FileUnusable, match="is not UTF-8 text"):
        read_text(tmp_path / "a", max_bytes=100)


def test_a_link_that_leads_nowhere_is_told_as_one(tmp_path: Path) -> None:
    """In words that need no manual."""
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "lost").symlink_to("gone")
    with pytest.raises(FileUnusable, match="can't be read: it is a link that leads back to itself"):
        read_text(tmp_path / "circle", max_bytes=100)
    told = [absent_words(tmp_path / name) for name in ("circle", "lost", "nothing")]
    assert told == ["is a link that leads back to itself", "is a link to gone, which is not there", "is not there"]


TEXTS = (
    '{"model": "7b"}',
    "prompt,completion\nä,b\n",
    "a",
    "x" * 31 + "\U0001f44d",
    "\U0001f469\u200d\U0001f52c",
    "中文",
    "\0\1",
    "",
)
WIDE = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
BYTES = (
    *(text.encode(encoding) for text in TEXTS for encoding in WIDE),
    b"\xff\xfe\0\0\xffabc",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff",
)


@given(st.sampled_from(BYTES) | st.binary(max_size=80))
def test_the_box_and_the_machine_that_plans_tell_wide_text_by_one_rule(content: bytes) -> None:
    """Neither may import the other's."""
    assert wide_encoding(content) == encodings.wide_encoding(content)
    assert (WIDE_MARKS, WIDE_UNMARKED) == (encodings.WIDE_MARKS, encodings.WIDE_UNMARKED)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("7b".encode("utf-16-le"), "UTF-16LE"),
        ("7b".encode("utf-16-be"), "UTF-16BE"),
        ("7b".encode("utf-32-le"), "UTF-32LE"),
        ("7b".encode("utf-16"), "UTF-16"),
        (("x" * 31 + "\U0001f44d").encode("utf-16-le"), "UTF-16LE"),  # a letter that the first bytes cut in two
        ("\U0001f469\u200d\U0001f52c".encode("utf-16"), "UTF-16"),
        (b"7b", None),
        (b"", None),
    ],
)
def test_wide_text_is_called_by_its_encoding(content: bytes, encoding: str | None) -> None:
    assert wide_encoding(content) == encoding
