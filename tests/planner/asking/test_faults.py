"""Everything that is wrong with a job file at once, each by its place, and none that only another's absence makes."""

from __future__ import annotations

import pytest

from planner.asking.data import DataFile, Lengths
from planner.asking.jobfile.faults import MAX_FAULTS, read_through
from planner.asking.jobfile.positions import JobFileError
from planner.asking.request import RequestError
from tests.planner.builders import counted


def places(text: str) -> list[str]:
    """The place of each fault that is told of the text."""
    return [fault.message.split(": ")[0] for fault in read_through(text, name="job.yaml", measure=measured).faults]


def measured(file: DataFile) -> Lengths:
    """Of any file but those that are called none."""
    if file.path.startswith("none"):
        raise RequestError(f"{file.path} can't be read", hint="the path of a data file")
    return counted(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: 7b\ntraining: {rnk: 8, rank: 0}\nloop: {epochs: many}", ["2:12", "2:20", "3:8"]),
        ("training: {rank: 0}\nloop: {epochs: 0}", ["1:1", "1:12", "2:8"]),
        ("model: 5\nwhere: [aws]\ntags: {a: 1}", ["1:1", "2:1", "3:8"]),
        ("model: 7b\ndata: {file: none.jsonl, held_out: none-too.jsonl, format: chatty}", ["2:8", "2:26", "2:52"]),
        ("model: 7b\ndata: {file: 5, held_out: rows.jsonl}", ["2:8"]),
        ("model: 7b\nwhere: {gpus: [L4, 4], spot: maybe}", ["2:20", "2:24"]),
        ("model: 7b\ntags: {rentune-run: mine, aws:x: y}\nkeep: {volume_name: A B}", ["2:8", "2:27", "3:8"]),
        ("model: 7b\nloop: {warmup_steps: 9, warmup_epochs: 1, max_steps: 5}", ["2:8", "2:25"]),
        ("model: 7b\nmodel: 13b\nloop: {epochs: 0, epochs: 1}\nwher: {}", ["2:1", "3:8", "3:19", "4:1"]),
        ("model: 7b\n? [1]\n: 2\nloop: {epochs: 0}", ["2:3", "4:8"]),
        ("model: 7b", []),
    ],
)
def test_each_fault_is_told_by_its_place_from_the_top(text: str, told: list[str]) -> None:
    """A missing model or file is stood in for: what hangs on it is no fault of its own."""
    assert places(text) == [f"job.yaml:{place}" for place in told]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: 7b\ntraining:\n\trank: 8\nloop: {epoch: 3}", ["3:1", "4:8"]),
        ("training: {rank: 8\nloop: {epoch: 3}", ["2:5", "2:8"]),
        ('model: "7b\nloop: {epoch: 3}\nwhere: [aws]', ["3:13", "2:8", "3:1"]),
        ("model: 7b\nloop:\n  epochs: 3\n   rank: 8\nloop: {epoch: 3}\ndata: @\nkeep: 5", ["4:8", "5:8", "6:7", "7:1"]),
        ("model: 7b\nmethod: lora\ndata: {format: [}\nloop: {warmup_steps: 9, warmup_epochs: 1}", ["3:17", "2:1"]),
    ],
)
def test_a_section_that_is_no_yaml_hides_no_wrong_key_of_another(text: str, told: list[str]) -> None:
    """Nor is what the others leave open held against them: it may stand in that one."""
    assert sorted(places(text)) == sorted(f"job.yaml:{place}" for place in told)


def test_what_is_right_is_read_as_if_the_wrong_lines_were_not_there() -> None:
    """So that names in it can be looked up as well."""
    read = read_through("model: 7b\nloop: {epochs: 0, max_steps: 9}\ntags: {team: a}", name="job.yaml", measure=measured)
    assert read.request is not None
    assert (read.request.loop.max_steps, read.request.loop.epochs, read.request.tags) == (9, 3.0, {"team": "a"})


def test_a_file_that_is_all_wrong_is_told_up_to_a_number() -> None:
    """A list that is longer is no help, and costs a reading each."""
    assert len(places("model: 7b\n" + "\n".join(f"key{n}: 1" for n in range(2 * MAX_FAULTS)))) == MAX_FAULTS


def test_what_is_no_list_of_keys_has_nothing_to_go_on_with() -> None:
    """Nothing of it is read."""
    with pytest.raises(JobFileError, match="not valid YAML"):
        read_through("model: [", name="job.yaml", measure=measured)


def test_rows_are_counted_once_however_often_the_rest_is_read() -> None:
    """A large file takes its time."""
    asked: list[str] = []

    def measure(file: DataFile) -> Lengths:
        asked.append(file.path)
        return counted(file)

    text = "model: 7b\ndata: {file: rows.jsonl}\nloop: {epochs: 0, max_steps: 0}\nbudget: {max_hours: -1}"
    assert len(read_through(text, name="job.yaml", measure=measure).faults) == 3
    assert asked == ["rows.jsonl"]
