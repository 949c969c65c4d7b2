"""A folder that is made here once, by whichever run needs it first, and used only as it was made."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from remote.digest import sha256_of

log = logging.getLogger(__name__)

SUMS: Final = "SHA256SUMS"  # in a folder that was made here


def made_once(folder: Path, write: Callable[[Path], None]) -> str:
    """`folder`, made by `write` unless an earlier run made it, and each file still has the hash that it had then: a volume that
    is kept may come from a machine that was cut off. Moved into place whole: a kill leaves nothing half done.
    """
    if folder.is_dir() and not _is_as_made(folder):
        log.warning("%s is not as an earlier run made it, and is made anew", folder)
        shutil.rmtree(folder)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-", ignore_cleanup_errors=True) as making:
            write(Path(making) / "model")
            (Path(making) / "model" / SUMS).write_bytes(_sums(Path(making) / "model"))
            try:
                (Path(making) / "model").rename(folder)
            except OSError:
                if not folder.is_dir():  # another run that was faster is fine
                    raise
    return str(folder)


def _is_as_made(folder: Path) -> bool:
    return (folder / SUMS).is_file() and (folder / SUMS).read_bytes() == _sums(folder)


def _sums(folder: Path) -> bytes:
    """As `sha256sum` writes them."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in hashes(folder, "*").items() if name != SUMS).encode()


def hashes(folder: Path, pattern: str) -> dict[str, str]:
    """File below it → hex sha256. Hashing lets go of the interpreter, and a large base has dozens of files."""
    files = sorted(file for file in folder.rglob(pattern) if file.is_file())
    with ThreadPoolExecutor() as pool:
        return {str(file.relative_to(folder)): sha256 for file, sha256 in zip(files, pool.map(sha256_of, files), strict=True)}
