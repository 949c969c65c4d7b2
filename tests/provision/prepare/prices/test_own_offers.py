"""Offers of one's own, from the file to the plan: imported once, planned with from then on, rented where that is possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provision.cli import call
from provision.errors import Exit
from provision.home.places import read_places

FILE = """provider,region,instance_type,gpu,num_gpus,vcpus,ram_gib,hosts,on_demand_usd_per_hour,observed_on
hetzner,fsn1,ccx13,,,2,8,,0.02,2026-11-20
cellar,,big-box,RTX 4090,1,16,64,data centre,0.01,2026-11-20
"""


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the import says."""
    file = tmp_path / "mine.csv"
    file.write_text(FILE)
    assert call(["catalog", "import", str(file)]) == Exit.OK
    return capsys.readouterr().out


def plans(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert call(["plan", "--model", "SmolLM2-135M", "--examples", "100", "--json", *words]) == Exit.OK
    told: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["data"]["plans"]
    return told


def test_the_import_says_what_it_took_who_can_be_rented_from_and_how_to_undo_it(imported: str) -> None:
    file = read_places().own_offers
    assert file.read_text() == FILE
    assert "2 offers of yours: cellar, hetzner." in imported
    assert f"{file}; delete it" in " ".join(imported.split())
    assert "Price only: cellar. Rent there yourself and use --host user@address." in imported


@pytest.mark.usefixtures("imported")
def test_a_machine_of_a_cloud_that_no_list_carries_is_planned_and_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Hetzner's prices may not be shipped; its program rents all the same."""
    [plan, *_] = plans(capsys, "--provider", "hetzner")
    assert (plan["offer"]["instance_type"], plan["runnable"]) == ("ccx13", None)
    assert call(["catalog", "list", "--provider", "hetzner", "--json"]) == Exit.OK
    assert [offer["region"] for offer in json.loads(capsys.readouterr().out)["data"]] == ["fsn1"]


@pytest.mark.usefixtures("imported")
def test_of_a_seller_that_nothing_here_rents_from_the_price_is_planned_with_the_way_to_use_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    [plan, *_] = plans(capsys, "--provider", "cellar")
    assert plan["offer"]["instance_type"] == "big-box"
    assert plan["runnable"] == "price only: this version cannot rent from cellar; rent it yourself and use --host"
    assert call(["plan", "--model", "SmolLM2-135M", "--provider", "cellar"]) == Exit.OK
    assert "price only: this version knows the price and cannot rent there; rent it yourself and use --host." in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_file_that_is_wrong_is_not_taken_and_one_that_became_so_is_named(
    imported: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last good one stays; an edit of the kept file is checked like an import."""
    assert imported
    wrong, kept = tmp_path / "wrong.csv", read_places().own_offers
    wrong.write_text("provider,instance_type\ncellar,box\n")
    assert call(["catalog", "import", str(wrong)]) == Exit.REFUSED
    assert f"{wrong}:2:on_demand_usd_per_hour: is empty" in capsys.readouterr().err
    assert kept.read_text() == FILE
    kept.write_bytes(wrong.read_bytes())
    assert call(["catalog", "list"]) == Exit.REFUSED
    assert f"{kept}:2:on_demand_usd_per_hour: is empty" in capsys.readouterr().err


def test_a_file_without_an_offer_is_no_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("provider,instance_type,on_demand_usd_per_hour\n")
    assert call(["catalog", "import", str(file)]) == Exit.REFUSED
    assert "The file names no offer." in capsys.readouterr().err
    assert not read_places().own_offers.exists()


def test_an_import_that_looks_wrong_is_refused_unless_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the shipped prices, and beside what was imported before; what was there stays."""
    head = "provider,region,instance_type,gpu,on_demand_usd_per_hour\n"
    many = head + "".join(f"cellar,here,box-{number},T4,0.2\n" for number in range(10))
    rows = many.removeprefix(head).replace("\n", ",\n")
    dated = head.replace("\n", ",observed_on\n") + rows + "cellar,here,box-10,T4,0.2,2099-01-01\n"
    file = tmp_path / "mine.csv"
    file.write_text(many)
    assert call(["catalog", "import", str(file)]) == Exit.OK
    for wrong, said in (
        (head + "cellar,here,box-1,T4,0.2\n", "it has 1 offers, and had 10 before"),
        (many.replace("T4,0.2", "T4,0.6"), "the median of T4 on demand at cellar moved from 0.20 to 0.60 $/h per GPU"),
        (many + "aws,us-east-1,g5.xlarge,A10G,100.6\n", "the median of A10G on demand at aws moved from"),
        (dated, "1 price of a day that is to come, such as cellar/here/box-10/on_demand"),
    ):
        file.write_text(wrong)
        capsys.readouterr()
        assert call(["catalog", "import", str(file)]) == Exit.REFUSED
        error = capsys.readouterr().err
        assert said in error
        assert "add --accept" in error
        assert read_places().own_offers.read_text() == many
    file.write_text(many + "aws,us-east-1,g5.xlarge,A10G,100.6\n")
    assert call(["catalog", "diff", str(file), "--json"]) == Exit.OK
    changes = {each["offer"]: each for each in json.loads(capsys.readouterr().out)["data"]}
    assert changes["aws/us-east-1/g5.xlarge/on_demand"]["after_usd_per_hour"] == "100.6"
    assert call(["catalog", "import", str(file), "--accept"]) == Exit.OK
    assert read_places().own_offers.read_text() == file.read_text()


@pytest.mark.usefixtures("imported")
def test_of_an_answer_that_nothing_comes_of_programs_are_told_why(capsys: pytest.CaptureFixture[str]) -> None:
    """With the command of the nearest plan; the code of the envelope is the command's."""
    words = ("--model", "SmolLM2-135M", "--max-cost", "0.000001", "--json")
    assert call(["plan", *words]) == Exit.REFUSED
    envelope = json.loads(capsys.readouterr().out)
    (error,) = envelope["errors"]
    assert (envelope["exit_code"], envelope["status"]) == (Exit.REFUSED, "partial")
    assert error["message"].startswith("No plan can be run as asked: nothing on offer does this job: ")
    assert error["hint"].startswith("rentune run --model ")


def test_an_offer_that_does_not_say_whose_machine_it_is_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was taken without a word, and refused by every plan."""
    file = tmp_path / "mine.csv"
    file.write_text(FILE.replace("64,data centre", "64,"))
    assert call(["catalog", "import", str(file)]) == Exit.OK
    told = " ".join(capsys.readouterr().out.split())
    assert "1 of them does not say in a column hosts on whose machines they run (data centre, or community)" in told
    assert call(["catalog", "show", "cellar/*/big-box/on_demand"]) == Exit.OK
    assert "a list of your own, by `rentune catalog import`" in " ".join(capsys.readouterr().out.split())


def test_where_all_say_it_nothing_is_said(imported: str) -> None:
    assert "whose machines" not in imported
