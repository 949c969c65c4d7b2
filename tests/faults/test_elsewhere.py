"""The same job on another box, where the first was not to be had, never answered, or was taken away: on the real local box."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from catalogs.hardware import Offer
from planner.plan import Plan
from provision.account.bill import rental_usd, rounded
from provision.account.receipt import Receipt
from provision.errors import Declined, Exit, Reason, Scope
from provision.provisioner import Box, Launch
from provision.walk.held import Run, read_run
from provision.walk.run import walk
from remote.contract import Phase
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.faults.rehearsal import Rehearsal
from tests.faults.standins import FINISH, ScriptedBox
from tests.provision.plans import about

pytestmark = pytest.mark.box

HERE, THERE = "local/here/this-machine/on_demand", "local/there/this-machine/on_demand"


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


def elsewhere(plan: Plan, region: str, *, usd_per_hour: str = "3.60", purchase: str = "on_demand") -> Plan:
    offer = msgspec.structs.replace(plan.offer, region=region, usd_per_hour=Decimal(usd_per_hour), purchase=purchase)
    return msgspec.structs.replace(plan, offer=offer)


def boots_at_once(plan: Plan) -> Plan:
    duration = msgspec.structs.replace(plan.duration, phase_s=plan.duration.phase_s | {Phase.BOOT.value: about(0.1)})
    return msgspec.structs.replace(plan, duration=duration)


def opened(rehearsal: Rehearsal, box: ScriptedBox, *, purchase: str = "on_demand", deadline_s: float = 120.0) -> Run:
    """A run of a plan here, with the same at twice the price there."""
    plan = elsewhere(boots_at_once(rehearsal.plan(steps=8)), "here", purchase=purchase)
    there = elsewhere(plan, "there", usd_per_hour="7.20", purchase=purchase)
    run_id = rehearsal.open(deadline_s=deadline_s, change=lambda _: plan, alternatives=(there,))
    run = read_run(
        run_id,
        places=rehearsal.places,
        ledger=rehearsal.ledger,
        make=lambda _claim: box,
        display=Quiet(),
        agrees=lambda _: True,
    )
    return dataclasses.replace(run, sleep=lambda seconds: time.sleep(min(seconds, 0.3)), least_boot_s=0.5)


def require_bill(receipt: Receipt, run: Run) -> None:
    """To the hundredth of a cent: the failed at its price, the last at its own."""
    *failed, last = run.state.rentals
    lines = {line.name: line.metered_usd for line in receipt.bill}
    assert lines["failed attempts"] == rounded(sum((rental_usd(each, now_s=0.0) for each in failed), Decimal(0)))
    assert lines["compute"] + lines["idle"] == rental_usd(last, now_s=0.0)
    assert receipt.metered_usd == sum(each.usd for each in receipt.tries)


class FullHere(ScriptedBox):
    """Has no room here, and room there."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        if offer.region == "here":
            raise Declined("No room here.", reason=Reason.CAPACITY, scope=Scope.OFFER)
        return super().up(offer, launch)


class SilentHere(ScriptedBox):
    """A box here boots and never answers."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        box = super().up(offer, launch)
        if offer.region == "here":
            self.line.cut()
        else:
            self.line.heal()
        return box


def test_what_is_full_here_is_trained_there(rehearsal: Rehearsal, line: Proxy) -> None:
    """At its own price; what was declined costs nothing and stands in the receipt."""
    run = opened(rehearsal, FullHere(rehearsal, line, FINISH))
    receipt = walk(run)
    assert receipt.exit_code == Exit.OK, receipt.message
    assert [(each.offer, each.reason) for each in receipt.tries] == [(HERE, Reason.CAPACITY), (THERE, None)]
    assert (receipt.offer, receipt.usd_per_hour) == (THERE, Decimal("7.20"))
    assert receipt.tries[0].usd == 0
    require_bill(receipt, run)
    assert (run.folder.adapter / "adapter.bin").exists()


def test_a_box_that_never_answers_is_ended_and_another_asked_for(rehearsal: Rehearsal, line: Proxy) -> None:
    """It was there for so long, and is billed for that."""
    run = opened(rehearsal, SilentHere(rehearsal, line, FINISH))
    receipt = walk(run)
    assert receipt.exit_code == Exit.OK, receipt.message
    assert [(each.reason, each.usd > 0) for each in receipt.tries] == [(Reason.HOST, True), (None, True)]
    require_bill(receipt, run)
    assert rehearsal.is_gone(run.run_id)
