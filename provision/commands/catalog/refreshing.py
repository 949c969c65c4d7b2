"""`rentune catalog refresh`, `diff` and `import`: how prices get newer than the shipped ones."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from planner.asking.options.kinds import PROVIDER, Once
from provision.prepare.prices.sources import LIVE, PUBLISHED

if TYPE_CHECKING:
    from decimal import Decimal

    from catalogs.hardware import Offer
    from catalogs.lists.compared import Change
    from provision.prepare.prices.keeping import Refreshed
    from provision.report.tables import Table

SHOWN: Final = 40  # rows on a screen, unless more are asked for
TERMS: Final = (
    "From gpuhunt's public files (dstack), which state no licence, or by gpuhunt from a provider itself: fetched by you, for "
    "you, and kept on this machine alone."
)
OFFLINE: Final = (
    "Nobody could be reached: plans go on with the prices that are here, and say how old they are. Ask again with a network, "
    "name a mirror (--from URL), or bring a list of your own (rentune catalog import FILE.csv)."
)


*_FIRST, _LAST = sorted(LIVE)
REFRESH: Final = f"""Fetch newer prices, a file per provider, and plan with them from now on.

{", ".join(_FIRST)} and {_LAST} are asked live by the package gpuhunt
(the extra of that name), each once you name it with --provider, and from then on with the others.

