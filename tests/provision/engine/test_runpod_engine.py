"""RunPod through the real engine and our own dynamic provider, against our fake of its API: create, find, destroy, the bill."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from provision import errors
from provision.account.upkeep import Spent, spent
from provision.clouds.engine.runner import living_engines
from provision.clouds.programs import runpod
from provision.errors import Declined, ProvisionError, Refused
from provision.home.places import RunFolder
from provision.seam import Answer, Resource
from tests.doubles.bench import ROOT, Bench, set_up
from tests.doubles.emulator import Emulator
from tests.doubles.world.core import MACHINE, Reason
from tests.provision.rigs import await_true

pytestmark = pytest.mark.engine
CLOUD = "runpod"  # of the bench
PATIENCE_S = 120.0
HOUR_S = 3600.0
POD = "pulumi-python:dynamic/runpod:Pod"


def kinds(resources: Iterable[Resource]) -> list[str]:
    return sorted(resource.kind for resource in resources)


def the_pod(bench: Bench) -> dict[str, object]:
    [pod] = bench.control.standing(MACHINE)
    return pod


def test_up_then_found_then_destroyed_then_nothing_left(bench: Bench) -> None:
    """The whole life of a box: where it answers, what is listed of it, and a bill that ends."""
    provisioner, launch = bench.provisioner(), bench.launch

    box = provisioner.up(bench.row.offer, launch)

    pod = the_pod(bench)
    assert (box.host, box.port, box.user) == (pod["address"], 40_000 + int(str(pod["id"])), "root")
    assert box.folder == "/root/rentune-r1"
    assert box.replace_host_key
    assert kinds(box.resources) == ["address", "instance"]
    owned = provisioner.owned(bench.launch)
    assert owned.complete is Answer.YES
    [listed] = owned.resources
    assert listed.id in {resource.id for resource in box.resources}
    assert (listed.kind, listed.owner, listed.bills) == ("instance", "ada", True)
    assert listed.since_s is not None
    assert abs(time.time() - listed.since_s) < HOUR_S, "by the cloud's own word"
    so_far = spent(listed, None, now_s=listed.since_s + HOUR_S)
    assert so_far == Spent(usd=bench.row.offer.usd_per_hour, bound="exactly"), "without a ledger"
    assert listed.deadline_at_s == int(launch.deadline_at_s)

    teardown = provisioner.destroy(launch)

    assert teardown.verdict == "destroyed", teardown.message
    assert {end.gone for end in teardown.resources} == {Answer.YES}
    assert bench.control.standing() == []
    paid = bench.control.bill_usd()
    bench.control.advance(HOUR_S)
    assert bench.control.bill_usd() == paid


def test_a_pod_whose_price_has_risen_is_given_back_before_it_is_used(bench: Bench) -> None:
    """A cap's deadline was reckoned by the planned one. The next offer may be tried."""
    bench.control.set(prices={"NVIDIA GeForce RTX 4090 SECURE": "14.40"})
    provisioner = bench.provisioner()

    with pytest.raises(Declined, match=r"runpod declined: .* costs \$14\.4\d+ an hour by now, and \$\d\.\d+ was planned") as no:
        provisioner.up(bench.row.offer, bench.launch)

    assert (no.value.reason, no.value.scope) == (errors.Reason.PRICE, errors.Scope.OFFER)
    assert bench.control.standing(MACHINE) == []
    assert provisioner.destroy(bench.launch).verdict == "destroyed"


def test_a_pod_that_runs_before_it_can_be_reached_is_waited_for(bench: Bench) -> None:
    """RunPod says "running" first, and where minutes later."""
    bench.control.set(boot_s=6.0)
    box = bench.provisioner().up(bench.row.offer, bench.launch)
    assert box.host == the_pod(bench)["address"]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (Reason.NO_CAPACITY, "runpod declined: no machine of this kind is free."),
        (Reason.QUOTA, "runpod declined: the account's balance is too low to rent a pod."),
        (
            Reason.BROKEN,
            "Creating the box failed: RunPod declined POST /pods: Internal Server Error: something went wrong.",
        ),
    ],
    ids=["no capacity", "low balance", "broken"],
)
def test_what_runpod_declines_is_one_sentence_and_leaves_nothing(bench: Bench, reason: Reason, sentence: str) -> None:
    """Of a provider in another process its words alone are told, and what they mean where that is known."""
    bench.control.plant("create", reason, MACHINE)
    provisioner = bench.provisioner()

    with pytest.raises(ProvisionError) as caught:
        provisioner.up(bench.row.offer, bench.launch)

    assert str(caught.value) == f"{sentence} By then runpod listed nothing."
    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert bench.control.standing() == []


