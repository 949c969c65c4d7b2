"""What a cloud's program is told: one frozen value, the same for every cloud."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Final, Literal

import msgspec

from catalogs.hardware import Offer
from catalogs.read import MOST_USD_PER_HOUR
from planner.asking.request import OUR_TAGS, WIDEST_PREFIX
from planner.units import GIB
from provision.clouds.programs.accounts.refusals import Refusal
from provision.errors import Declined, Reason, Refused, Scope
from provision.seam import MACHINE, Launch, Resource

RUN_TAG: Final = f"{OUR_TAGS}run"  # lower case and hyphens: a tag on AWS and a label on GCP
SSH_PORT: Final = 22
OURS: Final = OUR_TAGS  # names at a cloud begin so, too
OWNER_TAG: Final = f"{OUR_TAGS}owner"
INSTALLATION_TAG: Final = f"{OUR_TAGS}installation"
DEADLINE_TAG: Final = f"{OUR_TAGS}deadline"
PRICE_TAG: Final = f"{OUR_TAGS}usd-per-hour"
KEPT_TAG: Final = f"{OUR_TAGS}kept"  # a volume's name, on what is to outlive its machine: no computer takes it for a leak
MOUNT: Final = "/mnt/rentune"  # where a machine has the volume that is kept
CACHE: Final = f"{MOUNT}/cache"  # what is on it
DEADLINE_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
PRICE_LENGTH: Final = 32  # assumed: of a price's text on a tag; those of the catalog have at most ten characters, 2026-11
LEAST_USD_PER_HOUR: Final = Decimal("0.000001")  # assumed: nobody rents out a machine for less, but what is free


# What `require_ram` says, as it comes back through the engine.
TOO_LITTLE_RAM: Final = Refusal(
    r"(?P<said>\S+ has [\d.]+ GiB of RAM, and the run needs \d+ GiB)", Reason.HOST, Scope.INSTANCE_TYPE, r"\g<said>"
)


# What `require_price` says, likewise.
TOO_DEAR: Final = Refusal(
    r"(?P<said>\S+ costs \$[\d.]+ an hour by now, and \$[\d.]+ was planned)", Reason.PRICE, Scope.OFFER, r"\g<said>"
)
ROUNDING: Final = Decimal("1.02")  # assumed: a price that is told differs by no more from the list's, unless it has changed


class PowerOff(StrEnum):
    """What becomes of the bill when a machine of a cloud switches itself off, as its program has asked for it."""

    ENDS_BILL = "ends the bill"  # the cloud takes the machine away
    STOPS = "stops it"  # its disk is billed on, and the limit by which the cloud deletes what runs has nothing to end
    KEEPS_BILLING = "keeps billing"  # it is off, and there
    REBOOTS = "reboots"  # the cloud starts it again


# Assumed, where the cloud's own limit ends the bill: Google's acts within 30 s. A machine that is off by then is not deleted.
TIMER_AFTER_S: Final = {PowerOff.STOPS: 90.0}


# Where a box that nobody comes for can end its own bill early: by a power-off, or by asking its cloud for the end.
ENDS_EARLY: Final = frozenset({PowerOff.ENDS_BILL, PowerOff.REBOOTS})


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """How to find the machine image: the newest one of this owner whose name matches."""

    owner: str
    name: str  # with * and ?
    user: str  # whom it lets in
    told_by: Literal["cloud-init", "start command"] = "cloud-init"  # what reads the order's user data in it
    driver_branch: int | None = None  # the branch of NVIDIA's driver in it, or a newer one; None = none, or it is not stated
    takes_driver: bool = False  # an Ubuntu that cloud-init reads: its first boot can put a driver in (boot/driver_unit.py)
    source: str = ""
    as_of: dt.date | None = None

    @property
    def home(self) -> str:
        """The user's folder."""
        return "/root" if self.user == "root" else f"/home/{self.user}"


class KeptVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A disk beside the machine's own, which outlives it."""

    tags: dict[str, str]  # of one that is made
    size_gib: int
    id: str | None = None  # of the one that is there; None = it is made
    place: str | None = None  # where that one lies: its zone, or its region where a cloud has no zones


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One machine to create."""

    name: str  # of every resource; unique per run, so a second `up` can't buy a second box unseen
    region: str
    full_zones: tuple[str, ...] = ()  # of the region, where this type was refused to this run
    instance_type: str
    max_usd_per_hour: Decimal | None  # a spot bid; None = on demand
    usd_per_hour: Decimal | None = None  # that was planned, with the machine's disk where it is billed apart; None = not known
    disk_gib: int  # 0 = as large as the image asks for
    ram_gib: int = 0  # at least; 0 = the offer states what the machine has
    volume: KeptVolume | None = None
    image: Image
    installs_driver: bool = False  # its first boot sees to one, and set-up waits for that
    public_key: str
    host_key: str  # the public half; exported, so that a resumed controller still knows it
    user_data: str  # a secret: it holds the one-time host key
    deadline_at_s: float  # wall clock: for a cloud that ends a machine by itself
    allow_from: tuple[str, ...]
    tags: dict[str, str]


def require_no_spot(cloud: str, order: Order) -> None:
    """Raises Refused where a bid is made at a cloud that has no spot market."""
    if order.max_usd_per_hour is not None:
        raise Refused(f"{cloud} has no spot machines.", hint="Choose an offer on demand.")


def require_disk(order: Order, disk_bytes: int) -> None:
    """Raises Refused where the disk comes with the machine, and what the run needs does not fit."""
    if order.disk_gib * GIB > disk_bytes:
        has_gib = disk_bytes // GIB
        raise Refused(
            f"{order.instance_type} has a disk of {has_gib} GiB, and the run needs {order.disk_gib} GiB.",
            hint="Choose an offer with a larger disk.",
        )


def require_ram(order: Order, ram_bytes: int) -> None:
    """Raises Declined where the machine has less RAM than the order asks for: another type may have more."""
    if order.ram_gib * GIB > ram_bytes:
        has = f"{order.instance_type} has {ram_bytes / GIB:.1f} GiB of RAM"
        raise Declined(f"{has}, and the run needs {order.ram_gib} GiB.", reason=Reason.HOST, scope=Scope.INSTANCE_TYPE)


def require_price(order: Order, told_usd_per_hour: Decimal) -> None:
    """Raises Declined where the cloud tells that the machine is dearer than planned: the deadline was reckoned by that."""
    if (why := risen(order.instance_type, order.usd_per_hour, told_usd_per_hour)) is not None:
        raise Declined(f"{why}.", reason=Reason.PRICE, scope=Scope.OFFER)


def risen(instance_type: str, planned_usd_per_hour: Decimal | None, told_usd_per_hour: Decimal) -> str | None:
    """That a price is above the planned one, in the words of `TOO_DEAR`; None where it is not."""
    if planned_usd_per_hour is None or told_usd_per_hour <= planned_usd_per_hour * ROUNDING:
        return None
    return f"{instance_type} costs ${told_usd_per_hour:.4f} an hour by now, and ${planned_usd_per_hour:.4f} was planned"


def resource_name(run_id: str) -> str:
    """What this run's things are called at the cloud."""
    return f"{OURS}{run_id}"


def run_tags(offer: Offer, launch: Launch, installation: str) -> dict[str, str]:
    """Tags that let any computer find, price and end the run without our ledger and tell whose it is, beside the user's own."""
    if any(key.startswith(OUR_TAGS) for key in launch.tags):
        raise ValueError(f"a request with tags of ours is refused: {', '.join(launch.tags)}")
    deadline = dt.datetime.fromtimestamp(math.floor(launch.deadline_at_s), dt.UTC)
    return launch.tags | {
        RUN_TAG: launch.run_id,
        OWNER_TAG: launch.owner,
        INSTALLATION_TAG: installation,
        DEADLINE_TAG: deadline.strftime(DEADLINE_FORMAT),
        PRICE_TAG: str(offer.usd_per_hour),
    }


def tagged_resource(
    kind: str, id: str, region: str, tags: Mapping[str, str], *, bills: bool, made_at: str | None = None
) -> Resource:
    """What the tags of `run_tags` say of a resource that a cloud lists. `made_at`: by the cloud's own word, in ISO 8601."""
    return Resource(
        kind=kind,
        id=id,
        region=region,
        run_id=tags.get(RUN_TAG),
        owner=tags.get(OWNER_TAG),
        installation=tags.get(INSTALLATION_TAG),
        deadline_at_s=_deadline_at_s(tags.get(DEADLINE_TAG, "")),
        name=tags.get(KEPT_TAG),
        bills=bills,
        usd_per_hour=_usd_per_hour(tags.get(PRICE_TAG, "")) if kind == MACHINE else None,
        since_s=instant_s(made_at or ""),
    )


def _usd_per_hour(text: str) -> Decimal | None:
    """None for what is none, as of a deadline: somebody's own hand wrote it, and a number may have a million digits."""
    try:
        price = Decimal(text) if len(text) <= PRICE_LENGTH else Decimal("NaN")
    except InvalidOperation:
        return None
    if not price.is_finite() or price.is_signed():
        return None
    return price if price == 0 or LEAST_USD_PER_HOUR <= price <= MOST_USD_PER_HOUR else None


def written_tags(text: object) -> dict[str, str]:
    """Our tags as they are written where a cloud has none: one JSON object, of which what is no text is left out; empty for
    whatever else anybody has written there.
    """
    try:
        tags = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in tags.items() if isinstance(value, str)} if isinstance(tags, dict) else {}


def instant_s(text: str) -> float | None:
    """The wall clock of a moment in ISO 8601, UTC where it names no zone, as clouds do; None for what is none."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _deadline_at_s(text: str) -> float | None:
    try:
        return dt.datetime.strptime(text, DEADLINE_FORMAT).replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        return None  # somebody's own hand wrote it: not known, so never over


def checked_cidrs(cidrs: tuple[str, ...]) -> tuple[str, ...]:
    """The same networks, normalized."""
    networks = [ipaddress.ip_network(cidr.strip(), strict=False) for cidr in cidrs]
    if any(each.prefixlen < WIDEST_PREFIX[each.version] for each in networks):
        raise ValueError(f"a request with a network as wide is refused: {', '.join(cidrs)}")
    return tuple(map(str, networks))
