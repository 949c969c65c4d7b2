"""The script behind instances.csv and prices.csv: licences are judged column by column, and sizes come from elsewhere."""

from __future__ import annotations

from decimal import Decimal

from benchmarks.offers.build_catalog import Cells, Tables, add_lists, add_rentals
from benchmarks.offers.machine_sizes import aws_machines, gcp_machine

AZURE = "od: github Azure/karpenter-provider-azure@352646f; spot: a table without a licence"
GCP = "od+spot: github Cyclenerd/google-cloud-pricing-cost-calculator@fd66b26 pricing.yml"


def surveyed(provider: str, region: str, instance_type: str, price: str, spot: str, source: str) -> Cells:
    return {
        "provider": provider,
        "region": region,
        "instance_type": instance_type,
        "price_hour_usd": price,
        "spot_price_hour_usd": spot,
        "price_as_of": "2026-07-30",
        "source": source,
    }


def listed(*rows: Cells) -> Tables:
    tables = Tables()
    add_lists(tables, rows)
    return tables


def rented(*offers: dict[str, object]) -> Tables:
    tables = Tables()
    add_rentals(tables, {"date": "2026-10-01", "offers": list(offers)})
    return tables


def test_of_one_row_only_the_licensed_price_is_taken() -> None:
    """Azure's on-demand price may be passed on; the spot price beside it has no licence. Google's has one."""
    tables = listed(
        surveyed("azure", "eastus", "Standard_NC4as_T4_v3", "0.526", "0.1", AZURE),
        surveyed("gcp", "us-central1", "g2-standard-4", "0.7068", "0.28", GCP),
    )
    azure, gcp = tables.prices.values()
    assert (azure["on_demand_usd_per_hour"], azure["spot_usd_per_hour"]) == ("0.526", "")
    assert (gcp["on_demand_usd_per_hour"], gcp["spot_usd_per_hour"]) == ("0.7068", "0.28")


def test_a_sum_with_an_unlicensed_part_and_an_unlicensed_source_are_left_out() -> None:
    tables = listed(
        surveyed("gcp", "us-central1", "n1-standard-8+1xT4", "0.73", "0.2", f"SUM host n1-standard-8 ({GCP}) + GPU add-on"),
        surveyed("vast", "*", "1x RTX 4090", "0.4", "", "a crawl"),
    )
    assert tables.prices == {}


def test_cpu_boxes_are_kept_in_few_places() -> None:
    tables = listed(*(surveyed("gcp", region, "e2-standard-4", "0.13", "", GCP) for region in ("us-central1", "asia-east1")))
    assert [region for _, region, _ in tables.prices] == ["us-central1"]


def test_a_slice_of_a_card_is_counted_as_one() -> None:
    """EC2 reports a g6f.large as no GPU of 2,861 MiB; it is an eighth of an L4."""
    machine = aws_machines()["g6f.large"]
    assert (machine.gpu, str(machine.num_gpus)) == ("L4", "0.125")


def test_google_machines_are_what_their_names_say() -> None:
    a3, a2, g4 = gcp_machine("a3-highgpu-8g"), gcp_machine("a2-ultragpu-2g"), gcp_machine("g4-standard-6")
    assert a3 is not None
    assert (a3.gpu, a3.num_gpus, a3.vcpus, a3.ram_gib, a3.local_disk_gib) == ("H100 SXM5", Decimal(8), 208.0, 1872, 6000)
    assert a2 is not None
    assert (a2.gpu, a2.num_gpus, a2.vcpus, a2.ram_gib, a2.local_disk_gib) == ("A100-SXM4-80GB", Decimal(2), 24.0, 340, 750)
    assert g4 is not None
    assert (g4.gpu, float(g4.num_gpus), g4.ram_gib) == ("RTX PRO 6000", 0.125, 22)


def test_serverless_and_what_the_clouds_say_better_themselves_are_left_out() -> None:
    tables = rented(
        {"provider": "modal", "gpu": "h100-sxm", "usd_hr": 3.95, "kind": "serverless"},
        {"provider": "aws", "gpu": "h100-sxm", "usd_hr": 12.29, "kind": "on-demand", "min_gpus": 8},
    )
    assert tables.prices == {}


def test_a_bare_h100_is_read_as_the_slower_card_unless_the_provider_sells_the_other() -> None:
    tables = rented(
        {"provider": "latitude", "gpu": "h100", "usd_hr": 3.37, "kind": "on-demand"},
        {"provider": "nebius", "gpu": "h100", "usd_hr": 4.5, "kind": "on-demand"},
    )
    assert [row["gpu"] for row in tables.instances.values()] == ["H100 PCIe", "H100 SXM5"]


def test_a_price_per_gpu_becomes_the_price_of_the_smallest_box() -> None:
    tables = rented({"provider": "coreweave", "gpu": "h200", "usd_hr": 6.305, "kind": "on-demand", "min_gpus": 8})
    (row,) = tables.prices.values()
    assert (row["instance_type"], row["on_demand_usd_per_hour"]) == ("8x-h200", "50.44")


def test_larger_boxes_are_derived_where_the_price_is_linear_and_marked_low() -> None:
    tables = rented({"provider": "runpod", "gpu": "rtx-4090", "usd_hr": 0.74, "kind": "secure"})
    boxes = [(row["instance_type"], row["on_demand_usd_per_hour"], row["confidence"]) for row in tables.prices.values()]
    assert boxes == [
        ("1x-rtx-4090-secure", "0.74", "medium"),
        ("2x-rtx-4090-secure", "1.48", "low"),
        ("4x-rtx-4090-secure", "2.96", "low"),
        ("8x-rtx-4090-secure", "5.92", "low"),
    ]


def test_on_demand_and_spot_of_one_machine_meet_in_one_row() -> None:
    tables = rented(
        {"provider": "spheron", "gpu": "h200", "usd_hr": 4.79, "kind": "on-demand"},
        {"provider": "spheron", "gpu": "h200", "usd_hr": 3.31, "kind": "spot"},
    )
    (row,) = tables.prices.values()
    assert (row["on_demand_usd_per_hour"], row["spot_usd_per_hour"]) == ("4.79", "3.31")
