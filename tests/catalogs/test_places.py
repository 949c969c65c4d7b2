"""Where regions lie: each row is of a region that a table prices, and a place is found however it is written."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from catalogs.catalog import DATA, read_catalog
from catalogs.places import read_placed, regions_at
from catalogs.read import CatalogError

PLACED = read_placed()


@pytest.mark.parametrize(
    ("place", "regions"),
    [
        ("Zürich", ("switzerlandnorth", "europe-west6")),
        ("zurich", ("switzerlandnorth", "europe-west6")),
        ("SWITZERLAND", ("switzerlandnorth", "switzerlandwest", "europe-west6")),
        ("São Paulo", ("sa-east-1", "brazilsouth", "southamerica-east1")),
        ("tel-aviv", ("israelcentral", "me-west1")),
        ("united kingdom", ("eu-west-2", "uksouth", "ukwest", "europe-west2")),
        ("atlantis", ()),
        ("", ()),
        ("东京", ()),
    ],
)
def test_a_place_has_its_regions_however_it_is_written(place: str, regions: tuple[str, ...]) -> None:
    assert regions_at(place) == regions


def test_every_row_is_of_a_region_that_a_table_prices_and_none_stands_there_twice() -> None:
    """What nobody sells or bills would be told to nobody."""
    priced = {(offer.provider, offer.region) for offer in read_catalog().offers}
    with (DATA / "disks.csv").open(encoding="utf-8") as disks:
        priced |= {(row["provider"], row["region"]) for row in csv.DictReader(disks)}
    rows = [(each.provider, each.region) for each in PLACED]
    assert len(rows) == len(set(rows))
    assert set(rows) <= priced


def test_every_region_of_the_clouds_that_name_theirs_by_place_is_there() -> None:
    """But those of AWS that are a government's, and no country's alone."""
    sold = {(offer.provider, offer.region) for offer in read_catalog().offers if offer.provider in ("aws", "azure", "gcp")}
    unplaced = sold - {(each.provider, each.region) for each in PLACED}
    assert {region for _, region in unplaced} == {"us-gov-east-1", "us-gov-west-1"}


def test_a_city_is_in_its_country() -> None:
    """Said once: whoever asks for the country is told the regions of its cities."""
    for each in PLACED:
        for country in each.country:
            assert each.region in regions_at(country)


def test_a_row_that_tells_no_place_is_refused(tmp_path: Path) -> None:
    for table in ("places.csv", "sources.csv"):
        shutil.copy(DATA / table, tmp_path / table)
    with (tmp_path / "places.csv").open("a", encoding="utf-8") as stream:
        stream.write("aws,xx-east-1,,,aws-regions,2026-11-28\n")
    with pytest.raises(CatalogError, match=r"places.csv:\d+:city: and country are empty"):
        read_placed(tmp_path)
