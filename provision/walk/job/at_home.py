"""What of a job's result is at home, each file of it seen to be the one that the trainer wrote."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from provision.home.places import RunFolder
from provision.walk.driven import Run
from remote.contract import AdapterFile, Outcome, decode
from remote.digest import sha256_of


def result_waits(run: Run) -> bool:
    """Whether the trainer has a result, as far as is known here, and home has not."""
    outcome = read_outcome(run.folder)
    return outcome is not None and outcome.trained and adapter_home(run, outcome) is None


def read_outcome(folder: RunFolder) -> Outcome | None:
    """The outcome that came home. None also for a damaged one: nothing of it can be vouched for."""
    with suppress(OSError, msgspec.DecodeError):
        return decode(folder.outcome.read_bytes(), Outcome)
    return None


def adapter_home(run: Run, outcome: Outcome) -> Path | None:
    """The folder at home that holds every file of the adapter, each with its sha256; None where none does."""
    return next((folder for folder in run.adapter_folders if _has_adapter(outcome, folder)), None)


def of_another(outcome: Outcome, folder: Path) -> str | None:
    """The first file in a folder that has a name of the adapter's, and holds something else; None = there is none."""
    taken = (file.path for file in outcome.adapter if (folder / file.path).exists() and not _is_whole(folder / file.path, file))
    return next(taken, None)


def _has_adapter(outcome: Outcome, folder: Path) -> bool:
    """A folder that may not be read holds nothing, as far as can be seen."""
    with suppress(OSError):
        return bool(outcome.adapter) and all(_is_whole(folder / file.path, file) for file in outcome.adapter)
    return False


def _is_whole(path: Path, file: AdapterFile) -> bool:
    return path.is_file() and sha256_of(path) == file.sha256
