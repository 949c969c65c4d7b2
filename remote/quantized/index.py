"""What a packed folder holds: of which base, in which way, and the hash of each file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from remote.checkpoints.files import write_whole
from remote.contract import PACKED_INDEX, Dtype, PathBelow, Quant, StorageDtype, Strategy, Value, decode, encode
from remote.digest import fingerprint_of, sha256_of
from remote.ends import bad_job

INDEX_FILE: Final = PACKED_INDEX
WEIGHTS: Final = "*.safetensors"


class How(Value, frozen=True, kw_only=True):
    """All that the packed numbers depend on beside the base."""

    quant: Quant
    double_quant: bool
    quant_storage: StorageDtype
    dtype: Dtype  # of what is not packed, and that the packed weights are unpacked to


class Index(Value, frozen=True, kw_only=True):
    """Written anew after each file, so that whoever is cut off loses no more than one."""

    base: str  # see `base_mark`
    how: How
    sha256: dict[PathBelow, str] = {}  # file → hex, of those that are whole
    whole: bool = False  # nothing is missing


def how_of(strategy: Strategy) -> How:
    """The way that a strategy's base is packed in."""
    return How(
        quant=strategy.quant,
        double_quant=strategy.double_quant,
        quant_storage=strategy.quant_storage,
        dtype=strategy.param_dtype,
    )


def read_index(folder: Path) -> Index | None:
    """None where nothing was packed. Raises `Ended` (bad job) for an index that can't be read."""
    file = folder / INDEX_FILE
    try:
        return decode(file.read_bytes(), Index)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise bad_job(f"{file} is damaged ({error}); pack the base anew into an empty folder") from error


def write_index(folder: Path, index: Index) -> None:
    write_whole(folder / INDEX_FILE, encode(index))


def base_mark(folder: Path, shards: Iterable[Path]) -> str:
    """By which a base is known: its configuration, and the size and both ends of each file of its weights."""
    parts = [sha256_of(folder / "config.json"), *(part for shard in shards for part in (shard.name, fingerprint_of(shard)))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def require_whole(folder: Path, strategy: Strategy) -> bool:
    """Whether `folder` holds weights that were packed as `strategy` wants them, each file as it was then. Reads them all.

    False where it holds none of ours. Raises `Ended` (bad job) for those packed in another way, unfinished, torn or altered.
    """
    index = read_index(folder)
    if index is None:
        return False
    wanted = how_of(strategy)
    for name in How.__struct_fields__:
        is_so, asked = getattr(index.how, name), getattr(wanted, name)
        if is_so != asked:
            key = "param_dtype" if name == "dtype" else name
            raise bad_job(f"{folder} was packed with {key} {is_so!r}, and the job says {asked!r}; pack the base anew for it")
    torn = next(iter(unlike(folder, index)), None)
    if torn is not None or not index.whole:
        why = "its packing was cut off" if torn is None else f"{torn} is not as it was packed"
        raise bad_job(f"{folder} is not whole: {why}; pack the base into it once more, which makes what is missing")
    return True


def unlike(folder: Path, index: Index) -> Iterator[str]:
    """Files of the index that are gone, torn or altered, and weights that lie beside them: a loader would read those too."""
    strangers = {str(file.relative_to(folder)) for file in folder.rglob(WEIGHTS)} - index.sha256.keys()
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter
        now = pool.map(lambda name: sha256_of(folder / name) if (folder / name).is_file() else None, index.sha256)
        yield from (name for name, sha256 in zip(index.sha256, now, strict=True) if sha256 != index.sha256[name])
    yield from sorted(strangers)
