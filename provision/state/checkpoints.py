"""A run's checkpoints in object storage, pushed there where its state lies there: what the box may write, and the newest whole
one on its way home.

Each start of a trainer gets places of its own below a number that nobody had before, so one that was believed dead writes into
no other's. Nothing is believed of what a box has written but what its hashes bear out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from provision.home.checkpoints import COMING, adopt, drop_others, steps_at_home
from provision.home.places import RunFolder
from provision.state.arriving import arrives
from provision.state.book import RUNS
from provision.state.link import read_link
from provision.store.bucket import Bucket
from remote.checkpoints.grants import NUM_PLACES, WHOLE, Grants, Whole
from remote.contract import CHECKPOINT_FILES, PROGRESS_FILE, Value, checkpoint_name, checkpoint_step, decode

LONGEST_S: Final = 7 * 24 * 3600.0  # derived: S3 signs no address for longer (Signature Version 4)
CLAIM: Final = "granted"  # the name by which a number is taken


class Found(NamedTuple):
    """One checkpoint, and the folder of its files in the store."""

    place: str
    whole: Whole


@dataclass(frozen=True)
class PushedCheckpoints:
    """Those of one run, below its own prefix. Every method raises StoreFailed where the store can't be asked."""

    bucket: Bucket
    folder: str  # that prefix

    @property
    def place(self) -> str:
        """Where they lie, as a person would look for them."""
        return f"{self.bucket.url}/{self.folder}"

    def grant(self, *, valid_s: float) -> Grants:
        """Places for one start of the trainer, each address good for so long and at most a week."""
        number = self._taken_number()
        names = (*CHECKPOINT_FILES, WHOLE)
        return Grants(
            places=tuple(
                {
                    name: self.bucket.signed_put(f"{self.folder}/{number}/{place}/{name}", valid_s=min(valid_s, LONGEST_S))
                    for name in names
                }
                for place in range(NUM_PLACES)
            )
        )

    def bring_newest(self, home: Path) -> int | None:
        """Bring home the newest whole checkpoint and the best that it needs; its step, or None where home has as much.

        What is not there, or not what its hashes say, is passed over for an older one; what a line that was cut had brought is
        not fetched again. Raises OSError of the disk.
        """
        here = max(steps_at_home(home), default=-1)
        found = tuple(self._found())
        drop_others(home / COMING, {checkpoint_name(each.whole.step) for each in found})
        for wanted in _sets(found):
            if wanted[-1].whole.step <= here:
                return None
            if self._come(home, wanted):
                adopt(home / COMING, home, [checkpoint_name(found.whole.step) for found in wanted])
                return wanted[-1].whole.step
        return None

    def forget(self) -> None:
        """Remove them all: the result is at home."""
        self.bucket.delete(self.bucket.names(self.folder))

    def _taken_number(self) -> str:
        number = len(self.bucket.folders(self.folder)) + 1
        while self.bucket.put_new(f"{self.folder}/{number:03d}/{CLAIM}", b"-") is None:
            number += 1
        return f"{number:03d}"

    def _found(self) -> Iterator[Found]:
        for name in self.bucket.names(self.folder):
            folder, _, file = name.rpartition("/")
            stored = self.bucket.get(name) if file == WHOLE else None
            if stored is None:
                continue
            try:
                whole = decode(stored.data, Whole)
            except msgspec.DecodeError:  # being written over, or never ours
                continue
            if checkpoint_step(checkpoint_name(whole.step)) == whole.step:  # else of no trainer
                yield Found(folder, whole)

    def _come(self, home: Path, wanted: tuple[Found, ...]) -> bool:
        """Whether all of it has come as it was sent, and is of the step that is said of it."""
        for place, whole in wanted:
            folder = home / COMING / checkpoint_name(whole.step)
            folder.mkdir(parents=True, exist_ok=True)
            drop_others(folder, set(CHECKPOINT_FILES))
            files = {file.path: file for file in whole.files}
            for name in CHECKPOINT_FILES:
                if name not in files or not arrives(self.bucket, f"{place}/{name}", folder / name, files[name]):
                    return False
            if _step_in(folder) != whole.step:
                return False
        return True


class Done(Value, frozen=True, kw_only=True):
    """What a checkpoint's progress says of itself."""

    step: int | None = None


def _step_in(checkpoint: Path) -> int | None:
    with suppress(msgspec.DecodeError):
        return decode((checkpoint / PROGRESS_FILE).read_bytes(), Done).step
    return None


def _sets(found: Iterable[Found]) -> Iterator[tuple[Found, ...]]:
    """The newest first: each with the best before it. Those of one start of the trainer belong together."""
    newest_first = sorted(found, key=lambda each: (each.whole.step, each.place), reverse=True)
    for newest in newest_first:
        number = newest.place.rpartition("/")[0]
        beside = {each.whole.step: each for each in newest_first if each.place.rpartition("/")[0] == number}
        best = newest.whole.best_step
        if best is None or best == newest.whole.step:
            yield (newest,)
        elif best in beside:
            yield (beside[best], newest)


def pushed_folder(run_id: str) -> str:
    """Where in the store a run's checkpoints lie."""
    return f"{RUNS}/{run_id}/checkpoints"


def pushed_of(run_id: str, folder: RunFolder) -> PushedCheckpoints | None:
    """Of a run that is at home; None where its state lies here alone. Raises as `read_link` and `Bucket` do."""
    link = read_link(folder)
    return None if link is None else PushedCheckpoints(Bucket(link.url), pushed_folder(run_id))
