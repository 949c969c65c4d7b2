"""A box that never answers: its own boot log says why, as far as its provider shows one."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from catalogs.hardware import Offer
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.errors import Exit, ProvisionError
from provision.home.places import Places
from provision.seam import Box, Claim, Launch, Resource
from provision.walk.driven import Reach, read_run
from provision.walk.edges import Edges
from provision.walk.run import walk
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import about

BOOT_LOG = "".join(f"[{second}.0] line {second}\n" for second in range(100)) + "Kernel panic - not syncing: no root\n"


class Panicking(Paper):
    """A machine that boots into a panic: nothing listens at its address."""

    def __init__(self, console: str | Exception) -> None:
        super().__init__()
        self._console = console

    def up(self, offer: Offer, launch: Launch) -> Box:
        self.boxes[launch.run_id] = Resource(kind="instance", id="i-1", run_id=launch.run_id)
        return Box(
            run_id=launch.run_id,
            provider=self.name,
            host="127.0.0.1",
            port=1,
            user="me",
            host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHs0wxAyC0dUZsMaG0tdBhXvSl6LVHcxUM4OMnQz5lhc",
            folder="/box",
        )

    def console(self, claim: Claim) -> str:
        if isinstance(self._console, Exception):
            raise self._console
        return self._console


def boots_at_once(plan: Plan) -> Plan:
    """So that nobody waits for long."""
    duration = msgspec.structs.replace(plan.duration, phase_s=plan.duration.phase_s | {"boot": about(0.1)})
    return msgspec.structs.replace(plan, duration=duration)


@pytest.mark.parametrize(
    ("console", "told"),
    [
        (BOOT_LOG, "line 99 / Kernel panic - not syncing: no root. All of it: "),
        ("", ""),
        (ProvisionError("AWS did not grant the console."), ""),
    ],
    ids=["it panicked", "nothing is shown", "it can't be asked"],
)
@pytest.mark.fault("F11", tier="code")
def test_a_box_that_never_answers_is_told_with_the_end_of_its_boot_log(
    run_id: str, places: Places, ledger: Ledger, console: str | Exception, told: str
) -> None:
    """And it is ended all the same; without a log the silence alone is told."""
    provisioner = Panicking(console)
    held = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: provisioner), ledger=ledger)
    receipt = walk(dataclasses.replace(held, plans=(boots_at_once(held.plan),), reach=Reach(least_boot_s=0.1)))
    assert receipt.exit_code == Exit.FAILED
    assert told in receipt.ending.message
    assert ("console" in receipt.ending.message) == bool(told)
    assert places.run(run_id).console.exists() == bool(told)
    assert provisioner.boxes == {}
