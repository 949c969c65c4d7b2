"""A base that is streamed in 4 bits, packed on the disk before it is loaded: in memory it would lie there twice."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from remote.bases.stored import read_stored
from remote.contract import PACKED_HERE, EndReason, PackedFile, Strategy, encode
from remote.desk import Desk
from remote.ends import Ended, first_line
from remote.quantized.folder import pack
from remote.quantized.index import base_mark, how_of, read_index
from remote.quantized.shards import shards_of
from remote.units import GB

NO_WAY: Final = (EndReason.BAD_JOB, EndReason.DISK_FULL)  # a base whose files can't be packed one by one; a disk without room
# assumed: of the files, with embeddings and head left in 16 bits; a large base takes a third in 4 bits, a little over half in 8
PACKED_SHARE: Final[Mapping[str, float]] = {"nf4": 0.5, "fp4": 0.5, "int8": 0.75}


def packed_first(folder: str, strategy: Strategy, cache: Path, desk: Desk) -> str:
    """The folder to load from. Of a base in 16 bits that is streamed in 4 or 8 it is one of the cache, packed there file by
    file and found by the next run that looks into it; of every other one, and where that can't be, `folder`.

    Loaded from there weights are mapped from the files, and RAM holds no more than the arenas; packed while loading, all of
    them stay in memory beside the arenas that they are copied to (measured 2026-11-28: 0.9 instead of 0.45 GB of nf4).
    """
    stored = read_stored(folder)
    if strategy.offload != "stream" or strategy.quant not in PACKED_HERE or stored.packed_here or stored.by_others is not None:
        return folder
    try:
        shards = shards_of(Path(folder))
        needed_bytes = PACKED_SHARE[strategy.quant] * sum(shard.stat().st_size for shard in shards)
        into = cache / f"packed-{_name(Path(folder), shards, strategy)}"
        cache.mkdir(parents=True, exist_ok=True)
        _clear(into)
        if not into.exists() and (free := free_bytes(cache)) < needed_bytes:
            raise _no_room(free, needed_bytes)
        pack(Path(folder), into, strategy, tell=lambda file: _tell(file, desk))
    except Ended as end:
        if end.reason not in NO_WAY:
            raise
        return _while_loading(folder, str(end), desk)
    except OSError as error:  # a cache that can't be written, or whose disk others have filled meanwhile
        return _while_loading(folder, f"{cache} can't be written: {first_line(error)}", desk)
    return str(into)


def _while_loading(folder: str, why: str, desk: Desk) -> str:
    desk.events.warn(f"the base is packed while it is loaded, which takes its packed size of RAM more: {why}")
    return folder


def _clear(into: Path) -> None:
    """Away with what an earlier run left there without a list of it that can be read: nothing says what of it is whole."""
    if not into.exists():
        return
    try:
        known = read_index(into) is not None
    except Ended:
        known = False
    if not known:
        shutil.rmtree(into)


def _name(folder: Path, shards: tuple[Path, ...], strategy: Strategy) -> str:
    return hashlib.sha256(base_mark(folder, shards).encode() + encode(how_of(strategy))).hexdigest()[:16]


def free_bytes(folder: Path) -> int:
    """What of the disk of `folder` may still be written."""
    return shutil.disk_usage(folder).free


def _no_room(free: int, needed_bytes: float) -> Ended:
    return Ended(EndReason.DISK_FULL, f"{free / GB:.1f} GB of disk are free, up to {needed_bytes / GB:.1f} are needed")


def _tell(file: PackedFile, desk: Desk) -> None:
    desk.events.emit("progress", what="packing", done=file.number, total=file.of)
    desk.watch.check()
