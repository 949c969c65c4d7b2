"""Files by what they hold. The box and home name a file by the same hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

FINGERPRINT_BYTES: Final = 4 * 2**20  # of each end; the middle is covered by the size. assumed sufficient


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_of(path: Path) -> str:
    """16 hex digits by which a file of weights is known again without being read whole: its size, and both its ends."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(FINGERPRINT_BYTES))
        file.seek(max(0, size - FINGERPRINT_BYTES))
        digest.update(file.read(FINGERPRINT_BYTES))
    return digest.hexdigest()[:16]
