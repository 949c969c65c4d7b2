"""What `plan` and `run` have in common: who can be rented from, what is on offer beside the catalog, today's date."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalogs.hardware import Offer
from provision.opening import installed_versions
from provision.providers import HOST, LOCAL, Confirm, known_providers
from remote.contract import CAPABILITIES

if TYPE_CHECKING:
    from planner.request import Request


def search_edges() -> dict[str, Any]:
    """The arguments of `planner.cli` that come from outside of the planner."""
    return {
        "providers": known_providers(),
        "capabilities": CAPABILITIES,
        "today": dt.datetime.now(tz=dt.UTC).date(),
        "versions": installed_versions(("rentune",)),
        "folder": Path.cwd(),
    }


def own_offers(
    *,
    local: bool,
    user_at_host: str | None,
    usd_per_hour: Decimal = Decimal(0),
    host_key: str | None = None,
    confirm: Confirm | None = None,
) -> tuple[Offer, ...]:
    """The local machine where it is asked for, and the user's host, which is looked at over SSH."""
    offers: list[Offer] = []
    if local:
        from provision.direct.local import local_offer

        offers.append(local_offer(usd_per_hour=usd_per_hour))
    if user_at_host is not None:
        from provision.direct.host import ExistingHost

        host = ExistingHost(user_at_host, host_key=host_key, confirm=confirm)
        offers.append(host.fetch_offer(usd_per_hour=usd_per_hour))
    return tuple(offers)


def offers_of_request(request: Request, **edges: Any) -> tuple[Offer, ...]:
    """The offers of ours that the request could use."""
    wanted = request.where.providers
    return own_offers(local=LOCAL in wanted, user_at_host=request.where.host if not wanted or HOST in wanted else None, **edges)


def options_of(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Some of the options, by name."""
    return {name: options[name] for name in names}
