"""A file of the user's is whole, or as it was: on a full disk as well."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catalogs.written import require_place, require_writable, write_beside


@contextmanager
def disk_of(num_bytes: int) -> Iterator[None]:
    """No file grows past that, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("earlier", [b"old", None])
def test_a_disk_that_takes_half_of_a_file_leaves_the_earlier_one_or_none(tmp_path: Path, earlier: bytes | None) -> None:
    """`plan --save` left an empty file, which `run` then could not read."""
    path = tmp_path / "plan.json"
    if earlier is not None:
        path.write_bytes(earlier)
    with disk_of(10), pytest.raises(OSError, match="File too large"):
        write_beside(path, b"x" * 20)
    assert (path.read_bytes() if path.exists() else None) == earlier
    assert list(tmp_path.iterdir()) == ([path] if earlier is not None else [])


def test_a_full_disk_shows_before_what_is_to_be_written_has_cost_time(tmp_path: Path) -> None:
    """And nothing is left there, nor touched."""
    (tmp_path / "old.html").write_bytes(b"old")
    require_writable(tmp_path / "old.html")
    for name in ("old.html", "new.html"):
        with disk_of(10), pytest.raises(OSError, match="File too large"):
            require_writable(tmp_path / name)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old.html", b"old")]
    require_writable(Path("/dev/null"))


def test_a_new_file_is_as_the_users_mask_has_it_and_an_old_one_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    mask = os.umask(0o027)
    try:
        write_beside(path, b"one")
        assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)
    path.chmod(0o604)
    write_beside(path, b"two")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o604)
    write_beside(tmp_path / "own", b"", mode=0o600, synced=True)
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o600


def test_a_link_leads_on_to_its_place_and_a_device_takes_bytes_as_they_come(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write_beside(tmp_path / "link", b"one")
    assert (tmp_path / "there").read_bytes() == b"one"
    assert (tmp_path / "link").is_symlink()
    write_beside(Path("/dev/null"), b"two")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("place", ["none/plan.json", "file/plan.json", "."])
def test_a_place_is_refused_beforehand_as_it_would_be_when_it_is_written(place: str, tmp_path: Path) -> None:
    """A folder that is not there, one that is a file, and a folder itself."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"No such file|Not a directory|Is a directory") as beforehand:
        require_place(tmp_path / place)
    with pytest.raises(OSError, match=r"No such file|Not a directory|Is a directory") as afterwards:
        write_beside(tmp_path / place, b"one")
    assert beforehand.value.errno == afterwards.value.errno


def test_a_place_that_takes_a_file_is_left_as_it_is(tmp_path: Path) -> None:
    for place in (tmp_path / "plan.json", Path("/dev/null")):
        require_place(place)
    assert list(tmp_path.iterdir()) == []
