"""`rentune catalog`"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from planner.asking.options.kinds import PROVIDER, SIZE, USD, Once
from provision.commands.catalog import refreshing, showing

if TYPE_CHECKING:
    from catalogs.bases.models import ModelRow
    from catalogs.catalog import Catalog
    from catalogs.hardware import Offer
    from catalogs.storage import StorageKind, StoragePrice
    from provision.report.tables import Table

SHOWN = 40  # rows on a screen, unless more are asked for


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """A base model that `--model` takes by its name, a hub id or a size word."""

    name: str
    hub: tuple[str, ...]
    sizes: tuple[str, ...]
    model_type: str
    num_params: int
    num_layers: int
    hidden_size: int
    max_positions: int
    gated: bool  # its weights are given only to an account that has accepted their terms
    source: str
    confidence: str
    as_of: str


class ListUnlessSaid(click.Group):
    """A group that means its command `list` where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names_none = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        return super().parse_args(ctx, ["list", *args] if names_none else args)


@click.group("catalog", cls=ListUnlessSaid)
def command() -> None:
    """What can be rented, at which price, seen when.

    Without a command it means `catalog list`, and takes its options.
    """


for each in (refreshing.refresh_prices, refreshing.list_changes, refreshing.import_offers, showing.show_one):
    command.add_command(each)


