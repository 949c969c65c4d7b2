"""Which files of a run's directory go along: all that another machine needs to go on, and to tell how it went.

Not the data, nor the base model, nor checkpoints: what the box has is there, and what it lacks is at home.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from provision.errors import Refused
from provision.home.places import RunFolder
from provision.home.whole import write_whole

# Of the engine's folder. Its locks, logs and caches mean nothing on another machine.
ENGINE: Final = ("passphrase", "work/*", "state/.pulumi/meta.yaml", "state/.pulumi/stacks/**/*")


def pack(folder: RunFolder) -> bytes:
    """Those that are there, in one piece: the same bytes for the same files."""
    found = {path.relative_to(folder.root).as_posix(): path.read_bytes() for path in _papers(folder)}
    return zlib.compress(msgspec.msgpack.encode(dict(sorted(found.items()))))


def unpack(packed: bytes, folder: RunFolder) -> None:
    """Lay them out, each whole and for their owner alone. Raises Refused where a name leads elsewhere, OSError."""
    for name, data in msgspec.msgpack.decode(zlib.decompress(packed), type=dict[str, bytes]).items():
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise Refused(f"A paper of the state would lie outside the run's directory: {name!r}.")
        path = folder.root / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, data)


def _papers(folder: RunFolder) -> Iterator[Path]:
    """Those that are there."""
    alone = (
        folder.plan,
        folder.alternatives,
        folder.base,
        folder.launch,
        folder.alerts,
        folder.shares,
        folder.job,
        folder.outcome,
        folder.receipt,
        folder.report,
        folder.events,
        folder.log,
        folder.console,
    )
    of_engine = (path for pattern in ENGINE for path in folder.engine.glob(pattern))
    named = (*alone, *folder.tries.glob("*/*"), *folder.keys.glob("*"), *of_engine)
    return (path for path in named if path.is_file())
