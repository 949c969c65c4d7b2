"""Newer prices: what gpuhunt publishes becomes offers; what can't be had or believed changes nothing.

The bucket is a double on loopback, in gpuhunt's format.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import click
import msgspec
import pytest

from catalogs.catalog import CatalogError, read_catalog
from catalogs.lists.refreshed import read_price_list, with_refreshed
from provision.cli import call
from provision.commands.catalog.refreshing import refresh_prices
from provision.errors import Exit
from provision.extras import install_command
from provision.home.places import read_places
from provision.prepare.prices import hunt
from provision.prepare.prices.keeping import Refresh, Refreshed, write_price_list
from provision.prepare.prices.live import Asker
from provision.prepare.prices.sources import LIVE, PUBLISHED
from tests.doubles.services.prices import FIELDS, GOLDEN, VERSION, Bucket, Row, published, row

CATALOG = read_catalog()
TODAY = dt.date(2026, 11, 26)
SEEN = dt.date(2026, 11, 20)
NOBODY = Asker(environment={})  # where all that is asked for is published

AWS = [
    row("g5.xlarge", "us-east-1", 1.1, "A10G", 24.0),
    row("g5.xlarge", "us-east-1", 0.4, "A10G", 24.0, spot=True),
    row("g6.xlarge", "eu-west-1", 0.9, "L4", 24.0),
    row("m7i.large", "us-east-1", 0.1, "", 0.0, gpu_count=0, gpu_vendor=""),
]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with published() as there:
        there.publish("aws", AWS)
        yield there


@pytest.fixture
def refresh(bucket: Bucket, tmp_path: Path) -> Refresh:
    return Refresh(folder=tmp_path / "prices", catalog=CATALOG, today=TODAY, asker=NOBODY, url=bucket.url)


def one(refresh: Refresh, provider: str = "aws") -> Refreshed:
    return refresh.one(provider)


def keys(refresh: Refresh, provider: str = "aws") -> list[str]:
    kept = read_price_list(refresh.folder, provider)
    return sorted(offer.key for offer in kept.offers) if kept else []


def test_a_file_becomes_offers_with_the_day_of_its_making(refresh: Refresh) -> None:
    """Machines with GPUs only; the CPU boxes of the shipped catalog stay."""
    found = one(refresh)
    assert (found.state, found.num_offers, found.observed_on) == ("new", 3, SEEN)
    kept = read_price_list(refresh.folder, "aws")
    assert kept is not None
    assert keys(refresh) == [
        "aws/eu-west-1/g6.xlarge/on_demand",
        "aws/us-east-1/g5.xlarge/on_demand",
        "aws/us-east-1/g5.xlarge/spot",
    ]
    assert {(offer.gpu, offer.hosts) for offer in kept.offers} == {("A10G", "data centre"), ("L4", "data centre")}


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (
            "aws",
            {
                ("aws/us-east-1/g5.xlarge/on_demand", "A10G", 1, "1.1", 4, 16, "x86_64"),
                ("aws/us-east-1/g5.xlarge/spot", "A10G", 1, "0.4", 4, 16, "x86_64"),
                ("aws/eu-west-1/g6.xlarge/on_demand", "L4", 1, "0.9", 4, 16, "x86_64"),
                ("aws/us-east-1/p4de.24xlarge/on_demand", "A100-SXM4-80GB", 8, "27.45", 96, 1152, "x86_64"),
                ("aws/us-east-1/g5g.xlarge/on_demand", "T4G", 1, "0.42", 4, 8, "arm64"),
            },
        ),
        ("gcp", {("gcp/us-central1/g2-standard-4/on_demand", "L4", 1, "0.7068", 4, 16, "x86_64")}),
    ],
)
def test_a_file_that_gpuhunt_wrote_is_understood(
    provider: str, expected: set[tuple[object, ...]], refresh: Refresh, bucket: Bucket
) -> None:
    """Version 0.1.34, by its own `dump`; the double writes the same columns."""
    text = (GOLDEN / f"{provider}.csv").read_text()
    assert text.splitlines()[0] == ",".join(FIELDS)
    bucket.publish_text(provider, text)
    assert dataclasses.replace(refresh, accept=True).one(provider).state == "new"
    kept = read_price_list(refresh.folder, provider)
    assert kept is not None
    assert expected == {
        (each.key, each.gpu, each.num_gpus, str(each.usd_per_hour), each.vcpus, each.ram_gib, each.cpu_architecture)
        for each in kept.offers
    }


def test_an_unchanged_version_is_not_fetched_again(refresh: Refresh, bucket: Bucket) -> None:
    one(refresh)
    assert one(refresh).state == "unchanged"
    assert bucket.asked == ["/v3/aws/version", f"/v3/aws/{VERSION}/catalog.zip", "/v3/aws/version"]


PACKED = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)  # each library has an error of its own for what it can't unpack


def spoiled_by(method: int) -> bytes:
    """An archive whose table's bytes were turned over on the way."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", method) as archive:
        archive.writestr("aws.csv", "instance_name,location,price\n" * 1_000)
    data = bytearray(whole.getvalue())
    start = 30 + len("aws.csv") + 12
    data[start : start + 20] = bytes(byte ^ 0xFF for byte in data[start : start + 20])
    return bytes(data)


