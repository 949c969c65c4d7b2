"""The controller or the engine die at the worst moment, at AWS: what stands is found by its tag and ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from provision.clouds.engine.stack import Stack
from provision.errors import ProvisionError
from provision.home.places import RunFolder
from tests.doubles.bench import OFFER, Bench
from tests.provision.engine.killing import PATIENCE_S, Start, called, controllers, the_engine, wait_until

pytestmark = pytest.mark.engine


@pytest.fixture
def controller(bench: Bench) -> Iterator[Start]:
    with controllers(bench) as start:
        yield start


def the_stack(bench: Bench) -> Stack:
    return bench.provisioner()._stack(bench.launch)


@pytest.mark.fault("F3", tier="engine")
def test_a_killed_controller_does_not_kill_the_engine(bench: Bench, controller: Start) -> None:
    """The engine finishes the create and records it; the next controller waits for that and buys no second one."""
    bench.faults.plant("create", "after", "Instance", "sleep 3", once=True)
    process = controller("up")
    wait_until(lambda: called(bench, "after create Instance"))
    process.kill()

    with pytest.raises(ProvisionError, match="already has instance i-"):
        bench.provisioner().up(OFFER, bench.launch)

    state = the_stack(bench).state()
    assert state.pending == ()
    assert "aws:ec2/instance:Instance" in {resource.type for resource in state.resources}
    assert sum(call.startswith("before create Instance") for call in bench.faults.calls()) == 1
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.fault("F8", tier="engine")
def test_a_controller_that_is_told_to_end_in_mid_create(bench: Bench, controller: Start, number: signal.Signals) -> None:
    """As with the kill: the box is recorded, and another process ends it."""
    bench.faults.plant("create", "before", "Instance", "sleep 3", once=True)
    process = controller("up")
    wait_until(lambda: called(bench, "before create Instance"))
    process.send_signal(number)

    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().resources == ()
    assert called(bench, "after delete Instance")


@pytest.mark.fault("F8", tier="engine")
def test_ctrl_c_in_mid_create_is_orderly(bench: Bench, controller: Start) -> None:
    """The create in flight ends and is recorded, the lock is freed, and the controller ends with KeyboardInterrupt."""
    bench.faults.plant("create", "after", "Instance", "sleep 2", once=True)
    process = controller("up")
    wait_until(lambda: called(bench, "after create Instance"))
    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE_S) == -signal.SIGINT
    state = the_stack(bench).state()
    assert "aws:ec2/instance:Instance" in {resource.type for resource in state.resources}
    assert state.pending == ()
    assert list((RunFolder(bench.launch.folder).engine / "state").rglob("locks/**/*.json")) == []
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"


def test_an_engine_that_is_killed_under_its_controller(bench: Bench, controller: Start) -> None:
    """The controller says what stands, and the next destroy ends it."""
    bench.faults.plant("create", "after", "Instance", "hang", once=True)
    process = controller("up")
    wait_until(lambda: called(bench, "after create Instance"))
    the_engine(bench).kill()

    assert process.wait(PATIENCE_S) == 1
    assert "By then aws listed instance i-" in bench.errors.read_text()
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().resources == ()


@pytest.mark.fault("F25", tier="engine")
def test_a_destroy_that_was_cut_short_is_finished_by_the_next(bench: Bench, controller: Start) -> None:
    """A cancelled destroy exits 0 with resources left; we never call that destroyed."""
    bench.provisioner().up(OFFER, bench.launch)
    bench.faults.plant("delete", "before", "Instance", "sleep 2", once=True)
    process = controller("destroy")
    wait_until(lambda: called(bench, "before delete Instance"))
    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE_S) == -signal.SIGINT
    assert not the_stack(bench).state().empty
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().resources == ()


@pytest.mark.fault("F6", tier="engine")
def test_a_lock_whose_owner_lives_is_respected(bench: Bench, controller: Start) -> None:
    """While another process works on the run's stack, an `up` is refused with a sentence."""
    bench.faults.plant("create", "before", "Instance", "hang", once=True)
    controller("up")
    wait_until(lambda: called(bench, "before create Instance"))

    with pytest.raises(ProvisionError, match="another process is working on this run"):
        the_stack(bench).up(lambda: None)

    the_engine(bench).kill()
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