def test_a_pod_that_was_made_though_the_answer_was_no(bench: Bench) -> None:
    """The state knows nothing of it; by its name it is found, no second one is bought, and it is ended."""
    bench.control.plant("create", Reason.BROKEN, MACHINE, after=True)
    provisioner = bench.provisioner()

    with pytest.raises(ProvisionError, match=r"By then runpod listed instance pod\d+"):
        provisioner.up(bench.row.offer, bench.launch)
    with pytest.raises(ProvisionError, match="already has instance"):
        provisioner.up(bench.row.offer, bench.launch)

    the_pod(bench)
    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert bench.control.standing() == []


def test_a_pod_that_ends_before_it_can_be_reached(bench: Bench) -> None:
    """Somebody's machine gave up: the state has the pod, so nothing is lost."""
    bench.control.set(boot_s=HOUR_S)
    bench.control.plant("read", Reason.ABSENT, MACHINE)
    provisioner = bench.provisioner()

    with pytest.raises(ProvisionError, match=r"pod\d+ ended before it had an address\. By then runpod listed instance pod\d+"):
        provisioner.up(bench.row.offer, bench.launch)

    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert bench.control.standing() == []


def test_everything_killed_while_the_address_is_awaited(bench: Bench) -> None:
    """The pod was written down before the wait began: the state ends it, in another process, and so does the list."""
    bench.control.set(boot_s=HOUR_S)
    log = RunFolder(bench.launch.folder).engine / "log"
    command = [sys.executable, "-W", "ignore", "-m", "tests.doubles.bench", msgspec.json.encode(bench).decode(), "up"]
    with bench.errors.open("wb") as errors:
        controller = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=errors)
    await_true(lambda: bench.control.standing(MACHINE), patience_s=PATIENCE_S)
    stack = bench.provisioner()._stack(bench.launch)
    await_true(lambda: stack.state().resources, patience_s=PATIENCE_S)
    engines = living_engines(log)
    controller.kill()
    for each in engines:
        each.kill()
    controller.wait()
    await_true(lambda: not living_engines(log))

    assert POD in {resource.type for resource in stack.state().resources}
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
    assert bench.control.standing() == []


def test_a_delete_that_is_refused_at_first_is_asked_for_again(bench: Bench) -> None:
    """The engine's destroy fails; by its name the pod is ended all the same."""
    provisioner = bench.provisioner()
    provisioner.up(bench.row.offer, bench.launch)
    bench.control.plant("delete", Reason.LOCKED, MACHINE, times=2)

    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert bench.control.standing() == []


def test_a_delete_without_end_is_an_orphan_and_says_how_to_go_on(bench: Bench) -> None:
    provisioner = bench.provisioner(teardown_s=0.0)
    provisioner.up(bench.row.offer, bench.launch)
    bench.control.plant("delete", Reason.LOCKED, MACHINE, times=99)

    teardown = provisioner.destroy(bench.launch)

    assert (teardown.verdict, teardown.command) == ("orphaned", "rentune down r1")
    assert "instance" in teardown.message


def test_a_run_that_lost_its_folder_is_ended_by_its_name(bench: Bench) -> None:
    """As from another computer with the same key: there is no state, and the name is enough."""
    bench.provisioner().up(bench.row.offer, bench.launch)
    elsewhere = set_up(Path(bench.folder).parent / "elsewhere", Path(bench.engine), Emulator(bench.url, "runpod"))

    assert elsewhere.provisioner().destroy(elsewhere.launch).verdict == "destroyed"
    assert bench.control.standing() == []


def test_a_pod_that_ended_itself_is_destroyed(bench: Bench) -> None:
    """Its own request came first: the state still names what RunPod has not any more."""
    provisioner = bench.provisioner()
    provisioner.up(bench.row.offer, bench.launch)
    [pod] = bench.listed().resources
    runpod.destroy_stray(pod, bench.environment)

    teardown = provisioner.destroy(bench.launch)

    assert teardown.verdict == "destroyed", teardown.message


def test_what_it_can_not_do_is_refused_before_anything_is_made(bench: Bench) -> None:
    closed = msgspec.structs.replace(bench.launch, allow_from=("203.0.113.7/32",))
    with pytest.raises(Refused, match="no firewall"):
        bench.provisioner().up(bench.row.offer, closed)
    assert bench.control.standing() == []


def test_nobody_is_let_in_anew_where_everybody_is(bench: Bench) -> None:
    """A controller that moved has nothing to ask for."""
    assert bench.provisioner().readmit(bench.launch) is None
