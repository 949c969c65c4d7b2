"""A file of the store on its way home, known by its hash: what an earlier try has brought of it is not fetched again."""

from __future__ import annotations

from pathlib import Path

from provision.store.bucket import Bucket
from remote.contract import AdapterFile
from remote.digest import sha256_of


def arrives(bucket: Bucket, name: str, path: Path, file: AdapterFile) -> bool:
    """Whether what lies there under `name` has come whole to `path`; what is another does not stay there.

    Raises StoreFailed, and OSError of the disk.
    """
    if _is_whole(path, file):
        return True
    began = path.exists()
    if not bucket.fetch(name, path):
        return False
    if _is_whole(path, file):
        return True
    path.unlink()
    return began and arrives(bucket, name, path, file)  # what was there before may be of another thing


def _is_whole(path: Path, file: AdapterFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size_bytes and sha256_of(path) == file.sha256
