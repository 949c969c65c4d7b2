"""What accounts may not rent, as their clouds told `doctor` or `run`, or refused an order: remembered at home for `plan`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.plan import Provider, QuotaShort
from provision.clouds.programs.accounts.quotas import Quota, shortage
from provision.home.whole import write_whole

REMEMBERED_DAYS: Final = 30  # assumed: a quota that was asked for is granted, or not, within a month

Told = Mapping[str, tuple[tuple[Quota, float], ...]]  # by an offer's key: each quota that counts, and how much of it is taken


def with_shortages(providers: Mapping[str, Provider], file: Path, *, today: dt.date) -> dict[str, Provider]:
    """The providers with those offers that their quotas did not admit when they were asked last, a month ago at most."""
    short = {key: each for key, each in _read(file).items() if (today - each.asked_on).days <= REMEMBERED_DAYS}
    return {
        name: msgspec.structs.replace(
            provider, short={key: each for key, each in short.items() if key.partition("/")[0] == name}
        )
        for name, provider in providers.items()
    }


def remember(told: Told, file: Path, *, today: dt.date) -> None:
    """Write down what is short now, and strike out what is not any more. A cloud that tells no limit of an offer says nothing
    of an order that it refused. Where home takes no file `plan` does not know it.
    """
    answered = {key for key, needed in told.items() if any(quota.limit is not None for quota, _ in needed)}
    short = {key: each for key, each in _read(file).items() if key not in answered}
    for key, needed in told.items():
        lacking = [_short(quota, much, today) for quota, much in needed if shortage(quota, much) is not None]
        if lacking:
            short[key] = lacking[0]
    _write(short, file)


def remember_refused(offer: Offer, why: str, file: Path, *, today: dt.date) -> None:
    """Write down an order that was refused for a limit of the account. Figures that are known tell more, and stay."""
    known = _read(file)
    if (there := known.get(offer.key)) is None or there.have is None:
        refused = QuotaShort(name=why, where=offer.region, unit="", have=None, need=None, asked_on=today)
        _write(known | {offer.key: refused}, file)


def strike_out(offer: Offer, file: Path) -> None:
    """Forget what was short of an offer that was granted."""
    known = _read(file)
    if known.pop(offer.key, None) is not None:
        _write(known, file)


def _write(short: Mapping[str, QuotaShort], file: Path) -> None:
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, msgspec.json.format(msgspec.json.encode(short), indent=1))


def remember_today(file: Path) -> Callable[[Told], None]:
    """`keep`, on the day that it is by now."""
    return lambda told: remember(told, file, today=dt.datetime.now(tz=dt.UTC).date())


def _short(quota: Quota, needed: float, today: dt.date) -> QuotaShort:
    have = max(0.0, (quota.limit or 0.0) - (quota.used or 0.0))
    return QuotaShort(name=quota.name, where=quota.where, unit=quota.unit, have=have, need=needed, asked_on=today)


def _read(file: Path) -> dict[str, QuotaShort]:
    """Nothing where there is no file, or none that can be read: it only spares a question."""
    with suppress(OSError, RecursionError, msgspec.MsgspecError):
        return msgspec.json.decode(file.read_bytes(), type=dict[str, QuotaShort])
    return {}
