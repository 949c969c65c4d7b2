"""Providers that gpuhunt asks live: the real package, in an environment of its own, and vendors' answers on loopback.

It can't be installed beside these tests: it brings a package "tests" of its own.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalogs.catalog import read_catalog
from catalogs.lists.refreshed import read_price_list
from catalogs.user_file import MIB
from provision.errors import Exit
from provision.prepare.prices.keeping import Refresh, Refreshed
from provision.prepare.prices.live import Asker
from tests.doubles.services.vendors import Answer, Vendors, vendors

pytestmark = pytest.mark.gpuhunt

ROOT = Path(__file__).parents[4]
BIN = ROOT / "build" / "gpuhunt" / "bin"
TODAY = dt.date(2026, 11, 28)
VAST, DIGITALOCEAN, LIUM = "console.vast.ai", "api.digitalocean.com", "lium.io"
KEY = "dop_v1_" + 64 * "5"


def vast_offer(number: int, price: float, **other: object) -> dict[str, object]:
    """A host's machine as Vast lists it, with one verified RTX 4090."""
    usual: dict[str, object] = {"id": number, "cpu_cores": 64, "cpu_cores_effective": 16.0, "cpu_ram": 256_000}
    usual |= {"disk_space": 500.0, "storage_cost": 0.2, "gpu_name": "RTX 4090", "gpu_ram": 24_564, "num_gpus": 1}
    usual |= {
        "geolocation": "Sweden, SE",
        "dph_base": price,
        "min_bid": None,
        "verified": True,
        "rentable": True,
        "rented": False,
    }
    return usual | other


def droplet(slug: str, price: float) -> dict[str, object]:
    vram = {"amount": 48, "unit": "gib"}
    gpu = {"count": 1, "vram": vram, "model": "nvidia_rtx6000_ada"}
    disks = [{"type": "local", "size": {"amount": 500, "unit": "gib"}}]
    figures = {"slug": slug, "price_hourly": price, "vcpus": 8, "memory": 65_536, "regions": ["tor1"]}
    return {**figures, "gpu_info": gpu, "disk_info": disks}


def lium_node(number: str) -> dict[str, object]:
    figures: dict[str, object] = {"gpu_count": 2, "available_gpu_count": 2, "price_per_gpu_hour": 0.3, "gpu_memory_gb": 24}
    figures |= {"cpu_count": 32, "ram_gb": 128, "disk_free_gb": 900, "min_rentable_gpu_count": 1}
    return figures | {"id": number, "gpu_model": "NVIDIA GeForce RTX 4090", "country_code": "SE", "tier": "on_demand"}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Vendors]:
    if not (BIN / "python").exists():
        pytest.fail(f"{BIN} is not there; build it with: make gpuhunt")
    with vendors(tmp_path) as made:
        made.answers[VAST] = Answer({"offers": [vast_offer(number, 0.3 + number / 100) for number in range(1, 5)]})
        made.answers[DIGITALOCEAN] = Answer({"sizes": [droplet("gpu-6000adax1-48gb", 1.57)]})
        made.answers[LIUM] = Answer({"nodes": [lium_node("a-b")]})
        yield made


def refresh(there: Vendors, tmp_path: Path, **asked: Any) -> Refresh:
    environment = {"PATH": os.environ["PATH"], "DIGITAL_OCEAN_API_KEY": KEY, "AWS_SECRET_ACCESS_KEY": "x" * 40}
    asker = Asker(environment=environment | there.variables, python=str(BIN / "python"))
    return Refresh(
        folder=tmp_path / "prices", catalog=read_catalog(), today=TODAY, asker=msgspec.structs.replace(asker, **asked)
    )


def offers(tmp_path: Path, provider: str) -> dict[str, tuple[object, ...]]:
    kept = read_price_list(tmp_path / "prices", provider)
    return {each.key: (each.gpu, each.num_gpus, each.usd_per_hour, each.hosts) for each in kept.offers} if kept else {}


def test_a_marketplace_s_hosts_become_offers_of_today(there: Vendors, tmp_path: Path) -> None:
    """All that are verified and free, not the few that Vast gives unasked; with a disk of 1 GB, since plans add theirs."""
    there.answers[VAST] = Answer({"offers": [vast_offer(7, 0.4, min_bid=0.2), vast_offer(8, 0.1, verified=False)]})
    found = refresh(there, tmp_path).one("vast")
    assert (found.state, found.num_offers, found.observed_on) == ("new", 2, TODAY)
    assert offers(tmp_path, "vast") == {
        "vast/se-sweden/7/on_demand": ("RTX 4090", 1, Decimal("0.40028"), "community"),
        "vast/se-sweden/7/spot": ("RTX 4090", 1, Decimal("0.20028"), "community"),
    }
    wanted = json.loads(there.asked[0].body)
    assert (wanted["limit"], wanted["verified"], wanted["rented"]) == (3_000, {"eq": True}, {"eq": False})


