"""Base and rows into memory: a card is paid while either comes, so they come together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import remote.loading.load as loading
from remote.__main__ import carry_out
from remote.bases.on_disk import hub_weights
from remote.contract import OUTCOME_FILE, ROWS_CACHE_VARIABLE, EndReason, Event, Outcome, Phase, decode
from remote.data.split import load_data
from remote.loading.beside import Beside, heard
from remote.telemetry import Events
from remote.watch import Watch
from tests.remote.conftest import DATA, MakeJob

pytestmark = pytest.mark.torch

EventsOf = Callable[[Path], list[Event]]
PATIENCE_S = 120.0


def ended(job: Path) -> Outcome:
    carry_out(job, watch=Watch())
    return decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)


def test_rows_become_tokens_while_the_base_is_on_its_way(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits here until the other has begun: one after the other they would wait for ever."""
    meeting = threading.Barrier(2, timeout=PATIENCE_S)

    def together(work: Callable[..., Any]) -> Callable[..., Any]:
        def meets(*args: Any, **kwargs: Any) -> Any:
            meeting.wait()
            return work(*args, **kwargs)

        return meets

    monkeypatch.setattr(loading, "load_data", together(load_data))
    monkeypatch.setattr(loading, "hub_weights", together(hub_weights))
    assert ended(make_job()).reason == EndReason.COMPLETED


def test_rows_that_can_not_be_learned_from_end_the_run_before_weights_are_loaded(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base takes its time here, as a large one does."""

    def slow(*args: Any) -> Any:
        for thread in threading.enumerate():
            if thread.name == "beside":
                thread.join(PATIENCE_S)
        return hub_weights(*args)

    monkeypatch.setattr(loading, "hub_weights", slow)
    monkeypatch.setattr(loading, "load_base", lambda *_: pytest.fail("weights were loaded"))
    job = make_job()
    (job.parent / DATA.train).write_text("nothing that is a row\n")
    outcome = ended(job)
    assert outcome.reason == EndReason.BAD_JOB, outcome.message
    assert Phase.LOAD not in outcome.phase_s


def test_what_fails_beside_is_raised_where_its_result_is_needed() -> None:
    def fail() -> int:
        raise ValueError("no rows")

    work = Beside(fail)
    with pytest.raises(ValueError, match="no rows"):
        work.result()
    with pytest.raises(ValueError, match="no rows"):
        work.check()


def test_what_is_not_over_yet_raises_nothing() -> None:
    go = threading.Event()
    work = Beside(lambda: go.wait(PATIENCE_S))
    work.check()
    go.set()
    assert work.result() is True
    work.check()


def test_a_thread_that_a_run_no_longer_waits_for_tells_nothing_more(tmp_path: Path, events_of: EventsOf) -> None:
    with Events(tmp_path / "events.jsonl") as events:
        with heard(events) as warn:
            warn(message="in time")
        warn(message="too late")
    assert [event.data["message"] for event in events_of(tmp_path / "job.json")] == ["in time"]


def test_a_run_lays_its_tokens_where_the_box_says_and_else_into_its_own_folder(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that outlives the box is never said."""
    job = make_job()
    assert ended(job).reason == EndReason.COMPLETED
    assert len(list((job.parent / "cache").glob("tokens-*"))) == 1
    monkeypatch.setenv(ROWS_CACHE_VARIABLE, str(tmp_path / "kept"))
    (job.parent / OUTCOME_FILE).unlink()
    ended(job)
    assert len(list((tmp_path / "kept").glob("tokens-*"))) == 1