NO_COLUMN = "instance_name,location,cost\n"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda bucket: bucket.statuses.update(aws=429), "asks for patience (429), try again in 90 s"),
        (lambda bucket: bucket.statuses.update(aws=503), "the server said 503 Service Unavailable"),
        (lambda bucket: bucket.archives.clear(), "the server said 404 Not Found"),
        (lambda bucket: bucket.stalled.add("aws"), "no answer within 0.2 s"),
        (lambda bucket: bucket.damage("aws", lambda data: data[: len(data) // 2]), "the archive is damaged"),
        (lambda bucket: bucket.damage("aws", lambda data: b"\0" * len(data)), "the archive is damaged"),
        *((lambda bucket, by=by: bucket.damage("aws", lambda _: spoiled_by(by)), "the archive is damaged") for by in PACKED),
        (lambda bucket: bucket.publish_text("aws", NO_COLUMN), "aws.csv:1:price: column is missing from the header"),
        (lambda bucket: bucket.publish_text("aws", "\xff", name="azure.csv"), "the archive has no aws.csv"),
        (lambda bucket: setattr(bucket, "version", "latest"), 'its version, "latest", does not begin with a day'),
        (lambda bucket: setattr(bucket, "version", "20991231-1"), "its prices are of 2099-12-31, which is to come"),
        (lambda bucket: setattr(bucket, "version", "20261121/.."), "can stand in no address"),
    ],
    ids=[
        "429",
        "503",
        "404",
        "timeout",
        "truncated",
        "no zip",
        "bzip2",
        "lzma",
        "columns",
        "other file",
        "no day",
        "future",
        "no word",
    ],
)
def test_a_fault_is_one_sentence_and_leaves_the_last_good_file(
    fault: object, said: str, refresh: Refresh, bucket: Bucket
) -> None:
    one(refresh)
    before = keys(refresh)
    bucket.version = "20261121-8"
    fault(bucket)  # type: ignore[operator]
    found = one(dataclasses.replace(refresh, within_s=0.2 if bucket.stalled else refresh.within_s))
    assert (found.state, found.num_offers, found.observed_on) == ("unreached" if bucket.stalled else "failed", 3, SEEN)
    assert said in found.says[0]
    assert keys(refresh) == before


def test_a_provider_that_fails_does_not_hold_back_the_others(refresh: Refresh, bucket: Bucket) -> None:
    bucket.publish("oci", [row("VM.GPU.A10.1", "us-ashburn-1", 2.0, "A10", 24.0)])
    bucket.statuses["aws"] = 500
    assert [each.state for each in refresh.all(("aws", "oci"))] == ["failed", "new"]


@pytest.mark.fault("F24", tier="code")
@pytest.mark.parametrize(
    ("items", "said"),
    [
        (AWS[:1], "it has 1 offers, and had 3 before"),
        (
            [*AWS[1:], row("g5.xlarge", "us-east-1", 3.3, "A10G", 24.0)],
            "the median of A10G on demand at aws moved from 1.10 to 3.30",
        ),
        ([*AWS, row("p5.48xlarge", "us-east-1", 0.0, "H100", 80.0)], "1 prices are 0 $, one of them of p5.48xlarge"),
    ],
    ids=["half the rows", "a median times three", "0 $"],
)
def test_what_looks_wrong_is_refused_unless_accepted(items: list[Row], said: str, refresh: Refresh, bucket: Bucket) -> None:
    """Accepted, what costs nothing is left out all the same."""
    one(refresh)
    before = keys(refresh)
    bucket.version = "20261121-8"
    bucket.publish("aws", items)
    found = one(refresh)
    assert (found.state, found.num_offers) == ("refused", 3)
    assert said in found.says[0]
    assert keys(refresh) == before
    assert one(dataclasses.replace(refresh, accept=True)).state == "new"
    kept = read_price_list(refresh.folder, "aws")
    assert kept is not None
    assert all(offer.usd_per_hour > 0 for offer in kept.offers)


def test_the_first_file_is_judged_by_the_shipped_prices(refresh: Refresh, bucket: Bucket) -> None:
    bucket.publish("aws", [row("g5.xlarge", "us-east-1", 100.6, "A10G", 24.0)])
    found = one(refresh)
    assert (found.state, found.num_offers) == ("refused", None)
    assert "A10G on demand at aws moved from" in found.says[0]


def test_whoever_is_asked_live_is_known_to_the_program_that_asks_and_published_by_nobody() -> None:
    """The program imports nothing of rentune, so it has a table of its own, by gpuhunt's names."""
    assert {each.theirs for each in LIVE.values()} == set(hunt.CLASSES)
    assert LIVE.keys().isdisjoint(PUBLISHED)


def test_the_help_names_whoever_is_asked_live() -> None:
    """In the words that `--provider` takes."""
    said = refresh_prices.get_help(click.Context(refresh_prices))
    assert [name for name in LIVE if name not in said] == []


@pytest.mark.parametrize(
    ("provider", "listed", "key", "gpu", "confidence"),
    [
        (
            "aws",
            row("p4de.24xlarge", "us-east-1", 27.4, "A100", 80.0, gpu_count=8),
            "p4de.24xlarge",
            "A100-SXM4-80GB",
            "medium",
        ),
        ("lambda", row("gpu_1x_h100_pcie", "us-west-1", 2.5, "H100", 80.0), "gpu_1x_h100_pcie", "H100 PCIe", "medium"),
        ("lambda", row("gpu_8x_v100", "us-west-1", 4.4, "V100", 16.0, gpu_count=8), "gpu_8x_v100", "V100-SXM2-16GB", "low"),
        (
            "nebius",
            row("gpu-h200-sxm 8gpu-128vcpu", "eu-north1", 36, "H200", 141.0),
            "gpu-h200-sxm-8gpu-128vcpu",
            "H200 SXM",
            "medium",
        ),
        ("runpod", row("NVIDIA A40", "EU-SE-1", 0.44, "A40", 48.0), "1x-a40-secure", "A40", "medium"),
        ("runpod", row("NVIDIA A40", "SE", 0.35, "A40", 48.0), "1x-a40-community", "A40", "medium"),
        ("gcp", row("g2-standard-4", "us-central1-b", 0.71, "L4", 24.0), "g2-standard-4", "L4", "medium"),
    ],
)
def test_names_become_the_catalog_s(
    provider: str, listed: Row, key: str, gpu: str, confidence: str, refresh: Refresh, bucket: Bucket
) -> None:
    """A card that its name leaves open is told by the machine's name, else the usual one is taken, and marked."""
    theirs = PUBLISHED[provider]
    bucket.publish(theirs, [listed])
    assert dataclasses.replace(refresh, accept=True).one(provider).state == "new"
    kept = read_price_list(refresh.folder, provider)
    assert kept is not None
    [offer] = kept.offers
    assert (offer.instance_type, offer.gpu, offer.confidence) == (key, gpu, confidence)
    assert offer.region == {"runpod": "*", "gcp": "us-central1"}.get(provider, listed["location"])


def test_what_is_no_machine_with_whole_gpus_by_the_hour_is_passed_over(refresh: Refresh, bucket: Bucket) -> None:
    others = [
        row("n1-standard-8", "us-central1-a", 0.7, "T4", 16.0),
        row("v5litepod-1", "us-central1-a", 1.2, "tpu-v5e", 0.0, gpu_vendor="google"),
        row("a4-highgpu-8g", "us-central1-a", 60.0, "B200", 180.0, gpu_count=8, flags="gcp-dws-calendar-mode"),
        row("a9-highgpu-1g", "us-central1-a", 9.0, "Z900", 900.0),
        row("slice-1", "us-central1-a", 0.2, "L4", 3.0),
    ]
    bucket.publish("gcp", [row("g2-standard-4", "us-central1-a", 0.71, "L4", 24.0), *others])
    assert one(refresh, "gcp").num_offers == 1


def test_newer_prices_stand_in_place_of_the_shipped_and_older_ones_do_not(refresh: Refresh) -> None:
    """A provider's CPU boxes stay, and so does everybody else's list."""
    one(refresh)
    kept = read_price_list(refresh.folder, "aws")
    assert kept is not None
    newer = with_refreshed(CATALOG, (kept,))
    mine = [offer for offer in newer.offers if offer.provider == "aws"]
    assert sorted(offer.key for offer in mine if offer.gpu) == keys(refresh)
    assert [offer for offer in mine if offer.gpu is None] == [
        offer for offer in CATALOG.offers if offer.provider == "aws" and offer.gpu is None
    ]
    assert [offer for offer in newer.offers if offer.provider != "aws"] == [
        offer for offer in CATALOG.offers if offer.provider != "aws"
    ]
    old = msgspec.structs.replace(kept, observed_on=dt.date(2020, 1, 1))
    assert with_refreshed(CATALOG, (old,)).offers == CATALOG.offers


@pytest.mark.parametrize("provider", ["vast", "digitalocean"])
def test_who_is_asked_live_needs_the_extra_and_says_how_it_is_had(provider: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not beside these tests: gpuhunt brings a package of their name (test_gpuhunt.py has it apart)."""
    assert call(["catalog", "refresh", "--provider", provider]) == Exit.REFUSED
    said = " ".join(capsys.readouterr().err.split())
    assert f"{provider} is asked live, by the package gpuhunt, which is not installed here." in said
    assert said.endswith(f"Hint: {install_command('gpuhunt')}")


def test_a_mirror_has_published_files_alone(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["catalog", "refresh", "--provider", "vast", "--from", bucket.url]) == Exit.REFUSED
    assert "leave --from out" in capsys.readouterr().err


def test_who_was_asked_once_keeps_that_list_where_the_extra_has_gone(refresh: Refresh, bucket: Bucket) -> None:
    one(refresh)
    kept = read_price_list(refresh.folder, "aws")
    assert kept is not None
    write_price_list(refresh.folder, "vast", msgspec.structs.replace(kept, provider="vast"))
    found = refresh.one("vast")
    assert (found.state, found.num_offers) == ("failed", 3)
    assert found.says == ("gpuhunt can't be used: No module named 'gpuhunt'",)


def test_a_damaged_file_at_home_is_told_with_what_to_type(refresh: Refresh) -> None:
    one(refresh)
    (refresh.folder / "aws.json").write_bytes(b'{"version": ')
    with pytest.raises(CatalogError, match="is damaged; delete it, and fetch it again: rentune catalog refresh"):
        read_price_list(refresh.folder, "aws")


def test_the_command_refreshes_and_everything_after_it_has_the_new_prices(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    """`diff` says what moved, `show` and `list` have it, `plan` is priced by it."""
    assert call(["catalog", "diff"]) == Exit.OK
    assert capsys.readouterr().out == "Nothing differs from the shipped prices.\n"
    assert call(["catalog", "refresh", "--provider", "aws", "--from", bucket.url, "--json"]) == Exit.OK
    [told] = json.loads(capsys.readouterr().out)["data"]
    assert (told["provider"], told["state"], told["num_offers"]) == ("aws", "new", 3)
    assert read_price_list(read_places().prices, "aws") is not None
    assert call(["catalog", "diff", "--provider", "aws", "--top", "0", "--json"]) == Exit.OK
    changes = {each["offer"]: each for each in json.loads(capsys.readouterr().out)["data"]}
    moved = changes["aws/us-east-1/g5.xlarge/on_demand"]
    assert (moved["before_usd_per_hour"], moved["after_usd_per_hour"]) == ("1.006", "1.1")
    assert changes["aws/us-east-1/g5.xlarge/spot"]["before_usd_per_hour"] is None
    assert call(["catalog", "show", "aws/us-east-1/g5.xlarge/spot", "--json"]) == Exit.OK
    shown = json.loads(capsys.readouterr().out)["data"]["offer"]
    assert (Decimal(shown["usd_per_hour"]), shown["source"]) == (Decimal("0.4"), "gpuhunt")
    asked = ["plan", "--model", "SmolLM2-135M", "--examples", "100", "--provider", "aws", "--gpu", "A10G", "--json"]
    assert call([*asked, "--on-demand"]) == Exit.OK
    plan = json.loads(capsys.readouterr().out)["data"]["plans"][0]
    assert (plan["offer"]["usd_per_hour"], plan["catalog_as_of"]) == ("1.1", "2026-11-20")


def test_a_refresh_that_fails_says_so_for_people_and_in_the_exit_code(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.statuses["oci"] = 429
    assert call(["catalog", "refresh", "--provider", "aws", "--provider", "oci", "--from", bucket.url]) == Exit.FAILED
    said = " ".join(capsys.readouterr().out.split())
    assert "state no licence" in said
    assert "failed" in said
    assert call(["catalog", "refresh", "--provider", "hetzner"]) == Exit.REFUSED
    assert "rentune catalog import FILE.csv" in capsys.readouterr().err


def test_what_no_source_prices_is_not_known_and_never_free(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a small cloud's buckets, say: in the table of storage, and where all of a provider is shown."""
    assert call(["catalog", "storage", "--provider", "runpod"]) == Exit.OK
    told = " ".join(capsys.readouterr().out.split())
    assert "No price is known, which makes nothing free: object at runpod" in told
    assert call(["catalog", "show", "runpod"]) == Exit.OK
    assert "object storage │ not known" in " ".join(capsys.readouterr().out.split())
    assert call(["catalog", "show", "crusoe"]) == Exit.OK
    assert "0.06 $ per GiB-month" in capsys.readouterr().out


def test_who_reaches_nobody_is_told_what_he_plans_with_and_what_to_do(
    bucket: Bucket, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence below what became of each: prices that are here are still planned with. Nobody answers either where all
    that is sent is lost on the way.
    """
    monkeypatch.setattr("provision.prepare.prices.keeping.Refresh.within_s", 0.2)
    bucket.stalled.add("aws")
    assert call(["catalog", "refresh", "--provider", "aws", "--from", bucket.url]) == Exit.FAILED
    assert "Nobody could be reached: plans go on" in " ".join(capsys.readouterr().out.split())
    nobody = "http://127.0.0.1:9"  # discard, where nothing listens
    assert call(["catalog", "refresh", "--provider", "aws", "--provider", "oci", "--from", nobody]) == Exit.FAILED
    said = " ".join(capsys.readouterr().out.split())
    assert "Nobody could be reached: plans go on with the prices that are here" in said
    assert "--from URL" in said
    assert "rentune catalog import FILE.csv" in said


def test_no_server_at_all_is_said_in_words(refresh: Refresh) -> None:
    found = one(dataclasses.replace(refresh, url="http://127.0.0.1:9/v3"))
    assert (found.state, found.num_offers) == ("unreached", None)
    assert found.says == ("it can't be reached: Connection refused",)
    found = one(dataclasses.replace(refresh, url="file:///etc"))
    assert found.state == "failed"
    assert found.says[0].endswith("is no address of the web")
