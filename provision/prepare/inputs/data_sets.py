"""A data set of the hub's: its files are fetched once to this machine, and are then a folder as any other."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import msgspec

from catalogs.user_file import MAX_DATA_BYTES
from planner.asking.data import ON_HUB
from planner.asking.request import RequestError
from provision.exchange import opener
from provision.home.places import read_places
from provision.home.whole import at_home
from provision.prepare.inputs import ENDPOINT, TOKEN, kept_token
from provision.prepare.inputs.hub import ANSWER_BYTES, HUB, NEWEST, NO, TIMEOUT_S, SameHost
from provision.prepare.inputs.parts import FORMS, form_of
from remote.contract import PathBelow

NAMED: Final = re.compile(r"(?P<owner>\w[\w.-]*)/(?P<name>\w[\w.-]*)(?:/(?P<part>[^@]+))?(?:@(?P<revision>[\w./-]+))?")
LEARNED: Final = re.compile(
    r"(?:^|[^a-z])train(?:ing)?(?:$|[^a-z])"
)  # as `datasets` knows files of a split by a word in their path
APART: Final = re.compile(r"(?:^|[^a-z])(?:test(?:ing)?|eval(?:uation)?|val(?:id(?:ation)?)?|dev)(?:$|[^a-z])")
# what `datasets` says of a data set beside its rows
BESIDE_ROWS: Final = frozenset({"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "metadata.json"})
OFFLINE: Final = "HF_HUB_OFFLINE"
YES: Final = frozenset({"1", "ON", "YES", "TRUE"})  # as huggingface_hub 1.x reads it
FETCH_S: Final = 1800.0  # assumed: of one file; 4 GiB at 2.4 MB/s
PIECE_BYTES: Final = 1 << 20  # assumed: of a file that is read at once
SHAPE: Final = f"{ON_HUB}OWNER/NAME, or with a file or folder of it behind: {ON_HUB}OWNER/NAME/data/train.jsonl"


class _Lfs(msgspec.Struct, frozen=True):
    sha256: str


class _File(msgspec.Struct, frozen=True):
    rfilename: PathBelow
    size: int | None = None
    lfs: _Lfs | None = None


class _Held(msgspec.Struct, frozen=True):
    """What the hub says of one revision of a data set: https://huggingface.co/docs/hub/api, read 2026-11."""

    sha: str
    siblings: tuple[_File, ...] = ()


class _Named(NamedTuple):
    owner: str
    name: str
    part: str | None  # a file of it, or a folder
    revision: str

    @property
    def words(self) -> str:
        return f"{self.owner}/{self.name}"


@lru_cache  # a command asks again and again, and is to read one commit throughout
def fetched(path: str) -> str:
    """The folder of what is learned of the data set at `hub:OWNER/NAME`, fetched where it is not here yet.

    Raises RequestError where the hub has none of it for us, does not answer, or has files that are not read here.
    """
    found = NAMED.fullmatch(path.removeprefix(ON_HUB))
    if found is None:
        raise RequestError(f"{path} names no data set of the hub's", hint=f"write {SHAPE}")
    named = _Named(found["owner"], found["name"], (found["part"] or "").strip("/") or None, found["revision"] or NEWEST)
    if os.environ.get(OFFLINE, "").upper() in YES:
        raise _silent(named, f"{OFFLINE} is set")
    endpoint = (os.environ.get(ENDPOINT) or HUB).rstrip("/")
    held = _asked(named, endpoint)
    files = _learned(named, held.siblings)
    return str(_whole(named, held.sha, files, endpoint))


# ── which files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _learned(named: _Named, held: Sequence[_File]) -> tuple[_File, ...]:
    """Those that are learned from, of the part that was named. Raises RequestError where there are none, or several sets."""
    rows = [file for file in held if _holds_rows(PurePosixPath(file.rfilename)) and _is_in(named.part, file.rfilename)]
    if not rows:
        where = named.words if named.part is None else f"{named.words}/{named.part}"
        raise RequestError(
            f"the data set {where} on the hub has no file of rows that is read here", hint=f"it reads {', '.join(FORMS)}"
        )
    if named.part is None or len(rows) > 1:
        rows = [file for file in rows if LEARNED.search(file.rfilename.lower())] or [
            file for file in rows if not APART.search(file.rfilename.lower())
        ]
    folders = sorted({str(PurePosixPath(file.rfilename).parent) for file in rows})
    forms = {form_of(PurePosixPath(file.rfilename)) for file in rows}
    if len(folders) != 1 or len(forms) != 1:
        several = ", ".join(sorted(file.rfilename for file in rows)[:4]) or "files to judge by alone"
        raise RequestError(
            f"the data set {named.words} on the hub holds several sets of rows ({several})",
            hint=f"name a file or a folder of it: {ON_HUB}{named.words}/{rows[0].rfilename if rows else 'FILE'}",
        )
    num_bytes = sum(file.size or 0 for file in rows)
    if num_bytes > MAX_DATA_BYTES:
        raise RequestError(
            f"the data set {named.words} is too large: {num_bytes:,} bytes, at most {MAX_DATA_BYTES:,} are read",
            hint=f"name a file of it: {ON_HUB}{named.words}/{rows[0].rfilename}",
        )
    return tuple(rows)


