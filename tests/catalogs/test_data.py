"""What must hold for every row that is shipped. A new snapshot that breaks one of these is not a snapshot to ship."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import pytest

from benchmarks.machine import RESULTS
from benchmarks.offers.catalog_counts import counts
from catalogs.catalog import DATA, Catalog, read_catalog
from catalogs.hardware import Gpu, Offer, Purchase
from catalogs.names import key_of
from catalogs.places import read_placed
from catalogs.quotas import read_quotas
from catalogs.storage import read_storage
from planner.estimators.cost import address_usd_per_hour
from provision.clouds.programs.accounts import aws_quotas, gcp_quotas
from tests.planner.builders import make_offer

MAY_BE_PASSED_ON = {"Apache-2.0", "MIT", "CC-BY-4.0"}
SNAPSHOT = dt.date(2026, 11, 28)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return read_catalog()


def spread(offer: Offer) -> tuple[str, str, str]:
    return offer.provider, offer.region, offer.instance_type


def test_the_counts_that_are_committed_are_those_of_what_is_shipped(catalog: Catalog) -> None:
    """`python -m benchmarks.offers.catalog_counts` writes them; its times are of one day and one machine."""
    [page] = RESULTS.glob("catalog_*.md")
    told, counted = page.read_text().partition("| CPU time of")[0].splitlines(), list(counts(catalog))
    assert told[3:] == counted[3:]


def test_there_is_enough_to_choose_from(catalog: Catalog) -> None:
    """Offers of many providers, GPUs of three vendors, storage prices beside them."""
    with_gpu = [offer for offer in catalog.offers if offer.gpu]
    assert len(with_gpu) >= 1_900
    assert len(catalog.offers) >= 2_000  # on demand and spot apart
    assert len({offer.provider for offer in with_gpu}) >= 25
    assert len(catalog.gpus) >= 180
    assert {gpu.vendor for gpu in catalog.gpus.values()} == {"nvidia", "amd", "intel"}
    assert len(read_storage()) >= 30


@pytest.mark.fault("F24", tier="code")
def test_every_price_is_dollars_per_hour_above_zero_and_below_absurdity(catalog: Catalog) -> None:
    """A source's zero means "not for sale"; the dearest GPU of 2026 (a GB200 at Azure in São Paulo) is 54 dollars an hour."""
    for offer in catalog.offers:
        assert offer.usd_per_hour > 0, offer.key
        assert offer.usd_per_hour / max(offer.num_gpus, Decimal(1)) < 60, offer.key


def test_no_offer_is_listed_twice(catalog: Catalog) -> None:
    assert [key for key, times in Counter(offer.key for offer in catalog.offers).items() if times > 1] == []


def test_a_box_has_a_gpu_and_a_count_or_neither(catalog: Catalog) -> None:
    for offer in catalog.offers:
        assert (offer.gpu is None) == (offer.num_gpus == 0), offer.key
        assert offer.gpu is None or offer.gpu in catalog.gpus, offer.key


def test_of_every_offer_it_is_known_on_whose_machines_it_runs(catalog: Catalog) -> None:
    """A provider without a row would count as a community host; RunPod's two clouds are told apart by their names."""
    assert [offer.key for offer in catalog.offers if offer.hosts is None] == []
    runpod = {(offer.instance_type.rsplit("-", 1)[-1], offer.hosts) for offer in catalog.offers if offer.provider == "runpod"}
    assert runpod == {("secure", "data centre"), ("community", "community")}


def test_sizes_of_boxes_are_possible(catalog: Catalog) -> None:
    """More memory than nothing, fewer vCPUs than a rack; unknown is None, not zero."""
    for offer in catalog.offers:
        assert offer.vcpus is None or 1 <= offer.vcpus <= 512, offer.key
        assert offer.ram_gib is None or 1 <= offer.ram_gib <= 8192, offer.key
        assert offer.local_disk_gib is None or offer.local_disk_gib > 0, offer.key
        assert offer.num_gpus <= 16, offer.key


