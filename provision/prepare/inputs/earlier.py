"""Whether an adapter or a checkpoint that a job goes on with is whole: its machine would find out when it is paid for."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Never

import msgspec

from catalogs.user_file import shortened
from planner.asking.request import Request
from provision.errors import BadInput
from provision.prepare.inputs.weights import is_whole
from remote.contract import ADAPTER_CONFIG, CHECKPOINT_FILES, MANIFEST_FILE, PROGRESS_FILE, STATE_FILE, WEIGHTS_FILE, decode
from remote.digest import sha256_of

ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
TAKE_ANOTHER: Final = "Take another, or leave init_adapter out."


class _Sums(msgspec.Struct, frozen=True):
    """What a checkpoint's progress says of its other files; one of a trainer of before 2026-12 says nothing."""

    sha256: dict[str, str] = {}


def require_earlier_whole(request: Request) -> None:
    """Raises BadInput for files that are cut short, missing or changed since the trainer wrote them, by its own hashes; for
    weights of somebody else's, which have none, by the length that their first bytes tell.
    """
    if request.loop.init_adapter is None:
        return
    folder = Path(request.loop.init_adapter)
    try:
        if (folder / WEIGHTS_FILE).is_file():
            _require(folder, _sums_of_checkpoint(folder), files=CHECKPOINT_FILES, what="checkpoint")
            _require_length(folder / WEIGHTS_FILE, folder, what="checkpoint")
        else:
            _require(folder, _sums_of_adapter(folder), files=(ADAPTER_CONFIG, ADAPTER_WEIGHTS), what="adapter")
            _require_length(folder / ADAPTER_WEIGHTS, folder, what="adapter")
    except OSError as error:
        _refuse(folder, f"can't be read ({error.strerror})")


def _require(folder: Path, sums: dict[str, str], *, files: tuple[str, ...], what: str) -> None:
    for name in files:
        if not (folder / name).is_file():
            _refuse(folder, f"has no {name}", what=what)
        if name in sums and sha256_of(folder / name) != sums[name]:
            _refuse(folder, f"is torn or was changed: {name} is not what its trainer wrote", what=what)


def _sums_of_checkpoint(folder: Path) -> dict[str, str]:
    with suppress(OSError, msgspec.DecodeError):  # of which job it is it does not say, either, and is refused by that
        said = decode((folder / PROGRESS_FILE).read_bytes(), _Sums).sha256
        return {name: sum for name, sum in said.items() if name in (WEIGHTS_FILE, STATE_FILE)}
    return {}


def _sums_of_adapter(folder: Path) -> dict[str, str]:
    with suppress(OSError, UnicodeDecodeError):
        lines = (line.split(maxsplit=1) for line in (folder / MANIFEST_FILE).read_text().splitlines())
        return {name: sum for sum, name in (each for each in lines if len(each) == 2)}
    return {}


def _require_length(weights: Path, folder: Path, *, what: str) -> None:
    if not is_whole(weights):
        _refuse(folder, f"is torn: {weights.name} is no whole safetensors file", what=what)


def _refuse(folder: Path, why: str, *, what: str = "adapter") -> Never:
    name = shortened(os.fspath(folder))
    raise BadInput(f"init_adapter: the {what} in {name} {why}.", hint=TAKE_ANOTHER, place=("loop", "init_adapter"))
