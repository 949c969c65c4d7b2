"""`down` with another account's credentials, through the real engine: each delete there answers "gone", and nothing ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from provision.clouds.provisioner import PulumiProvisioner
from provision.seam import Answer
from tests.doubles.bench import Bench
from tests.doubles.emulator import started
from tests.provision.clouds.test_whose import another_account

pytestmark = pytest.mark.engine
ANOTHER_NUMBER = "210987654321"


@contextmanager
def strangers(cloud: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The credentials of somebody else there, in a cloud of their own."""
    monkeypatch.setenv("MOTO_ACCOUNT_ID", ANOTHER_NUMBER)
    with started(cloud) as theirs:
        yield another_account(theirs)


@pytest.mark.parametrize("cloud", ["aws", "hetzner"])
def test_by_another_accounts_credentials_nothing_is_ended_and_nothing_forgotten(
    cloud: str, bench_without_machines: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown, however often; the state keeps its ids, and the run's own credentials end it. Hetzner tells no project's id."""
    bench = bench_without_machines(cloud)
    box = bench.provisioner().up(bench.row.offer, bench.launch)
    state = bench.launch.folder / "engine" / "state"
    claim = msgspec.structs.replace(bench.launch, known=frozenset(each.id for each in box.resources))
    with strangers(cloud, monkeypatch) as variables:
        for _ in range(2):
            asked = bench.provisioner(PulumiProvisioner, teardown_s=30.0, **variables)
            end = asked.destroy(bench.launch)
            assert (end.verdict, end.command) == ("unknown", f"rentune down {bench.run_id}")
            assert asked.owned(claim).complete is Answer.UNKNOWN
            assert not asked.owned(claim).lacks(box)
            assert state.exists()
    assert {each.id for each in bench.listed().resources} >= {each.id for each in box.resources if each.bills}
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().nothing
    assert not state.exists()
