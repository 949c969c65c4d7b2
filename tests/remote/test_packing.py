"""Whole runs over packed rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from safetensors.torch import load_file

from remote.contract import EndReason, Event
from tests.remote.conftest import DATA, LOOP, STRATEGY, Asked, MakeJob
from tests.remote.test_trainer import run

pytestmark = pytest.mark.torch

PACKED = msgspec.structs.replace(DATA, packing=True)
APART = msgspec.structs.replace(STRATEGY, micro_batch_size=2, seq_len=192, padded=True, dropout=0.1)
SHORT = msgspec.structs.replace(LOOP, max_steps=6, num_samples=1)

EventsOf = Callable[[Path], list[Event]]


def test_packed_rows_train_and_a_run_that_was_parted_ends_with_the_same_weights(make_job: MakeJob, events_of: EventsOf) -> None:
    """Told are the rows before and after, and what they are filled with."""
    whole, parted = (make_job(name, strategy=APART, loop=SHORT, data=PACKED) for name in ("whole", "parted"))
    outcome = run(whole)
    assert outcome.trained
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.mean_loss < outcome.before.mean_loss
    assert len(outcome.after.row_losses) == 20  # judged one by one, as they were before
    (told,) = [event.data for event in events_of(whole) if event.kind == "packed"]
    assert told["rows"] == 80
    assert told["packs"] <= 80 / 2
    assert 0 <= told["padding_after"] < 0.1
    steps = [event.data for event in events_of(whole) if event.kind == "step"]
    assert steps[0]["epoch"] == pytest.approx(2 / told["packs"])
    assert steps[0]["total_steps"] == min(6, math.ceil(told["packs"] * SHORT.epochs / 2))

    assert run(parted, watch=Asked(24)).reason is EndReason.INTERRUPTED
    assert run(parted).trained
    one, other = (load_file(job.parent / "output" / "adapter_model.safetensors") for job in (whole, parted))
    assert all(bool((one[name] == other[name]).all()) for name in one)


def test_a_base_that_keeps_no_documents_apart_is_an_end_in_one_sentence(make_job: MakeJob) -> None:
    job = make_job(strategy=msgspec.structs.replace(APART, attention="eager"), loop=SHORT, data=PACKED)
    bloom = {"model_type": "bloom", "hidden_size": 32, "n_layer": 1, "n_head": 2, "vocab_size": 320}
    (job.parent / "config.json").write_text(json.dumps(bloom))
    outcome = run(job)
    assert outcome.reason is EndReason.BAD_JOB
    assert "a bloom does not keep the documents of a row apart" in outcome.message


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"padded": False}, "packing needs padded true"),
        ({"method": "prefix_tuning", "rank": None, "num_virtual_tokens": 4}, "packing under method=prefix_tuning"),
    ],
)
def test_what_packs_no_rows_is_refused_at_once(make_job: MakeJob, changes: dict[str, object], why: str) -> None:
    outcome = run(make_job(strategy=msgspec.structs.replace(APART, **changes), loop=SHORT, data=PACKED))
    assert outcome.reason is EndReason.BAD_JOB
    assert why in outcome.message