def test_the_clouds_that_can_be_rented_from_say_how_large_their_boxes_are(catalog: Catalog) -> None:
    for offer in catalog.offers:
        if offer.provider in ("aws", "azure", "gcp"):
            assert offer.vcpus is not None, offer.key
            assert offer.ram_gib is not None, offer.key


def test_spot_is_not_dearer_than_on_demand(catalog: Catalog) -> None:
    """Five percent is granted to markets where both float."""
    on_demand = {spread(offer): offer for offer in catalog.offers if offer.purchase == "on_demand"}
    for offer in catalog.offers:
        if offer.purchase == "spot" and (listed := on_demand.get(spread(offer))):
            assert offer.usd_per_hour <= listed.usd_per_hour * Decimal("1.05"), offer.key


def test_the_price_of_one_machine_differs_little_between_regions(catalog: Catalog) -> None:
    """A misplaced decimal point shows as a factor of ten."""
    cheapest: dict[tuple[str, str], Decimal] = {}
    dearest: dict[tuple[str, str], Decimal] = {}
    for offer in catalog.offers:
        if offer.purchase == "on_demand":
            key = offer.provider, offer.instance_type
            cheapest[key] = min(offer.usd_per_hour, cheapest.get(key, offer.usd_per_hour))
            dearest[key] = max(offer.usd_per_hour, dearest.get(key, offer.usd_per_hour))
    for key, low in cheapest.items():
        assert dearest[key] <= 3 * low, key


def test_no_date_lies_in_the_future(catalog: Catalog) -> None:
    """Measured against the day of the snapshot, so that the test never rots."""
    dates = [gpu.as_of for gpu in catalog.gpus.values()]
    dates += [offer.observed_on for offer in catalog.offers if offer.observed_on]
    dates += [price.as_of for price in read_storage() if price.as_of]
    dates += [rule.as_of for rule in catalog.billing.values() if rule.as_of]
    dates += [source.as_of for source in catalog.sources.values()]
    assert max(dates) <= SNAPSHOT


def test_every_offer_is_dated_and_comes_from_a_source_that_lets_it_be_passed_on(catalog: Catalog) -> None:
    for offer in catalog.offers:
        source = catalog.sources[offer.source]
        assert offer.observed_on is not None, offer.key
        assert source.kind == "data", offer.key
        assert source.licence in MAY_BE_PASSED_ON, offer.key


def test_every_source_names_its_licence_or_is_cited_for_single_facts(catalog: Catalog) -> None:
    for source in catalog.sources.values():
        if source.kind == "data":
            assert source.licence in MAY_BE_PASSED_ON, source.code
        assert source.url or source.kind == "assumption", source.code


def test_cc_by_sources_carry_the_credit_that_is_to_be_shown(catalog: Catalog) -> None:
    for source in catalog.sources.values():
        if source.licence == "CC-BY-4.0":
            assert source.attribution is not None
            assert "CC BY 4.0" in source.attribution


