"""When memory runs out: the run steps down by itself, loses nothing, and learns what it would have learned.

No card is in this machine, so what runs out is made up: an error of the very type that torch raises, at the place that is said.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import remote.loading.load
import remote.result.evaluate
import remote.shown
import remote.step
import remote.training.fitting
import remote.training.ladder
import remote.training.loop
from remote.__main__ import carry_out
from remote.bases.base import load_base
from remote.checkpoints.same_job import learned_by, unlike
from remote.contract import OUTCOME_FILE, EndReason, Event, JobSpec, Outcome, Phase, Strategy, Task, decode, exit_code
from remote.machine.meters import Meters
from remote.result.samples import answers
from remote.streaming import streamed_of
from remote.training.fitting import Fitting
from remote.training.ladder import GIVEN_UP, JUDGING, TRAINING, WHOLE_LOGITS, above, below, changes, streamed_instead
from remote.watch import Watch
from tests.remote.conftest import LOOP, STRATEGY, Asked, MakeJob

EventsOf = Callable[[Path], list[Event]]
change = msgspec.structs.replace

LAST = 12  # steps of the run


# ── the rungs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 4096), st.integers(1, 64), st.sampled_from(["off", "reentrant", "non_reentrant"]))
def test_every_rung_makes_the_same_steps_with_less_at_once_and_the_ladder_ends(size: int, times: int, kept: Any) -> None:
    strategy = change(STRATEGY, micro_batch_size=size, gradient_accumulation_steps=times, gradient_checkpointing=kept)
    rungs = 0
    while (lower := below(strategy, TRAINING)) is not None:
        assert lower.micro_batch_size * lower.gradient_accumulation_steps == size * times
        assert (
            lower.micro_batch_size < strategy.micro_batch_size
            or strategy.gradient_checkpointing == "off" != lower.gradient_checkpointing
            or (strategy.loss, lower.loss) == ("hf", "chunked")
        )
        assert set(changes(strategy, lower)) <= set(GIVEN_UP)
        strategy, rungs = lower, rungs + 1
    assert (strategy.micro_batch_size, strategy.loss, rungs <= 14) == (1, "chunked", True)
    assert strategy.gradient_checkpointing == ("non_reentrant" if kept == "off" else kept)


def test_what_can_not_be_recomputed_is_not_and_judging_has_nothing_that_it_would_spare() -> None:
    one = change(STRATEGY, micro_batch_size=1)
    prefix = below(change(one, method="prefix_tuning"), TRAINING)
    assert prefix == below(change(one, method="prefix_tuning"), JUDGING) == change(one, method="prefix_tuning", loss="chunked")
    assert below(prefix, TRAINING) is None
    assert below(one, TRAINING) == change(one, gradient_checkpointing="non_reentrant")
    assert below(one, WHOLE_LOGITS[JUDGING]) is None


@given(st.integers(1, 64), st.integers(1, 64))
def test_a_step_up_makes_the_same_steps_with_twice_as_much_at_once(size: int, times: int) -> None:
    strategy = change(STRATEGY, micro_batch_size=size, gradient_accumulation_steps=times)
    higher = above(strategy)
    assert (higher is None) == (times % 2 == 1)
    if higher is not None:
        assert (higher.micro_batch_size, higher.gradient_accumulation_steps) == (2 * size, times // 2)
        assert below(higher, TRAINING) == strategy


# ── whole runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def out_of_memory() -> Exception:
    import torch

    error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more lines")
    return error


class Limited:
    """Stands for `remote.training.fitting.step`: the real one, with a memory that holds so many rows at once."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.step = remote.step.step

    def __call__(self, model: Any, batch: Any, *rest: Any, **said: Any) -> Any:
        recomputing = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        handle = model.register_forward_pre_hook(self._refuse, with_kwargs=True) if not recomputing else None
        try:
            return self.step(model, batch, *rest, **said)
        finally:
            if handle is not None:
                handle.remove()

    def _refuse(self, _model: Any, _args: Any, said: Any) -> None:
        if len(said["input_ids"]) > self.rows:
            raise out_of_memory()


class Once:
    """The real step, and once, at `number`, memory runs out `during` it."""

    def __init__(self, number: int, during: str) -> None:
        self.number, self.during, self.made = number, during, 0
        self.step = remote.step.step

    def __call__(self, model: Any, batch: Any, optimizer: Any, settings: Any, **beside: Any) -> Any:
        import torch

        self.made += 1
        if self.made != self.number:
            return self.step(model, batch, optimizer, settings, **beside)
        torch.rand(7)  # what the failed try has drawn must be drawn again
        weight = next(parameter for parameter in model.parameters() if parameter.requires_grad)
        if self.during == "forward":
            handle = model.register_forward_pre_hook(self._refuse)
        elif self.during == "backward":
            handle = weight.register_post_accumulate_grad_hook(self._refuse)
        else:
            handle = optimizer.register_step_post_hook(self._half_done)
        try:
            return self.step(model, batch, optimizer, settings, **beside)
        finally:
            handle.remove()

    def _refuse(self, *_: Any) -> None:
        raise out_of_memory()

    def _half_done(self, optimizer: Any, *_: Any) -> None:
        """Every other weight has moved, and moments are lost."""
        import torch

        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"][::2]:
                    parameter.add_(1.0)
                    optimizer.state[parameter].clear()
        raise out_of_memory()


