"""What the shipped catalog holds, by provider, day and licence, and what reading all of it costs.

    python -m benchmarks.offers.catalog_counts > benchmarks/results/catalog_2026-11-28.md

Counted are prices: on demand and spot apart. Times are of this process's own CPU, the least of several: from the tables, from
the parsed copy that an earlier command has kept, and with every offer put through every condition of `select`.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

from catalogs.catalog import Catalog, read_catalog, select
from catalogs.compiled import read_compiled
from catalogs.quotas import read_quotas
from catalogs.storage import read_storage

NUM_TIMES = 15


def main() -> None:
    """Print the page."""
    catalog = read_catalog()
    print("\n".join((*counts(catalog), *_times())))


def counts(catalog: Catalog) -> Iterator[str]:
    """What there is, as Markdown; the times follow it on the page."""
    offers = catalog.offers
    on_demand = sum(offer.purchase == "on_demand" for offer in offers)
    yield "# What the shipped catalog holds"
    yield ""
    yield f"`python -m benchmarks.offers.catalog_counts`, Python {platform.python_version()}."
    yield ""
    num_boxes = sum(offer.gpu is None for offer in offers)
    yield f"{len(offers):,} prices of {len(catalog.providers)} providers: {on_demand:,} on demand,"
    yield f"{len(offers) - on_demand:,} spot, {num_boxes} of them of CPU boxes; {len(catalog.gpus)} GPUs,"
    yield f"{len(read_storage())} prices of storage and traffic, {len(read_quotas())} names of quotas."
    yield ""
    yield from _providers(catalog)
    yield from _counted("licence", Counter(str(catalog.sources[offer.source].licence) for offer in offers))
    yield from _counted("seen on", Counter(str(offer.observed_on) for offer in offers))
    yield from _counted("source", Counter(offer.source for offer in offers))
    yield from _counted("confidence", Counter(offer.confidence for offer in offers))
    yield from _gpus(catalog)


def _providers(catalog: Catalog) -> Iterator[str]:
    yield "| provider | on demand | spot | regions | GPUs | RAM not known | seen on | source |"
    yield "|---|---:|---:|---:|---:|---:|---|---|"
    for provider in catalog.providers:
        rows = [offer for offer in catalog.offers if offer.provider == provider]
        spot = sum(offer.purchase == "spot" for offer in rows)
        cells = (
            provider,
            len(rows) - spot,
            spot,
            len({offer.region for offer in rows}),
            len({offer.gpu for offer in rows if offer.gpu}),
            sum(offer.ram_gib is None for offer in rows),
            ", ".join(sorted({str(offer.observed_on) for offer in rows})),
            ", ".join(sorted({offer.source for offer in rows})),
        )
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""


def _gpus(catalog: Catalog) -> Iterator[str]:
    gpus = catalog.gpus.values()
    yield from _counted("GPUs made by", Counter(gpu.vendor for gpu in gpus))
    yield from _counted(
        "GPUs with",
        Counter(
            {
                "the driver's figure of their memory": sum(gpu.driver_memory_mib is not None for gpu in gpus),
                "torch's figure of it": sum(gpu.torch_memory_gib is not None for gpu in gpus),
                "a measured rate": sum(gpu.achievable_basis == "measured" for gpu in gpus),
                "low confidence, marked": sum(gpu.confidence == "low" for gpu in gpus),
            }
        ),
    )


def _counted(what: str, counts: Counter[str]) -> Iterator[str]:
    yield f"| {what} | number |"
    yield "|---|---:|"
    yield from (f"| {name} | {number:,} |" for name, number in sorted(counts.items()))
    yield ""


def _times() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "catalog"
        catalog = read_compiled(kept)
        yield "| CPU time of | ms |"
        yield "|---|---:|"
        yield f"| reading the tables | {_least_ms(read_catalog):.1f} |"
        yield f"| reading the parsed copy | {_least_ms(lambda: read_compiled(kept)):.1f} |"
        yield f"| all conditions on all offers | {_least_ms(lambda: _filter(catalog)):.1f} |"


def _filter(catalog: Catalog) -> None:
    select(
        catalog,
        gpus=("L4", "A10G", "T4", "A100-SXM4-80GB"),
        providers=catalog.providers,
        regions=("*",),
        min_gpu_memory_gib=1.0,
        max_usd_per_hour=Decimal(1000),
    )


def _least_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(NUM_TIMES):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1000


if __name__ == "__main__":
    main()
