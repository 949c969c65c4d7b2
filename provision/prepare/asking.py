"""What `plan` and `run` have in common: who can be rented from, what is on offer beside the catalog, today's date."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from catalogs.compiled import read_compiled
from catalogs.hardware import Offer
from catalogs.user_file import exists, expanded
from planner.asking.request import HOST, LOCAL
from planner.asking.sent import NOTHING, Sent
from provision.home.places import Places, read_places
from provision.prepare.limits.policy import read_rules
from provision.prepare.versions import RENTUNE
from provision.providers import Confirm, providers_here
from remote.contract import CAPABILITIES

if TYPE_CHECKING:
    from catalogs.catalog import Catalog
    from planner.asking.data import DataFile, Lengths, Measure
    from planner.asking.request import Request
    from planner.edges import Edges
    from planner.estimators.time.learned import Seen
    from planner.plan import Plan, Provider
    from provision.direct.host import ExistingHost


def search_edges() -> Edges:
    """The world as it is here and now."""
    from planner.edges import Edges  # only where there is a search: it costs start-up time

    places = read_places()
    today = dt.datetime.now(tz=dt.UTC).date()
    return Edges(
        providers=_providers(places, today),
        rules=read_rules(places),
        capabilities=CAPABILITIES,
        today=today,
        versions=RENTUNE,
        folder=Path.cwd(),
        seen=_seen(places.calibration),
        kept_at=_kept_at,
        sent=_sent,
        notes=_notes,
        if_it_takes_longer=_if_it_takes_longer,
        rehearsed=_rehearsed,
    )


def _sent(request: Request) -> Sent:
    if request.data.path is None and request.loop.init_adapter is None and not exists(expanded(request.model)):
        return NOTHING
    from provision.prepare.inputs.sent import sent_of  # only where something may lie here: it costs start-up time

    return sent_of(request)


def _notes(request: Request) -> Iterator[str]:
    """What is known of the base beforehand, and that the machine we run on has a card, where only its cores were asked for."""
    if request.data.chats or exists(expanded(request.model)):
        from provision.prepare.inputs.foreseen import foreseen  # only where there may be something to tell: as below

        yield from foreseen(request)
    if LOCAL not in request.where.providers or request.where.own_card:
        return
    from provision.direct.here import idle_card  # only then: it costs start-up time

    if (card := idle_card(shipped())) is not None:
        yield f"this machine has a card ({card}), and its cores are planned for; --gpu here plans with the card"


def _if_it_takes_longer(plan: Plan) -> str | None:
    if not plan.offer.usd_per_hour:
        return None
    from provision.prepare.limits.deadline import overdue_words  # only where something is paid for

    return overdue_words(plan)


def _rehearsed(request: Request) -> bool:
    if not exists(expanded(request.model)):
        return False
    from provision.prepare.inputs.foreseen import rehearsed  # as above

    return rehearsed(request) is not None


def _providers(places: Places, today: dt.date) -> Mapping[str, Provider]:
    providers = providers_here(places, os.environ)
    if not exists(places.quotas):
        return providers
    from provision.prepare.limits.quotas import with_shortages  # only where a cloud has told one: it costs start-up time

    return with_shortages(providers, places.quotas, today=today)


def _seen(rows: Path) -> tuple[Seen, ...]:
    if not exists(rows):
        return ()
    from provision.account.receipt.earlier import read_seen  # only where something has run: it costs start-up time

    return read_seen(rows, version=RENTUNE["rentune"])


def _kept_at(name: str) -> tuple[tuple[str, str], ...]:
    """As the ledger of this home has it; the ledger's code is loaded for it: most plans want no volume."""
    from provision.account.ledger import Ledger
    from provision.account.runs import kept_at

    return kept_at(Ledger(read_places().ledger).runs().values(), name)


def shipped() -> Catalog:
    """The catalog alone, as an earlier command has kept it where there was one."""
    return read_compiled(read_places().catalog)


def market() -> Catalog:
    """The catalog with newer prices and the user's own offers, as far as there are any. Raises CatalogError where a file of
    theirs is wrong.
    """
    places = read_places()
    catalog = with_newer(shipped(), places.prices)
    if not exists(places.own_offers):
        return catalog
    from catalogs.lists.own import read_own, with_own  # only where there is such a file: it costs start-up time

    return with_own(catalog, read_own(places.own_offers, catalog))


def with_newer(catalog: Catalog, folder: Path) -> Catalog:
    """The catalog with the prices that were fetched into `folder`. Raises CatalogError."""
    if not exists(folder):
        return catalog
    from catalogs.lists.refreshed import read_refreshed, with_refreshed  # as above

    return with_refreshed(catalog, read_refreshed(folder))


def data_measure(*, quiet: bool) -> Measure:
    """What measures the data of a request, and says so on stderr where that takes its time, unless `quiet`.

    Its code is loaded for the first data file: most plans have none.
    """

    def measure(file: DataFile) -> Lengths:
        from provision.home.places import read_places
        from provision.prepare.inputs.counting import measured, notes

        return measured(file, cache=read_places().cache, say=notes(quiet=quiet))

    return measure


def saying(*, quiet: bool) -> Callable[[str], object]:
    """What says a line to the person who waits; with `quiet` nothing is said."""
    from provision.prepare.inputs.counting import notes

    return notes(quiet=quiet)


def offers_of_request(
    request: Request,
    *,
    usd_per_hour: Decimal = Decimal(0),
    host_key: str | None = None,
    confirm: Confirm | None = None,
    quiet: bool = True,
) -> tuple[Offer, ...]:
    """What is on offer beside the catalog: the local machine where it is asked for, and the user's host, looked at over SSH.

    Unless `quiet` that host is named before it is logged in to.
    """
    wanted = request.where.providers
    offers: list[Offer] = []
    if request.where.own_card:
        from provision.direct.here import card_offer

        offers.append(card_offer(shipped(), usd_per_kwh=request.where.power_usd_per_kwh, usd_per_hour=usd_per_hour))
    elif LOCAL in wanted:
        from provision.direct.here import local_offer

        offers.append(local_offer(usd_per_hour=usd_per_hour))
    if request.where.host is not None and (not wanted or HOST in wanted):
        from provision.direct.host import ExistingHost

        host = ExistingHost(request.where.host, host_key=host_key, confirm=confirm)
        saying(quiet=quiet)(f"Looking at {host.address.label} over SSH: its cores, memory and GPUs …")
        offers.append(offer_of_host(host, usd_per_hour=usd_per_hour))
    return tuple(offers)


def offer_of_host(host: ExistingHost, *, usd_per_hour: Decimal) -> Offer:
    """The host's offer. Raises Refused where it does not answer: nothing was begun."""
    from provision.errors import ConnectionFailed, Refused, WrongHostKey

    try:
        return host.fetch_offer(usd_per_hour=usd_per_hour)
    except WrongHostKey:
        raise
    except ConnectionFailed as error:
        hint = f"See whether it answers: {host.address.command}"
        raise Refused(str(error), hint=hint, place=("where", "host")) from None
