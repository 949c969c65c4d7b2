"""Regions by the city or the country that they lie in: people write those, and the clouds have words of their own."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from typing import Final

# Recalled, 2026-11-28: the clouds' own pages of their regions. Only regions that an offer has are told.
REGIONS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "amsterdam": ("westeurope", "europe-west4"),
    "australia": ("australia*",),
    "belgium": ("europe-west1",),
    "berlin": ("europe-west10", "germanynorth"),
    "brazil": ("brazil*", "southamerica-east1", "sa-east-1"),
    "california": ("westus", "us-west2", "us-west-1"),
    "canada": ("canada*", "northamerica-*", "ca-*"),
    "dublin": ("northeurope", "eu-west-1"),
    "finland": ("europe-north1",),
    "france": ("francecentral", "europe-west9", "eu-west-3"),
    "frankfurt": ("germanywestcentral", "europe-west3", "eu-central-1"),
    "germany": ("germany*", "europe-west3", "europe-west10", "eu-central-1"),
    "hongkong": ("eastasia", "asia-east2", "ap-east-1"),
    "india": ("centralindia", "southindia", "jioindia*", "asia-south*", "ap-south-*"),
    "indonesia": ("indonesiacentral", "asia-southeast2", "ap-southeast-3"),
    "iowa": ("centralus", "us-central1"),
    "ireland": ("northeurope", "eu-west-1"),
    "israel": ("israelcentral", "me-west1", "il-central-1"),
    "italy": ("italynorth", "europe-west8", "europe-west12", "eu-south-1"),
    "jakarta": ("indonesiacentral", "asia-southeast2", "ap-southeast-3"),
    "japan": ("japan*", "asia-northeast1", "asia-northeast2", "ap-northeast-1", "ap-northeast-3"),
    "korea": ("korea*", "asia-northeast3", "ap-northeast-2"),
    "london": ("uksouth", "europe-west2", "eu-west-2"),
    "madrid": ("spaincentral", "europe-southwest1"),
    "melbourne": ("australiasoutheast", "australia-southeast2", "ap-southeast-4"),
    "milan": ("italynorth", "europe-west8", "eu-south-1"),
    "montreal": ("northamerica-northeast1", "ca-central-1"),
    "mumbai": ("asia-south1", "ap-south-1"),
    "netherlands": ("westeurope", "europe-west4"),
    "norway": ("norway*",),
    "ohio": ("us-east5", "us-east-2"),
    "oregon": ("us-west1", "us-west-2"),
    "oslo": ("norwayeast",),
    "paris": ("francecentral", "europe-west9", "eu-west-3"),
    "poland": ("polandcentral", "europe-central2"),
    "qatar": ("qatarcentral", "me-central1"),
    "saopaulo": ("brazilsouth", "southamerica-east1", "sa-east-1"),
    "seoul": ("koreacentral", "asia-northeast3", "ap-northeast-2"),
    "singapore": ("southeastasia", "asia-southeast1", "ap-southeast-1"),
    "spain": ("spaincentral", "europe-southwest1", "eu-south-2"),
    "stockholm": ("eu-north-1",),
    "sweden": ("swedencentral", "europe-north2", "eu-north-1"),
    "switzerland": ("switzerland*", "europe-west6", "eu-central-2"),
    "sydney": ("australiaeast", "australia-southeast1", "ap-southeast-2"),
    "taiwan": ("asia-east1",),
    "telaviv": ("israelcentral", "me-west1", "il-central-1"),
    "texas": ("southcentralus", "us-south1"),
    "tokyo": ("japaneast", "asia-northeast1", "ap-northeast-1"),
    "toronto": ("canadacentral", "northamerica-northeast2"),
    "uk": ("uk*", "europe-west2", "eu-west-2"),
    "virginia": ("eastus", "eastus2", "us-east4", "us-east-1"),
    "warsaw": ("polandcentral", "europe-central2"),
    "zurich": ("switzerlandnorth", "europe-west6", "eu-central-2"),
}


def regions_of(place: str, known: Collection[str]) -> list[str]:
    """The known regions in a city or a country, however it is written ("Zürich", "São Paulo"), a family as its pattern."""
    plain = unicodedata.normalize("NFKD", place).casefold()
    word = "".join(letter for letter in plain if letter.isascii() and letter.isalnum())
    return [_quoted(each) for each in REGIONS_OF.get(word, ()) if any(_covers(each, region) for region in known)]


def _covers(pattern: str, region: str) -> bool:
    return region.startswith(pattern[:-1]) if pattern.endswith("*") else region == pattern


def _quoted(region: str) -> str:
    """As a shell takes it."""
    return f"'{region}'" if region.endswith("*") else region
