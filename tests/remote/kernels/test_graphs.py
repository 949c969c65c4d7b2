"""Steps that are recorded and played again: what is learned is the same, and where nothing can be recorded the run goes on.

A double stands for the card: it plays what it was given to record, on the memory that was there then, and on no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from remote.__main__ import carry_out
from remote.adapters import adapt, base_of
from remote.bases.base import checkpoint_activations
from remote.contract import OUTCOME_FILE, EndReason, Event, Loop, Outcome, Strategy, decode, ungraphed
from remote.data.batches import Shape, batch_of_step, longest_batch, width_of
from remote.data.tokens import IGNORED, Example
from remote.kernels import Graphs, graphs
from remote.kernels.compiled import blocks_of
from remote.measure.random_weights import random_model
from remote.step import settings_of, step
from remote.training.optimizers import build_optimizer
from remote.watch import Watch
from tests.remote.conftest import LOOP, MakeJob
from tests.remote.test_losses import tiny

pytestmark = pytest.mark.torch

EventsOf = Callable[[Path], list[Event]]
WAYS: dict[str, dict[str, Any]] = {
    "16 bits, recomputed": {},
    "16 bits, kept": {"gradient_checkpointing": "off"},
    "transformers' own loss": {"loss": "hf"},
    "nf4": {"quant": "nf4", "double_quant": True},
}


class Double:
    """Stands for a card that records. What is played adds to the gradients' memory of then, whatever weights call theirs."""

    def __init__(self, model: Any = None, *, fails: Exception | None = None) -> None:
        self._model, self._fails = model, fails
        self.recorded = self.played = 0

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        import torch

        if self._fails is not None:
            raise self._fails
        self.recorded += 1
        result = torch.zeros(())
        trained = [] if self._model is None else [each for each in self._model.parameters() if each.requires_grad]
        then = [each.grad for each in trained]

        def again() -> None:
            now = [each.grad for each in trained]
            for each, gradient in zip(trained, then, strict=True):
                each.grad = gradient
            result.copy_(work())
            self.played += 1
            for each, gradient in zip(trained, now, strict=True):
                each.grad = gradient

        return again, result


def strategy(**said: Any) -> Strategy:
    shape = {"method": "lora", "rank": 4, "micro_batch_size": 2, "gradient_accumulation_steps": 2, "loss": "chunked"}
    return msgspec.convert({**shape, **said}, Strategy)


def built(said: Strategy, **config: Any) -> Any:
    """A tiny Llama of two blocks, ready to train; LoRA's B is no longer zero."""
    import torch

    torch.manual_seed(0)
    model = adapt(random_model(tiny("llama-3.2-1b") | config, said, "cpu"), said, Loop())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    checkpoint_activations(base_of(model), said)
    return model.train()


def rows(*lengths: int) -> list[Example]:
    """Texts of which a third is learned."""
    made = [(3 * row + np.arange(length, dtype=np.int32)) % 200 + 1 for row, length in enumerate(lengths)]
    labels = [np.where(np.arange(len(ids)) % 3, np.int32(IGNORED), ids) for ids in made]
    return [
        Example(ids=ids, labels=learned, num_targets=int((learned[1:] != IGNORED).sum()))
        for ids, learned in zip(made, labels, strict=True)
    ]


ROWS = rows(9, 30, 12, 17, 31, 8, 25, 16, 5, 14, 29, 22)
SHAPE = Shape(
    micro_batch_size=2,
    gradient_accumulation_steps=2,
    seq_len=32,
    padded=False,
    pad_token_id=0,
    device="cpu",
    trained_multiple=16,
)
NUM_STEPS = 6


def stepped(
    said: Strategy, recorder: Callable[[Any], Double] | None = None
) -> tuple[list[float], list[float], Any, Graphs | None]:
    """(losses, gradient norms, what trains behind the steps, what was recorded)."""
    model = built(said)
    told: list[str] = []
    found = None if recorder is None else Graphs(recorder(model), model, told.append)
    optimizer, settings = build_optimizer(said, model, Loop(learning_rate=0.01)), settings_of(said, "cpu", 1.0)
    results = [step(model, batch_of_step(at, ROWS, SHAPE, 1), optimizer, settings, graphs=found) for at in range(NUM_STEPS)]
    assert told == []
    trained = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}
    return [float(each.loss) for each in results], [float(each.grad_norm) for each in results], trained, found


@pytest.mark.parametrize("way", WAYS)
def test_steps_that_are_played_are_those_that_are_launched_to_the_bit(way: str) -> None:
    """Accumulated over micro-batches with unlike numbers of labels, under AdamW; of two widths, so recorded twice."""
    import torch

    said = strategy(**WAYS[way])
    losses, norms, trained, _ = stepped(said)
    doubles: list[Double] = []

    def double(model: Any) -> Double:
        doubles.append(Double(model))
        return doubles[-1]

    found_losses, found_norms, others, found = stepped(said, double)
    assert (found_losses, found_norms) == (losses, norms)
    assert all(torch.equal(weight, others[name]) for name, weight in trained.items())
    assert found is not None
    assert found.num_recorded == doubles[0].recorded == 2
    assert doubles[0].played == 2 * NUM_STEPS - 2, "the first of each shape is computed as ever"


