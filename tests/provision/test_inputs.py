"""What is looked at on this machine before anything is rented."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from planner.request import Request
from provision.errors import BadInput
from provision.prepare.inputs import with_absolute_paths
from tests.provision.plans import tiny_files, tiny_plan


@pytest.mark.parametrize("name", ["taken/adapter", "taken"])
def test_an_adapter_that_cannot_be_kept_is_told_before_anything_is_rented(tmp_path: Path, name: str) -> None:
    """A file stands where the folder should; one that can be made is not made by asking."""
    (tmp_path / "taken").touch()
    request = tiny_plan(*tiny_files(tmp_path)).request

    def kept_in(folder: Path) -> Request:
        return msgspec.structs.replace(request, keep=msgspec.structs.replace(request.keep, adapter=str(folder)))

    with pytest.raises(BadInput, match=f"can't be kept in {tmp_path / name} .*: Not a directory"):
        with_absolute_paths(kept_in(tmp_path / name))
    assert with_absolute_paths(kept_in(tmp_path / "a/b")).keep.adapter == str(tmp_path / "a/b")
    assert not (tmp_path / "a").exists()
