"""The catalog as an earlier command has parsed it, the way Python keeps byte code: parsing takes four times as long.

Measured 2026-11-26: 131 million instructions from the tables, 30 million from here, of 800 that `rentune plan` took.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from catalogs.catalog import DATA, Catalog, read_catalog
from catalogs.written import write_beside

CODE: Final = Path(__file__).parent
END_OF_KEY: Final = b"\n\n"


def read_compiled(kept: Path, folder: Path = DATA) -> Catalog:
    """The catalog of `folder`: from the file `kept` where these very tables were parsed into it by this very code, else
    from the tables, and kept for the next time.

    A file that is damaged, or can't be read or written, is passed over. Raises CatalogError as `read_catalog` does.
    """
    key = _key(folder)
    with suppress(OSError, msgspec.MsgspecError):
        found, _, parsed = kept.read_bytes().partition(END_OF_KEY)
        if found == key:
            return msgspec.msgpack.decode(parsed, type=Catalog)
    catalog = read_catalog(folder)
    with suppress(OSError):
        _keep(kept, key + END_OF_KEY + msgspec.msgpack.encode(catalog))
    return catalog


def _key(folder: Path) -> bytes:
    """Name, size and time of every table, and of the code that reads them."""
    files = sorted((*_files(folder, ".csv"), *_files(CODE, ".py")))
    return "\n".join(" ".join(map(str, each)) for each in files).encode()


def _files(folder: Path, suffix: str) -> Iterator[tuple[str, int, int]]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(suffix):
                found = entry.stat()
                yield entry.path, found.st_size, found.st_mtime_ns


def _keep(kept: Path, data: bytes) -> None:
    """Whole or not at all: another command may be reading, and a disk that is full takes half of it. Raises OSError."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_beside(kept, data)
