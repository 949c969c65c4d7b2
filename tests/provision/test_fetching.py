"""Public files over HTTP: as `catalog refresh` and `doctor --install` fetch them."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from email.message import Message
from pathlib import Path

import pytest

from provision.clouds.engine.release import SUMS
from provision.fetching import NotFetched, _Redirects, fetch, save
from tests.doubles.services.release import served


@pytest.mark.parametrize(
    ("asked", "leads_to", "follows"),
    [
        ("https://a.example/x", "https://b.example/y", True),
        ("http://a.example/x", "http://b.example/y", True),
        ("http://a.example/x", "https://b.example/y", True),
        ("https://a.example/x", "http://b.example/y", False),
        ("http://a.example/x", "ftp://b.example/y", False),
    ],
)
def test_what_is_asked_for_over_tls_is_never_fetched_without(asked: str, leads_to: str, follows: bool) -> None:
    redirects, request = _Redirects(), urllib.request.Request(asked)
    if follows:
        further = redirects.redirect_request(request, io.BytesIO(), 302, "Found", Message(), leads_to)
        assert further.full_url == leads_to
    else:
        with pytest.raises(NotFetched, match=f"it leads to {leads_to}, which is not https"):
            redirects.redirect_request(request, io.BytesIO(), 302, "Found", Message(), leads_to)


def test_a_file_is_saved_as_it_is_fetched_with_its_hash(tmp_path: Path) -> None:
    """And one of too many bytes is neither."""
    with served(tmp_path / "there") as there:
        (there.folder / SUMS).write_bytes(b"x" * 100_000)
        kept = io.BytesIO()
        assert save(f"{there.url}/{SUMS}", kept, max_bytes=100_000, within_s=10.0) == hashlib.sha256(b"x" * 100_000).hexdigest()
        assert kept.getvalue() == fetch(f"{there.url}/{SUMS}", max_bytes=100_000, within_s=10.0)
        for one in (
            lambda: save(f"{there.url}/{SUMS}", io.BytesIO(), max_bytes=99_999, within_s=10.0),
            lambda: fetch(f"{there.url}/{SUMS}", max_bytes=99_999, within_s=10.0),
        ):
            with pytest.raises(NotFetched, match="it is larger than 99,999 bytes"):
                one()
