"""How long a new machine is waited for: a row per cloud, from the order to running, and from running to reachable."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import Any

import msgspec
import pytest

from catalogs.hardware import Offer
from provision.account.ledger import Ledger
from provision.clouds.engine.stack import OPERATION_S
from provision.clouds.programs import CLOUDS, CloudRow, runpod_pods
from provision.errors import ConnectionFailed
from provision.home.places import Places
from provision.prepare.limits.quotas import remember_refused
from provision.providers import make_provisioner
from provision.seam import Box, Launch, Resource
from provision.walk.driven import Reach, read_run
from provision.walk.edges import Edges
from provision.walk.run import walk
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.walk.job.test_console import boots_at_once

ROWS = pytest.mark.parametrize(("cloud", "row"), CLOUDS.items(), ids=CLOUDS)


class Silent(Paper):
    """A machine of a cloud that runs and never answers; it has written a boot log."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def up(self, offer: Offer, launch: Launch) -> Box:
        self.boxes[launch.run_id] = Resource(kind="instance", id="i-1", run_id=launch.run_id)
        return Box(
            run_id=launch.run_id,
            provider=self.name,
            host="203.0.113.9",
            port=22,
            user="me",
            host_key="ssh-ed25519 AAAA",
            folder="/box",
        )

    def console(self, claim: Any) -> str:
        return "cloud-init: no network\n"


@ROWS
def test_a_box_that_runs_and_never_answers_is_given_up_after_its_clouds_time(
    cloud: str, row: CloudRow, run_id: str, places: Places, ledger: Ledger
) -> None:
    """Not after what the plan guessed for a boot; its boot log is in the report, and the box is ended."""
    waited_s: list[float] = []

    def connect(_box: Box, *, deadline_s: float, **_: Any) -> Any:
        waited_s.append(deadline_s)
        raise ConnectionFailed("Nothing answered.")

    provisioner = Silent(cloud)
    held = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: provisioner), ledger=ledger)
    plan = boots_at_once(held.plan)
    rented = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, provider=cloud))
    receipt = walk(dataclasses.replace(held, plans=(rented,), reach=Reach(connect=connect)))

    assert waited_s == [row.waits.boot_s]
    assert "Its console ends with: cloud-init: no network" in receipt.ending.message
    assert str(places.run(run_id).console) in receipt.ending.message
    assert provisioner.boxes == {}


def test_an_order_that_is_granted_takes_back_that_the_account_may_not(run_id: str, places: Places, ledger: Ledger) -> None:
    """Whatever becomes of the machine; what is known of others stays."""

    def connect(_box: Box, **_: Any) -> Any:
        raise ConnectionFailed("Nothing answered.")

    provisioner = Silent("hetzner")
    held = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: provisioner), ledger=ledger)
    plan = boots_at_once(held.plan)
    rented = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, provider="hetzner"))
    another = msgspec.structs.replace(rented.offer, instance_type="another")
    for offer in (rented.offer, another):
        remember_refused(offer, "no more machines", places.quotas, today=dt.date(2026, 11, 27))
    walk(dataclasses.replace(held, plans=(rented,), reach=Reach(connect=connect)))
    assert set(json.loads(places.quotas.read_text())) == {another.key}


@ROWS
def test_each_figure_has_a_basis_and_leaves_the_teardown_its_time(cloud: str, row: CloudRow) -> None:
    """How long a teardown takes at the worst counts with an engine that runs no longer than any operation may."""
    assert row.waits.basis.startswith(("measured", "derived", "assumed"))
    assert 0 < row.waits.create_s <= OPERATION_S


def test_a_pod_without_an_address_ends_its_create_itself() -> None:
    """The engine is not stopped in the middle: it records the pod, and why there was no address."""
    assert CLOUDS["runpod"].waits.create_s > runpod_pods.WAIT_S


@ROWS
def test_the_row_reaches_the_engine(cloud: str, row: CloudRow, places: Places) -> None:
    """As the limit of the one operation that creates."""
    made: Any = make_provisioner(cloud, places=places, environment={})
    assert made.patience.create_s == row.waits.create_s
