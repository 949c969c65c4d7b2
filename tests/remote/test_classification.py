"""Whole runs that learn classes: encoders and decoders, every way to train that has a head, and what comes home."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file

from remote.checkpoints.checkpoint import Progress, with_evaluation
from remote.contract import CAPABILITIES, BestBy, DataSource, EndReason, Evaluation, Event, Outcome, Strategy, best_by_of
from tests.remote.conftest import CONFIG, LOOP, STRATEGY, Asked, MakeJob
from tests.remote.test_trainer import run

pytestmark = pytest.mark.torch

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
MODERN_BERT: dict[str, Any] = {
    "model_type": "modernbert",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "local_attention": 32,
}
CONFIGS = {"encoder": BERT, "decoder": CONFIG, "modern encoder": MODERN_BERT}
CLASSES = msgspec.structs.replace(STRATEGY, padded=True, rank=4)
SHORT = msgspec.structs.replace(LOOP, epochs=20, max_steps=40, learning_rate=5e-3)
METHODS = {
    "lora": CLASSES,
    "dora": msgspec.structs.replace(CLASSES, method="dora"),
    "full": msgspec.structs.replace(CLASSES, method="full", rank=None),
    "freeze": msgspec.structs.replace(CLASSES, method="freeze", rank=None, trainable_layers=1),
    "ln_tuning": msgspec.structs.replace(CLASSES, method="ln_tuning", rank=None),
    "ia3": msgspec.structs.replace(CLASSES, method="ia3", rank=None),
    "qlora": msgspec.structs.replace(CLASSES, quant="nf4", param_dtype="bfloat16", autocast="bfloat16"),
}
EventsOf = Callable[[Path], list[Event]]


def rows(count: int = 120, *, pairs: bool = False) -> list[dict[str, str]]:
    """Three of four are of metal; a label that the first letters of a text tell."""
    found = []
    for number in range(count):
        fruit = number % 4 == 0
        text = f"{'apple' if fruit else 'bolt'} number {number}"
        row = {"text_a": "what is", "text_b": text} if pairs else {"text": text}
        found.append(row | {"label": "fruit" if fruit else "metal"})
    return found


@pytest.fixture
def classify(make_job: MakeJob) -> Callable[..., Path]:
    """The job, its base an encoder or a decoder of random weights."""

    def make(name: str = "job", *, base: str = "encoder", strategy: Strategy = CLASSES, **fields: Any) -> Path:
        fields = {"rows": rows(), "loop": SHORT, "task": "classification"} | fields
        job = make_job(name, strategy=strategy, **fields)
        (job.parent / "config.json").write_text(json.dumps(CONFIGS[base]))
        return job

    return make


@pytest.mark.parametrize(
    ("base", "method"),
    [
        *((base, method) for base in ("encoder", "decoder") for method in METHODS),
        ("modern encoder", "lora"),
        ("modern encoder", "ia3"),
    ],
)
def test_every_method_with_a_head_learns_the_classes_and_comes_home(
    classify: Callable[..., Path], base: str, method: str
) -> None:
    """Verified: read from disk, the result says what the model in memory said."""
    outcome = run(classify(base=base, strategy=METHODS[method]))
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True), outcome.message
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.mean_loss < outcome.before.mean_loss
    assert outcome.after.metrics.keys() == {"accuracy", "macro_f1", "auc"}
    assert outcome.after.metrics["macro_f1"] > 0.9
    assert sum(rows for _, _, rows in outcome.after.confusion) == len(outcome.after.row_losses)
    assert {true for true, _, _ in outcome.after.confusion} == set(range(len(outcome.classes)))
    assert [sample.reference for sample in outcome.samples] != []


T5: dict[str, Any] = {
    "model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 320,
}  # fmt: skip
DEBERTA = BERT | {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (T5, 'use an encoder, as BERT is, or task "seq2seq" with the class as the answer'),
        (DEBERTA, 'this base can\'t train with attention "sdpa"; use attention "eager"'),
    ],
    ids=["t5", "deberta"],
)
def test_a_base_that_takes_no_such_head_is_told_by_what_does(
    classify: Callable[..., Path], config: dict[str, Any], sentence: str
) -> None:
    job = classify()
    (job.parent / "config.json").write_text(json.dumps(config))
    outcome = run(job)
    assert outcome.reason is EndReason.BAD_JOB
    assert sentence in outcome.message


@pytest.mark.parametrize("base", ["encoder", "decoder"])
def test_a_head_learns_beside_bottlenecks_and_comes_home_with_them(classify: Callable[..., Path], base: str) -> None:
    """These few steps are not enough for a decoder of random weights to tell all rows apart."""
    job = classify(base=base, strategy=msgspec.structs.replace(CLASSES, method="bottleneck"))
    outcome = run(job)
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True), outcome.message
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.mean_loss < outcome.before.mean_loss
    saved = load_file(job.parent / "output" / "trained.safetensors")
    assert any(".down." in name for name in saved)
    assert any(name.startswith(("classifier", "score")) for name in saved)


@pytest.mark.parametrize(("best_by", "chosen"), [(None, 2), ("macro_f1", 2), ("loss", 1)])
def test_the_best_weights_of_classes_are_told_by_their_f1_unless_the_job_says_otherwise(
    best_by: BestBy | None, chosen: int
) -> None:
    """Between an evaluation with the lower loss and one that answers more rows rightly."""
    by = best_by_of(msgspec.structs.replace(LOOP, best_by=best_by), "classification")
    progress = Progress()
    for step, (loss, score) in enumerate(((1.0, 0.4), (0.5, 0.8), (0.6, 0.9), (0.7, 0.9))):
        found = Evaluation(step=step, mean_loss=loss, row_losses=(loss,), metrics={"macro_f1": score})
        progress = with_evaluation(progress, found, by)
    assert progress.best_step == chosen


def test_without_classes_the_held_out_loss_tells_the_best() -> None:
    assert best_by_of(LOOP, "causal_lm") == "loss"


def test_a_figure_that_the_held_out_rows_do_not_give_can_tell_no_best(classify: Callable[..., Path]) -> None:
    """All of them are of one class."""
    job = classify(
        loop=msgspec.structs.replace(SHORT, best_by="auc"), data=DataSource(train="data.jsonl", held_out="held.jsonl")
    )
    (job.parent / "held.jsonl").write_text('{"text": "bolt", "label": "metal"}\n')
    outcome = run(job)
    assert outcome.reason is EndReason.BAD_JOB
    assert "best_by auc can't be told" in outcome.message


@pytest.mark.parametrize("balance", ["class_weights", "weighted_sampling", "oversampling"])
def test_classes_that_are_not_alike_in_number_can_be_made_to_weigh_alike(
    classify: Callable[..., Path], events_of: EventsOf, balance: str
) -> None:
    job = classify(data=DataSource(train="data.jsonl", held_out_rows=20, balance=balance))  # type: ignore[arg-type]
    outcome = run(job)
    assert outcome.after is not None
    assert outcome.after.metrics["macro_f1"] > 0.9
    card = (job.parent / "output" / "README.md").read_text()
    assert "| fruit | 25 |" in card
    assert "pipeline_tag: text-classification" in card
    assert "| F1, mean of the classes |" in card
    judged = [event.data for event in events_of(job) if event.kind == "evaluation"]
    assert all({"accuracy", "macro_f1", "auc"} <= data.keys() for data in judged)


def test_a_run_that_was_interrupted_ends_with_the_same_bytes(classify: Callable[..., Path]) -> None:
    """Of the head, too, and with rows drawn by weight, of like length in a step."""
    data = DataSource(train="data.jsonl", held_out_rows=20, balance="weighted_sampling")
    loop = msgspec.structs.replace(SHORT, row_order="by_length")
    whole, parted = classify("whole", data=data, loop=loop), classify("parted", data=data, loop=loop)
    run(whole)
    assert run(parted, watch=Asked(30)).reason is EndReason.INTERRUPTED
    assert run(parted).reason is EndReason.COMPLETED
    one, other = (job.parent / "output" / "adapter_model.safetensors" for job in (whole, parted))
    assert one.read_bytes() == other.read_bytes()


def test_pairs_are_learned_and_the_script_that_comes_along_tells_the_class(classify: Callable[..., Path]) -> None:
    """With how likely each is, the likeliest first."""
    loop = msgspec.structs.replace(SHORT, learning_rate=2e-3, max_steps=80)
    job = classify(strategy=METHODS["full"], rows=rows(pairs=True), loop=loop)
    outcome = run(job)
    assert outcome.after is not None
    assert outcome.after.metrics["accuracy"] == 1.0
    script = [sys.executable, str(job.parent / "output" / "try.py"), "what is", "--pair", "apple number 3"]
    told = subprocess.run(script, capture_output=True, text=True, check=True).stdout.split()
    assert (told[0], told[2]) == ("fruit", "metal")
    assert told[1].endswith("%")


@pytest.mark.parametrize("method", CAPABILITIES.headless)
def test_a_method_that_trains_no_head_is_refused_for_classes(classify: Callable[..., Path], method: str) -> None:
    outcome = run(classify(strategy=msgspec.structs.replace(CLASSES, method=method, num_virtual_tokens=4)))
    assert (outcome.reason, outcome.message) == (
        EndReason.BAD_JOB,
        f"this trainer can't do method={method} for task=classification",
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"strategy": msgspec.structs.replace(CLASSES, padded=False)}, "needs padded true"),
        ({"data": DataSource(train="data.jsonl", long_rows="split")}, "say cut or drop"),
        ({"task": "causal_lm", "data": DataSource(train="data.jsonl", balance="oversampling")}, "only task"),
        ({"task": "causal_lm", "loop": msgspec.structs.replace(SHORT, best_by="auc")}, "only task"),
        ({"rows": [{"text": "a", "label": "x"}] * 20}, "every row has the same label, x"),
        ({"rows": [{"text": "a"}] * 20}, "data.jsonl:1: no label"),
    ],
)
def test_what_can_not_be_learned_is_refused_before_anything_is_loaded(
    classify: Callable[..., Path], fields: dict[str, Any], why: str
) -> None:
    outcome: Outcome = run(classify(**fields))
    assert outcome.reason is EndReason.BAD_JOB
    assert why in outcome.message
