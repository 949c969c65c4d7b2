"""From an offer and what a run needs to an order that a cloud's program can read, and whether the engine has filled it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from catalogs.catalog import disk_kind, read_rules
from catalogs.compiled import read_compiled
from catalogs.hardware import ANYWHERE, Offer
from planner.estimators.cost import SECONDS_PER_MONTH
from planner.units import SECONDS_PER_HOUR
from provision.clouds.engine.stack import State
from provision.clouds.engine.undoing import kinds_of
from provision.clouds.inventory import Inventory
from provision.clouds.orders.first_words import first_words
from provision.clouds.orders.images import Fitted, fitted
from provision.clouds.orders.reuse import kept_volume
from provision.clouds.programs import Cloud
from provision.clouds.programs.order import Image, KeptVolume, Order, checked_cidrs, resource_name, run_tags
from provision.errors import Declined, ProvisionError, Reason, Refused, Scope
from provision.home.installation import installation_id
from provision.home.places import Places
from provision.seam import Launch

HOURS_PER_MONTH: Final = SECONDS_PER_MONTH // SECONDS_PER_HOUR


@dataclass(frozen=True)
class Ordering:
    """What one cloud can be asked for from here."""

    name: str  # of the cloud
    cloud: Cloud
    image: Image
    places: Places
    inventory: Inventory
    all_regions: Callable[[], tuple[str, ...]]

    def require_possible(self, offer: Offer) -> None:
        """Raises Refused for an offer without a region, Declined where the image's driver is none for its cards.

        Another type may have others.
        """
        if offer.region == ANYWHERE and offer.region not in self.all_regions():
            raise Refused(f"{offer.key} names no region.", hint="Choose one with --region.")
        if (why := self._fitted(offer).misfit) is not None:
            raise Declined(f"{offer.key} is not bought: {why}.", reason=Reason.HOST, scope=Scope.INSTANCE_TYPE)

    def order(self, offer: Offer, launch: Launch, *, ahead_s: float = 0.0) -> Order:
        """What is asked for. Its deadline is told by the cloud's clock, which is the box's, too."""
        launch = msgspec.structs.replace(launch, deadline_at_s=launch.deadline_at_s - ahead_s)
        tags = run_tags(offer, launch, installation_id(self.places))
        volume = self._volume(offer, launch, tags)
        now_s = self.inventory.patience.clocks.wall() - ahead_s
        fit = self._fitted(offer)
        told = first_words(launch, cloud=self.cloud, image=fit.image, volume=volume, now_s=now_s, driver_order=fit.driver_order)
        return Order(
            name=resource_name(launch.run_id),
            region=offer.region,
            full_zones=launch.full_zones,
            instance_type=offer.instance_type,
            max_usd_per_hour=offer.usd_per_hour if offer.purchase == "spot" else None,
            usd_per_hour=_with_disk(offer, launch.disk_gib),
            disk_gib=launch.disk_gib,
            ram_gib=launch.ram_gib,
            volume=volume,
            image=fit.image,
            installs_driver=fit.driver_order is not None,
            public_key=launch.public_key,
            host_key=told.host_key,
            user_data=told.user_data,
            deadline_at_s=launch.deadline_at_s,
            allow_from=self._admitted(launch),
            tags=tags,
        )

    def _fitted(self, offer: Offer) -> Fitted:
        gpus = read_compiled(self.places.catalog).gpus if offer.gpu is not None else {}
        return fitted(self.cloud, offer, self.image, gpus)

    def _admitted(self, launch: Launch) -> tuple[str, ...]:
        """The networks that may reach SSH; none where no cloud could keep anybody out."""
        if launch.allow_from:
            return checked_cidrs(launch.allow_from)
        here = self.cloud.caller_address()
        return () if here is None else checked_cidrs((here,))

    def _volume(self, offer: Offer, launch: Launch, tags: dict[str, str]) -> KeptVolume | None:
        """The one of that name, else one to be made; None where none is asked for. Raises as `kept_volume`."""
        if launch.volume_name is None:
            return None
        if self.cloud.VOLUMES is None:
            raise Refused(f"{self.name} keeps no volume.", hint="Leave --keep-volume out, or choose another provider.")
        return kept_volume(self.inventory.listed(self.all_regions(), None), offer, launch, tags, self.cloud.VOLUMES)

    def require_whole(self, state: State, order: Order) -> State:
        """The state, once it has all that was ordered and nothing unfinished. Raises ProvisionError."""
        if state.pending:
            raise ProvisionError(f"The engine left {len(state.pending)} operations unfinished.")
        if missing := self._missing(state, order):
            raise ProvisionError(f"The engine recorded no {', '.join(missing)}.")
        return state

    def _missing(self, state: State, order: Order) -> list[str]:
        recorded = {resource.type for resource in state.resources if resource.id}
        fresh = order.volume is not None and order.volume.id is None
        expected = kinds_of(self.cloud) if fresh else self.cloud.KINDS
        return [kind for type, kind in expected.items() if type not in recorded]


def _with_disk(offer: Offer, disk_gib: int) -> Decimal:
    """Dollars an hour that the machine may be told to cost: some clouds tell it with the disk that they bill apart."""
    rules = read_rules()
    billing = rules.of_disk(offer.provider, offer.region, disk_kind(rules.disk_kinds, offer.provider, offer.instance_type))
    by_month = billing.disk_usd_per_gib_month if billing is not None else None
    return offer.usd_per_hour + (by_month or Decimal(0)) * disk_gib / HOURS_PER_MONTH
