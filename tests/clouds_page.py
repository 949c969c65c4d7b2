"""docs/clouds.md and a table of docs/security.md, made from the rows that the program itself goes by and from the catalog's.
`make docs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from catalogs.catalog import Catalog, read_catalog
from planner.plan import PRICE_ONLY
from provision.clouds.programs import CLOUDS, CloudRow, Met
from provision.providers import KINDS

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGE: Final = DOCS / "clouds.md"
SECURITY_PAGE: Final = DOCS / "security.md"
SWITCH: Final = re.compile("<!-- switch -->.*<!-- /switch -->", re.DOTALL)  # of the security page
BEGIN: Final = """\
# Clouds

Made from the code by `make docs`. One module per cloud lies in `provision/clouds/programs/`; everything else is the same for
all of them, and [clouds/renting.md](clouds/renting.md) tells it. [add-a-cloud.md](add-a-cloud.md) shows how one more is added,
and any other machine that you rented yourself is used with `--host`.
"""
MEANS: Final = {
    "run for real on DATE": "this program rented there on that day, trained, and gave the machine back",
    str(
        Met.EMULATOR
    ): "the real Pulumi engine and our whole program, against an emulation of the vendor's API with real machines "
    "and real SSH behind it; never against the real cloud",
    str(Met.DOUBLE): "the program alone, against a stand-in for the vendor's API; never with the engine, never for real",
    PRICE_ONLY: "the price list knows it; this version can't rent there",
}


def render_page() -> str:
    """The whole page."""
    catalog = read_catalog()
    blocks = (
        BEGIN.rstrip(),
        "## Who can be rented from",
        _table(
            ("provider", "status", "when its deadline comes and nobody is there", "what is billed while it is off"),
            _ends(catalog),
        ),
        "## Where one looks, and with which credentials",
        _table(("provider", "places in the price list", "found by", "spot", "credentials", "permissions"), _looks(catalog)),
        "## What a volume that is kept costs",
        "With `--keep-volume NAME` a disk outlives its box and serves the next one ([clouds/volumes.md](clouds/volumes.md)).",
        _table(("provider", "dollars a month and GiB"), _kept(catalog)),
        "## Which limits of an account are asked before an order",
        _table(("provider", "limits"), ((_title(name), row.limits) for name, row in CLOUDS.items())),
        "The rest shows when a machine is ordered: it is declined, and the next offer is tried ([failover.md](failover.md)).",
        "## Of whom only the price is known",
        _table(("provider", "status", "places in the price list", "what is billed while it is off"), _prices(catalog)),
        "## The words",
        "`plan`, `run` and `doctor` show them. The first run on a cloud that was never met for real says so before it asks.",
        "\n".join(f"- *{word}*: {meaning}." for word, meaning in MEANS.items()),
    )
    return "\n\n".join(blocks) + "\n"


def with_switch(security: str) -> str:
    """`security` with what ends a cloud's box where nobody comes, as the rows have it now, between its markers."""
    rows = ((_title(name), str(row.ends), row.spot_until) for name, row in CLOUDS.items())
    table = _table(("provider", "at the deadline, with nobody there", "a date on a spot machine's own order"), rows)
    return SWITCH.sub(lambda _: f"<!-- switch -->\n{table}\n<!-- /switch -->", security)


def _table(titles: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ends(catalog: Catalog) -> Iterator[tuple[str, ...]]:
    for name, kind in KINDS.items():
        yield _title(name), kind.status, kind.ends, str(catalog.billing[name].while_off)


def _looks(catalog: Catalog) -> Iterator[tuple[str, ...]]:
    for name, row in CLOUDS.items():
        found = "one look" if row.one_look else "one look a region"
        yield _title(name), _places(name, catalog), found, "yes" if row.spot else "no", _credentials(row), _permissions(name)


def _kept(catalog: Catalog) -> Iterator[tuple[str, ...]]:
    for name, row in CLOUDS.items():
        price = catalog.billing[name].volume_usd_per_gib_month
        yield _title(name), "no volume is kept" if not row.keeps_volumes else "not known" if price is None else f"{price}"


def _prices(catalog: Catalog) -> Iterator[tuple[str, ...]]:
    for name in sorted({offer.provider for offer in catalog.offers} - set(KINDS)):
        yield name, PRICE_ONLY, _places(name, catalog), str(catalog.billing[name].while_off)


def _title(name: str) -> str:
    """A link to the page that tells the rest, where there is one."""
    return f"[{CLOUDS[name].title}](clouds/{name}.md) (`{name}`)" if name in CLOUDS else f"`{name}`"


def _places(name: str, catalog: Catalog) -> str:
    regions = {offer.region for offer in catalog.offers if offer.provider == name}
    if not regions:
        return "none: [offers of your own](catalog.md#your-own-offers) alone"
    return "one price everywhere" if regions == {"*"} else f"{len(regions)} region{'s' * (len(regions) > 1)}"


def _credentials(row: CloudRow) -> str:
    named = " or ".join(f"`{name}`" for name in row.credential_variables)
    return f"{named}, else `~/{row.credential_file}`" if row.credential_file else named


def _permissions(name: str) -> str:
    """What says which the account must allow, and no more: a file to apply, else a page with the narrowest that there is."""
    files = sorted((DOCS / "permissions").glob(f"{name}.*"), key=lambda path: path.suffix == ".md")
    return f"[{files[0].name}](permissions/{files[0].name})"
