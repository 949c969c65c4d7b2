"""Tokens that lie in a file, read from there as they are needed: made once of the same rows, tokenizer and code, and found
again by a run that goes on, by the next one, and by whoever only counts them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple, overload

import msgspec
import numpy as np
import numpy.typing as npt

from remote.bases.made import made_once
from remote.data.classes import marked
from remote.data.pairs import tokenized_sides
from remote.data.rows import Row
from remote.data.tokens import ROWS_PER_CALL, Ids, tokenized

log = logging.getLogger(__name__)

PREFIX: Final = "tokens-"
KEPT_FOLDERS: Final = 8  # assumed: what is learned and what judges it, of a few jobs; older ones make room
DATED: Final = "strftime_now"  # what a chat template writes today's date by (Llama 3.2's for one)
COUNTED_BY: Final = ("tokenizers", "transformers", "jinja2")
PASSING: Final = ("truncation", "padding")  # of a tokenizer's state, what the last call has left there

# Of a row: ids and labels; ids and which text each is of, None where the tokenizer tells none; what is read, what is answered
Pair = tuple[Ids, Any]


class Making(NamedTuple):
    """A way to make tokens of rows, and its name."""

    name: str
    pairs: Callable[[Sequence[Any], Any], Iterator[Pair]]


WRITTEN: Final = Making("written", tokenized)
CLASSES: Final = Making("classes", marked)
SIDES: Final = Making("sides", tokenized_sides)


class Column:
    """Arrays of unlike lengths, one behind the other in a file of int32, and where each ends in one of int64."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ends: Final[npt.NDArray[np.int64]] = np.fromfile(folder / f"{name}.ends", dtype=np.int64)
        of = folder / f"{name}.tokens"
        # a file of no bytes can't be mapped
        self._tokens: Final[Ids] = np.asarray(np.memmap(of, dtype=np.int32, mode="r")) if of.stat().st_size else _NO_TOKENS

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> Ids:
        return self._tokens[int(self._ends[place - 1]) if place else 0 : int(self._ends[place])]


class Kept(Sequence[Pair]):
    """The pairs of a folder's rows, each read from the disk where it is looked at."""

    def __init__(self, folder: Path) -> None:
        self._first = Column(folder, "first")
        self._second = Column(folder, "second") if (folder / "second.ends").is_file() else None

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, place: int) -> Pair: ...
    @overload
    def __getitem__(self, place: slice) -> list[Pair]: ...
    def __getitem__(self, place: int | slice) -> Pair | list[Pair]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        return self._first[place], None if self._second is None else self._second[place]


_NO_TOKENS: Final[Ids] = np.zeros(0, dtype=np.int32)


def pairs_of(rows: Sequence[Row], making: Making, tokenizer: Any, cache: Path | None) -> Sequence[Pair]:
    """What `making` makes of the rows: out of `cache` where it lies there, else made and laid there; None = held in memory, as
    it is where the disk takes no more. Raises what `making` raises, and leaves nothing then.
    """
    if cache is None or not rows:
        return tuple(making.pairs(rows, tokenizer))
    folder = cache / f"{PREFIX}{_key(rows, making, tokenizer)}"
    try:
        made_once(folder, lambda into: _write(making.pairs(rows, tokenizer), into))
        os.utime(folder)
        _forget_older(cache)
        return Kept(folder)
    except OSError as error:
        log.warning("tokens are held in memory, for %s can't be written: %s", folder, error)
        return tuple(making.pairs(rows, tokenizer))


def passing_pairs(rows: Sequence[Row], making: Making, tokenizer: Any, cache: Path | None) -> Iterable[Pair]:
    """What `making` makes of the rows, for whoever looks at each once and keeps none."""
    return making.pairs(rows, tokenizer) if cache is None else pairs_of(rows, making, tokenizer, cache)


def _write(pairs: Iterator[Pair], into: Path) -> None:
    into.mkdir(mode=0o700)  # of somebody's own words
    ends: dict[str, array[int]] = {}
    files = {name: (into / f"{name}.tokens").open("wb") for name in ("first", "second")}
    try:
        for pair in pairs:
            for name, ids in zip(files, pair, strict=True):
                if ids is not None:
                    files[name].write(ids.astype(np.int32, copy=False).data)
                    so_far = ends.setdefault(name, array("q"))
                    so_far.append((so_far[-1] if so_far else 0) + len(ids))
    finally:
        for file in files.values():
            file.close()
    for name, each in ends.items():
        (into / f"{name}.ends").write_bytes(each.tobytes())


def _forget_older(cache: Path) -> None:
    """Only the newest stay. A file that another run has mapped is there for it until it lets go."""
    with suppress(OSError):
        found = sorted(cache.glob(f"{PREFIX}*"), key=lambda folder: folder.stat().st_mtime)
        for folder in found[:-KEPT_FOLDERS]:
            shutil.rmtree(folder, ignore_errors=True)


# ── what tokens follow from ────────────────────────────────────────────────────────────────────────────────────────


def _key(rows: Sequence[Row], making: Making, tokenizer: Any) -> str:
    """16 hex digits over all that the tokens follow from: the rows as they were read, the tokenizer, its template, the code."""
    digest = sha256("\0".join((making.name, *_marks_of(tokenizer), *_marks_of_code())).encode())
    encoder = msgspec.msgpack.Encoder()
    for start in range(0, len(rows), ROWS_PER_CALL):
        digest.update(encoder.encode(rows[start : start + ROWS_PER_CALL]))
    return digest.hexdigest()[:16]


def _marks_of(tokenizer: Any) -> Iterator[str]:
    """A template that writes the date makes other tokens tomorrow."""
    own = json.loads(tokenizer.backend_tokenizer.to_str())
    yield json.dumps({name: value for name, value in own.items() if name not in PASSING})
    template = str(tokenizer.chat_template)
    yield from (type(tokenizer).__name__, template, str(tokenizer.bos_token), str(tokenizer.eos_token))
    yield json.dumps([*tokenizer.model_input_names, *map(str, tokenizer.all_special_tokens)])
    yield today() if DATED in template else ""


def today() -> str:
    """As this machine's clock has it, which a template asks as well."""
    return f"{datetime.now().astimezone():%Y-%m-%d}"


def _marks_of_code() -> Iterator[str]:
    yield from (f"{name} {metadata.version(name)}" for name in COUNTED_BY)
    for file in sorted(Path(__file__).parent.glob("*.py")):
        yield sha256(file.read_bytes()).hexdigest()
