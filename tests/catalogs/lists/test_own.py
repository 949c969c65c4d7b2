"""Offers of one's own: a CSV file that says what it must, and is refused with the place where it does not."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from catalogs.catalog import CatalogError, read_catalog
from catalogs.lists.own import ASSUMED_HOUR_S, OWN_MACHINES, read_own, with_own
from planner.asking import request

CATALOG = read_catalog()
HEADER = "provider,region,instance_type,gpu,num_gpus,ram_gib,on_demand_usd_per_hour,spot_usd_per_hour,hosts,observed_on"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text)
    return path


def test_a_row_needs_no_more_than_who_what_and_how_much(tmp_path: Path) -> None:
    """One GPU where a GPU is named, one price everywhere, the PC's architecture; undated, so stale; whose host is not known."""
    file = written(tmp_path, "provider,instance_type,gpu,on_demand_usd_per_hour\nCellar,big-box,nvidia rtx 4090,0.35\n")
    [offer] = read_own(file, CATALOG)
    assert offer.key == "cellar/*/big-box/on_demand"
    assert (offer.gpu, offer.num_gpus, offer.usd_per_hour) == ("RTX 4090", Decimal(1), Decimal("0.35"))
    assert (offer.vcpus, offer.ram_gib, offer.hosts, offer.observed_on) == (None, None, None, None)


def test_both_prices_of_a_row_are_two_offers_and_known_hosts_stay_known(tmp_path: Path) -> None:
    """A file from a spreadsheet begins with a mark of its own."""
    rows = "\ufeff" + HEADER + "\nhetzner,fsn1,ccx13,,,8,0.02,,,2026-11-20\naws,us-east-1,g5.xlarge,A10G,1,16,0.9,0.3,,\n"
    offers = read_own(written(tmp_path, rows), CATALOG)
    assert [offer.key for offer in offers] == [
        "hetzner/fsn1/ccx13/on_demand",
        "aws/us-east-1/g5.xlarge/on_demand",
        "aws/us-east-1/g5.xlarge/spot",
    ]
    assert {offer.hosts for offer in offers} == {"data centre"}
    assert (offers[0].gpu, offers[0].num_gpus) == (None, Decimal(0))


def test_ones_own_price_stands_in_place_of_the_list_s_and_an_unknown_seller_bills_by_the_hour(tmp_path: Path) -> None:
    rows = "provider,region,instance_type,gpu,on_demand_usd_per_hour\naws,us-east-1,g5.xlarge,A10G,0.5\ncellar,,box,T4,0.1\n"
    merged = with_own(CATALOG, read_own(written(tmp_path, rows), CATALOG))
    assert len(merged.offers) == len(CATALOG.offers) + 1
    prices = [offer.usd_per_hour for offer in merged.offers if offer.key == "aws/us-east-1/g5.xlarge/on_demand"]
    assert prices == [Decimal("0.5")]
    assert merged.billing["aws"] == CATALOG.billing["aws"]
    assert (merged.billing["cellar"].increment_s, merged.billing["cellar"].stopped_compute_bills) == (ASSUMED_HOUR_S, None)


