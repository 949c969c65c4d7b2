"""What a person names as a file, or pipes in, is read as a whole or refused in one sentence."""

from __future__ import annotations

import io

import pytest

from catalogs.user_file import FileUnusable, read_stream


def test_a_pipe_is_read_to_its_end() -> None:
    """Without the mark that some programs put before the first line."""
    assert read_stream(io.BytesIO(b"\xef\xbb\xbfone\ntwo"), max_bytes=10) == "one\ntwo"


def test_a_pipe_without_an_end_is_left_where_it_is_too_much() -> None:
    """No more is read than is needed to see that."""
    endless = io.BytesIO(b"x" * 1_000)
    with pytest.raises(FileUnusable, match="is too large: at most 10 bytes are read"):
        read_stream(endless, max_bytes=10)
    assert endless.tell() == 11


def test_a_pipe_that_is_no_text_is_refused_like_a_file() -> None:
    with pytest.raises(FileUnusable, match=r"is not UTF-8 text \(byte 1\)"):
        read_stream(io.BytesIO(b"a\xff"), max_bytes=10)
