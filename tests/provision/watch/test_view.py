"""What the events say of a run at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.watch import view
from provision.watch.curves import MAX_POINTS, thinned, trace_curves
from provision.watch.view import View, base_fetched_bytes, fold, measured, read_events
from remote.contract import Event, Measured, Phase, encode


def event(seq: int, kind: str, phase: Phase = Phase.TRAIN, **data: Any) -> Event:
    return Event(seq=seq, kind=kind, phase=phase, at_s=1000.0 + seq, monotonic_s=float(seq), data=data)


EVENTS = [
    event(0, "phase_started", Phase.LOAD),
    event(1, "phase_ended", Phase.LOAD, seconds=2.5),
    event(2, "phase_started"),
    event(3, "step", step=1, total_steps=4, loss=5.0, tokens_per_s=100.0, peak_ram_bytes=10),
    event(4, "step", step=2, total_steps=4, loss=4.0, tokens_per_s=110.0, peak_ram_bytes=12),
    event(5, "evaluation", step=2, mean_loss=4.5, rows=3, seconds=1.5),
    event(6, "warning", message="two rows were cut"),
]


def test_the_newest_figures_are_seen() -> None:
    """Step, loss, speed, memory, held-out loss."""
    view = fold(EVENTS)
    assert (view.phase, view.step, view.num_steps, view.loss, view.tokens_per_s) == ("train", 2, 4, 4.0, 110.0)
    assert view.held_out == ((2, 4.5),)
    assert view.memory_bytes == 12
    assert view.phase_s == {"load": 2.5}
    assert view.last_word == "two rows were cut"


def test_steps_add_up_without_the_trainer() -> None:
    """A stopped one never did; a step that a restart took again is the same step."""
    told = [
        event(1, "step", step=1, tokens=100, step_s=2.0, peak_ram_bytes=10),
        event(2, "step", step=2, tokens=100, step_s=8.0, peak_ram_bytes=30),
        event(3, "step", step=2, tokens=100, step_s=3.0, peak_ram_bytes=20),
        event(4, "step", step=3, tokens=40, step_s=1.0),
    ]
    assert measured(told) == Measured(steps=3, tokens=240, step_s=2.0, tokens_per_s=40.0, peak_ram_bytes=20)
    assert measured(EVENTS[:3]) == Measured()


def test_what_was_fetched_of_a_base_adds_up_over_restarts() -> None:
    """A second start on the same box finds it there; that does not make it one that was never downloaded."""
    told = [event(1, "base", Phase.DOWNLOAD, fetched_bytes=700), event(2, "base", Phase.DOWNLOAD, fetched_bytes=0)]
    assert base_fetched_bytes(told) == 700
    assert base_fetched_bytes(told[1:]) == 0
    assert base_fetched_bytes(EVENTS) is None, "it did not come from the hub, or nobody said"


def test_curves_are_what_was_said_over_time() -> None:
    """Losses by step, memory by seconds since the first word."""
    curves = trace_curves(EVENTS)
    assert curves.losses == ((1, 5.0), (2, 4.0))
    assert curves.held_out == ((2, 4.5),)
    assert curves.memory == ((3.0, 10), (4.0, 12))


@given(length=st.integers(0, 5000))
def test_long_curves_are_thinned_between_their_ends(length: int) -> None:
    """A million steps make the same small page."""
    points = list(range(length))
    kept = thinned(points)
    assert len(kept) == min(length, MAX_POINTS)
    assert list(kept[:1] + kept[-1:]) == points[:1] + points[-1:]
    assert list(kept) == sorted(set(kept))


def test_the_time_to_go_follows_the_pace_so_far() -> None:
    """Two steps in two seconds leave two seconds for the other two."""
    assert fold(EVENTS[:5]).eta_s == 2.0
    assert View().eta_s is None


def test_a_view_that_begins_in_the_middle_counts_the_steps_that_it_saw() -> None:
    """`logs --offset`: who missed the first seven steps does not know how long they took."""
    late = [event(10 * step, "step", step=step, total_steps=10) for step in (7, 8, 9)]
    assert fold(late[:1]).eta_s is None
    assert fold(late).eta_s == 10.0


def test_a_phase_that_was_cut_off_counts_until_the_end() -> None:
    """The box was ended in the middle of training, three seconds after its last word."""
    assert fold(EVENTS).phase_s_until(1009.0) == {"load": 2.5, "train": 7.0}
    assert fold(EVENTS[:2]).phase_s_until(1009.0) == {"load": 2.5}


def test_kinds_from_a_newer_trainer_change_nothing() -> None:
    """An old controller follows a newer box."""
    assert fold([*EVENTS, event(7, "teleported", step=99)]).step == 2


def test_a_line_cut_short_is_passed_over(tmp_path: Path) -> None:
    """The mirror at home may end in the middle of a line."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(encode(one) for one in EVENTS)[:-10])
    assert len(read_events(path)) == len(EVENTS) - 1
    assert read_events(tmp_path / "nowhere") == []


def test_an_event_whose_figures_are_none_is_passed_over(tmp_path: Path) -> None:
    """So is what can't be read at all, and a folder in the file's place."""
    path = tmp_path / "events.jsonl"
    odd = (event(7, "step", step="x"), event(8, "step", step=[3], loss=1.0), event(9, "phase_ended", seconds={"a": 1}))
    lines = [*map(encode, EVENTS), *map(encode, odd), b'{"seq":"\xff\xfe"}', b"[" * 200_000]
    path.write_bytes(b"\n".join(lines))
    assert read_events(path) == EVENTS
    assert read_events(tmp_path) == []


def test_of_more_events_than_any_trainer_says_the_first_and_the_last_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte of them took two minutes of the teardown, and as much memory as there was."""
    lines = [encode(Event(seq=seq, kind="step", phase="train", at_s=1.0, monotonic_s=1.0)) + b"\n" for seq in range(1000, 2000)]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(lines))
    monkeypatch.setattr(view, "FIRST_BYTES", 5 * len(lines[0]))
    monkeypatch.setattr(view, "LAST_BYTES", 3 * len(lines[0]) + 10)
    assert [event.seq for event in read_events(path)] == [1000, 1001, 1002, 1003, 1004, 1997, 1998, 1999]


def test_what_is_told_of_without_end_is_counted_to_an_end() -> None:
    """Each event copies what is known by then."""
    many = range(view.MOST_NAMED + 10)
    events = [Event(seq=0, kind="phase_ended", phase=f"p{each}", at_s=1.0, monotonic_s=1.0) for each in many]
    events += [
        Event(seq=0, kind="evaluation", phase="train", at_s=1.0, monotonic_s=1.0, data={"step": each, "mean_loss": 1.0})
        for each in many
    ]
    seen = fold(events)
    assert (len(seen.phase_s), len(seen.held_out)) == (view.MOST_NAMED, view.MOST_NAMED)
    assert seen.held_out[-1] == (many[-1], 1.0)
