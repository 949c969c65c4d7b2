"""Which column is which: by option, in a job file, on the command that is printed."""

from __future__ import annotations

import click
import pytest

from planner.asking.data import DataFile, Lengths
from planner.asking.jobfile import read_job
from planner.asking.options.command_line import run_command
from planner.asking.options.kinds import COLUMN
from planner.asking.options.overlay import request_of
from planner.asking.request import RequestError
from planner.report.job_file import write_job
from tests.planner.builders import counted, parsed

COLUMNS = {"text": "message", "label": "department"}
SAID = ("--task", "classification", "--column", "text=message", "--column", "label=department")


class Counts:
    """Counts any file, and remembers how it was to be read."""

    def __init__(self) -> None:
        self.asked: list[DataFile] = []

    def __call__(self, file: DataFile) -> Lengths:
        self.asked.append(file)
        return counted(file)


def test_columns_go_where_rows_are_counted_and_into_the_printed_command() -> None:
    options, counts = parsed("--model", "7b", "--data", "rows.csv", *SAID), Counts()
    assert request_of(options, measure=counts).data.reading.columns == COLUMNS
    assert counts.asked[0].reading.columns == COLUMNS
    command = run_command(options, changes={}, has_data=True, model=None)
    assert command.endswith("--task classification --data rows.csv --column text=message --column label=department")


def test_a_job_file_says_them_as_a_mapping_and_options_go_over_it() -> None:
    text = "model: 7b\ntask: classification\ndata: {file: rows.csv, columns: {text: body}}"
    job = read_job(text, name="job.yaml", measure=counted)
    assert job.data.reading.columns == {"text": "body"}
    counts = Counts()
    assert request_of(parsed("job.yaml", *SAID), start=job, measure=counts).data.reading.columns == COLUMNS
    assert counts.asked[0].reading.columns == COLUMNS


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("txt=message", 'rows are not read by "txt"; did you mean "text"?'),
        ("text", '"text" names no column; write text=COLUMN'),
        (
            "message=text",
            'rows are not read by "message"; the name that rows are read by comes first, "text", then the column, "message"',
        ),
        ("=message", '"=message" names no column; write text=COLUMN'),
    ],
)
def test_what_names_no_column_is_refused(said: str, sentence: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        COLUMN.convert(said, None, None)
    assert refused.value.message == sentence


@pytest.mark.parametrize(
    ("data", "sentence", "hint"),
    [
        ("{file: rows.csv, columns: {txt: body}}", 'rows are not read by "txt"', 'did you mean "text"?'),
        (
            "{file: rows.csv, columns: {body: text}}",
            'rows are not read by "body"',
            'the name that rows are read by comes first, "text", then the column, "body"',
        ),
        ("{examples: 100, columns: {text: body}}", "columns says nothing without a file", "name one: `file: rows.jsonl`"),
    ],
)
def test_a_job_file_whose_columns_say_nothing_is_refused_at_its_place(data: str, sentence: str, hint: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_job(f"model: 7b\ndata: {data}", name="job.yaml", measure=counted)
    assert sentence in str(refused.value)
    assert refused.value.hint == hint


def test_a_label_that_nobody_learns_is_refused() -> None:
    """Its texts would be learned as they are, on a machine that is paid for."""
    words = [word for word in SAID if word not in ("--task", "classification")]
    with pytest.raises(RequestError, match="columns names a label, and task causal_lm learns none") as refused:
        request_of(parsed("--model", "7b", "--data", "rows.csv", *words), measure=counted)
    assert "--task classification" in str(refused.value.hint)


def test_columns_without_a_file_are_refused() -> None:
    with pytest.raises(RequestError, match="--column names a column of a data file, and there is none"):
        request_of(parsed("--model", "7b", *SAID))


def test_a_job_file_that_is_written_says_them_and_is_read_back() -> None:
    request = request_of(parsed("--model", "7b", "--data", "rows.csv", *SAID), measure=counted)
    assert read_job(write_job(request), name="job.yaml", measure=counted).data.reading.columns == COLUMNS
