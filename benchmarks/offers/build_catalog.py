"""Makes catalogs/data/instances.csv and prices.csv from collected prices, one licence decision per column.

    python -m benchmarks.offers.build_catalog --survey lists.csv --rentals latest.json --out catalogs/data

`--survey` is a table with the columns provider, region, instance_type, gpu_count, price_hour_usd, spot_price_hour_usd,
price_as_of and source (free text that names repository and commit). A row is taken only if its source is one of LISTS,
and of that row only the prices that this source may pass on. `--rentals` is data/latest.json of
github.com/adriannutiu/gpu-rental-prices as it stands (CC BY 4.0). Sizes of machines never come from either: AWS from moto's
copy of DescribeInstanceTypes, Azure and Google Cloud from the tables in machine_sizes.py.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.offers.machine_sizes import AZURE_MACHINES, Machine, aws_machines, gcp_machine, interconnect_of

Cells = dict[str, str]


@dataclass(frozen=True)
class PriceList:
    """A list whose licence lets us pass its prices on, and how to know it in a survey's `source`."""

    provider: str
    code: str
    marker: str
    refused: str | None = None  # the row also holds a figure of this origin: a sum, so not separable
    with_spot: bool = False


LISTS = (
    PriceList("aws", "aws-price-list", "aws/karpenter-provider-aws@1d92708"),
    PriceList("azure", "azure-retail-prices", "Azure/karpenter-provider-azure@352646f"),
    PriceList("gcp", "gcp-price-list", "Cyclenerd/google-cloud-pricing-cost-calculator@fd66b26", refused="SUM", with_spot=True),
)

# A CPU box rehearses a cloud's whole path for cents. One or two regions of each suffice.
CPU_REGIONS = {"aws": ("us-east-1",), "azure": ("eastus", "westeurope"), "gcp": ("us-central1", "europe-west4")}


# ── GPU specialists: gpu-rental-prices names a card, a price per GPU and a kind ─────────────────────────────────────────
BOX_KINDS = ("on-demand", "secure", "community", "spot")  # serverless is no machine that SSH reaches
NOT_TAKEN = ("aws", "azure", "gcp")  # the clouds' own lists say better what these cost
PROVIDER_NAMES = {"datacrunch": "verda", "ovh": "ovhcloud"}  # as they call themselves now
CARDS = {
    "a10": "A10",
    "a100": "A100-PCIE-80GB",  # a bare "a100", "h100" or "v100" is read as the slower card unless VARIANTS knows better
    "a100-pcie-40": "A100-PCIE-40GB",
    "a100-pcie-80": "A100-PCIE-80GB",
    "a100-sxm-40": "A100-SXM4-40GB",
    "a100-sxm-80": "A100-SXM4-80GB",
    "a30": "A30",
    "a40": "A40",
    "b200": "B200",
    "b300": "B300",
    "gb200": "GB200",
    "gb300": "GB300",
    "gh200": "GH200",
    "h100": "H100 PCIe",
    "h100-nvl": "H100 NVL",
    "h100-pcie": "H100 PCIe",
    "h100-sxm": "H100 SXM5",
    "h200": "H200 SXM",
    "h200-nvl": "H200 NVL",
    "l4": "L4",
    "l40": "L40",
    "l40s": "L40S",
    "mi300x": "MI300X",
    "mi325x": "MI325X",
    "mi350x": "MI350X",
    "mi355x": "MI355X",
    "quadro-rtx-5000": "Quadro RTX 5000",
    "quadro-rtx-6000": "Quadro RTX 6000",
    "rtx-3090": "RTX 3090",
    "rtx-3090-ti": "RTX 3090 Ti",
    "rtx-4060-ti-16gb": "RTX 4060 Ti 16GB",
    "rtx-4070": "RTX 4070",
    "rtx-4070-ti-super": "RTX 4070 Ti Super",
    "rtx-4090": "RTX 4090",
    "rtx-5060": "RTX 5060",
    "rtx-5060-ti-16gb": "RTX 5060 Ti 16GB",
    "rtx-5070": "RTX 5070",
    "rtx-5070-ti": "RTX 5070 Ti",
    "rtx-5080": "RTX 5080",
    "rtx-5090": "RTX 5090",
    "rtx-6000-ada": "RTX 6000 Ada",
    "rtx-a4000": "RTX A4000",
    "rtx-a5000": "RTX A5000",
    "rtx-a6000": "RTX A6000",
    "rtx-pro-4500": "RTX PRO 4500",
    "rtx-pro-6000": "RTX PRO 6000",
    "rtx-pro-6000-maxq": "RTX PRO 6000 Max-Q",
    "rtx-pro-6000-server": "RTX PRO 6000",
    "rtx-pro-6000-wk": "RTX PRO 6000",
    "v100": "V100-PCIE-16GB",
    "v100-pcie": "V100-PCIE-16GB",
    "v100-sxm2": "V100-SXM2-16GB",
}
VARIANTS = {  # which card these providers mean (recalled from their product pages)
    ("coreweave", "a100"): "A100-SXM4-80GB",
    ("coreweave", "h100"): "H100 SXM5",
    ("crusoe", "h100"): "H100 SXM5",
    ("digitalocean", "h100"): "H100 SXM5",
    ("gmicloud", "h100"): "H100 SXM5",
    ("lambda", "v100"): "V100-SXM2-16GB",
    ("nebius", "h100"): "H100 SXM5",
    ("together", "h100"): "H100 SXM5",
    ("verda", "v100"): "V100-SXM2-16GB",
    ("voltagepark", "h100"): "H100 SXM5",
    ("vultr", "h100"): "H100 SXM5",
}
SMALLEST_BOX = {("lambda", "v100"): 8}  # where the snapshot does not say it
# These sell one machine in several sizes at a price linear in the GPUs (their pricing pages); larger boxes are derived.
LINEAR_COUNTS = {("runpod", "secure"): (2, 4, 8), ("hyperstack", "on-demand"): (2, 4, 8), ("verda", "on-demand"): (2, 4, 8)}
LOWER_BOUNDS = ("salad", "tensordock")  # "from" prices of a market


