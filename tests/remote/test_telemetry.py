"""Events: whole lines, numbered through, phases metered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from remote.contract import Event, Phase, parse_event
from remote.telemetry import Events


class Ticks:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def read(path: Path) -> list[Event]:
    return [event for event in map(parse_event, path.read_bytes().splitlines()) if event is not None]


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(3):
        with Events(tmp_path / "events.jsonl") as events:
            events.emit("step", loss=1.5)
            events.emit("step", loss=1.25)
    assert [event.seq for event in read(tmp_path / "events.jsonl")] == [0, 1, 2, 3, 4, 5]


@given(cut=st.integers(2, 60))  # the newline alone is no loss
def test_a_line_cut_by_a_kill_stays_alone_and_loses_nothing_but_itself(tmp_path_factory: Callable[..., Path], cut: int) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"  # type: ignore[attr-defined]
    with Events(path) as events:
        events.emit("step", step=1)
        events.emit("step", step=2)
    before = path.read_bytes()
    path.write_bytes(before[:-cut])
    with Events(path) as events:
        events.emit("step", step=3)
    assert path.read_bytes().startswith(before[:-cut])  # a follower's byte offset stays true
    assert [(event.seq, event.data["step"]) for event in read(path)] == [(0, 1), (1, 3)]


def test_a_phase_that_comes_twice_is_metered_once_with_both_times(tmp_path: Path) -> None:
    ticks = Ticks()
    with Events(tmp_path / "events.jsonl", monotonic=ticks) as events:
        for phase, seconds in ((Phase.TRAIN, 5.0), (Phase.EVALUATE, 2.0), (Phase.TRAIN, 3.0), (Phase.TRAIN, 1.0)):
            events.enter(phase)
            ticks.now_s += seconds
        events.leave()
        assert events.phase_s == {"train": 9.0, "evaluate": 2.0}
    kinds = [(event.kind, event.phase) for event in read(tmp_path / "events.jsonl")]
    assert kinds == [
        ("phase_started", "train"),
        ("phase_ended", "train"),
        ("phase_started", "evaluate"),
        ("phase_ended", "evaluate"),
        ("phase_started", "train"),
        ("phase_ended", "train"),
    ]


def test_progress_is_told_once_a_second_and_at_the_end(tmp_path: Path) -> None:
    ticks = Ticks()
    with Events(tmp_path / "events.jsonl", monotonic=ticks) as events:
        for done in range(1, 11):
            events.progress("rows", done, 10)
            ticks.now_s += 0.25
    assert [event.data["done"] for event in read(tmp_path / "events.jsonl")] == [1, 5, 9, 10]
