"""A table that is wrong says where and what to write instead; nothing is guessed, nothing is dropped."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.catalog import DATA, CatalogError, read_catalog
from catalogs.read import count, positive, price, read_rows
from catalogs.storage import read_storage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped tables, to break."""
    return Path(shutil.copytree(DATA, tmp_path / "data"))


# (file, the line that stands there, the line instead, what is said)
WRONG = [
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,1.006,,",
        "aws,us-east-1,g5.xlarge,about a dollar,,",
        'prices.csv:{line}:on_demand_usd_per_hour: "about a dollar" is not a number such as 1.25',
    ),
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,1.006,,",
        "aws,us-east-1,g5.xlarge,0.00,,",
        "prices.csv:{line}:on_demand_usd_per_hour: a price of 0 is not an offer; leave it empty if there is none",
    ),
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,1.006,,",
        "aws,us-east-1,g5.xlarge,,,",
        "prices.csv:{line}:on_demand_usd_per_hour: is empty, and so is spot_usd_per_hour; a row states one of them at least",
    ),
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,1.006,,2026-07-20",
        "aws,us-east-1,g5.xlarge,1.006,,20.7.2026",
        'prices.csv:{line}:observed_on: "20.7.2026" is not a date such as 2026-10-01',
    ),
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,",
        "aws,us-east-1,g5.tiny,",
        'prices.csv:{line}:instance_type: "g5.tiny" of aws is not in instances.csv',
    ),
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,",
        "aws,us-east-1,g5.8xlarge,",
        "prices.csv:{line}:instance_type: aws/us-east-1/g5.8xlarge/on_demand is there twice",
    ),
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,1.006,,2026-07-20,aws-price-list,high",
        "aws,us-east-1,g5.xlarge,1.006,,2026-07-20,hearsay,high",
        'prices.csv:{line}:source: "hearsay" is not a code in sources.csv',
    ),
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,1.006,,2026-07-20,aws-price-list,high",
        "aws,us-east-1,g5.xlarge,1.006,,2026-07-20,aws-price-list,certain",
        'prices.csv:{line}:confidence: "certain" is not one of high, medium, low',
    ),
    (
        "prices.csv",
        "aws,us-east-1,g5.xlarge,1.006,,",
        "aws,us-east-1,g5.xlarge,1,006,,",
        "prices.csv:{line}: has 9 cells where the header has 8; quote a cell that holds a comma",
    ),
    (
        "instances.csv",
        "aws,g5.xlarge,A10G,1,",
        "aws,g5.xlarge,A10H,1,",
        'instances.csv:{line}:gpu: "A10H" is not a name in gpus.csv',
    ),
    (
        "instances.csv",
        "aws,g5.xlarge,A10G,1,",
        "aws,g5.xlarge,A10G,0,",
        "instances.csv:{line}:num_gpus: must be 0 on a CPU box, and above 0 with a GPU",
    ),
    (
        "instances.csv",
        "aws,g5.xlarge,",
        "amazon,g5.xlarge,",
        'instances.csv:{line}:provider: "amazon" has no row in billing.csv',
    ),
    (
        "gpus.csv",
        "T4,,nvidia,Turing,7.5,40,16,15360,",
        "T4,,nvidia,Turing,7.5,40,0,15360,",
        "gpus.csv:{line}:memory_gib: must be above 0; leave it empty if it is not known",
    ),
    (
        "gpus.csv",
        "T4,,nvidia,Turing,7.5,40,16,15360,",
        "T4,,nvidia,Turing,7.5,40,16,15.0 GiB,",
        'gpus.csv:{line}:driver_memory_mib: "15.0 GiB" is not a whole number such as 80',
    ),
    (
        "gpus.csv",
        "T4,,nvidia,Turing,7.5,",
        "T4,,nvidia,Turing,sm75,",
        'gpus.csv:{line}:compute_capability: "sm75" is not a compute capability such as 8.6',
    ),
    ("gpus.csv", "T4,,nvidia,", "T4,,voodoo,", 'gpus.csv:{line}:vendor: "voodoo" is not one of nvidia, amd, intel'),
    ("gpus.csv", "T4,,nvidia,", "L4,,nvidia,", 'gpus.csv:{other}:name: "L4" is there twice'),
    ("gpus.csv", "T4,,nvidia,", ",,nvidia,", "gpus.csv:{line}:name: is empty and must not be"),
    (
        "gpu_words.csv",
        "H100,H100 SXM5,",
        "H100,H100 SXM6,",
        'gpu_words.csv:{line}:taken: "H100 SXM6" is not a name in gpus.csv',
    ),
    (
        "gpus.csv",
        "name,aliases,",
        "name,nicknames,",
        "gpus.csv:1:aliases: column is missing from the header",
    ),
    (
        "billing.csv",
        "lambda,60,60,,,",
        "lambda,60,60,maybe,,",
        'billing.csv:{line}:stopped_compute_bills: "maybe" is not one of yes, no',
    ),
    (
        "storage.csv",
        "aws,us-east-1,block,gp3,GB-month,0.08,",
        "aws,us-east-1,block,gp3,GB-year,0.08,",
        'storage.csv:{line}:unit: "GB-year" is not one of GB-month, GiB-month, GB, GB-hour, IOPS-month, hour',
    ),
]