def test_an_account_s_key_is_sent_where_it_belongs_and_nowhere_else(there: Vendors, tmp_path: Path) -> None:
    found = refresh(there, tmp_path).all(("digitalocean", "lium"))
    assert [each.state for each in found] == ["new", "new"]
    assert {each.host for each in there.asked if KEY in str(each.headers)} == {DIGITALOCEAN}
    assert offers(tmp_path, "digitalocean") == {
        "digitalocean/tor1/gpu-6000adax1-48gb/on_demand": ("RTX 6000 Ada", 1, Decimal("1.57"), "data centre")
    }
    assert sorted(offers(tmp_path, "lium")) == ["lium/se/1x-a-b/on_demand", "lium/se/2x-a-b/on_demand"]


def test_without_its_variables_a_provider_is_not_asked(there: Vendors, tmp_path: Path) -> None:
    found = refresh(there, tmp_path, environment={"PATH": os.environ["PATH"]} | there.variables).one("digitalocean")
    assert (found.state, found.says) == (
        "failed",
        ("gpuhunt asks with DIGITAL_OCEAN_API_KEY, which is not in the environment",),
    )
    assert there.asked == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(status=429, headers={"Retry-After": "90"}), "the server asks for patience (429), try again in 90 s"),
        (Answer(status=503), "the server said 503 Service Unavailable"),
        (Answer({"bundles": []}), "gpuhunt can't read its answer: KeyError 'offers'"),
        (Answer({"offers": [{"id": 1}]}), "gpuhunt can't read its answer: KeyError 'cpu_cores'"),
        (Answer(b"<html>"), "gpuhunt can't read its answer: Expecting value: line 1 column 1 (char 0)"),
        (Answer({"offers": [vast_offer(1, float("nan"))]}), "vast.csv:2:price: "),
        (Answer({"offers": [vast_offer(1, 0.0, storage_cost=0.0)]}), "1 prices are 0 $, one of them of 1"),
        (Answer({"offers": [vast_offer(1, 0.3)]}), "it has 1 offers, and had 4 before"),
        (
            Answer({"offers": [vast_offer(each, 1.2) for each in range(4)]}),
            "the median of RTX 4090 on demand at vast moved from",
        ),
    ],
    ids=["429", "503", "other columns", "rows without", "no JSON", "no price", "0 $", "half the rows", "a median times three"],
)
def test_a_fault_is_one_sentence_and_leaves_the_last_good_file(
    answer: Answer, said: str, there: Vendors, tmp_path: Path
) -> None:
    asked = refresh(there, tmp_path)
    assert asked.one("vast").state == "new"
    before = offers(tmp_path, "vast")
    there.answers[VAST] = answer
    found = asked.one("vast")
    assert (found.state, found.num_offers) == (
        "refused" if "prices are" in said or "had" in said or "moved" in said else "failed",
        4,
    )
    assert said in found.says[0]
    assert offers(tmp_path, "vast") == before


def test_an_answer_that_drips_is_ended(there: Vendors, tmp_path: Path) -> None:
    """The limit of gpuhunt's own requests begins anew with each byte. From here it looks as if nobody answered."""
    there.answers[VAST] = Answer(drips=True)
    found = refresh(there, tmp_path, within_s=3.0).one("vast")
    assert (found.state, found.num_offers, found.says) == ("unreached", None, ("no whole answer within 3 s",))


def test_an_answer_without_end_takes_no_more_memory_than_it_may(there: Vendors, tmp_path: Path) -> None:
    there.answers[VAST] = Answer(endless=True)
    assert fault(refresh(there, tmp_path, max_memory_bytes=512 * MIB).one("vast")) == "its answer is larger than it may be"


def test_a_table_is_bounded(there: Vendors, tmp_path: Path) -> None:
    assert fault(refresh(there, tmp_path, max_table_bytes=300).one("vast")) == "its table is larger than it may be"


def test_an_unknown_authority_is_not_believed(there: Vendors, tmp_path: Path) -> None:
    """And what the line said shows no key."""
    environment = {"PATH": os.environ["PATH"], "DIGITAL_OCEAN_API_KEY": KEY, "HTTPS_PROXY": there.url}
    said = fault(refresh(there, tmp_path, environment=environment).one("digitalocean"))
    assert said.startswith("it can't be reached: ")
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert KEY not in said


def fault(found: Refreshed) -> str:
    assert (found.state, found.num_offers) == ("failed", None)
    [said] = found.says
    return said


def test_the_installed_command_asks_and_plans_with_what_it_was_told(there: Vendors, tmp_path: Path) -> None:
    """As `pip install 'rentune[gpuhunt]'` leaves it; once asked by name, a provider is asked with the others."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "RENTUNE_HOME": str(tmp_path)} | there.variables
    assert told(environment, "refresh", "--provider", "vast")["data"][0]["num_offers"] == 4
    listed = told(environment, "list", "--provider", "vast")["data"]
    assert {(each["gpu"], each["region"]) for each in listed} == {("RTX 4090", "se-sweden")}
    dead = {"url": "http://127.0.0.1:9"}
    again = told(environment, "refresh", "--from", dead["url"], exit_code=Exit.FAILED)["data"]
    assert {each["provider"] for each in again if each["state"] == "new"} == {"vast"}


def told(environment: dict[str, str], *arguments: str, exit_code: Exit = Exit.OK) -> dict[str, Any]:
    command = [str(BIN / "rentune"), "catalog", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stderr
    envelope: dict[str, Any] = json.loads(done.stdout)
    return envelope
