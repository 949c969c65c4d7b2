"""Whether home has room for what comes there: refused in one sentence while nothing is rented."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from planner.plan import Plan
from provision.errors import Refused
from provision.home.places import Places
from provision.prepare.limits.room import LOGS_BYTES, free_bytes, require_room
from remote.contract import MAX_CHECKPOINTS

GIB = 2**30


@pytest.fixture
def large(plan: Plan) -> Plan:
    """A result of 3 GiB, checkpoints of 5 GiB."""
    components = {"result": 3 * GIB, "checkpoints": MAX_CHECKPOINTS * 5 * GIB}
    return msgspec.structs.replace(plan, host=msgspec.structs.replace(plan.host, disk_components=components))


def kept_in(plan: Plan, folder: Path) -> Plan:
    keep = msgspec.structs.replace(plan.request.keep, adapter=str(folder))
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, keep=keep))


def test_a_result_that_has_no_room_at_home_is_refused(large: Plan, places: Places) -> None:
    """Its box would hold the only copy, and be paid until somebody frees the disk."""
    with pytest.raises(
        Refused, match=r"has 3\.00 GiB free on this machine, and the adapter and the logs of this run may take 3\.01 GiB"
    ):
        require_room(large, places, lambda _: 3 * GIB)
    assert require_room(large, places, lambda _: LOGS_BYTES + 13 * GIB) is None


def test_checkpoints_that_have_none_are_told(large: Plan, places: Places) -> None:
    """The newest and the best come home where there is no result; a run that ends well needs none of them."""
    told = require_room(large, places, lambda _: 12 * GIB)
    assert told is not None
    assert "with the checkpoints that come home where a training ends early this run may take 13" in told


def test_an_adapter_that_goes_elsewhere_needs_its_room_there(large: Plan, places: Places, tmp_path: Path) -> None:
    """And home for the logs alone."""
    free = {places.home: 20 * GIB, tmp_path: GIB}
    with pytest.raises(Refused, match=f"^{tmp_path} has .* the adapter of this run may take"):
        require_room(kept_in(large, tmp_path), places, free.__getitem__)
    free = {places.home: LOGS_BYTES - 1, tmp_path: 20 * GIB}
    with pytest.raises(Refused, match=f"^{places.home} has .* the run's logs of this run"):
        require_room(kept_in(large, tmp_path), places, free.__getitem__)


def test_a_folder_that_is_not_there_yet_is_looked_at_where_it_would_be(large: Plan, places: Places, tmp_path: Path) -> None:
    """A disk that can't be asked is no reason to refuse."""
    assert free_bytes(tmp_path / "not" / "yet") > 0

    def silent(_folder: Path) -> int:
        raise PermissionError

    assert require_room(large, places, silent) is None
