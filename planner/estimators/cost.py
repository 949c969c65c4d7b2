"""Dollars of one job on one offer: billed time, address, disk, egress. Decimal inside, so that lines sum to their total.

cost = setup + (usd_per_hour + address) · billed_s / 3600 + disks · billed_s / month + (egress_gb - free) · usd_per_gb

`address` is what the public IPv4 address costs by the hour where it is not in the machine's price. `disks` are the dollars
a month of the machine's disk, and of the volume beside it where one is to be kept. `billed_s` is the wall time from the
machine's boot to its teardown, at least the provider's minimum, rounded up to its increment (AWS: 1 s, at least 60 s; others
a minute or an hour). What a spot machine does again after it was taken is a line of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

import msgspec

from catalogs.hardware import Billing, Offer
from planner.plan import NOTHING, CostEstimate, DurationEstimate, HostEstimate, Range, Unpriced
from planner.units import GB, GIB, SECONDS_PER_HOUR
from remote.contract import Phase

SECONDS_PER_MONTH: Final = 730 * SECONDS_PER_HOUR  # derived: 8,760 hours a year by 12, the clouds' own month
MICRODOLLAR: Final = Decimal("0.000001")
LEAST_VOLUME_GIB: Final = 10  # derived: the least that Hetzner and RunPod sell; the others sell less
DISK_HEADROOM: Final = 1.1  # assumed: a tenth more than planned, for logs and the file system

UNBILLED_PHASES: Final = (Phase.PREPARE, Phase.QUEUE, Phase.CREATE, Phase.CONFIRM)  # the machine does not run yet, or any more


def disk_gib(host: HostEstimate, billing: Billing) -> int:
    """Whole GiB to order: the planned peak with a tenth of headroom, never below the provider's minimum."""
    return max(billing.minimum_disk_gib, -int(-host.disk_peak_bytes * DISK_HEADROOM // GIB))


def volume_gib(host: HostEstimate) -> int:
    """Whole GiB of a volume that is to be kept: a box's whole disk would fit on it, so what was downloaded does."""
    return max(LEAST_VOLUME_GIB, -int(-host.disk_peak_bytes * DISK_HEADROOM // GIB))


def disks_usd_per_s(disk_gib: int, volume_gib: int, billing: Billing) -> Decimal:
    """Of a machine's disk, and of the volume beside it."""
    of_disk = disk_gib * (billing.disk_usd_per_gib_month or Decimal(0))
    return (of_disk + volume_gib * (billing.volume_usd_per_gib_month or Decimal(0))) / SECONDS_PER_MONTH


def address_usd_per_hour(offer: Offer, billing: Billing) -> Decimal:
    """Of the public address that such a machine has; 0 where its price holds it, as it does where nobody states one."""
    if offer.purchase == "spot" and billing.spot_address_usd_per_hour is not None:
        return billing.spot_address_usd_per_hour
    return billing.address_usd_per_hour or Decimal(0)


def sending_usd(num_bytes: Decimal, billing: Billing) -> Decimal:
    """What a provider takes for bytes that leave it, beyond those that are free of charge."""
    return max(Decimal(0), num_bytes / GB - billing.egress_free_gb) * (billing.egress_usd_per_gb or Decimal(0))


def billed_range(duration: DurationEstimate, billing: Billing, *, rework: bool = True) -> Range:
    """Seconds on the bill; without `rework`, as if no spot machine were ever taken away."""
    unbilled_s = sum(duration.phase_s[phase].p50 for phase in UNBILLED_PHASES if phase in duration.phase_s)
    times = duration.interruptions or NOTHING
    create_s = duration.phase_s[Phase.CREATE].p50 if Phase.CREATE in duration.phase_s else 0.0
    less_s = create_s if rework else duration.lost_s  # of each interruption
    return Range(
        p10=round_to_bill(duration.wall_s.p10 - unbilled_s - times.p10 * less_s, billing),
        p50=round_to_bill(duration.wall_s.p50 - unbilled_s - times.p50 * less_s, billing),
        p90=round_to_bill(duration.wall_s.p90 - unbilled_s - times.p90 * less_s, billing),
    )


class Dearest(msgspec.Struct, frozen=True):
    """The dearest price of each kind that anybody states."""

    disk_usd_per_gib_month: Decimal = Decimal(0)
    volume_usd_per_gib_month: Decimal = Decimal(0)
    egress_usd_per_gb: Decimal = Decimal(0)


NO_OTHERS: Final = Dearest()


def dearest_of(rules: Iterable[Billing]) -> Dearest:
    """What a price that nobody states may be: as much as the dearest that somebody does."""
    known = tuple(rules)
    return Dearest(*(max((getattr(each, kind) or Decimal(0) for each in known), default=Decimal(0)) for kind in KINDS))


KINDS: Final = Dearest.__struct_fields__


def disk_is_included(offer: Offer, billing: Billing) -> bool:
    """Whether the machine comes with its disk, at no price of its own: more than that is not sold."""
    return billing.disk_usd_per_gib_month is None and offer.local_disk_gib is not None


def estimate_cost(
    duration: DurationEstimate,
    host: HostEstimate,
    *,
    offer: Offer,
    billing: Billing,
    sent_bytes: float,
    keeps_volume: bool = False,
    dearest: Dearest = NO_OTHERS,
) -> CostEstimate:
    """Dollars by line at p10, p50 and p90. What has a price that no source states is `unknown`, and reckoned apart at the
    `dearest` that anybody states.

    `sent_bytes` leave the provider. A volume that is kept is part of them while the box runs; what it costs afterwards is no
    part of any job.
    """
    billed_s, undisturbed_s = billed_range(duration, billing), billed_range(duration, billing, rework=False)
    disk_usd_per_s = disks_usd_per_s(disk_gib(host, billing), volume_gib(host) if keeps_volume else 0, billing)
    egress_usd = _micro(sending_usd(Decimal(sent_bytes), billing))
    unknown = _unknown(offer, billing, Decimal(sent_bytes), keeps_volume=keeps_volume)
    priced = msgspec.structs.replace(billing, **{field: getattr(dearest, field) for field in unknown.values()})
    more_usd_per_s = disks_usd_per_s(disk_gib(host, priced), volume_gib(host) if keeps_volume else 0, priced) - disk_usd_per_s
    more_usd = sending_usd(Decimal(sent_bytes), priced) - sending_usd(Decimal(sent_bytes), billing)
    compute = _over(undisturbed_s, lambda seconds: _micro(offer.usd_per_hour * seconds / SECONDS_PER_HOUR))
    computed = _over(billed_s, lambda seconds: _micro(offer.usd_per_hour * seconds / SECONDS_PER_HOUR))
    rework = tuple(every - once for every, once in zip(computed, compute, strict=True))
    disk = _over(billed_s, lambda seconds: _micro(disk_usd_per_s * seconds))
    hourly_usd = address_usd_per_hour(offer, billing)
    address = _over(billed_s, lambda seconds: _micro(hourly_usd * seconds / SECONDS_PER_HOUR))
    totals = tuple(sum(each, egress_usd + offer.setup_usd) for each in zip(computed, disk, address, strict=True))
    return CostEstimate(
        compute_usd=_range(compute),
        disk_usd=_range(disk),
        address_usd=_range(address),
        egress_usd=_range((egress_usd,) * 3),
        rework_usd=_range(rework),
        setup_usd=_range((offer.setup_usd,) * 3),
        total_usd=_range(totals),
        billed_s=billed_s,
        usd_per_million_tokens=float(totals[1]) * 1e6 / max(duration.num_data_tokens or duration.num_tokens, 1),
        unknown=tuple(unknown),
        unknown_usd=_range(_over(billed_s, lambda seconds: _micro(more_usd_per_s * seconds + more_usd))),
    )


PAID_FOR_EACH: Final = ("compute_usd", "disk_usd", "address_usd", "rework_usd", "setup_usd", "unknown_usd")


def of_several(one: CostEstimate, number: int) -> CostEstimate:
    """The dollars of so many machines at once, of which one sends home what was trained."""

    def most(each: Range, times: int) -> Range:
        return Range(p10=times * each.p10, p50=times * each.p50, p90=times * each.p90)

    whole, sent = most(one.total_usd, number), most(one.egress_usd, number - 1)
    total = Range(p10=whole.p10 - sent.p10, p50=whole.p50 - sent.p50, p90=whole.p90 - sent.p90)
    dearer = total.p50 / one.total_usd.p50 if one.total_usd.p50 else 0.0
    return msgspec.structs.replace(
        one,
        **{line: most(getattr(one, line), number) for line in PAID_FOR_EACH},
        total_usd=total,
        usd_per_million_tokens=dearer * one.usd_per_million_tokens,
    )


def _unknown(offer: Offer, billing: Billing, sent_bytes: Decimal, *, keeps_volume: bool) -> dict[Unpriced, str]:
    """What the job takes and nobody prices, by the field of its price."""
    sends = sent_bytes / GB > billing.egress_free_gb
    kinds: tuple[tuple[Unpriced, str, bool], ...] = (
        ("disk", "disk_usd_per_gib_month", not disk_is_included(offer, billing)),
        ("volume", "volume_usd_per_gib_month", keeps_volume),
        ("egress", "egress_usd_per_gb", sends),
    )
    return {line: field for line, field, taken in kinds if taken and getattr(billing, field) is None}


def unpriced_line(provider: str, cost: CostEstimate) -> str | None:
    """A sentence on what the total leaves out because no source states a price; None where it leaves out nothing."""
    if not cost.unknown:
        return None
    most = f"at the dearest that anybody states it is ${cost.unknown_usd.p50:.2f} more, and so it is ranked"
    return f"{provider}: no price is known for {' and '.join(cost.unknown)}, which the total leaves out; {most}"


def round_to_bill(running_s: float, billing: Billing) -> float:
    """Seconds on the bill for a machine that ran so long: at least the minimum, in whole increments."""
    increment = max(1, billing.increment_s)
    running = Decimal(str(max(running_s, float(billing.minimum_s), 0.0)))
    return float((running / increment).to_integral_value(ROUND_CEILING) * increment)


def buyable_s(paid_s: float, billing: Billing) -> float:
    """The longest that a machine may run for the price of so many seconds: whole increments, and nothing below the minimum."""
    increment = max(1, billing.increment_s)
    bought = float((Decimal(str(max(paid_s, 0.0))) / increment).to_integral_value(ROUND_FLOOR) * increment)
    return bought if bought >= float(billing.minimum_s) else 0.0


def _over(seconds: Range, usd: Callable[[Decimal], Decimal]) -> tuple[Decimal, ...]:
    return tuple(usd(Decimal(str(value))) for value in (seconds.p10, seconds.p50, seconds.p90))


def _range(values: tuple[Decimal, ...]) -> Range:
    return Range(p10=float(values[0]), p50=float(values[1]), p90=float(values[2]))


def _micro(usd: Decimal) -> Decimal:
    return usd.quantize(MICRODOLLAR, ROUND_HALF_EVEN)
