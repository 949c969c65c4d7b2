"""What a box says is somebody else's word: whatever it is, it keeps no box from being ended."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provision.aboard import detached
from provision.aboard.detached import read_state
from provision.account.ledger import Ledger
from provision.account.lines import Created
from provision.charge.ends.ending import end_with_books
from provision.errors import TransferFailed
from provision.home.places import Places
from provision.seam import Box, Resource, Teardown
from provision.ssh import Completed, Shell
from provision.walk.driven import Reach, Run, read_run
from provision.walk.edges import Edges
from provision.walk.job import rescue
from provision.watch.view import read_events
from remote.contract import (
    EVENTS_FILE,
    FIGURES,
    OUTCOME_FILE,
    AdapterFile,
    EndReason,
    Evaluation,
    Event,
    Measured,
    Outcome,
    encode,
)
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted

LONG: Final = 10**400  # as a JSON number no float holds it
BOX: Final = Box(run_id="r", provider="local", host="h", port=22, user="u", host_key="ssh-ed25519 AAAA", folder="/box")
EVENT: Final = Event(
    seq=7,
    kind="step",
    phase="train",
    at_s=4e9,
    monotonic_s=1.0,
    data={"step": 3, "total_steps": 9, "loss": 1.5, "step_s": 0.1, "tokens": 64, "seconds": 2.0, "size_bytes": 9},
)
JUDGED: Final = Evaluation(step=3, mean_loss=1.5, row_losses=(1.0, 2.0))
OUTCOME: Final = Outcome(
    run_id="r",
    reason=EndReason.COMPLETED,
    message="Done.",
    phase_s={"train": 9.0},
    measured=Measured(tokens_per_s=10.0, step_s=0.1, steps=3, tokens=64, peak_ram_bytes=9),
    trainable_params=64,
    before=JUDGED,
    after=JUDGED,
    adapter=(AdapterFile(path="adapter.safetensors", size_bytes=7, sha256="0" * 64),),
)
KINDS: Final = ("step", "probe", "checkpoint", "checkpoint_pushed", "evaluation", "phase_ended", "base", "ended")


class Said:
    """A Shell to a box that holds these two files and nothing else; its trainer has ended."""

    box = BOX

    def __init__(self, events: bytes, outcome: bytes) -> None:
        self.files = {EVENTS_FILE: events, OUTCOME_FILE: outcome}

    def run(self, command: str, *, timeout_s: float = 60.0, stdin: bytes | None = None) -> Completed:
        asked = command.removesuffix(" 2> /dev/null")
        held = next((content for name, content in self.files.items() if asked.endswith(f"/{name}")), b"")
        return Completed(rc=0, out=held.decode(errors="replace"), err="")

    def script(self, script: str, variables: Mapping[str, str], *, timeout_s: float = 60.0) -> Completed:
        return Completed(rc=0, out="ended 0\n" if script == detached.STATE else "", err="")

    def get(self, remote: str, local: Path, *, sha256: str | None = None, progress: object = None) -> str:
        raise TransferFailed(f"{remote} is not there.")

    def close(self) -> None:
        pass

    def __enter__(self) -> Said:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def ended(run: Run, events: bytes, outcome: bytes) -> Teardown:
    """What `down` comes to at a box that says this, which has to be ended by the deadline at the latest."""
    paper = cast("Paper", run.provisioner)
    run.ledger.append(attempted(run.run_id, run.plan, at_s=time.time(), deadline_at_s=time.time() + 900.0))
    run.ledger.append(Created(run_id=run.run_id, at_s=time.time(), box=BOX))
    paper.boxes[run.run_id] = Resource(kind="instance", id="i-1", run_id=run.run_id)
    run.folder.outcome.unlink(missing_ok=True)
    run.folder.events.write_bytes(events)
    run = dataclasses.replace(run, reach=Reach(connect=lambda *_args, **_edges: cast("Shell", Said(events, outcome))))
    teardown = end_with_books(run)
    if not teardown.clean:
        assert teardown.command == f"rentune down --discard {run.run_id}"
        teardown = end_with_books(
            dataclasses.replace(run, clocks=dataclasses.replace(run.clocks, wall=lambda: run.state.deadline_at_s + 1.0))
        )
    assert run.run_id not in paper.boxes
    return teardown


@pytest.fixture
def run(run_id: str, places: Places, ledger: Ledger) -> Run:
    paper = Paper()
    return read_run(run_id, Edges(places, Quiet(), make=lambda _claim: paper), ledger=ledger)


def told(value: object, **changes: object) -> bytes:
    """The value as a box would write it, but for some of its fields."""
    return json.dumps(json.loads(encode(cast("Any", value))) | changes).encode()


@pytest.mark.parametrize(
    "path", ["adapter\0.bin", "../adapter.safetensors", "/etc/adapter.safetensors", "a/../../b", "", ".", "a\n", "\x7f"]
)
def test_a_file_of_the_result_has_a_name_below_its_folder(run: Run, path: str) -> None:
    """An outcome with any other is none: nothing of it can be fetched, and nothing waits for it."""
    file = {"path": path, "size_bytes": 7, "sha256": "0" * 64}
    assert ended(run, b"", told(OUTCOME, adapter=[file])).clean
    assert not run.folder.outcome.exists()


@pytest.mark.parametrize("number", [LONG, -LONG, 2**70, "many", True, None])
def test_a_figure_that_is_none_ends_as_any_line_that_cannot_be_read(run: Run, number: object) -> None:
    """Whatever the kind of the event, and whichever of its figures that is; one that was not metered is none."""
    data = [EVENT.data | {figure: number} for figure in FIGURES]
    lines = [told(EVENT, kind=kind, seq=seq, data=each) for kind in KINDS for seq, each in enumerate(data)]
    assert ended(run, b"\n".join(lines), b"").clean
    assert bool(read_events(run.folder.events)) is (number is None)


@pytest.mark.parametrize("field", ["trainable_params", "measured", "phase_s"])
def test_figures_of_an_outcome_are_held_to_what_can_be_counted(run: Run, field: str) -> None:
    odd = {"trainable_params": LONG, "measured": {"steps": LONG}, "phase_s": {"train": LONG}}
    assert ended(run, b"", told(OUTCOME, **{field: odd[field]})).clean


def test_a_fault_of_ours_at_a_box_is_told_and_ends_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the rescue meets: what bills does not wait for it."""

    def breaks(*_args: object, **_edges: object) -> bool:
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr(rescue, "stopped_with_result", breaks)
    assert ended(run, b"", b"").clean
    assert any("ZeroDivisionError: no such thing" in note for note in cast("Quiet", run.display).notes)


