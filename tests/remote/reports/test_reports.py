"""A run's figures in TensorBoard's and W&B's files. W&B's library is a double: it is none of the box's packages."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest

from remote.contract import Event, Report
from remote.ends import Ended
from remote.reports import REPORTS_DIR, bring_along, check_reports, reporting
from remote.reports.board import Board
from remote.telemetry import Events
from tests.remote.conftest import LOOP, MakeJob

EventsOf = Callable[[Path], list[Event]]
# What TensorFlow writes before each first message, of 24 bytes: its length, and the checksum of that.
FIRST_FRAME: Final = bytes.fromhex("1800000000000000a37f4b22")


class Point(msgspec.Struct, frozen=True):
    step: int
    figures: dict[str, float]
    starts: bool = False


def points_in(file: Path) -> list[Point]:
    """What a file of events shows, after its first message."""
    data, messages = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        messages.append(dict(fields_of(data[12 : 12 + length])))
        data = data[16 + length :]
    assert messages[0][3] == b"brain.Event:2"
    return [point_of(message) for message in messages[1:]]


def point_of(message: Mapping[int, Any]) -> Point:
    values = [dict(fields_of(value)) for number, value in fields_of(message.get(5, b"")) if number == 1]
    figures = {value[1].decode(): struct.unpack("<f", value[2])[0] for value in values}
    return Point(message.get(2, 0), figures, starts=message.get(7) == b"\x08\x01")


def fields_of(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer."""
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at, number, shift = at + 1, number | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return number

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, message[at : at + size]
        at += size


def told(job: Path, events_of: EventsOf) -> list[str]:
    return [event.data["message"] for event in events_of(job) if event.kind == "warning"]


def test_a_start_begins_as_tensorflow_begins_and_drops_what_a_killed_one_showed_of_later_steps(tmp_path: Path) -> None:
    for step in (0, 300):
        board = Board(tmp_path, "r", step, clock=lambda: 1.5)
        board.show(step + 1, {"train/loss": 0.5})
        board.close()
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes().startswith(FIRST_FRAME)
    assert points_in(first) == [Point(0, {}, starts=True), Point(1, {"train/loss": 0.5})]
    assert points_in(second) == [Point(300, {}, starts=True), Point(301, {"train/loss": 0.5})]


def test_steps_evaluations_and_meters_are_curves_and_nothing_else(tmp_path: Path) -> None:
    with Events(tmp_path / "events.jsonl") as events, reporting(("tensorboard",), tmp_path, "r", 4, events):
        events.emit("telemetry", ram_used_bytes=[0, 2**30, 2**31])
        events.emit("step", step=5, total_steps=9, loss=0.25, note="x")
        events.emit("telemetry", gpu_power_w=[290.0, 300.0, 310.0], throttled={"heat": 1.0})
        events.emit("evaluation", step=5, mean_loss=1.5, best=True)
        events.emit("warning", message="no curve", seconds=1.0)
    (file,) = (tmp_path / REPORTS_DIR / "tensorboard").iterdir()
    assert points_in(file)[1:] == [
        Point(4, {"machine/ram_used_bytes": 2.0**30}),
        Point(5, {"train/loss": 0.25}),
        Point(5, {"machine/gpu_power_w": 300.0}),
        Point(5, {"eval/mean_loss": 1.5}),
    ]


@pytest.mark.parametrize(("report", "mode"), [("wandb", "online"), ("wandb_offline", "offline")])
def test_weights_and_biases_is_online_only_where_that_was_asked(
    tmp_path: Path, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch, report: Report, mode: str
) -> None:
    """And a library that fails on the way costs one warning, not the run."""
    asked: dict[str, Any] = {}
    logged: list[tuple[int, Any]] = []

    def log(figures: Any, *, step: int) -> None:
        if step > 2:
            raise ConnectionError("api.wandb.ai is gone\nat length")
        logged.append((step, figures))

    def init(**said: Any) -> SimpleNamespace:
        asked.update(said)
        return SimpleNamespace(log=log, finish=lambda: logged.append((0, "finished")))

    double = SimpleNamespace(init=init, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", double)
    with Events(tmp_path / "events.jsonl") as events, reporting((report,), tmp_path, "run-1", 0, events):
        for step in range(1, 5):
            events.emit("step", step=step, loss=1.0)
    assert (asked["mode"], asked["id"], asked["settings"]["x_disable_stats"]) == (mode, "run-1", True)
    assert logged == [(1, {"train/loss": 1.0}), (2, {"train/loss": 1.0}), (0, "finished")]
    assert told(tmp_path / "job.json", events_of) == [f"nothing more is reported to {report}: api.wandb.ai is gone"]


def test_what_can_not_be_reported_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote.reports.find_spec", lambda _name: None)
    with pytest.raises(Ended, match="report_to wandb needs the package wandb, which is not installed here"):
        check_reports(("tensorboard", "wandb"))
    check_reports(("tensorboard",))
    (tmp_path / REPORTS_DIR).write_text("in the way")
    with (
        Events(tmp_path / "events.jsonl") as events,
        pytest.raises(Ended, match="report_to tensorboard can't begin"),
        reporting(("tensorboard",), tmp_path, "r", 0, events),
    ):
        pass


@pytest.mark.torch
def test_a_run_brings_its_report_home_in_the_result(make_job: MakeJob) -> None:
    from remote.__main__ import carry_out
    from remote.contract import OUTCOME_FILE, Outcome, decode
    from remote.watch import Watch

    loop = msgspec.structs.replace(LOOP, max_steps=2, evaluations=0, num_samples=0, report_to=("tensorboard",))
    job = make_job(loop=loop)
    assert carry_out(job, watch=Watch()) == 0
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    (path,) = [file.path for file in outcome.adapter if file.path.startswith(REPORTS_DIR)]
    points = points_in(job.parent / "output" / path)
    losses = {point.step: point.figures["train/loss"] for point in points if "train/loss" in point.figures}
    assert set(losses) == {1, 2}
    judged = {point.step for point in points if "eval/mean_loss" in point.figures}
    assert judged == {0, 2}  # the base, and the end


def test_without_a_report_nothing_is_brought(tmp_path: Path) -> None:
    bring_along(tmp_path, tmp_path / "output")
    assert not list(tmp_path.iterdir())