@dataclass
class Tables:
    """What is written: instance rows by key, price rows by key."""

    instances: dict[tuple[str, str], Cells] = field(default_factory=dict)
    prices: dict[tuple[str, str, str], Cells] = field(default_factory=dict)

    def add(
        self,
        provider: str,
        region: str,
        instance_type: str,
        machine: Machine,
        prices: Cells,
        confidence: str,
        observed: str,
        code: str,
    ) -> None:
        """One machine at one place; on-demand and spot prices of the same machine meet in one row."""
        self.instances[provider, instance_type] = _instance_cells(provider, instance_type, machine)
        row = self.prices.setdefault(
            (provider, region, instance_type),
            {"provider": provider, "region": region, "instance_type": instance_type},
        )
        row.update(prices, observed_on=observed, source=code, confidence=confidence)


def _instance_cells(provider: str, instance_type: str, machine: Machine) -> Cells:
    return {
        "provider": provider,
        "instance_type": instance_type,
        "gpu": machine.gpu,
        "num_gpus": f"{machine.num_gpus.normalize():f}",
        "interconnect": machine.interconnect,
        "vcpus": _number(machine.vcpus),
        "ram_gib": _number(machine.ram_gib),
        "local_disk_gib": _number(machine.local_disk_gib),
        "cpu_architecture": machine.cpu_architecture,
        "source": machine.source,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def add_lists(tables: Tables, survey: Iterable[Cells]) -> None:
    """The clouds' own price lists."""
    aws = aws_machines()
    for row in survey:
        listed = next((known for known in LISTS if known.provider == row["provider"] and known.marker in row["source"]), None)
        if listed is None or (listed.refused and row["source"].startswith(listed.refused)):
            continue
        machine = _machine(row["provider"], row["instance_type"], aws)
        prices = {
            "on_demand_usd_per_hour": row["price_hour_usd"],
            "spot_usd_per_hour": row["spot_price_hour_usd"] * listed.with_spot,
        }
        if machine is None or not any(prices.values()) or not _wanted(row, machine):
            continue
        tables.add(
            row["provider"], row["region"], row["instance_type"], machine, prices, "high", row["price_as_of"], listed.code
        )


def _machine(provider: str, instance_type: str, aws: dict[str, Machine]) -> Machine | None:
    if provider == "aws":
        return aws.get(instance_type)
    return AZURE_MACHINES.get(instance_type) if provider == "azure" else gcp_machine(instance_type)


def _wanted(row: Cells, machine: Machine) -> bool:
    return bool(machine.gpu) or row["region"] in CPU_REGIONS[row["provider"]]


def add_rentals(tables: Tables, snapshot: dict[str, Any]) -> None:
    """The boxes of gpu-rental-prices, at the smallest count that is sold and, where the price is linear, at larger ones."""
    for offer in snapshot["offers"]:
        provider = PROVIDER_NAMES.get(offer["provider"], offer["provider"])
        if offer["kind"] not in BOX_KINDS or provider in NOT_TAKEN or offer["gpu"] not in CARDS:
            continue
        smallest = offer.get("min_gpus") or SMALLEST_BOX.get((provider, offer["gpu"]), 1)
        for num_gpus in (smallest, *LINEAR_COUNTS.get((provider, offer["kind"]), ())):
            _add_rental(tables, provider, offer, num_gpus, derived=num_gpus != smallest, observed=snapshot["date"])


def _add_rental(tables: Tables, provider: str, offer: dict[str, Any], num_gpus: int, *, derived: bool, observed: str) -> None:
    gpu = VARIANTS.get((provider, offer["gpu"]), CARDS[offer["gpu"]])
    column = "spot_usd_per_hour" if offer["kind"] == "spot" else "on_demand_usd_per_hour"
    dollars = (Decimal(str(offer["usd_hr"])).quantize(Decimal("0.000001")) * num_gpus).normalize()
    tier = f"-{offer['kind']}" if offer["kind"] in ("secure", "community") else ""
    arm = "arm64" if gpu in ("GH200", "GB200", "GB300") else "x86_64"
    tables.add(
        provider,
        "*",
        f"{num_gpus}x-{offer['gpu']}{tier}",
        Machine(
            gpu,
            Decimal(num_gpus),
            interconnect=interconnect_of(gpu, Decimal(num_gpus)),
            cpu_architecture=arm,
            source="gpurentalprices",
        ),
        {column: f"{dollars:f}"},
        "low" if derived or provider in LOWER_BOUNDS or offer["kind"] == "community" else "medium",
        observed,
        "gpurentalprices",
    )


INSTANCE_COLUMNS = (
    "provider",
    "instance_type",
    "gpu",
    "num_gpus",
    "interconnect",
    "vcpus",
    "ram_gib",
    "local_disk_gib",
    "cpu_architecture",
    "source",
)
PRICE_COLUMNS = (
    "provider",
    "region",
    "instance_type",
    "on_demand_usd_per_hour",
    "spot_usd_per_hour",
    "observed_on",
    "source",
    "confidence",
)


def write(path: Path, columns: tuple[str, ...], rows: Iterator[Cells]) -> None:
    """A table in a stable order, so that a new snapshot reads as a diff."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Reads both snapshots and writes both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", type=Path, required=True)
    parser.add_argument("--rentals", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    paths = parser.parse_args()
    tables = Tables()
    with paths.survey.open(encoding="utf-8", newline="") as stream:
        add_lists(tables, csv.DictReader(stream))
    add_rentals(tables, json.loads(paths.rentals.read_text(encoding="utf-8")))
    write(paths.out / "instances.csv", INSTANCE_COLUMNS, (tables.instances[key] for key in sorted(tables.instances)))
    write(paths.out / "prices.csv", PRICE_COLUMNS, (tables.prices[key] for key in sorted(tables.prices)))
    print(f"{len(tables.instances)} instance types, {len(tables.prices)} price rows")


if __name__ == "__main__":
    main()
