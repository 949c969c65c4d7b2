"""What a run has made, in the store: the adapter as plain files, and beside it the word that it is finished, sealed.

That word is written last and only once, so a run that has it is never trained again, whoever asks and from wherever.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from provision.errors import Refused, TransferFailed
from provision.state.arriving import arrives
from provision.state.book import RUNS
from provision.state.seal import seal, unseal
from provision.store.bucket import Bucket
from remote.contract import Outcome, decode, encode
from remote.digest import sha256_of

FINISHED: Final = "FINISHED"


def put_away(bucket: Bucket, key: bytes, run_id: str, outcome: Outcome, adapter: Path) -> None:
    """The files of a result that is whole at home, then the word. Nothing where the word is there. Raises StoreFailed."""
    if bucket.get(_name(run_id, FINISHED)) is not None:
        return
    for file in outcome.adapter:
        bucket.put(_name(run_id, file.path), adapter / file.path)
    bucket.put_new(_name(run_id, FINISHED), seal(key, encode(outcome), run_id=run_id))


def finished(bucket: Bucket, key: bytes, run_id: str) -> Outcome | None:
    """How it ended, where the word is there. Raises Refused for one that is damaged, StoreFailed."""
    stored = bucket.get(_name(run_id, FINISHED))
    return None if stored is None else decode(unseal(key, stored.data, run_id=run_id), Outcome)


def bring(bucket: Bucket, run_id: str, outcome: Outcome, adapter: Path) -> None:
    """The files that are not here yet, each with the hash that its trainer wrote.

    Raises TransferFailed where one is another, StoreFailed, OSError.
    """
    for file in outcome.adapter:
        if ".." in PurePosixPath(file.path).parts or PurePosixPath(file.path).is_absolute():
            raise Refused(f"A file of the adapter would lie outside its folder: {file.path!r}.")
        here = adapter / file.path
        if here.is_file() and sha256_of(here) == file.sha256:
            continue
        here.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        coming = here.with_name(f".{here.name}.coming")
        if not arrives(bucket, _name(run_id, file.path), coming, file):
            raise TransferFailed(f"{bucket.url}/{_name(run_id, file.path)} is not there, or not what the trainer wrote.")
        coming.replace(here)


def _name(run_id: str, file: str) -> str:
    return f"{RUNS}/{run_id}/adapter/{file}"