def _holds_rows(file: PurePosixPath) -> bool:
    return form_of(file) in FORMS and file.name not in BESIDE_ROWS


def _is_in(part: str | None, file: str) -> bool:
    return part is None or file == part or file.startswith(f"{part}/")


# ── how they come ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _whole(named: _Named, commit: str, files: tuple[_File, ...], endpoint: str) -> Path:
    """The folder with these files of a commit: there as a whole, or not at all."""
    which = hashlib.sha256("\0".join((endpoint, commit, *(file.rfilename for file in files))).encode()).hexdigest()[:16]
    folder = read_places().cache / "data" / f"{named.owner}--{which}" / named.name
    if folder.is_dir():
        return folder
    with at_home(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        coming = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".coming-"))
    try:
        for file in files:
            _fetch(named, commit, file, endpoint, coming / file.rfilename)
        with at_home(folder.parent):
            if not folder.is_dir():
                coming.rename(folder)
    finally:
        shutil.rmtree(coming, ignore_errors=True)
    return folder


def _fetch(named: _Named, commit: str, file: _File, endpoint: str, there: Path) -> None:
    """A token goes to the hub, and nowhere that it sends us on to."""
    address = f"{endpoint}/datasets/{named.words}/resolve/{commit}/{urllib.parse.quote(file.rfilename)}"
    request = urllib.request.Request(address, headers={"User-Agent": "rentune"})  # noqa: S310 - the user's own endpoint
    for name, value in _credentials().items():
        request.add_unredirected_header(name, value)
    hashed, num_bytes = hashlib.sha256(), 0
    try:
        with opener(within_s=FETCH_S).open(request, timeout=TIMEOUT_S) as answer:
            pieces = iter(lambda: answer.read(PIECE_BYTES), b"")
            with at_home(there.parent):
                there.parent.mkdir(parents=True, exist_ok=True)
            with there.open("wb") as out:
                for piece in _bounded(pieces):
                    hashed.update(piece)
                    with at_home(there.parent):
                        num_bytes += out.write(piece)
    except (OSError, HTTPException, ValueError) as error:
        raise _silent(named, str(getattr(error, "reason", error))) from None
    if (file.lfs is not None and hashed.hexdigest() != file.lfs.sha256) or file.size not in (None, num_bytes):
        raise _silent(named, f"{file.rfilename} came otherwise than the hub says it is")


def _bounded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A file that has no end, or not the size that was told, fills no disk."""
    left = MAX_DATA_BYTES
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise ValueError(f"more than {MAX_DATA_BYTES:,} bytes came")
        yield piece


def _asked(named: _Named, endpoint: str) -> _Held:
    revision = urllib.parse.quote(named.revision, safe="")
    address = f"{endpoint}/api/datasets/{named.words}/revision/{revision}?blobs=true"
    request = urllib.request.Request(address, headers={"User-Agent": "rentune"} | _credentials())  # noqa: S310 - as above
    try:
        with opener(SameHost, within_s=TIMEOUT_S).open(request, timeout=TIMEOUT_S) as answer:
            return msgspec.json.decode(answer.read(ANSWER_BYTES), type=_Held)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in NO:
            raise RequestError(
                f"the hub has no data set {named.words} at {named.revision} for you: {NO[error.code]}",
                hint=f"see {endpoint}/datasets/{named.words}; a private or gated one needs {TOKEN}=… of whoever may read it",
            ) from None
        raise _silent(named, f"it answered with status {error.code}") from None
    except (OSError, HTTPException, ValueError, RecursionError, msgspec.DecodeError) as error:
        raise _silent(named, str(getattr(error, "reason", error))) from None


def _credentials() -> dict[str, str]:
    token = os.environ.get(TOKEN) or kept_token(os.environ)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _silent(named: _Named, why: str) -> RequestError:
    return RequestError(
        f"the data set {named.words} did not come from the hub: {why}", hint="try again, or name a file that is here"
    )
