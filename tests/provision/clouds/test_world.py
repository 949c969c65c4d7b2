"""Our own fake cloud: what it costs, when its lists show what, and each way in which it can say no."""

from __future__ import annotations

import itertools
from decimal import Decimal

import msgspec
import pytest

from provision.clouds.programs.order import PowerOff
from tests.doubles.world import digitalocean, gcp, hetzner, runpod
from tests.doubles.world.app import Dialect
from tests.doubles.world.core import MACHINE, Clock, Declined, Fault, Reason, Settings, Thing, World

HOUR_S = 3600.0
SETTINGS = Settings(power_off=PowerOff.KEEPS_BILLING)


def made(power_off: PowerOff = PowerOff.KEEPS_BILLING, **settings: object) -> World:
    """One whose time stands still."""
    addresses = (f"198.51.100.{number}" for number in itertools.count(1))
    changed = msgspec.structs.replace(SETTINGS, power_off=power_off, **settings)
    return World(changed, Clock(lambda: 0.0), addresses)


def order(world: World, name: str = "box", *, type: str = "big", usd_per_hour: str = "3.60") -> Thing:
    return world.create(MACHINE, name, {}, type=type, usd_per_hour=Decimal(usd_per_hour))


def names(things: list[Thing]) -> list[str]:
    return [thing.name for thing in things]


# ── the bill ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_machine_costs_from_its_order_to_its_end_by_the_second() -> None:
    """And what is gone stays on the bill."""
    world = made()
    machine = order(world)
    world.clock.advance(10)
    assert world.bill_usd() == Decimal("0.01")
    world.delete(MACHINE, machine.id)
    world.clock.advance(HOUR_S)
    assert world.bill_usd() == Decimal("0.01")
    assert world.standing() == []


@pytest.mark.parametrize(
    ("power_off", "usd", "runs"),
    [
        (PowerOff.ENDS_BILL, Decimal("3.60"), False),
        (PowerOff.KEEPS_BILLING, Decimal("7.20"), False),
        (PowerOff.STOPS, Decimal("4.00"), False),
        (PowerOff.REBOOTS, Decimal("7.20"), True),
    ],
)
def test_what_a_power_off_from_inside_does_to_the_bill(power_off: PowerOff, usd: Decimal, runs: bool) -> None:
    """Only where the cloud takes the machine away it is an end; where it is stopped its disk is billed on."""
    world = made(power_off)
    machine = order(world)
    machine.off_usd_per_hour = Decimal("0.40") if power_off is PowerOff.STOPS else None  # its disk's
    world.clock.advance(HOUR_S)
    world.power_off(machine.id)
    world.clock.advance(HOUR_S)
    assert world.bill_usd() == usd
    assert world.runs(machine) is runs
    assert names(world.standing()) == ([] if power_off is PowerOff.ENDS_BILL else ["box"])


def test_only_a_delete_ends_the_bill_of_what_is_switched_off() -> None:
    world = made(PowerOff.KEEPS_BILLING)
    machine = order(world)
    world.power_off(machine.id)
    world.clock.advance(HOUR_S)
    world.delete(MACHINE, machine.id)
    world.clock.advance(HOUR_S)
    assert world.bill_usd() == Decimal("3.60")


def test_a_delete_is_billed_until_it_is_done() -> None:
    """The yes to it is not its end."""
    world = made(delete_s=HOUR_S)
    machine = order(world)
    world.delete(MACHINE, machine.id)
    world.clock.advance(HOUR_S / 2)
    world.delete(MACHINE, machine.id)  # once more moves nothing
    assert world.runs(machine)
    world.clock.advance(2 * HOUR_S)
    assert world.bill_usd() == Decimal("3.60")


def test_a_price_that_has_risen_is_paid_by_who_orders_then() -> None:
    world = made()
    order(world)
    world.settings = msgspec.structs.replace(world.settings, prices={"big": Decimal(36)})
    order(world, "later")
    world.clock.advance(HOUR_S)
    assert world.bill_usd() == Decimal("39.60")


