"""A Provisioner whose machines are those of `Outside`."""

from __future__ import annotations

import http.client
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from catalogs.hardware import Offer
from provision import errors
from provision.clouds.inventory import Inventory, Notes, verdict_of
from provision.clouds.patience import Patience
from provision.clouds.programs import Cloud
from provision.errors import ProvisionError, Refused
from provision.home.clocks import Clocks
from provision.seam import (
    Answer,
    Box,
    Claim,
    Ends,
    InCharge,
    Launch,
    Layer,
    Owned,
    Resource,
    Teardown,
    clock_trouble,
    unshared,
)
from tests.doubles.virtual.lives import Life
from tests.doubles.virtual.outside import Outside
from tests.doubles.virtual.trainer import Job
from tests.doubles.world.core import MACHINE, Declined, Reason, Thing

HOME: Final = "/box"
GRACE_S: Final = 65.0  # as the product has it for clouds
TEARDOWN_S: Final = 600.0
HOURS_PER_MONTH: Final = 730
CREATE_S: Final = 20.0  # from the order until the provider says that the box runs


@dataclass
class VirtualCloud:
    """A Provisioner over `Outside`: as the cloud provisioner, with an order in place of the engine."""

    outside: Outside
    life: Life
    name: str = "virtual"
    look: str = ""
    list_lag_s: float = GRACE_S
    worst_teardown_s: float = TEARDOWN_S + GRACE_S
    inventory: Inventory = field(init=False)

    def __post_init__(self) -> None:
        self.inventory = Inventory(
            cast("Cloud", self.Lists(self)),
            {},
            Patience(
                grace_s=GRACE_S,
                teardown_s=TEARDOWN_S,
                clocks=Clocks(wall=lambda: self.outside.home_s, steady=lambda: self.outside.now_s, sleep=self.sleep),
            ),
        )

    def sleep(self, duration_s: float) -> None:
        self.life.tick()
        self.outside.pass_time(duration_s)

    def up(self, offer: Offer, launch: Launch) -> Box:
        self.life.ordered()
        self.life.tick()
        listed = self.inventory.listed((offer.region,), launch.run_id)
        if not listed.nothing:
            raise ProvisionError(f"Something of this run is there already, or nobody can say: {listed.message}.")
        if (trouble := clock_trouble(listed.ahead_s)) is not None:
            raise Refused(trouble)
        disk_usd_per_hour = launch.disk_gib * self.outside.disk_usd_per_gib_month / HOURS_PER_MONTH
        details = {
            "run_id": launch.run_id,
            "deadline_at_s": launch.deadline_at_s - (listed.ahead_s or 0.0),
            "job": Job(self.outside.training, lease_s=launch.lease_s or math.inf, renewed_at_s=self.outside.now_s),
        }
        try:
            machine = self.outside.world.create(
                MACHINE,
                launch.run_id,
                details,
                usd_per_hour=offer.usd_per_hour + disk_usd_per_hour + self.outside.address_usd_per_hour,
                type=offer.instance_type,
            )
        except Declined as declined:
            raise _read(declined) from None
        finally:
            self.outside.settle()
            self.life.tick()
        self.sleep(CREATE_S)
        return Box(
            run_id=launch.run_id,
            provider=self.name,
            host=machine.address,
            port=22,
            user="ubuntu",
            host_key="ssh-ed25519 AAAA",
            folder=HOME,
            resources=(_resource(machine),),
        )

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        self.life.tick()
        notes = Notes()
        listed = self.inventory.end((claim.region,), claim, notes, in_charge)
        return verdict_of(self.name, claim.run_id, listed, notes, at_s=self.inventory.told_s(listed))

    def owned(self, claim: Claim | None = None) -> Owned:
        self.life.tick()
        return self.inventory.listed(("here",), claim.run_id if claim else None)

    def console(self, claim: Claim) -> str:
        return ""

    def account(self) -> str | None:
        return None

    def readmit(self, claim: Claim) -> str | None:
        """Only asked while a box is silent; then the line at home is bad too, and breaks in a way that nobody foresaw."""
        raise http.client.RemoteDisconnected("Remote end closed connection without response")

    def rearm(self, claim: Claim, ends: Ends) -> None:
        pass

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        return ()

    @dataclass(frozen=True)
    class Lists:
        """What `Inventory` asks of a cloud's module."""

        of: VirtualCloud

        def owned(self, region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
            try:
                things = self.of.outside.world.listed(MACHINE)
            except Declined as declined:
                return Owned(resources=(), complete=Answer.UNKNOWN, message=str(declined))
            found = tuple(_resource(each) for each in things if tag in (None, each.details["run_id"]))
            return Owned(resources=found, complete=Answer.YES, ahead_s=self.of.outside.ahead_s)

        def destroy_stray(self, resource: Resource, environment: Mapping[str, str]) -> None:
            self.of.life.tick()
            try:
                self.of.outside.world.delete(MACHINE, int(resource.id))
            except Declined as declined:
                if declined.reason is not Reason.ABSENT:
                    raise ProvisionError(f"The cloud declined to end {resource.id}: {declined}.") from None
            finally:
                self.of.outside.settle()
                self.of.life.tick()


def _read(declined: Declined) -> ProvisionError:
    """Only a cloud that is full rules anything out."""
    if declined.reason is not Reason.NO_CAPACITY:
        return ProvisionError(f"The cloud declined: {declined}.")
    return errors.Declined(f"The cloud declined: {declined}.", reason=errors.Reason.CAPACITY, scope=errors.Scope.OFFER)


def _resource(machine: Thing) -> Resource:
    return Resource(
        kind="instance",
        id=str(machine.id),
        region="here",
        run_id=machine.details["run_id"],
        deadline_at_s=machine.details["deadline_at_s"],
        since_s=machine.created_at_s,
    )
