"""From a machine that knows no run: what carries our tag is found in whatever region of the account it stands.

The AWS program's own look, through boto3, at moto's server; no engine.
"""

from __future__ import annotations

import json
from typing import Final

import pytest

from catalogs.catalog import read_catalog
from provision.cli import call
from provision.clouds.programs import aws
from provision.clouds.programs.order import DEADLINE_TAG, RUN_TAG
from provision.errors import Exit
from provision.home.places import Places
from tests.doubles import emulator

LONG_AGO: Final = "2020-01-01T00:00:00Z"
RUNS: Final = {"sa-east-1": "20261101-000000-aaaa", "ap-south-1": "20261102-000000-bbbb"}


def rent(region: str, run_id: str, environment: dict[str, str]) -> str:
    """A disk that an installation which is gone has left behind, and which is billed; its id."""
    tags = [{"Key": RUN_TAG, "Value": run_id}, {"Key": DEADLINE_TAG, "Value": LONG_AGO}]
    volume = aws.connect(region, environment).create_volume(
        AvailabilityZone=f"{region}a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )
    return str(volume["VolumeId"])


def test_a_region_that_neither_ledger_nor_catalog_knows_is_looked_at_all_the_same(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every region of the account is asked, unless less is asked for: then only there, and nothing else is told to be gone."""
    known = {offer.region for offer in read_catalog().offers if offer.provider == "aws"}
    assert known.isdisjoint(RUNS)
    assert not places.ledger.exists()
    with emulator.started() as moto:
        for name, value in moto.environment.items():
            monkeypatch.setenv(name, value)
        rented = {rent(region, run_id, moto.environment): region for region, run_id in RUNS.items()}
        code = call(["ls", "--orphans", "--json"])
        found = json.loads(capsys.readouterr().out)["data"]["strays"]
        call(["ls", "--orphans", "--region", "sa-*", "--json"])
        there = json.loads(capsys.readouterr().out)["data"]
    assert {each["resource"]["id"]: each["resource"]["region"] for each in found} == rented
    assert {each["resource"]["run_id"] for each in found} == set(RUNS.values())
    assert code == Exit.STILL_BILLS
    assert [each["resource"]["region"] for each in there["strays"]] == ["sa-east-1"]
    assert there["only_in"] == {"aws": ["sa-east-1"]}