def test_keys_and_firewalls_cost_nothing_and_volumes_what_was_said() -> None:
    world = made()
    world.create("key", "k", {})
    world.create("volume", "v", {}, usd_per_hour=Decimal("0.5"))
    world.clock.advance(HOUR_S)
    assert world.bill_usd() == Decimal("0.5")


# ── what is seen ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_lists_lag_in_both_directions_and_a_look_by_id_does_not() -> None:
    world = made(list_lag_s=60)
    machine = order(world)
    world.clock.advance(59)
    assert world.listed(MACHINE) == []
    assert world.read(MACHINE, machine.id) is machine
    world.clock.advance(1)
    assert names(world.listed(MACHINE)) == ["box"]
    world.delete(MACHINE, machine.id)
    world.clock.advance(59)
    assert names(world.listed(MACHINE)) == ["box"]
    with pytest.raises(Declined, match="not found"):
        world.read(MACHINE, machine.id)
    world.clock.advance(1)
    assert world.listed(MACHINE) == []


def test_a_machine_runs_once_it_has_booted() -> None:
    world = made(boot_s=30)
    machine = order(world)
    assert not world.runs(machine)
    world.clock.advance(30)
    assert world.runs(machine)


def test_every_thing_has_a_number_and_every_machine_an_address_of_its_own() -> None:
    """Also when earlier ones are gone, and in a new account: a machine that is still ending has the name of its number."""
    world = made()
    first = order(world)
    world.delete(MACHINE, first.id)
    second = order(world)
    world.reset()
    third = order(world)
    assert len({thing.id for thing in (first, second, third)}) == 3
    assert len({thing.address for thing in (first, second, third)}) == 3


# ── how it says no ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_more_than_the_quota_and_no_more_than_there_is() -> None:
    """What is ended makes room."""
    world = made(quota=2, capacity={"rare": 1})
    first = order(world, type="rare")
    with pytest.raises(Declined) as no:
        order(world, type="rare")
    assert no.value.reason is Reason.NO_CAPACITY
    order(world)
    with pytest.raises(Declined) as no:
        order(world)
    assert no.value.reason is Reason.QUOTA
    world.delete(MACHINE, first.id)
    order(world, type="rare")


def test_a_fault_strikes_as_often_as_it_was_planted() -> None:
    world = made()
    world.faults.append(Fault(verb="list", reason=Reason.THROTTLED, times=2))
    for _ in range(2):
        with pytest.raises(Declined, match="too many requests"):
            world.listed(MACHINE)
    assert world.listed(MACHINE) == []


def test_a_fault_can_strike_after_the_deed() -> None:
    """The answer is no, and the machine is there and costs."""
    world = made()
    world.faults.append(Fault(verb="create", reason=Reason.BROKEN, kind=MACHINE, after=True))
    world.create("key", "k", {})
    with pytest.raises(Declined):
        order(world)
    assert names(world.standing()) == ["k", "box"]


@pytest.mark.parametrize("dialect", [digitalocean.DIALECT, gcp.DIALECT, hetzner.DIALECT, runpod.DIALECT])
def test_each_dialect_has_words_for_every_no(dialect: Dialect) -> None:
    """Whatever a schedule plants at whichever call: the cloud declines, and its double does not break."""
    assert all(400 <= dialect.declined(Declined(reason)).status < 600 for reason in Reason)


def test_a_refused_delete_ends_nothing() -> None:
    world = made()
    machine = order(world)
    world.faults.append(Fault(verb="delete", reason=Reason.LOCKED))
    with pytest.raises(Declined):
        world.delete(MACHINE, machine.id)
    assert world.runs(machine)


def test_a_reset_is_a_new_account_with_the_old_manners() -> None:
    world = made()
    order(world)
    world.settings = msgspec.structs.replace(world.settings, quota=0)
    world.reset()
    assert world.standing() == []
    assert world.bill_usd() == 0
    order(world)