def test_a_fee_for_setting_up_is_the_offers_own(tmp_path: Path) -> None:
    """Once for each machine; empty or missing, there is none."""
    rows = "provider,instance_type,gpu,on_demand_usd_per_hour,setup_usd\ncellar,box,T4,0.1,79\ncellar,other,T4,0.1,\n"
    offers = read_own(written(tmp_path, rows), CATALOG)
    assert [offer.setup_usd for offer in offers] == [Decimal(79), Decimal(0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("instance_type,on_demand_usd_per_hour\nbox,1\n", "mine.csv:1:provider: column is missing from the header"),
        ("provider,instance_type,price\na,b,1\n", "mine.csv:1:price: column is not known"),
        ("provider,instance_type\na,b\n", "mine.csv:2:on_demand_usd_per_hour: is empty, and so is spot_usd_per_hour"),
        (f"{HEADER}\na,r,b,,,,0,,,\n", "mine.csv:2:on_demand_usd_per_hour: a price of 0 is not an offer"),
        (f"{HEADER}\na,r,b,H1000,,,1,,,\n", 'mine.csv:2:gpu: no GPU "H1000" in the catalog'),
        (f"{HEADER}\na,r,b,H100,,,1,,,\n", "several cards"),
        (f"{HEADER}\na,r,b,T4,0,,1,,,\n", "mine.csv:2:num_gpus: must be 0 on a CPU box"),
        (f"{HEADER}\nlocal,r,b,,,,1,,,\n", '"local" is no provider'),
        (f"{HEADER}\na,r,b,,,,1e400,,,\n", "mine.csv:2:on_demand_usd_per_hour: 1e400 is more than anything here has"),
        (f"{HEADER}\na,r,b,T4,1,1e300,1,,,\n", "mine.csv:2:ram_gib: 1e300 is more than anything here has"),
        (f"{HEADER}\na,r,b,,,,{'9' * 5_000},,,\n", "is more than anything here has; at most 1,000,000,000"),
        (f"{HEADER}\na,r/s,b,,,,1,,,\n", 'mine.csv:2:region: "r/s" has a space or a slash in it'),
        (f"{HEADER}\na,r,b,,,,1,,cellar,\n", 'mine.csv:2:hosts: "cellar" is not one of data centre, community'),
        (f"{HEADER}\na,r,b,,,,1,,,\nA,r,b,,,,2,,,\n", "mine.csv:3:instance_type: a/r/b/on_demand is there twice"),
        (f"{HEADER}\na,r,b,T4,1,-4,1,,,\n", 'mine.csv:2:ram_gib: "-4" is below zero'),
        (f"{HEADER}\na,r,b,,,,1_0,,,\n", '"1_0" is not a number such as 1.25'),
        (f"{HEADER}\na,r,b,,,,٠.٣٥,,,\n", "is not a number such as 1.25"),
        (f"{HEADER}\na,r,b,,,,1e-30,,,\n", "mine.csv:2:on_demand_usd_per_hour: 1e-30 is less than anything costs in an hour"),
        (f"{HEADER}\na,r,b,T4,1,,0.3,0.9,,\n", "mine.csv:2:spot_usd_per_hour: is dearer than on demand"),
        (f"{HEADER}\na,r,b,T4,1000000,,1,,,\n", "mine.csv:2:num_gpus: 1000000 is more than any machine has; at most 72"),
        (f"{HEADER}\na,r,b,T4,1.5,,1,,,\n", "mine.csv:2:num_gpus: 1.5 is neither a whole number nor a share of one card"),
        (f"{HEADER}\na,r,b,T4,1,1e6,1,,,\n", "mine.csv:2:ram_gib: 1e6 is more than any machine has; at most 131,072"),
        (
            f"{HEADER}\na,r,b,T4,1,,1e9,,,\n",
            "mine.csv:2:on_demand_usd_per_hour: 1e9 is more than any machine has; at most 100,000",
        ),
        (HEADER.replace(",", ";") + "\na;r;b;;;;1,5;;;\n", "mine.csv:1: separates its columns with semicolons or tabs"),
        (f"{HEADER}\na,r\n", "has 2 cells where the header has 10"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CatalogError) as caught:
        read_own(written(tmp_path, text), CATALOG)
    assert said in str(caught.value)
    assert len(caught.value.message) < 1_000
    assert "provider,region,instance_type" in (caught.value.hint or ""), "what to type instead"


def test_what_is_no_text_and_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(b"provider\xff")
    for path, said in ((tmp_path / "mine.csv", "is not UTF-8 text"), (tmp_path, "it is a folder")):
        with pytest.raises(CatalogError, match=said):
            read_own(path, CATALOG)


def test_what_is_nobody_s_to_sell_is_the_same_for_the_planner() -> None:
    assert set(OWN_MACHINES) == request.OWN_MACHINES


def test_all_that_is_wrong_in_a_row_is_told_at_once(tmp_path: Path) -> None:
    """And nothing that only follows from another mistake."""
    text = f"{HEADER}\ncel lar,e u,box,Zork,1,abc,-5,x,,\n"
    with pytest.raises(CatalogError) as refused:
        read_own(written(tmp_path, text), CATALOG)
    sentence, *lines = str(refused.value).splitlines()
    assert sentence == "a row can't be read, and nothing is imported:"
    wrong = {"provider", "region", "gpu", "ram_gib", "on_demand_usd_per_hour", "spot_usd_per_hour"}
    assert {line.split(":")[2] for line in lines} == wrong


def test_capitals_and_blanks_in_the_header_do_not_matter(tmp_path: Path) -> None:
    """It is typed by hand, or comes out of a table of somebody's."""
    rows = "cellar,a10-1,A10,0.60\n"
    plain = read_own(written(tmp_path, f"provider,instance_type,gpu,on_demand_usd_per_hour\n{rows}"), CATALOG)
    typed = read_own(written(tmp_path, f"Provider, Instance_Type,GPU ,On_Demand_USD_per_hour\n{rows}"), CATALOG)
    assert plain
    assert plain == typed


def test_all_rows_that_are_wrong_are_told_up_to_a_dozen(tmp_path: Path) -> None:
    """Each on its line with its place; nothing is taken by halves."""
    rows = "".join(f"cellar,box-{number},Zork,1,16,0.1,,,\n" for number in range(14)).replace(
        "cellar,box-3,Zork", "cellar,box-3,T4"
    )
    bare = HEADER.replace("provider,region,", "provider,")
    with pytest.raises(CatalogError) as refused:
        read_own(written(tmp_path, f"{bare}\n{rows}"), CATALOG)
    sentence, *lines = str(refused.value).splitlines()
    assert sentence == "13 rows can't be read, and nothing is imported:"
    assert [line.split(":")[1] for line in lines[:12]] == ["2", "3", "4", *map(str, range(6, 15))]
    assert lines[12:] == ["  and 1 more"]


@pytest.mark.parametrize("column", ["on_demand_eur_per_hour", "price", "hourly"])
def test_a_price_that_is_called_otherwise_is_told_that_prices_are_dollars(column: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as refused:
        read_own(written(tmp_path, f"provider,instance_type,gpu,{column}\ncellar,box,T4,0.1\n"), CATALOG)
    assert str(refused.value.hint).startswith("prices are dollars an hour")