def test_a_fault_of_ours_at_a_result_that_waits_leaves_it_to_its_deadline(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_args: object, **_edges: object) -> None:
        raise ZeroDivisionError("no such thing")

    run.ledger.append(attempted(run.run_id, run.plan, at_s=time.time(), deadline_at_s=time.time() + 900.0))
    run.ledger.append(Created(run_id=run.run_id, at_s=time.time(), box=BOX))
    cast("Paper", run.provisioner).boxes[run.run_id] = Resource(kind="instance", id="i-1", run_id=run.run_id)
    run.folder.outcome.write_bytes(encode(OUTCOME))
    monkeypatch.setattr(rescue, "fetch", breaks)
    run = dataclasses.replace(run, reach=Reach(connect=lambda *_args, **_edges: cast("Shell", Said(b"", encode(OUTCOME)))))
    teardown = end_with_books(run)
    assert (teardown.verdict, teardown.command) == ("orphaned", f"rentune down --discard {run.run_id}")
    assert "ZeroDivisionError: no such thing" in teardown.message


@pytest.mark.parametrize("code", ["²", "9" * 5000, "-1", "1000", "٣"])
def test_an_exit_code_that_is_none_is_not_known(code: str) -> None:
    assert read_state(f"ended {code}").state == "unknown"


# ── whatever the bytes ─────────────────────────────────────────────────────────────────────────────────────────────

DIGITS: Final = "5000 digits"  # as text, until it is written: Python makes no text of such a number
SCALARS: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([LONG, -LONG, 2**64, 2**63, 2**53 + 1, -1, 0, 1e308, -1e308, 1e-308, float("nan"), float("inf")]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([DIGITS, "..", "\0", "\ud800", "a" * 5000]),
)
ANY_JSON: Final = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def places_in(value: object, there: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a value of JSON."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*there, key)
        yield from places_in(inner, (*there, key))


@st.composite
def altered(draw: st.DrawFn, value: Any) -> bytes:
    """A value as a box would write it, in which up to three things are something else."""
    made = json.loads(encode(value))
    for _ in range(draw(st.integers(1, 3))):
        *outer, last = draw(st.sampled_from(list(places_in(made))))
        holder = made
        for key in outer:
            holder = holder[key]
        holder[last] = draw(ANY_JSON)
    return json.dumps(made).replace(f'"{DIGITS}"', "9" * 5000).encode()


def said(value: Any) -> st.SearchStrategy[bytes]:
    return st.one_of(altered(value), st.binary(max_size=40))


EVENTS: Final = st.lists(
    st.sampled_from(KINDS).flatmap(lambda kind: said(msgspec.structs.replace(EVENT, kind=kind))), max_size=6
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines=EVENTS, outcome=said(OUTCOME))
def test_whatever_a_box_says_down_ends_it(run: Run, lines: list[bytes], outcome: bytes) -> None:
    """At once, or, where it says that it holds a result, by its deadline; and the books are closed on it."""
    assert ended(run, b"\n".join(lines), outcome).clean
    assert run.state.billed is not None