A file that can't be had leaves the last good one in place. So does one that looks wrong: with half of its machines lost, a
median moved threefold, or a price of 0; --accept keeps it all the same. Exit 1 when a provider was not refreshed.
"""


@click.command("refresh", help=REFRESH)
@click.option("--provider", multiple=True, type=PROVIDER, help="Only this provider; may be repeated.")
@click.option("--accept", is_flag=True, help="Keep prices that look wrong, too.")
@click.option("--from", "url", cls=Once, metavar="URL", help="Address of a mirror (default gpuhunt's own).")
@click.option("--json", "as_json", is_flag=True, help="Print what became of each provider as JSON.")
def refresh_prices(provider: tuple[str, ...], accept: bool, url: str | None, as_json: bool) -> int:  # noqa: FBT001 - click
    """As REFRESH says, which names whoever is asked live."""
    from catalogs.lists.refreshed import path_of
    from provision.envelope.show import console, show
    from provision.errors import Exit
    from provision.home.places import read_places
    from provision.prepare.asking import shipped
    from provision.prepare.prices.keeping import BUCKET, Refresh
    from provision.prepare.prices.live import Asker
    from provision.report.terminal import draw

    folder = read_places().prices
    _require_refreshable(provider, url)
    usual = sorted({*PUBLISHED, *(name for name in LIVE if path_of(folder, name).exists())})
    today = _today()
    asker = Asker(environment=os.environ)
    asked = Refresh(folder=folder, catalog=shipped(), today=today, asker=asker, accept=accept, url=url or BUCKET)
    found = asked.all(dict.fromkeys(provider) or usual)
    whole = all(each.state in ("new", "unchanged") for each in found)
    table = _refreshed_table(found, today)
    return show(
        "catalog refresh",
        found,
        lambda: console().print(draw(table)),
        as_json=as_json,
        exit_code=Exit.OK if whole else Exit.FAILED,
    )


def _require_refreshable(named: tuple[str, ...], url: str | None) -> None:
    """Raises BadInput for a provider that nobody can be asked about, MissingPart where gpuhunt is needed and not there."""
    from planner.nearest import nearest
    from provision.errors import BadInput, MissingPart
    from provision.extras import install_command
    from provision.prepare.prices.live import EXTRA, is_installed

    known = sorted({*PUBLISHED, *LIVE})
    if unknown := [name for name in named if name not in known]:
        hint = f"{nearest(unknown[0], known)}; a list of your own comes with: rentune catalog import FILE.csv"
        raise BadInput(f"There are no newer prices of {unknown[0]} to fetch.", hint=hint)
    live = [name for name in named if name in LIVE]
    if live and url is not None:
        raise BadInput(f"{live[0]} is asked itself, and a mirror (--from) has published files alone.", hint="leave --from out")
    if live and not is_installed():
        what = f"{live[0]} is asked live, by the package gpuhunt, which is not installed here."
        raise MissingPart(what, hint=install_command(EXTRA))


@click.command("diff")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--provider", multiple=True, type=PROVIDER, help="Only this provider; may be repeated.")
@click.option("--top", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Rows to show; 0 shows all.")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
def list_changes(file: Path | None, provider: tuple[str, ...], top: int, as_json: bool) -> int:  # noqa: FBT001 - click
    """What differs from the shipped prices since `refresh` and `import`; with a FILE, what importing it would change."""
    from catalogs.lists.compared import changes
    from catalogs.lists.own import read_own, with_own
    from provision.envelope.show import console, show
    from provision.prepare.asking import market, shipped
    from provision.report.terminal import draw

    before, after = (shipped(), market()) if file is None else (market(), with_own(market(), read_own(file, shipped())))
    found = changes(_of(before.offers, provider), _of(after.offers, provider))
    shown = found[:top] if top else found
    table = _changes_table(shown, num_changes=len(found))
    nothing = "Nothing differs from the shipped prices." if file is None else "It would change nothing."
    return show("catalog diff", shown, lambda: console().print(draw(table) if found else nothing), as_json=as_json)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--accept", is_flag=True, help="Take a file that looks wrong, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the offers as JSON.")
def import_offers(file: Path, accept: bool, as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """Plan with offers of your own: a CSV file with a row per machine type.

    It needs the columns provider, instance_type, and a price: on_demand_usd_per_hour or spot_usd_per_hour. It may have region,
    gpu, num_gpus, vcpus, ram_gib, local_disk_gib, interconnect, cpu_architecture, hosts, setup_usd, observed_on, confidence.
    What was imported before is replaced. A file that looks wrong beside that (half of its offers lost, a median moved
    threefold) is refused unless you --accept it.
    """
    from catalogs.lists.own import LINES, read_own
    from provision.envelope.show import show
    from provision.errors import Refused
    from provision.home.places import read_places
    from provision.home.whole import at_home, write_whole
    from provision.prepare.asking import shipped

    target = read_places().own_offers
    offers = read_own(file, shipped())
    if not offers:
        raise Refused("The file names no offer.", hint=LINES)
    if not accept:
        _require_believable(target, offers)
    with at_home(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, file.read_bytes())
    return show("catalog import", offers, lambda: click.echo(_imported(offers, target)), as_json=as_json)


def _require_believable(target: Path, offers: tuple[Offer, ...]) -> None:
    """Raises Refused for offers that look wrong beside those that were imported before, or beside the shipped ones."""
    from catalogs.catalog import CatalogError
    from catalogs.lists.compared import doubts
    from catalogs.lists.own import read_own
    from planner.report.words import several
    from provision.errors import Refused
    from provision.prepare.asking import shipped

    sellers = {offer.provider for offer in offers}
    listed = tuple(offer for offer in shipped().offers if offer.provider in sellers)
    try:
        before = read_own(target, shipped()) if target.exists() else ()
    except CatalogError:  # what is wrong already can be replaced by anything
        before = ()
    today = dt.datetime.now(tz=dt.UTC).date()
    ahead = tuple(offer.key for offer in offers if offer.observed_on is not None and offer.observed_on > today)
    to_come = (f"{several(len(ahead), 'price')} of a day that is to come, such as {ahead[0]}",) if ahead else ()
    if wrong := (*to_come, *doubts(before, offers, same_source=True), *doubts(listed, offers, same_source=False)):
        raise Refused(f"The file looks wrong: {'; '.join(wrong)}.", hint="If it is right all the same, add --accept.")


def _imported(offers: tuple[Offer, ...], target: Path) -> str:
    """What is planned with from now on, who of them can be rented from, and how that ends."""
    from provision.providers import KINDS

    sellers = sorted({offer.provider for offer in offers})
    number = f"{len(offers)} offer{'s' * (len(offers) != 1)}"
    told = [f"{number} of yours: {', '.join(sellers) or 'nobody'}. They stand in {target}; delete it to plan without them."]
    if unrented := [name for name in sellers if name not in KINDS]:
        told.append(f"Price only: {', '.join(unrented)}. Rent there yourself and use --host user@address.")
    if unsaid := sum(offer.hosts is None for offer in offers):
        which = "It does" if len(offers) == 1 else f"{unsaid} of them {'does' if unsaid == 1 else 'do'}"
        told.append(
            f"{which} not say in a column hosts on whose machines they run (data centre, or community), and a plan takes those "
            "in a data centre alone, unless --overrule-policy hosts says otherwise."
        )
    return "\n".join(told)


def _of(offers: tuple[Offer, ...], providers: tuple[str, ...]) -> tuple[Offer, ...]:
    return tuple(offer for offer in offers if not providers or offer.provider in providers)


def _refreshed_table(found: tuple[Refreshed, ...], today: dt.date) -> Table:
    from provision.report.tables import Table

    return Table(
        title="Prices by provider",
        columns=("provider", "this time", "offers kept", "seen", "why"),
        rows=tuple(_refreshed_row(each, today) for each in found),
        note=OFFLINE if found and all(each.state == "unreached" for each in found) else TERMS,
        of_words=True,
        unbroken=("provider",),
    )


def _refreshed_row(each: Refreshed, today: dt.date) -> tuple[str, ...]:
    from planner.report.words import several

    kept = "none" if each.num_offers is None else f"{each.num_offers:,}"
    seen = "–" if each.observed_on is None else f"{several((today - each.observed_on).days, 'day')} ago"
    return each.provider, each.state, kept, seen, "; ".join(each.says)


def _changes_table(shown: tuple[Change, ...], *, num_changes: int) -> Table:
    from planner.report.words import several
    from provision.report.tables import Table

    return Table(
        title=f"{len(shown):,} of {several(num_changes, 'change')}",
        columns=("offer", "$/h before", "$/h now", "change"),
        rows=tuple(_change_row(each) for each in shown),
        note="Of the whole machine; – = not on the list.",
        unbroken=("$/h before", "$/h now", "change"),
    )


def _change_row(change: Change) -> tuple[str, ...]:
    before, after = change.before_usd_per_hour, change.after_usd_per_hour
    return change.offer, *("–" if usd is None else f"{usd:.4f}" for usd in (before, after)), _change_word(before, after)


def _change_word(before: Decimal | None, after: Decimal | None) -> str:
    if before is None or after is None:
        return "new" if before is None else "gone"
    return f"{float(after / before - 1):+.0%}"


def _today() -> dt.date:
    return dt.datetime.now(tz=dt.UTC).date()
