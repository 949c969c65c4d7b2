"""What both sides say to each other."""

from __future__ import annotations

import pytest

from remote.contract import (
    CAPABILITIES,
    EXIT_CODES,
    AdapterFile,
    EndReason,
    Event,
    Measured,
    Outcome,
    Phase,
    Strategy,
    encode,
    exit_code,
    parse_event,
)

FILE = AdapterFile(path="adapter_model.safetensors", size_bytes=1, sha256="0" * 64)


def outcome(reason: EndReason, *, files: tuple[AdapterFile, ...] = ()) -> Outcome:
    return Outcome(run_id="r", reason=reason, message="", phase_s={}, measured=Measured(), adapter=files)


@pytest.mark.parametrize("reason", EndReason)
def test_every_end_has_an_exit_code_of_its_own(reason: EndReason) -> None:
    assert EXIT_CODES[reason] == 0 or list(EXIT_CODES.values()).count(EXIT_CODES[reason]) == 1


@pytest.mark.parametrize("reason", [EndReason.COMPLETED, EndReason.STOPPED_EARLY, EndReason.DEADLINE])
def test_a_result_is_worth_a_zero_whatever_ended_the_training(reason: EndReason) -> None:
    assert exit_code(outcome(reason, files=(FILE,))) == 0


@pytest.mark.parametrize("reason", [EndReason.DEADLINE, EndReason.INTERRUPTED, EndReason.DIVERGED, EndReason.CRASHED])
def test_no_result_is_never_a_zero(reason: EndReason) -> None:
    assert exit_code(outcome(reason)) != 0


def test_an_event_of_a_phase_and_kind_that_is_not_known_here_is_kept() -> None:
    line = b'{"seq":3,"kind":"dreamt","phase":"dream","at_s":1,"monotonic_s":1,"data":{"x":1},"new":[],"schema_version":9}'
    event = parse_event(line)
    assert event is not None
    assert (event.kind, event.phase, event.data) == ("dreamt", "dream", {"x": 1})


def test_a_line_that_a_kill_cut_short_is_no_event() -> None:
    line = encode(Event(seq=0, kind="step", phase=Phase.TRAIN, at_s=1.0, monotonic_s=1.0, data={"loss": 1.5}))
    assert [parse_event(line[:end]) for end in range(len(line))] == [None] * len(line)
    assert parse_event(line) is not None


def test_what_the_trainer_can_not_do_is_named_as_the_user_said_it() -> None:
    strategy = Strategy(method="poly", quant="hqq_int3", num_gpus=2, optimizer_in_backward=True)
    assert CAPABILITIES.missing(strategy, "embedding") == (
        "task=embedding",
        "method=poly",
        "quant=hqq_int3",
        "optimizer_in_backward",
        "num_gpus=2",
    )