@command.command("list")
@click.option("--gpu", multiple=True, help="Only this GPU; may be repeated.")
@click.option("--provider", multiple=True, help="Only this provider; may be repeated.")
@click.option("--region", multiple=True, help='Only these regions ("us-*"); may be repeated.')
@click.option("--spot/--on-demand", cls=Once, help="Only spot, or only on-demand machines (default both).")
@click.option("--min-vram", cls=Once, type=SIZE, help="Memory per GPU at least.")
@click.option("--max-price", cls=Once, type=USD, help="Dollars per hour at most.")
@click.option("--top", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Rows to show; 0 shows all.")
@click.option("--json", "as_json", is_flag=True, help="Print the offers as JSON.")
def list_offers(
    gpu: tuple[str, ...],
    provider: tuple[str, ...],
    region: tuple[str, ...],
    spot: bool | None,  # noqa: FBT001 - click hands it over by name
    min_vram: float | None,
    max_price: Any,
    top: int,
    as_json: bool,  # noqa: FBT001
) -> int:
    """Offers, the cheapest hour first."""
    from catalogs.catalog import select
    from provision.envelope.show import console, show
    from provision.prepare.asking import market

    catalog = market()
    offers = select(
        catalog,
        gpus=gpu,
        providers=provider,
        regions=region,
        spot=spot,
        min_gpu_memory_gib=min_vram,
        max_usd_per_hour=max_price,
    )
    shown = offers[:top] if top else offers
    notes = tuple(warning for name in dict.fromkeys(gpu) if (warning := catalog.gpu(name).warning) is not None)

    def draw_offers() -> None:
        from planner.report.words import note
        from planner.search.market.names import how_to_plan_with
        from provision.envelope.show import say
        from provision.report.terminal import draw

        for each in notes:
            say(note(each))
        console().print(draw(_table(catalog, shown, num_offers=len(offers))))
        sellers = {offer.provider for offer in catalog.offers}
        for name in (name.lower() for name in provider):
            if name not in sellers:
                click.echo(f"{name}: {how_to_plan_with(name)}.")

    return show("catalog list", shown, draw_offers, as_json=as_json, notes=notes)


@command.command("storage")
@click.option("--provider", multiple=True, type=PROVIDER, help="Only this provider; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the prices as JSON.")
def list_storage(provider: tuple[str, ...], as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """What keeping and moving bytes costs: volumes, buckets, snapshots, traffic."""
    from catalogs.storage import read_storage
    from planner.nearest import nearest
    from provision.envelope.show import console, show
    from provision.errors import BadInput

    known = read_storage()
    sellers = {price.provider for price in known}
    if unknown := [name for name in provider if name not in sellers]:
        raise BadInput(f"No price of {unknown[0]} for keeping bytes is known.", hint=nearest(unknown[0], sorted(sellers)))
    prices = tuple(price for price in known if not provider or price.provider in provider)

    def draw_prices() -> None:
        from provision.report.terminal import draw

        console().print(draw(_storage_table(prices)))

    return show("catalog storage", prices, draw_prices, as_json=as_json)


@command.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print the models as JSON.")
def list_models(as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """Base models that are known by name: size, shape, reach. Any other is taken by its config.json."""
    from catalogs.bases.models import registry
    from provision.envelope.show import console, show

    bases = tuple(sorted(map(_base, registry()), key=lambda base: (base.model_type, base.num_params)))

    def draw_bases() -> None:
        from provision.report.terminal import draw

        console().print(draw(_models_table(bases)))

    return show("catalog models", bases, draw_bases, as_json=as_json)


def _base(row: ModelRow) -> Base:
    from catalogs.bases.models import is_gated, resolve_model
    from planner.methods import total_params

    shape = resolve_model(row.name)
    return Base(
        name=row.name,
        hub=row.hub,
        sizes=row.sizes,
        model_type=shape.model_type,
        num_params=total_params(shape, "causal_lm"),
        num_layers=shape.depth,
        hidden_size=shape.hidden_size,
        max_positions=shape.max_positions,
        gated=any(map(is_gated, row.hub)),
        source=row.source,
        confidence=row.confidence,
        as_of=row.as_of,
    )


def _models_table(bases: tuple[Base, ...]) -> Table:
    from provision.report.tables import Table

    return Table(
        title=f"{len(bases)} base models",
        columns=("name", "size", "reach", "on the hub"),
        rows=tuple(_base_row(base) for base in bases),
        note="* = its weights are given only to an account that has accepted their terms. Size in parameters, reach in tokens.",
        unbroken=("name", "size", "reach"),
        of_words=True,
    )


def _base_row(base: Base) -> tuple[str, ...]:
    reach = f"{base.max_positions:,}"
    mark = " *" if base.gated else ""
    shown = f"{base.hub[0]}{mark}" if base.hub else "–"
    size = f"{base.num_params / 1e9:,.2f} B" if base.num_params >= 1e9 else f"{base.num_params / 1e6:,.0f} M"
    return base.name, size, reach, shown


def _storage_table(prices: tuple[StoragePrice, ...]) -> Table:
    from planner.report.words import several
    from provision.report.tables import Table

    return Table(
        title=f"{several(len(prices), 'price')} of keeping and moving bytes",
        columns=("provider", "region", "kind", "name", "$", "per", "seen"),
        rows=tuple(_storage_row(price) for price in prices),
        note=f"A tier holds from so many GB a month on.{_unpriced_words(prices)}",
        unbroken=("$",),
    )


KEPT: Final[tuple[StorageKind, ...]] = ("block", "object", "snapshot", "egress")  # what anybody asks of every provider


def _unpriced_words(prices: tuple[StoragePrice, ...]) -> str:
    """Of which providers no price of a kind is known: what is not in the table is not free."""
    told: list[str] = []
    for kind in KEPT:
        known = {price.provider for price in prices if price.kind == kind}
        if unknown := sorted({price.provider for price in prices} - known):
            told.append(f"{kind} at {', '.join(unknown)}")
    return f" No price is known, which makes nothing free: {'; '.join(told)}." if told else ""


def _storage_row(price: StoragePrice) -> tuple[str, ...]:
    tier = f" from {price.above_gb:,} GB on" if price.above_gb else ""
    seen = "undated" if price.as_of is None else price.as_of.isoformat()
    return price.provider, price.region, price.kind, f"{price.name}{tier}", f"{price.usd:f}", price.unit, seen


def _table(catalog: Catalog, offers: tuple[Offer, ...], *, num_offers: int) -> Table:
    from catalogs.catalog import STALE_AFTER_DAYS, attributions, is_to_come
    from provision.report.tables import Table

    today = dt.datetime.now(tz=dt.UTC).date()
    credits = " ".join(attributions(catalog, offers))
    legend = f"{STALE} = stale, seen over {STALE_AFTER_DAYS} days ago. ? = not told."
    if any(each.observed_on is not None and is_to_come(each.observed_on, today) for each in offers):
        legend += f" ahead = of a day to come: this machine's clock ({today}) is behind."
    return Table(
        title=f"{len(offers):,} of {num_offers:,} offers",
        columns=("offer", "GPUs", "memory each", "vCPUs", "RAM", "$/h", "seen"),
        rows=tuple(_row(catalog, offer, today) for offer in offers),
        note=f"Prices are of the whole machine; {legend} {credits}".strip(),
        unbroken=("GPUs", "$/h", "seen"),
        spare=("vCPUs", "RAM"),
    )


STALE: Final = "*"  # behind the age of a price that may have moved


def _row(catalog: Catalog, offer: Offer, today: dt.date) -> tuple[str, ...]:
    from catalogs.catalog import age_days, is_stale
    from planner.report.words import sold

    memory_gib = catalog.gpu_memory_gib(offer)
    age = age_days(offer, today)
    seen = f"{age} d ago" if age is not None else "undated" if offer.observed_on is None else f"{offer.observed_on}, ahead"
    return (
        sold(offer),
        f"{offer.num_gpus.normalize():f} × {offer.gpu}" if offer.gpu else "none",
        f"{memory_gib:g} GiB" if memory_gib is not None else "–",
        f"{offer.vcpus:g}" if offer.vcpus is not None else "?",
        f"{offer.ram_gib:g} GiB" if offer.ram_gib is not None else "?",
        f"{offer.usd_per_hour:.4f}",
        f"{seen} {STALE}" if is_stale(offer, today) else seen,
    )
