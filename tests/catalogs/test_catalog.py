"""Looking things up: a GPU by whatever it is called, offers by condition, the age of a price, the credit it needs."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.catalog import STALE_AFTER_DAYS, Catalog, CatalogError, age_days, attributions, is_stale, read_catalog, select
from catalogs.hardware import Offer
from catalogs.names import GpuUnknown, Instead

CATALOG = read_catalog()


@pytest.fixture
def catalog() -> Catalog:
    return CATALOG


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("RTX 4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),  # nvidia-smi -L
        ("RTX-4090-24GB", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIE-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM5"),
        ("H100-SXM-80GB", "H100 SXM5"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("Quadro RTX 6000", "Quadro RTX 6000"),
        ("B200-SXM-180GB", "B200"),
        ("AMD Instinct MI300X", "MI300X"),
        ("Gaudi2-96GB", "Gaudi2"),
        ("rtx 3060", "RTX 3060 12GB"),
        ("A100-SXM4 80G", "A100-SXM4-80GB"),
        ("RTX 4090 24GiB", "RTX 4090"),
        ("A10G", "A10G"),
    ],
)
def test_a_card_is_found_under_the_names_that_people_and_drivers_use(catalog: Catalog, written: str, meant: str) -> None:
    match = catalog.gpu(written)
    assert (match.gpu.name, match.warning) == (meant, None)


@pytest.mark.parametrize(
    ("written", "taken", "also"),
    [
        ("A100", "A100-SXM4-40GB", "A100-SXM4-80GB"),
        ("a100 80gb", "A100-SXM4-80GB", "A100-PCIE-80GB"),
        ("H100", "H100 SXM5", "H100 PCIe"),
        ("Tesla V100", "V100-SXM2-16GB", "V100-PCIE-32GB"),
        ("RTX 4060 Ti", "RTX 4060 Ti 8GB", "RTX 4060 Ti 16GB"),
        ("RTX 6000", "Quadro RTX 6000", "RTX 6000 Ada"),
    ],
)
def test_a_word_for_several_cards_takes_one_and_says_so(catalog: Catalog, written: str, taken: str, also: str) -> None:
    match = catalog.gpu(written)
    assert match.gpu.name == taken
    assert match.warning is not None
    assert match.warning.startswith(f'"{written}" names several cards; {taken} is taken')
    assert also in match.warning


def test_a_name_that_is_unknown_is_refused_with_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(GpuUnknown, match=r'no GPU "RTX 4O90" in the catalog$') as near:
        catalog.gpu("RTX 4O90")
    assert near.value.instead is Instead.NEAREST
    assert str(near.value.hint).startswith("nearest: RTX 4090")
    with pytest.raises(GpuUnknown) as far:
        catalog.gpu("abacus")
    assert far.value.instead is Instead.USUAL
    assert re.fullmatch(r"it has \d+ of them, T4, L4, .*, H200 SXM among them", str(far.value.hint))


@given(st.sampled_from(sorted(CATALOG.gpus)), st.sampled_from([str.lower, str.upper, str.title]), st.sampled_from(" -_./"))
def test_case_and_punctuation_never_matter(name: str, case: object, separator: str) -> None:
    assert callable(case)
    assert CATALOG.gpu(case(name).replace(" ", separator)).gpu.name == name


@given(st.text(max_size=24))
def test_any_text_is_a_card_or_one_sentence(name: str) -> None:
    try:
        answer = CATALOG.gpu(name).gpu.name
    except GpuUnknown as refusal:
        answer = refusal.message if refusal.hint else ""
    assert answer in CATALOG.gpus or answer in (f'no GPU "{name}" in the catalog', f'no GPU is called "{name}"')


@pytest.mark.parametrize("size", ["16GB", "80 gib", "0G"])
def test_a_size_of_memory_is_no_name_and_is_sent_to_its_option(catalog: Catalog, size: str) -> None:
    """As sold, or as a job may use it: two options, and each is said what it is."""
    with pytest.raises(GpuUnknown, match=f'no GPU is called "{size}"') as refused:
        catalog.gpu(size)
    assert refused.value.instead is Instead.OTHERWISE
    assert re.fullmatch("--gpu-budget .* sold with, --gpu-memory-gib .* may use of it", str(refused.value.hint))


def test_without_a_condition_everything_is_selected_cheapest_hour_first(catalog: Catalog) -> None:
    offers = select(catalog)
    assert len(offers) == len(catalog.offers)
    assert [offer.usd_per_hour for offer in offers] == sorted(offer.usd_per_hour for offer in catalog.offers)


def test_conditions_are_all_met_at_once(catalog: Catalog) -> None:
    offers = select(
        catalog,
        gpus=["l4"],
        providers=["AWS", "gcp"],
        regions=["US-*"],
        spot=False,
        min_gpu_memory_gib=24,
        max_usd_per_hour=Decimal("1.5"),
    )
    assert {offer.gpu for offer in offers} == {"L4"}
    assert {offer.provider for offer in offers} == {"aws", "gcp"}
    assert all(offer.region.startswith("us-") and offer.purchase == "on_demand" for offer in offers)
    assert all(offer.usd_per_hour <= Decimal("1.5") and offer.num_gpus >= 1 for offer in offers)


def test_an_ambiguous_gpu_selects_the_card_that_is_taken(catalog: Catalog) -> None:
    assert {offer.gpu for offer in select(catalog, gpus=["H100"])} == {"H100 SXM5"}


def test_a_slice_of_a_card_has_a_slice_of_its_memory(catalog: Catalog) -> None:
    slices = {offer.instance_type: catalog.gpu_memory_gib(offer) for offer in select(catalog, providers=["aws"], gpus=["L4"])}
    assert (slices["g6f.large"], slices["g6f.4xlarge"], slices["g6.xlarge"], slices["g6.12xlarge"]) == (3, 12, 24, 24)
    assert all(offer.num_gpus >= 1 for offer in select(catalog, providers=["aws"], gpus=["L4"], min_gpu_memory_gib=24))


def test_a_cpu_box_passes_no_condition_on_gpu_memory(catalog: Catalog) -> None:
    cpu_boxes = [offer for offer in select(catalog, providers=["aws"]) if offer.gpu is None]
    assert cpu_boxes
    assert catalog.gpu_memory_gib(cpu_boxes[0]) is None
    assert all(offer.gpu for offer in select(catalog, min_gpu_memory_gib=0.1))


def test_spot_alone(catalog: Catalog) -> None:
    assert {offer.purchase for offer in select(catalog, spot=True)} == {"spot"}


def test_unknown_names_in_a_condition_are_refused(catalog: Catalog) -> None:
    with pytest.raises(GpuUnknown):
        select(catalog, gpus=["abacus"])
    told = (
        ({"providers": ["awz"]}, 'no provider "awz" in the catalog', "nearest: aws"),
        ({"providers": ["qqq"]}, 'no provider "qqq" in the catalog', "there are aws, azure"),
        ({"regions": ["us-east-99"]}, 'no region "us-east-99" in the catalog', "nearest: us-east"),
        ({"regions": ["**?x"]}, 'no region "**?x" in the catalog', "None"),
    )
    for condition, message, hint in told:
        with pytest.raises(CatalogError) as refused:
            select(catalog, **condition)  # type: ignore[arg-type]
        assert refused.value.message == message
        assert str(refused.value.hint).startswith(hint)


def observed(catalog: Catalog, day: dt.date | None) -> Offer:
    return msgspec.structs.replace(catalog.offers[0], observed_on=day)


@pytest.mark.fault("F24", tier="code")
def test_a_price_goes_stale_after_its_quarter_or_without_a_date(catalog: Catalog) -> None:
    read_on = dt.date(2026, 8, 22)
    last_good_day = read_on + dt.timedelta(days=STALE_AFTER_DAYS)
    offer = observed(catalog, read_on)
    assert age_days(offer, last_good_day) == STALE_AFTER_DAYS
    assert not is_stale(offer, last_good_day)
    assert is_stale(offer, last_good_day + dt.timedelta(days=1))
    undated = observed(catalog, None)
    assert age_days(undated, read_on) is None
    assert age_days(offer, read_on - dt.timedelta(days=1)) == 0, "today elsewhere"
    assert is_stale(offer, read_on - dt.timedelta(days=2)), "a day that is still to come tells nothing"
    assert is_stale(undated, read_on)


def test_prices_under_cc_by_bring_their_credit_once(catalog: Catalog) -> None:
    assert attributions(catalog, select(catalog, providers=["aws"])) == ()
    (credit,) = attributions(catalog, select(catalog, providers=["runpod", "aws", "lambda"]))
    assert credit.startswith(
        "GPU rental price data by gpurentalprices.com (https://gpurentalprices.com), licensed under CC BY 4.0"
    )


def test_an_offer_of_another_catalog_needs_no_credit_here(catalog: Catalog) -> None:
    """A local box's offer is made at run time, from no table."""
    assert attributions(catalog, [msgspec.structs.replace(catalog.offers[0], source="measured here")]) == ()


def test_a_catalog_is_a_value(catalog: Catalog) -> None:
    with pytest.raises(AttributeError):
        catalog.offers = ()  # type: ignore[misc]  # that it cannot be done is the point
    assert read_catalog() == catalog