def test_every_data_source_is_credited_in_the_attribution_file(catalog: Catalog) -> None:
    credits = (DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for source in catalog.sources.values():
        assert source.kind != "data" or str(source.url) in credits, source.code
        assert source.attribution is None or source.attribution in credits, source.code


def test_no_source_is_listed_that_nothing_cites(catalog: Catalog) -> None:
    cited = {code for gpu in catalog.gpus.values() for code in gpu.source.split(";")}
    cited |= {code for rule in catalog.billing.values() for code in rule.source.split(";")}
    cited |= {offer.source for offer in catalog.offers} | {price.source for price in read_storage()}
    cited |= {quota.source for quota in read_quotas()} | {placed.source for placed in read_placed()}
    instances = (DATA / "instances.csv").read_text(encoding="utf-8").splitlines()[1:]
    cited |= {line.rsplit(",", 1)[1] for line in instances}
    for file in ("hosts.csv", "disks.csv", "disk_kinds.csv"):
        cited |= {line.split(",")[-2] for line in (DATA / file).read_text(encoding="utf-8").splitlines()[1:]}
    assert cited == set(catalog.sources)


def test_a_disk_costs_what_its_region_asks_and_the_dearest_of_them_where_nobody_states_it(catalog: Catalog) -> None:
    """Amazon's and Google Cloud's of each kind that is rented; storage.csv has the same figures. Another has one price."""
    kinds = {provider: {kind for _, kind in rows} for provider, rows in catalog.disk_kinds.items()}
    listed = {
        (price.provider, price.name, price.region): price.usd
        for price in read_storage()
        if price.name in kinds.get(price.provider, ())
    }
    assert {provider: known.keys() for provider, known in catalog.disks.items()} == kinds
    assert {at: catalog.disks[at[0]][at[1]][at[2]] for at in listed} == listed
    assert {region for of_kind in catalog.disks["gcp"].values() for region in of_kind} == {
        region for provider, _, region in listed if provider == "gcp"
    }
    for provider, rows in catalog.disk_kinds.items():
        for pattern, kind in rows:
            known = catalog.disks[provider][kind]
            for region, usd in (*known.items(), ("mars-north1", max(known.values()))):
                offer = make_offer(provider=provider, region=region, instance_type=pattern.replace("*", "-8"))
                rule = catalog.billing_of(offer)
                assert (rule.disk_usd_per_gib_month, rule.volume_usd_per_gib_month) == (usd, usd)
                assert rule.increment_s == catalog.billing[provider].increment_s
                assert catalog.knows_disk(offer) == (region in known)
    [elsewhere, *_] = [offer for offer in catalog.offers if offer.provider == "runpod"]
    assert catalog.billing_of(elsewhere) == catalog.billing["runpod"]
    assert catalog.knows_disk(elsewhere)


@pytest.mark.parametrize(
    ("instance_type", "usd_per_gib_month"),
    [
        ("e2-standard-4", "0.1"),
        ("g2-standard-4", "0.1"),
        ("a3-highgpu-8g", "0.1"),
        ("n4-standard-8", "0.08"),
        ("g4-standard-48", "0.08"),
    ],
)
def test_a_machine_of_google_s_has_the_price_of_the_kind_of_disk_that_it_takes(
    catalog: Catalog, instance_type: str, usd_per_gib_month: str
) -> None:
    """Families that take no persistent disk were told, and capped, at the price of one."""
    rule = catalog.billing_of(make_offer(provider="gcp", region="us-central1", instance_type=instance_type))
    assert rule.disk_usd_per_gib_month == Decimal(usd_per_gib_month)


def test_every_region_of_amazons_that_is_sold_has_its_disks_price(catalog: Catalog) -> None:
    """And so have those that are read by a refresh, as far as Amazon's page was recorded."""
    assert all(catalog.knows_disk(offer) for offer in catalog.offers if offer.provider == "aws")


def test_a_public_address_has_a_price_where_its_provider_bills_it_apart(catalog: Catalog) -> None:
    """Of every cloud that is rented from it is known; a list of storage prices that has one says the same."""
    rules = catalog.billing
    asked = {name: address_usd_per_hour(sold_by(name), rules[name]) for name in ("aws", "gcp", "hetzner")}
    assert asked == {"aws": Decimal("0.005"), "gcp": Decimal("0.005"), "hetzner": Decimal("0.00092")}
    assert address_usd_per_hour(sold_by("gcp", purchase="spot"), rules["gcp"]) == Decimal("0.0025")
    assert address_usd_per_hour(sold_by("aws", purchase="spot"), rules["aws"]) == Decimal("0.005")
    assert [rules[name].address_usd_per_hour for name in ("runpod", "digitalocean", "local", "host")] == [Decimal(0)] * 4
    listed = {each.provider: each.usd for each in read_storage() if each.kind == "address" or "IPv4" in each.name}
    assert {name: rules[name].address_usd_per_hour for name in listed} == listed


def sold_by(provider: str, purchase: Purchase = "on_demand") -> Offer:
    """Any machine of this provider."""
    return make_offer(provider=provider, purchase=purchase)


def test_every_provider_has_a_billing_rule_and_so_have_machines_that_cost_nothing(catalog: Catalog) -> None:
    assert {offer.provider for offer in catalog.offers} <= set(catalog.billing)
    for name in ("local", "host"):
        free = catalog.billing[name]
        assert (free.disk_usd_per_gib_month, free.egress_usd_per_gb) == (Decimal(0), Decimal(0))


def test_billing_rules_are_at_most_a_started_hour_but_for_one_that_sells_days(catalog: Catalog) -> None:
    """Voltage Park charges full days, two of them in advance: an hour there costs 48."""
    for rule in catalog.billing.values():
        if rule.provider != "voltagepark":
            assert 1 <= rule.increment_s <= 3600, rule.provider
            assert 0 <= rule.minimum_s <= 3600, rule.provider
    days = catalog.billing["voltagepark"]
    assert (days.increment_s, days.minimum_s) == (86_400, 2 * 86_400)


def test_egress_tiers_grow_cheaper_with_volume(catalog: Catalog) -> None:
    """After what is free, and each place by itself."""
    tiers: dict[tuple[str, str], list[tuple[int, Decimal]]] = {}
    for price in read_storage():
        if price.kind == "egress" and price.usd:
            tiers.setdefault((price.provider, price.region), []).append((price.above_gb, price.usd))
    for place, steps in tiers.items():
        prices = [usd for _, usd in sorted(steps)]
        assert prices == sorted(prices, reverse=True), place


def test_what_a_kept_volume_is_billed_by_stands_among_the_prices_of_storage(catalog: Catalog) -> None:
    """One price in two units at the most: a vendor's gigabyte is decimal here and binary there."""
    for rule in catalog.billing.values():
        if rule.volume_usd_per_gib_month is None:
            continue
        listed = [price.usd for price in read_storage() if price.provider == rule.provider and price.kind in ("block", "file")]
        per_gib = {round(usd * factor, 4) for usd in listed for factor in (Decimal(1), Decimal("1.073741824"))}
        assert rule.volume_usd_per_gib_month in per_gib, rule.provider


def gpus(catalog: Catalog) -> list[Gpu]:
    return list(catalog.gpus.values())


def test_the_driver_never_reports_more_than_was_sold(catalog: Catalog) -> None:
    for gpu in gpus(catalog):
        assert gpu.driver_memory_mib is None or 0.85 <= gpu.driver_memory_mib / 1024 / gpu.memory_gib <= 1.01, gpu.name


def test_no_matmul_beats_the_datasheet(catalog: Catalog) -> None:
    """The achievable rate is below the dense 16-bit peak, or below fp32 on cards without one."""
    for gpu in gpus(catalog):
        peak = gpu.bf16_tflops or gpu.fp16_tflops or gpu.fp32_tflops
        assert peak is not None, gpu.name
        assert 0.3 * peak <= gpu.achievable_tflops <= peak, gpu.name


def test_bf16_starts_with_compute_capability_8(catalog: Catalog) -> None:
    for gpu in gpus(catalog):
        if gpu.vendor == "nvidia":
            assert gpu.compute_capability is not None, gpu.name
            assert gpu.bf16 == (gpu.compute_capability >= (8, 0)) == (gpu.bf16_tflops is not None), gpu.name
            assert gpu.flash_attention != "yes" or gpu.bf16, gpu.name


def test_measured_rates_name_the_measurement(catalog: Catalog) -> None:
    for gpu in gpus(catalog):
        measured = {"mamf", "t4-microbenchmarks"} & set(gpu.source.split(";"))
        assert (gpu.achievable_basis == "measured") == bool(measured), gpu.name


# The share of its peak that a card nobody measured is taken for, as docs/catalog.md tells it: the first that applies.
SHARES: tuple[tuple[Callable[[Gpu], bool], float], ...] = (
    (lambda gpu: gpu.tdp_w <= 75 or gpu.name == "A10", 0.64),
    (lambda gpu: gpu.architecture == "Hopper" and gpu.form_factor == "pcie", 0.80),
    (lambda gpu: gpu.name == "L20" or (is_geforce(gpu) and (gpu.compute_capability or (0, 0)) >= (7, 5)), 0.95),
    (lambda _: True, 0.85),
)
# Chips that are another card's, or all but: they have its share.
AS_MEASURED = {
    "A100-SXM-64GB": "A100-SXM4-40GB",
    "A800-SXM4-80GB": "A100-SXM4-80GB",
    "A800 40GB": "A100-PCIE-40GB",
    "A800-PCIE-80GB": "A100-PCIE-80GB",
    "H100 SXM5 94GB": "H100 SXM5",
    "H100 SXM5 96GB": "H100 SXM5",
    "H800 SXM": "H100 SXM5",
    "GH200 144GB": "GH200",
    "B100": "B200",
    "GB300": "GB200",
    "MI300A": "MI300X",
    "MI350X": "MI355X",
}


def is_geforce(gpu: Gpu) -> bool:
    """RTX 2060 to 5090 and the GTX before them; a word between RTX and the number makes it another line."""
    return re.fullmatch(r"(GTX \d{4}|RTX (20|30|40|50)\d0)( Ti| Super| D| \d+GB)*", gpu.name) is not None


def peak_of(gpu: Gpu) -> float:
    """Of cards with tensor cores the dense 16-bit peak, else what fp32 gives."""
    has_tensor_cores = gpu.vendor != "nvidia" or (gpu.compute_capability or (0, 0)) >= (7, 0)
    peak = (gpu.bf16_tflops or gpu.fp16_tflops if has_tensor_cores else None) or gpu.fp32_tflops
    assert peak is not None, gpu.name
    return peak


def test_what_is_assumed_of_a_card_is_the_share_that_the_documents_tell(catalog: Catalog) -> None:
    for gpu in gpus(catalog):
        if gpu.achievable_basis == "assumed":
            like = catalog.gpus[AS_MEASURED.get(gpu.name, gpu.name)]
            told = next(share for applies, share in SHARES if applies(gpu))
            share = told if like is gpu else like.achievable_tflops / peak_of(like)
            assert gpu.achievable_tflops == pytest.approx(share * peak_of(gpu), rel=0.006), gpu.name


def test_no_name_or_alias_means_two_cards(catalog: Catalog) -> None:
    """Nor is it one of the words that are known to be ambiguous."""
    keys = Counter(key for gpu in gpus(catalog) for key in {key_of(name) for name in (gpu.name, *gpu.aliases)})
    assert [key for key, times in keys.items() if times > 1] == []
    assert keys.keys() & catalog.gpu_words.keys() == set()


def test_an_ambiguous_word_takes_the_card_with_the_least_memory(catalog: Catalog) -> None:
    """So that a plan for "A100" also runs on the other A100."""
    for word in catalog.gpu_words.values():
        taken = catalog.gpus[word.taken]
        assert word.also, word.word
        assert all(taken.memory_gib <= catalog.gpus[other].memory_gib for other in word.also), word.word


# As people and drivers call them.
@pytest.mark.parametrize(
    "name",
    """
    RTX 3060; RTX 3070; RTX 4060 Ti 16; RTX 4070 Ti S; RTX 4080; RTX 4080 S; RTX 5060 Ti 16; RTX 5070 Ti; RTX 5080; A4000;
    A4500; NVIDIA TITAN RTX; RTX 8000; L20; A800; H800; H20; GB300; MI350X; MI355X; Gaudi 2; Gaudi 3; Radeon W7900; 7900 XTX;
    AMD Radeon RX 7900 XTX; RTX 2080 Ti; GTX 1080 Ti; Tesla T4; NVIDIA A100 80GB PCIe; NVIDIA H100 80GB HBM3; V100-PCIE-32GB;
    NVIDIA GeForce RTX 4090; NVIDIA RTX 4000 SFF Ada Generation; NVIDIA RTX PRO 6000 Blackwell Workstation Edition; GH200 480GB
    """.replace("\n", " ").split(";"),
)
def test_cards_that_people_own_or_rent_are_known_by_their_names(catalog: Catalog, name: str) -> None:
    assert catalog.gpu(name.strip()).warning is None


def test_torch_sees_less_than_the_driver_and_that_less_than_was_sold(catalog: Catalog) -> None:
    """A T4: 16 GB as sold, 15,360 MiB by the driver, about 14.6 GiB by torch."""
    t4 = catalog.gpus["T4"]
    assert (t4.memory_gib, t4.driver_memory_mib, t4.torch_memory_gib) == (16, 15_360, 14.563)
    known = [(gpu, gpu.torch_memory_gib) for gpu in gpus(catalog) if gpu.torch_memory_gib is not None]
    assert len(known) >= 15
    for gpu, torch_gib in known:
        assert gpu.driver_memory_mib is not None, gpu.name
        assert 0.9 * gpu.memory_gib < torch_gib <= gpu.driver_memory_mib / 1024 <= 1.02 * gpu.memory_gib, gpu.name


def test_the_quotas_that_people_must_raise_have_names(catalog: Catalog) -> None:
    """Of each cloud whose account may be refused, in its own words, and AWS's as the code that asks for them has them."""
    rows = read_quotas()
    assert {quota.provider for quota in rows} == {"aws", "azure", "digitalocean", "gcp"} <= set(catalog.billing)
    aws = {(quota.code, quota.name, quota.purchase) for quota in rows if quota.provider == "aws"}
    assert aws == {(row.code, row.name, row.purchase) for row in aws_quotas.ROWS}
    assert gcp_quotas.EVERYWHERE in {quota.code for quota in rows}
    assert set(gcp_quotas.METRICS.values()) <= {quota.code for quota in rows}


# Total memory as nvidia-smi prints it on these cards.
@pytest.mark.parametrize(
    ("name", "driver_memory_mib"),
    [
        ("T4", 15_360),
        ("A10G", 23_028),
        ("L4", 23_034),
        ("RTX 3090", 24_576),
        ("RTX 4090", 24_564),
        ("L40S", 46_068),
        ("RTX A6000", 49_140),
        ("A100-SXM4-80GB", 81_920),
        ("H100 SXM5", 81_559),
        ("H200 SXM", 143_771),
    ],
)
def test_well_known_cards_report_what_they_report(catalog: Catalog, name: str, driver_memory_mib: int) -> None:
    assert catalog.gpus[name].driver_memory_mib == driver_memory_mib


# As the AWS Price List has them.
@pytest.mark.parametrize(
    ("key", "usd_per_hour"),
    [
        ("aws/us-east-1/g5.xlarge/on_demand", "1.006"),
        ("aws/us-east-1/p5.48xlarge/on_demand", "55.04"),
        ("aws/us-east-1/p4d.24xlarge/on_demand", "21.957642"),
    ],
)
def test_list_prices_that_aggregators_get_wrong(catalog: Catalog, key: str, usd_per_hour: str) -> None:
    """Third-party tables still show p5 at 98.32 and p4d at 32.77."""
    assert {offer.key: offer.usd_per_hour for offer in catalog.offers}[key] == Decimal(usd_per_hour)


def test_google_boxes_cost_more_than_their_gpus_alone(catalog: Catalog) -> None:
    """An A2, A3 or G2 row without the accelerator would cost a tenth."""
    floor_usd_per_hour = {"L4": Decimal("0.4"), "A100-SXM4-40GB": Decimal("2.5"), "A100-SXM4-80GB": Decimal("3.5")}
    for offer in catalog.offers:
        if offer.provider == "gcp" and offer.purchase == "on_demand" and offer.gpu in floor_usd_per_hour:
            assert offer.usd_per_hour >= floor_usd_per_hour[offer.gpu] * offer.num_gpus, offer.key


def test_arm_hosts_are_marked(catalog: Catalog) -> None:
    """Grace and Graviton boxes need other wheels than the rest."""
    for offer in catalog.offers:
        grace = offer.gpu in ("GH200", "GB200", "GB300", "T4G")
        assert (offer.cpu_architecture == "arm64") == grace, offer.key
