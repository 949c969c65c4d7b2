"""What a job goes on with is looked through before anything is rented: what is cut short its machine would find out, paid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest

from planner.asking.request import Request
from provision.errors import BadInput
from provision.prepare.inputs.earlier import ADAPTER_WEIGHTS, TAKE_ANOTHER, require_earlier_whole
from remote.contract import ADAPTER_CONFIG, MANIFEST_FILE, PROGRESS_FILE, STATE_FILE, WEIGHTS_FILE, Loop
from tests.planner.builders import make_request

HEADER: Final = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {}}).encode()
TENSORS: Final = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)  # a safetensors file of one tensor


def job(folder: Path) -> Request:
    return make_request(loop=Loop(init_adapter=str(folder)))


def checkpoint(folder: Path) -> Path:
    """As its trainer leaves one."""
    files = {WEIGHTS_FILE: TENSORS, STATE_FILE: b"moments"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    (folder / PROGRESS_FILE).write_bytes(msgspec.json.encode({"step": 4, "sha256": sums}))
    return folder


def adapter(folder: Path, *, sums: bool = True) -> Path:
    """As it came home; `sums`: not somebody else's."""
    files = {ADAPTER_CONFIG: b'{"r": 4}', ADAPTER_WEIGHTS: TENSORS}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    if sums:
        lines = (f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in files.items())
        (folder / MANIFEST_FILE).write_text("\n".join(lines))
    return folder


def test_what_is_whole_is_gone_on_with(tmp_path: Path) -> None:
    """A job that begins anew has nothing to look through."""
    makers: tuple[Callable[[Path], Path], ...] = (checkpoint, adapter, partial(adapter, sums=False))
    for number, made in enumerate(makers):
        (folder := tmp_path / str(number)).mkdir()
        require_earlier_whole(job(made(folder)))
    require_earlier_whole(make_request())


@pytest.mark.parametrize("name", [WEIGHTS_FILE, STATE_FILE])
def test_a_checkpoint_that_is_torn_is_refused(tmp_path: Path, name: str) -> None:
    """Its copy was cut off, or its disk was full."""
    torn = checkpoint(tmp_path) / name
    torn.write_bytes(torn.read_bytes()[:3])
    with pytest.raises(BadInput, match=f"is torn or was changed: {name} is not what") as refused:
        require_earlier_whole(job(tmp_path))
    assert (refused.value.hint, refused.value.place) == (TAKE_ANOTHER, ("loop", "init_adapter"))


def test_a_checkpoint_without_its_moments_is_refused(tmp_path: Path) -> None:
    """As its machine would refuse it; one without weights the planner calls none."""
    (checkpoint(tmp_path) / STATE_FILE).unlink()
    with pytest.raises(BadInput, match=f"the checkpoint in .* has no {STATE_FILE}"):
        require_earlier_whole(job(tmp_path))


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("bytes_left", [4, 20, len(TENSORS) - 1])
def test_an_adapter_that_is_torn_is_refused_whoever_made_it(tmp_path: Path, sums: bool, bytes_left: int) -> None:
    """By our hashes, and by what a safetensors file says of its own length."""
    (adapter(tmp_path, sums=sums) / ADAPTER_WEIGHTS).write_bytes(TENSORS[:bytes_left])
    with pytest.raises(BadInput, match=r"the adapter in .* is torn"):
        require_earlier_whole(job(tmp_path))
