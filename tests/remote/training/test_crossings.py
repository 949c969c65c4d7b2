"""A link, or a disk, that is slower than planned: a run that streams asks for less of it, and learns the same.

No card is in this machine. The link is a stand-in that counts what it carries, a step takes the seconds that this would, and
the room on the card is made up; blocks, visits, weights and gradients are real.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import remote.streaming.streamed
from remote.__main__ import carry_out
from remote.bases.base import checkpoint_activations
from remote.checkpoints.checkpoint import trainable
from remote.contract import OUTCOME_FILE, EndReason, Event, Outcome, Strategy, Streaming, decode
from remote.machine.meters import Meters
from remote.measure.random_weights import random_batch, random_model
from remote.step import settings_of, step
from remote.streaming import stream, streamed_of
from remote.streaming.lanes import AtOnce
from remote.streaming.streamed import Moved, Streamed
from remote.training.crossings import slow_crossing
from remote.training.fitting import Fitting
from remote.training.ladder import TRAINING, above, below, with_residents, with_visits
from remote.training.optimizers import build_optimizer, set_learning_rate
from remote.watch import Watch
from tests.remote.conftest import CONFIG, DATA, LOOP, STRATEGY, Asked, MakeJob, questions, spec_of

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning"),
]

EventsOf = Callable[[Path], list[Event]]
change = msgspec.structs.replace

DEPTH, TIMES = 5, 4
DEEP: dict[str, Any] = CONFIG | {"num_hidden_layers": DEPTH}
BLOCK_BYTES = 4 * (4 * 64 * 64 + 3 * 64 * 128) - 4 * 2 * 32 * 64  # of two key and value heads
PLANNED, SLOW = 1e9, 1e6  # bytes a second
COMPUTING_S = 0.05


def by(visits: int = 1, resident: int = 0, on_disk: int = 0) -> Streaming:
    return Streaming(
        num_slots=2, num_resident_blocks=resident, num_visits=visits, num_blocks_without_recompute=0, num_disk_blocks=on_disk
    )


PASSING: Strategy = change(
    STRATEGY,
    micro_batch_size=1,
    gradient_accumulation_steps=TIMES,
    gradient_checkpointing="non_reentrant",
    offload="stream",
    streaming=by(),
)
FOUR_HELD_OUT = change(DATA, held_out_rows=4)
FEW = change(LOOP, max_steps=3, evaluations=0, num_samples=1)


class Slow(AtOnce):
    """Carries what it is asked to, and counts; alone it takes what so slow a link would."""

    def __init__(self) -> None:
        self.carried_bytes = 0

    def fetch(self, slot: int, into: Any, source: Any) -> None:
        super().fetch(slot, into, source)
        self.carried_bytes += int(into.numel())

    def timed_s(self, into: Any, _source: Any, _times: int) -> float:
        return int(into.numel()) / SLOW


@pytest.fixture
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take what their copies take over the slow link, and a little to compute."""
    lane, real = Slow(), Fitting.timed_step

    def timed(self: Fitting, batch: Any) -> tuple[float, float, float]:
        before_bytes = lane.carried_bytes
        _, loss, grad_norm = real(self, batch)
        return COMPUTING_S + (lane.carried_bytes - before_bytes) / SLOW, loss, grad_norm

    monkeypatch.setattr(remote.streaming.streamed, "lane_to", lambda *_: lane)
    monkeypatch.setattr(Fitting, "timed_step", timed)


def deep(make_job: MakeJob, name: str, strategy: Strategy = PASSING, **said: Any) -> Path:
    job = make_job(name, strategy=strategy, loop=FEW, rows=questions(24), data=FOUR_HELD_OUT, **said)
    (job.parent / "config.json").write_text(json.dumps(DEEP))
    return job


def run(job: Path, *, watch: Watch | None = None) -> Outcome:
    carry_out(job, watch=watch or Watch())
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    assert outcome.reason in (EndReason.COMPLETED, EndReason.INTERRUPTED), outcome.message
    return outcome


def weights(outcome: Outcome) -> str:
    return next(file.sha256 for file in outcome.adapter if file.path == "adapter_model.safetensors")


def told(events: list[Event], kind: str) -> list[dict[str, Any]]:
    return [event.data for event in events if event.kind == kind]


@pytest.mark.usefixtures("_slow")
def test_one_visit_serves_more_micro_batches_and_the_adapter_is_the_same(make_job: MakeJob, events_of: EventsOf) -> None:
    """And the forecast is of the step that is kept."""
    job = deep(make_job, "slow", planned_link_bytes_per_s=PLANNED)
    planned, outcome = deep(make_job, "as-planned"), run(job)
    assert outcome.strategy == change(PASSING, streaming=by(visits=TIMES))
    assert weights(outcome) == weights(run(planned))
    changes = told(events_of(job), "strategy_changed")
    assert [data["reason"] for data in changes] == ["slow_link"] * 2
    assert [data["changes"] for data in changes] == [{"num_visits": [1, 2]}, {"num_visits": [2, 4]}]
    first = changes[0]["message"]
    assert first.startswith("the link carries 0.00 GB/s, 1.00 were planned, and less of it is asked for now: a step takes")
    assert first.endswith("; the run goes on with num_visits from 1 to 2, and learns the same")
    (there,), (here,) = (told(events_of(each), "probe") for each in (planned, job))
    assert here["step_s"] < there["step_s"] / 2
    assert here["forecast_s"] < there["forecast_s"]