def test_few_widths_come_up_and_what_is_learned_of_right_padded_rows_is_the_same() -> None:
    few = {micro.input_ids.shape[1] for at in range(NUM_STEPS) for micro in batch_of_step(at, ROWS, SHAPE, 1)}
    assert few == {16, 32}
    own = replace(SHAPE, trained_multiple=1)
    assert len({micro.input_ids.shape[1] for at in range(NUM_STEPS) for micro in batch_of_step(at, ROWS, own, 1)}) > 4
    said, found = strategy(param_dtype="float32", autocast="none"), []
    for shape in (SHAPE, own):
        model = built(said)
        optimizer, settings = build_optimizer(said, model, Loop()), settings_of(said, "cpu", 1e9)
        result = step(model, batch_of_step(0, ROWS, shape, 1), optimizer, settings)
        found.append((float(result.loss), float(result.grad_norm)))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_no_row_grows_beyond_what_a_row_may_have() -> None:
    """On a card, whose widths are multiples of 8: in 8 steps at most, the last of them the longest row's own."""
    on_card = replace(SHAPE, device="cuda", seq_len=520, trained_multiple=72)
    widths = {width_of(longest, on_card, trains=True) for longest in range(1, 521)}
    assert sorted(widths) == [72, 144, 216, 288, 360, 432, 504, 520]
    assert width_of(100, on_card, trains=False) == 104, "what is judged is padded no further"
    assert {micro.input_ids.shape[1] for micro in longest_batch(ROWS, SHAPE)} == {32}


def test_a_model_that_draws_numbers_is_not_recorded_and_told_once() -> None:
    """Computed again in backward it would draw others, and its gradients would be wrong without a word."""
    said = strategy()
    model, told = built(said, attention_dropout=0.1, attn_implementation="eager"), list[str]()
    found = Graphs(Double(model), model, told.append)
    optimizer, settings = build_optimizer(said, model, Loop()), settings_of(said, "cpu", 1.0)
    for at in range(3):
        step(model, batch_of_step(at, ROWS, SHAPE, 1), optimizer, settings, graphs=found)
    assert found.num_recorded == 0
    (sentence,) = told
    assert "dropout" in sentence


def test_blocks_ask_for_chance_again_once_all_is_recorded() -> None:
    """While a card records it tells nobody the state of chance; before and behind it recomputing draws what was drawn."""
    seen: list[bool] = []

    class Asking(Double):
        def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
            seen.append(all(_preserves(block) is False for block in blocks_of(model)))
            return super().__call__(work)

    said = strategy()
    model = built(said)
    found = Graphs(Asking(model), model, pytest.fail)
    optimizer, settings = build_optimizer(said, model, Loop()), settings_of(said, "cpu", 1.0)
    step(model, batch_of_step(0, ROWS, SHAPE, 1), optimizer, settings, graphs=found)
    assert seen
    assert all(seen)
    assert all(_preserves(block) is not False for block in blocks_of(model))


def _preserves(block: Any) -> Any:
    return block._gradient_checkpointing_func.keywords.get("preserve_rng_state")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"quant": "int8"}, "quant=int8"),
        ({"offload": "stream"}, "offload=stream"),
        ({"kernels": "compiled"}, "kernels=compiled"),
        ({"autocast": "float16"}, "autocast=float16"),
        ({"dropout": 0.05}, "dropout=0.05"),
        ({"padded": True}, "padded=true"),
        ({"method": "adalora"}, "method=adalora"),
        ({"gradient_checkpointing": "reentrant"}, "gradient_checkpointing=reentrant"),
    ],
)
def test_what_no_recording_can_hold_is_named(said: dict[str, Any], word: str) -> None:
    assert ungraphed(strategy(**said), "causal_lm") == (word,)
    assert ungraphed(strategy(), "seq2seq") == ("task=seq2seq",)
    assert ungraphed(strategy(), "causal_lm") == ()


# ── whole runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


RECORDED = msgspec.structs.replace(LOOP, cuda_graphs=True)


def run(job: Path) -> Outcome:
    carry_out(job, watch=Watch())
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    assert outcome.reason == EndReason.COMPLETED, outcome.message
    return outcome


def told(events: list[Event]) -> list[str]:
    return [text for event in events if event.kind == "warning" and "cuda_graphs" in (text := event.data["message"])]


def test_a_whole_run_learns_the_same(make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    double = Double()
    monkeypatch.setattr(graphs, "RECORDERS", {"cpu": lambda: double})
    plain = run(make_job("plain"))
    job = make_job("recorded", loop=RECORDED)
    assert run(job).after == plain.after
    assert told(events_of(job)) == []
    assert double.played > 0


def test_where_nothing_can_be_recorded_the_run_goes_on_and_says_so_once(
    make_job: MakeJob, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "RECORDERS", {"cpu": lambda: Double(fails=RuntimeError("operation not permitted"))})
    plain = run(make_job("plain"))
    job = make_job("refused", loop=RECORDED)
    assert run(job).after == plain.after
    (sentence,) = told(events_of(job))
    assert "operation not permitted" in sentence


def test_a_processor_records_nothing_and_says_so(make_job: MakeJob, events_of: EventsOf) -> None:
    job = make_job(loop=msgspec.structs.replace(RECORDED, max_steps=1, evaluations=0, num_samples=0))
    run(job)
    assert told(events_of(job)) == ["cuda_graphs changes nothing: device=cpu can't be recorded"]