def run(job: Path, *, watch: Watch | None = None) -> Outcome:
    code = carry_out(job, watch=watch or Watch())
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    assert exit_code(outcome) == code, outcome.message
    return outcome


def weights(job: Path) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in load_file(job.parent / "output" / "adapter_model.safetensors").items()}


def require_same(job: Path, whole: Path) -> None:
    """Up to the order in which floats were summed."""
    one, other = weights(job), weights(whole)
    assert one.keys() == other.keys()
    for name in one:
        for row, expected in zip(one[name], other[name], strict=True):
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)


def changed(events: list[Event]) -> list[dict[str, Any]]:
    return [event.data["changes"] for event in events if event.kind == "strategy_changed"]


HALVED = {"micro_batch_size": [4, 2], "gradient_accumulation_steps": [1, 2]}
AGAIN = {"micro_batch_size": [2, 1], "gradient_accumulation_steps": [2, 4]}
IN_CHUNKS = {"loss": ["hf", "chunked"]}
RECOMPUTING = {"gradient_checkpointing": ["off", "non_reentrant"]}


@pytest.mark.torch
@pytest.mark.parametrize(
    ("rows", "rungs"),
    [(2, [HALVED]), (1, [HALVED, AGAIN]), (0, [HALVED, AGAIN, RECOMPUTING])],
)
def test_a_run_that_does_not_fit_steps_down_until_it_does_and_learns_the_same(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch, rows: int, rungs: list[Any]
) -> None:
    """Found out by the probe, before anything is learned. What was carried out stands in the outcome."""
    job, whole = make_job("small"), make_job("whole")
    run(whole)
    monkeypatch.setattr(remote.training.fitting, "step", Limited(rows))
    outcome = run(job)
    events = events_of(job)
    assert (outcome.reason, outcome.measured.steps) == (EndReason.COMPLETED, LAST)
    assert changed(events) == rungs
    assert {event.phase for event in events if event.kind == "strategy_changed"} == {Phase.PROBE}
    assert outcome.strategy is not None
    assert changes(STRATEGY, outcome.strategy) == {
        name: [getattr(STRATEGY, name), rungs[-1][name][1]] for name in rungs[-1]
    } | ({"micro_batch_size": [4, 1], "gradient_accumulation_steps": [1, 4]} if len(rungs) > 1 else {})
    assert [event.data["step"] for event in events if event.kind == "step"] == list(range(1, LAST + 1))
    require_same(job, whole)


@pytest.mark.torch
@pytest.mark.parametrize("during", ["forward", "backward", "optimizer"])
@pytest.mark.parametrize("precision", ["fp32", "fp16 scaled"])
def test_a_step_that_ran_out_of_memory_is_redone_whole(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch, during: str, precision: str
) -> None:
    """Gradients alone are thrown away; weights that an optimizer had begun to move come back from a checkpoint."""
    strategy = STRATEGY if precision == "fp32" else change(STRATEGY, autocast="float16")
    job, whole = make_job("cut", strategy=strategy), make_job("whole", strategy=strategy)
    run(whole)
    monkeypatch.setattr(remote.training.fitting, "step", Once(2 + 7, during))  # two of the probe, and it is the seventh
    run(job)
    events = events_of(job)
    assert changed(events) == [HALVED]
    (told,) = [event.data for event in events if event.kind == "strategy_changed"]
    assert told["step"] == 6
    assert (
        "CUDA out of memory. Tried to allocate 2.00 GiB.); the run goes on with micro_batch_size from 4 to 2" in told["message"]
    )
    gone_back = [event.data["step"] for event in events if event.kind == "resumed"]
    assert gone_back == ([4] if during == "optimizer" else [])  # where the best so far was saved
    assert [event.data["step"] for event in events if event.kind == "step"] == (
        [1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 10, 11, 12] if gone_back else list(range(1, LAST + 1))
    )
    if precision == "fp32":
        require_same(job, whole)


