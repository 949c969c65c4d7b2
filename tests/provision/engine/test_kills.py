"""Controller and engine die together at the worst moment, at each cloud: what stands is found by its tag and ended."""

from __future__ import annotations

import pytest

from provision.clouds.programs import load_cloud
from tests.doubles.bench import Bench
from tests.provision.engine.killing import called, kill_everything, machine_of

pytestmark = pytest.mark.engine


@pytest.mark.fault("F3", tier="engine")
def test_everything_killed_after_the_create_and_before_the_checkpoint(bench_by_plugin: Bench) -> None:
    """The state has a create without an id, a lock of a dead owner stays, the box runs: `destroy` ends it for good."""
    bench, machine = bench_by_plugin, machine_of(bench_by_plugin)
    bench.faults.plant("create", "after", machine, "hang", once=True)
    kill_everything(bench, "up", f"after create {machine}")

    [pending] = bench.provisioner()._stack(bench.launch).state().pending
    assert (pending.type, pending.id) == (load_cloud(bench.cloud).ADDRESS[0], "")
    assert "instance" in {resource.kind for resource in bench.listed().resources}
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"

    assert bench.listed().resources == ()
    assert called(bench, f"after delete {machine}"), "the engine itself ended the box that the tag gave back to its state"


@pytest.mark.fault("F25", tier="engine")
def test_everything_killed_in_mid_destroy(bench_by_plugin: Bench) -> None:
    """The cloud has ended the box and the state does not know: the next destroy ends the rest and says destroyed."""
    bench, machine = bench_by_plugin, machine_of(bench_by_plugin)
    bench.provisioner().up(bench.row.offer, bench.launch)
    bench.faults.plant("delete", "after", machine, "hang", once=True)
    kill_everything(bench, "destroy", f"after delete {machine}")

    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().resources == ()