@pytest.mark.usefixtures("_slow")
def test_blocks_stay_where_the_card_has_room_and_a_run_that_goes_on_keeps_to_it(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meters, "room_bytes", lambda _self: 2 * BLOCK_BYTES + BLOCK_BYTES // 2)
    once = change(PASSING, micro_batch_size=TIMES, gradient_accumulation_steps=1)
    kept = change(once, streaming=by(resident=2))
    job = deep(make_job, "stopped", once, planned_link_bytes_per_s=PLANNED)
    assert run(job, watch=Asked(12)).reason == EndReason.INTERRUPTED
    (changed,) = told(events_of(job), "strategy_changed")
    assert (changed["reason"], changed["changes"]) == ("slow_link", {"num_resident_blocks": [0, 2]})
    monkeypatch.setattr(Meters, "room_bytes", lambda _self: 0)
    resumed = run(job)
    assert resumed.strategy == kept
    assert len(told(events_of(job), "strategy_changed")) == 1
    assert weights(resumed) == weights(run(deep(make_job, "as-planned", once)))


@pytest.mark.parametrize(
    ("planned_link_bytes_per_s", "step_s", "says"),
    [
        (PLANNED, 1.0, "the link carries 0.00 GB/s, 1.00 were planned, and less of it is asked for now"),
        (SLOW, 1.0, None),
        (SLOW / 0.8, 1.0, None),  # slower than planned, by less than what is told
        (None, 1.0, None),
        (PLANNED, 1.9, "the link carries 0.00 GB/s, 1.00 were planned, and less of it is asked for now"),
        (PLANNED, 2.1, None),  # more than half of the step is computing: it hides the link
    ],
)
def test_a_link_is_asked_for_less_where_it_is_slow_and_waited_for(
    planned_link_bytes_per_s: float | None, step_s: float, says: str | None
) -> None:
    """A step that moves what the link carries in a second."""
    _, streamed = made(PASSING, lane=Slow())
    spec = spec_of("job", PASSING, FEW, planned_link_bytes_per_s=planned_link_bytes_per_s)
    assert slow_crossing(streamed, Moved(int(SLOW), 0), spec, step_s) == says


@pytest.mark.parametrize(("share", "step_s", "is_told"), [(10.0, 1.0, True), (1.0, 1.0, False), (10.0, 1e9, False)])
def test_so_is_a_disk(tmp_path: Path, share: float, step_s: float, is_told: bool) -> None:
    """One whose rate is `share` times too low."""
    strategy = change(PASSING, seq_len=12, streaming=by(on_disk=DEPTH))
    model, streamed = made(strategy, disk=tmp_path)
    gradients(model, strategy)
    assert streamed.reader is not None
    streamed.reader.rest()
    found = streamed.disk_bytes_per_s
    assert found is not None
    spec = spec_of("job", strategy, FEW, planned_read_bytes_per_s=share * found)
    words = slow_crossing(streamed, Moved(0, int(found)), spec, step_s)
    assert ("" if words is None else words).startswith("the disk gives") == is_told


@pytest.mark.usefixtures("_slow")
@pytest.mark.parametrize("ends", ["no room", "no gain"])
def test_what_does_not_fit_or_does_not_help_is_taken_back(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Both ways: visits and blocks that stay. Then all is as planned, and the adapter too."""
    import torch

    job = deep(make_job, "slow", planned_link_bytes_per_s=PLANNED)
    real, tried = Fitting._probed, 0

    def probed(self: Fitting) -> tuple[float, int]:
        nonlocal tried
        tried += 1
        step_s, tokens = real(self)
        if tried > 1 and ends == "no room":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (step_s if tried == 1 else 1e3), tokens

    monkeypatch.setattr(Fitting, "_probed", probed)
    monkeypatch.setattr(Meters, "room_bytes", lambda _self: 2 * BLOCK_BYTES)
    outcome = run(job)
    assert (outcome.strategy, tried) == (PASSING, 3)
    assert not told(events_of(job), "strategy_changed")
    monkeypatch.undo()
    assert weights(outcome) == weights(run(deep_again(job)))


def deep_again(job: Path) -> Path:
    """The same job in a folder of its own, as planned."""
    folder = job.parent.with_name("as-planned")
    folder.mkdir()
    for name in ("job.json", "config.json", "data.jsonl"):
        (folder / name).write_bytes((job.parent / name).read_bytes())
    return folder / job.name


# ── blocks that stay from now on ───────────────────────────────────────────────────────────────────────────────────


def gradients(model: Any, strategy: Strategy) -> dict[str, Any]:
    """What one step at rate 0 makes for the norms, which train."""
    import torch

    torch.manual_seed(3)
    optimizer = build_optimizer(strategy, model, FEW)
    found: dict[str, Any] = {}
    set_learning_rate(optimizer, 0.0)

    def note(*_: Any) -> None:
        found.update((name, each.grad.clone()) for name, each in trainable(model))

    handle = optimizer.register_step_pre_hook(note)
    step(model, random_batch(strategy, vocabulary=320, device="cpu"), optimizer, settings_of(strategy, "cpu", 1.0))
    handle.remove()
    return found


def made(strategy: Strategy, *, lane: Any = None, disk: Path | None = None) -> tuple[Any, Streamed]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    if strategy.quant == "none":
        said = dict(DEEP)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(said.pop("model_type"), **said), dtype=torch.float32)
        stream(model, strategy, "cpu", lane=lane, disk=disk)
    else:
        model = random_model(DEEP, strategy, "cpu", lane=lane, disk=disk)
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=parameter.dim() == 1)
    checkpoint_activations(model, strategy)
    streamed = streamed_of(model)
    assert streamed is not None
    return model.train(), streamed


@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
@pytest.mark.parametrize("on_disk", [0, 2])
@pytest.mark.parametrize("more", [1, 3, DEPTH])
def test_gradients_are_the_same_whichever_blocks_stay_from_a_step_on(
    tmp_path: Path, quant: Any, on_disk: int, more: int
) -> None:
    """Bit for bit; fewer bytes pass, those of the disk stay first, and all that stay are counted."""
    strategy = change(PASSING, quant=quant, double_quant=quant == "nf4", seq_len=12, streaming=by(on_disk=on_disk))
    model, streamed = made(strategy, disk=tmp_path)
    expected, alone = gradients(model, strategy), streamed.num_fetches
    numbers = streamed.staying(more * max(block.layout.size_bytes for block in streamed._blocks.values()))
    assert (len(set(numbers)), streamed.on_disk(numbers)) == (more, min(more, on_disk))
    before_bytes = streamed.device_bytes
    undo = streamed.keep(numbers)
    found, fewer = gradients(model, strategy), streamed.num_fetches - alone
    assert found.keys() == expected.keys()
    assert fewer < alone
    assert all(found[name].isfinite().all() and found[name].equal(tensor) for name, tensor in expected.items())
    assert streamed.device_bytes > before_bytes
    undo()
    assert streamed.device_bytes == before_bytes
    again = gradients(model, strategy)
    assert all(again[name].equal(tensor) for name, tensor in expected.items())


def test_without_room_none_stays() -> None:
    _, streamed = made(PASSING)
    assert streamed.staying(0) == streamed.staying(BLOCK_BYTES - 1) == ()
    assert len(streamed.staying(10**12)) == DEPTH


def test_blocks_for_which_memory_runs_out_half_way_pass_by_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model, streamed = made(change(PASSING, seq_len=12))
    expected = gradients(model, change(PASSING, seq_len=12))
    room, left = remote.streaming.streamed._bytes_on, 2

    def limited(device: str, size_bytes: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return room(device, size_bytes)

    monkeypatch.setattr(remote.streaming.streamed, "_bytes_on", limited)
    with pytest.raises(torch.OutOfMemoryError):
        streamed.keep((0, 2, 4))
    found = gradients(model, change(PASSING, seq_len=12))
    assert all(found[name].equal(tensor) for name, tensor in expected.items())


# ── the strategies ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_visits_double_up_to_the_accumulation() -> None:
    at, found = change(PASSING, gradient_accumulation_steps=6), []
    while (higher := with_visits(at)) is not None:
        assert change(higher, streaming=None) == change(at, streaming=None)
        at = higher
        found.append(at.streaming)
    assert found == [by(visits=2), by(visits=4), by(visits=6)]


def test_blocks_that_stay_leave_the_disk() -> None:
    said = change(PASSING, streaming=by(resident=1, on_disk=3))
    assert with_residents(said, 2, from_disk=2).streaming == by(resident=3, on_disk=1)
    assert with_residents(change(said, streaming=None), 2, from_disk=0).streaming == by(resident=2)


def test_where_memory_runs_out_later_less_is_done_at_a_visit() -> None:
    """Blocks are computed again first, then visits are halved; at the end of the ladder each serves one micro-batch."""
    said = change(PASSING, loss="chunked", streaming=change(by(visits=4), num_blocks_without_recompute=2))
    found, lower = [], below(said, TRAINING)
    while lower is not None:
        found.append(lower.streaming)
        lower = below(lower, TRAINING)
    assert found == [by(visits=4), by(visits=2), by()]


def test_more_rows_at_once_leave_no_more_visits_than_micro_batches() -> None:
    higher = above(change(PASSING, streaming=by(visits=4)))
    assert higher is not None
    assert (higher.gradient_accumulation_steps, higher.streaming) == (2, by(visits=2))