@pytest.mark.torch
def test_an_evaluation_that_ran_out_of_memory_is_made_again_in_smaller_batches(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, whole = make_job("cut"), make_job("whole")
    expected = run(whole)
    real, tries = remote.result.evaluate.evaluate, iter([True])

    def evaluate(model: Any, examples: Any, shape: Any, *rest: Any, **said: Any) -> Any:
        if said["step"] == 4 and next(tries, False):
            raise out_of_memory()
        return real(model, examples, shape, *rest, **said)

    monkeypatch.setattr(remote.training.loop, "evaluate", evaluate)
    outcome = run(job)
    assert changed(events_of(job)) == [HALVED]
    assert [event.data["step"] for event in events_of(job) if event.kind == "evaluation"] == [0, 4, 8, 12]
    assert outcome.after is not None
    assert expected.after is not None
    assert outcome.after.mean_loss == pytest.approx(expected.after.mean_loss, rel=1e-4)


@pytest.mark.torch
def test_at_the_foot_of_the_ladder_the_run_ends_typed(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rung is taken twice."""
    real = remote.step.step

    def step(*given: Any, **said: Any) -> Any:
        real(*given, **said)
        raise out_of_memory()

    monkeypatch.setattr(remote.training.fitting, "step", step)
    job = make_job()
    outcome = run(job)
    assert (outcome.reason, exit_code(outcome), outcome.trained) == (EndReason.OUT_OF_MEMORY, 7, False)
    assert outcome.message == (
        "the job does not fit into memory (during probe), not even one row at a time: CUDA out of memory. Tried to allocate "
        "2.00 GiB.; a card with more memory, a shorter seq_len or a smaller base is the cure"
    )
    assert changed(events_of(job)) == [HALVED, AGAIN, RECOMPUTING, IN_CHUNKS]


@pytest.mark.torch
def test_who_goes_on_keeps_to_what_fitted(make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    job, whole = make_job("small"), make_job("whole")
    run(whole)
    with monkeypatch.context() as small:
        small.setattr(remote.training.fitting, "step", Limited(2))
        assert run(job, watch=Asked(24)).reason == EndReason.INTERRUPTED
    outcome = run(job)
    assert changed(events_of(job)) == [HALVED]
    assert outcome.strategy == change(STRATEGY, micro_batch_size=2, gradient_accumulation_steps=2)
    require_same(job, whole)


@pytest.mark.torch
def test_a_checkpoint_of_another_job_is_refused(make_job: MakeJob) -> None:
    """Its weights would not fit, or fit and be of something else; its steps would be of other rows, or at another rate. What
    only says how often to save may be another.
    """
    job = make_job()
    assert run(job, watch=Asked(24)).reason == EndReason.INTERRUPTED
    whole = job.read_bytes()
    others = {
        ("strategy", "dropout", 0.5): "its dropout is 0.0, not 0.5",
        ("loop", "seed", 43): "its seed is 42, not 43",
        ("data", "max_rows", 30): "its max_rows is None, not 30",
    }
    for (part, name, value), sentence in others.items():
        said = msgspec.json.decode(whole)
        said[part][name] = value
        job.write_bytes(msgspec.json.encode(said))
        (job.parent / OUTCOME_FILE).unlink()
        outcome = run(job)
        assert outcome.reason == EndReason.BAD_JOB
        assert outcome.message == f"the checkpoint is of another job: {sentence}; start anew in an empty folder"
    said = msgspec.json.decode(whole)
    said["loop"]["keep_checkpoints"] = 5
    job.write_bytes(msgspec.json.encode(said))
    assert next(unlike(learned_by(decode(whole, JobSpec)), learned_by(decode(job.read_bytes(), JobSpec))), None) is None


@pytest.mark.torch
@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ({1: 0.8, 2: 0.4, 4: 0.1}, 4),
        ({1: 0.8, 2: 0.3, 4: 0.7}, 2),  # the second try was slower: it is taken back
        ({1: 0.1, 2: 0.6}, 1),
    ],
)
def test_where_memory_is_free_more_rows_go_at_once_as_far_as_that_is_faster(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], rows: int
) -> None:
    """The same rows make the same steps, so the result is the same; the room and the seconds are made up."""
    strategy = change(STRATEGY, micro_batch_size=1, gradient_accumulation_steps=4)
    loop = change(LOOP, max_steps=3, evaluations=0)
    job, whole = make_job("roomy", strategy=strategy, loop=loop), make_job("whole", strategy=strategy, loop=loop)
    run(whole)
    monkeypatch.setattr(Fitting, "_probed", lambda self: (seconds[self.shape.micro_batch_size], 96))
    monkeypatch.setattr(Meters, "takes_twice", lambda _self: True)
    outcome = run(job)
    assert outcome.strategy == change(strategy, micro_batch_size=rows, gradient_accumulation_steps=4 // rows)
    told = [event.data for event in events_of(job) if event.kind == "strategy_changed"]
    assert {data["reason"] for data in told} == ({"headroom"} if rows > 1 else set())
    assert len(told) == rows // 2
    require_same(job, whole)


# ── the base streamed, as a last resort ────────────────────────────────────────────────────────────────────────────

AT_THE_FOOT = change(STRATEGY, micro_batch_size=1, gradient_checkpointing="non_reentrant", loss="chunked")


@pytest.fixture
def _streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a card: this processor has no memory of its own that blocks could be kept out of."""
    monkeypatch.setattr(remote.training.ladder, "STREAMED_TO", ("cpu",))


def test_a_base_is_streamed_where_it_has_a_memory_to_leave_and_lies_still() -> None:
    streamed = change(AT_THE_FOOT, offload="stream")
    assert streamed_instead(AT_THE_FOOT, "cuda", "causal_lm") == streamed
    assert streamed_instead(change(AT_THE_FOOT, gradient_checkpointing="off"), "cuda", "causal_lm") == streamed
    refused: tuple[tuple[Strategy, str, Task], ...] = (
        (streamed, "cuda", "causal_lm"),
        (change(AT_THE_FOOT, method="full"), "cuda", "causal_lm"),
        (change(AT_THE_FOOT, method="prefix_tuning", gradient_checkpointing="off"), "cuda", "causal_lm"),
        (AT_THE_FOOT, "cpu", "causal_lm"),
        (AT_THE_FOOT, "cuda", "classification"),
    )
    assert [streamed_instead(*each) for each in refused] == [None] * len(refused)


@pytest.mark.usefixtures("_streams")
@pytest.mark.parametrize("steps", [0, 7])  # made before memory runs out: none of the probe, or the probe's and five
def test_what_no_rung_holds_goes_on_streamed_from_its_newest_checkpoint(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole = run(make_job("whole", strategy=AT_THE_FOOT))
    monkeypatch.setattr(remote.training.fitting, "step", Resident(steps))
    job = make_job("streamed", strategy=AT_THE_FOOT)
    outcome = run(job)
    assert outcome.reason == EndReason.COMPLETED, outcome.message
    assert outcome.strategy == change(AT_THE_FOOT, offload="stream")
    assert outcome.after == whole.after
    (changed,) = [event for event in events_of(job) if event.kind == "strategy_changed"]
    assert changed.data["changes"] == {"offload": ["none", "stream"]}
    assert "goes on with offload from none to stream, and learns the same" in changed.data["message"]
    assert (
        sum(outcome.phase_s.values()) <= events_of(job)[-1].monotonic_s - events_of(job)[0].monotonic_s + 1
    )  # none counted twice


@pytest.mark.usefixtures("_streams")
def test_a_base_that_can_not_be_loaded_whole_is_streamed(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = load_base

    def limited(folder: str, strategy: Strategy, *said: Any, **more: Any) -> Any:
        if strategy.offload == "none":
            raise out_of_memory()
        return load(folder, strategy, *said, **more)

    monkeypatch.setattr(remote.loading.load, "load_base", limited)
    job = make_job(strategy=STRATEGY)
    outcome = run(job)
    assert outcome.reason == EndReason.COMPLETED, outcome.message
    assert outcome.strategy == change(STRATEGY, gradient_checkpointing="non_reentrant", offload="stream")
    (changed,) = [event for event in events_of(job) if event.kind == "strategy_changed"]
    assert changed.phase == Phase.LOAD


def test_a_base_that_can_neither_be_loaded_nor_streamed_is_a_typed_end(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise out_of_memory()

    monkeypatch.setattr(remote.loading.load, "load_base", refuse)
    outcome = run(make_job())
    assert outcome.reason == EndReason.OUT_OF_MEMORY
    assert "does not fit into memory (during load)" in outcome.message


@pytest.mark.parametrize("made", [0, 1])  # by whom answers were made before memory ran out: nobody, or the base
def test_answers_that_memory_does_not_hold_cost_no_run(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch, made: int
) -> None:
    left = [answers] * made

    def limited(*asked: Any, **said: Any) -> Any:
        if not left:
            raise out_of_memory()
        return left.pop()(*asked, **said)

    monkeypatch.setattr(remote.shown, "answers", limited)
    job = make_job(loop=change(LOOP, max_steps=2, evaluations=0))
    outcome = run(job)
    assert (outcome.reason, outcome.samples) == (EndReason.COMPLETED, ())
    (warned,) = [
        event.data["message"] for event in events_of(job) if event.kind == "warning" and "sample answers" in str(event)
    ]
    assert warned.startswith("the result is shown without sample answers: memory ran out")


class Resident:
    """The real step; after so many no base that lies on the device as a whole leaves room for it."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.step = remote.step.step

    def __call__(self, model: Any, *rest: Any, **said: Any) -> Any:
        if streamed_of(model) is None:
            if self.left == 0:
                raise out_of_memory()
            self.left -= 1
        return self.step(model, *rest, **said)