READERS = {"storage.csv": read_storage}  # every other table is read together


@pytest.mark.parametrize(("file", "before", "after", "said"), WRONG, ids=[f"{file}: {after}" for file, _, after, _ in WRONG])
def test_a_wrong_cell_is_named_with_file_line_and_field(folder: Path, file: str, before: str, after: str, said: str) -> None:
    lines = (folder / file).read_text(encoding="utf-8").splitlines()
    index = next(number for number, line in enumerate(lines) if line.startswith(before))
    lines[index] = lines[index].replace(before, after, 1)
    (folder / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    twins = [number + 1 for number, line in enumerate(lines) if line.startswith(after)]
    with pytest.raises(CatalogError) as caught:
        READERS.get(file, read_catalog)(folder)
    if file == "prices.csv" and "twice" in said:
        assert str(caught.value) == said.format(line=twins[-1])
    else:
        assert str(caught.value) == said.format(line=index + 1, other=twins[-1])


def test_an_error_also_carries_its_place_as_values(folder: Path) -> None:
    """For a command that prints JSON."""
    with (folder / "billing.csv").open("a", encoding="utf-8") as stream:
        stream.write("nowhere,never,0,,,0,,,,0,,,assumed-hour,\n")
    with pytest.raises(CatalogError) as caught:
        read_catalog(folder)
    assert (caught.value.file, caught.value.field) == ("billing.csv", "increment_s")
    assert caught.value.message.endswith(': "never" is not a whole number such as 80')
    assert caught.value.line == len((DATA / "billing.csv").read_text(encoding="utf-8").splitlines()) + 1


def test_a_missing_table_is_named(folder: Path) -> None:
    (folder / "billing.csv").unlink()
    with pytest.raises(CatalogError, match=r"billing\.csv: is not there"):
        read_catalog(folder)


def test_a_plan_does_without_what_storage_costs(folder: Path) -> None:
    """The table is read where it is asked for."""
    whole = read_catalog(folder)
    (folder / "storage.csv").unlink()
    assert read_catalog(folder) == whole


def test_an_alias_of_two_cards_is_refused_when_a_name_is_looked_up(folder: Path) -> None:
    text = (folder / "gpus.csv").read_text(encoding="utf-8")
    (folder / "gpus.csv").write_text(text.replace("\nL4,,", "\nL4,T4,"), encoding="utf-8")
    with pytest.raises(CatalogError, match='"T4" names both T4 and L4'):
        read_catalog(folder).gpu("L4")


def test_columns_may_stand_in_any_order_but_not_be_unknown(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("b,a\n2,1\n", encoding="utf-8")
    assert [(row.line, row.cells) for row in read_rows(table, ("a", "b"))] == [(2, {"a": "1", "b": "2"})]
    table.write_text("a,b,c\n1,2,3\n", encoding="utf-8")
    with pytest.raises(CatalogError, match=r"table\.csv:1:c: column is not known"):
        list(read_rows(table, ("a", "b")))


@given(st.decimals(min_value="0.000001", max_value="99999", places=6))
def test_a_price_survives_its_text_exactly(dollars: Decimal) -> None:
    """Decimal from end to end: no binary fraction touches money."""
    assert price(f"{dollars:f}") == dollars


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_a_sentence(text: str) -> None:
    """Whatever stands in a cell, a parser returns a value in its range or raises ValueError."""
    for parse in (positive, count, price):
        try:
            answer: object = parse(text) >= 0
        except ValueError as refusal:
            answer = str(refusal)
        assert answer
