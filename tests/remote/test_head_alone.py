"""A head that learns alone on a frozen base, from its rows and from rows that SMOTE draws between their embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from remote.bases.given import PLACES, given_by, logits_of_one, place_of, standing_in
from remote.contract import DataSource, EndReason, Strategy
from remote.data.batches import Shape
from remote.data.tokens import Example
from remote.ends import Ended
from remote.loading.embedded import with_drawn_rows
from remote.step import settings_of
from tests.remote.conftest import Asked
from tests.remote.test_classification import BERT, CLASSES, CONFIGS, METHODS, MODERN_BERT, SHORT, EventsOf
from tests.remote.test_classification import classify as classify
from tests.remote.test_trainer import run

pytestmark = pytest.mark.torch

ROBERTA = BERT | {"model_type": "roberta", "max_position_embeddings": 514, "type_vocab_size": 1}
DISTILBERT = {
    "model_type": "distilbert",
    "dim": 64,
    "hidden_dim": 128,
    "n_layers": 2,
    "n_heads": 4,
    "vocab_size": 320,
    "max_position_embeddings": 512,
}
MEAN = MODERN_BERT | {"classifier_pooling": "mean"}
HEADED = CONFIGS | {"roberta": ROBERTA, "distilbert": DISTILBERT, "modern encoder, by its mean": MEAN}
HEAD_ONLY = msgspec.structs.replace(CLASSES, method="freeze", rank=None, trainable_layers=0)
BETWEEN = DataSource(train="data.jsonl", held_out_rows=20, balance="smote")
LONG = msgspec.structs.replace(SHORT, max_steps=120, epochs=60, learning_rate=5e-2)


def based(job: Path, base: str) -> Path:
    (job.parent / "config.json").write_text(json.dumps(HEADED[base]))
    return job


@pytest.mark.parametrize("base", HEADED)
def test_a_head_learns_alone_from_rows_that_were_drawn_between_others(
    classify: Callable[..., Path], events_of: EventsOf, base: str
) -> None:
    """Nothing of the base moves; what is saved is the head, verified on rows of text."""
    job = based(classify(strategy=HEAD_ONLY, data=BETWEEN, loop=LONG), base)
    outcome = run(job)
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True), outcome.message
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.after.mean_loss < outcome.before.mean_loss
    said = [event.data["message"] for event in events_of(job) if event.kind == "warning"]
    assert "smote: 100 rows are shown as 150 in each epoch, 50 of them drawn between the embeddings of two" in said
    saved = load_file(job.parent / "output" / "trained.safetensors").keys()
    assert saved
    assert not any(".layer" in name or "embed" in name for name in saved)


def test_a_head_alone_learns_without_smote_as_well(classify: Callable[..., Path]) -> None:
    outcome = run(classify(strategy=HEAD_ONLY, loop=LONG))
    assert (outcome.reason, outcome.trained) == (EndReason.COMPLETED, True), outcome.message


@pytest.mark.parametrize("base", HEADED)
def test_what_stands_in_for_a_base_gives_the_logits_of_the_whole_model(base: str, byte_tokenizer: Any) -> None:
    """Of rows of unlike lengths, each at the place where this head reads it."""
    config = AutoConfig.for_model(**HEADED[base], num_labels=3, pad_token_id=byte_tokenizer.pad_token_id)
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.requires_grad_(requires_grad=False)
    ids = torch.randint(10, 200, (3, 9))
    mask = torch.ones_like(ids)
    for row, length in enumerate((9, 4, 6)):
        ids[row, length:], mask[row, length:] = byte_tokenizer.pad_token_id, 0
    with torch.no_grad():
        place = place_of(model, {"input_ids": ids}, mask)
        output, logits = given_by(model, {"input_ids": ids}, mask)
        with standing_in(model, PLACES[place](output, mask)):
            assert torch.allclose(logits_of_one(model, 3, ids.device), logits, atol=1e-5)
        assert torch.equal(given_by(model, {"input_ids": ids}, mask)[1], logits)  # afterwards the base computes again


def decoder_reading(byte_tokenizer: Any, *lengths: int) -> tuple[Any, tuple[Example, ...], Shape]:
    """A model whose head reads a row's last token; rows of so many tokens; and one a batch."""
    config = AutoConfig.for_model(**CONFIGS["decoder"], num_labels=2, pad_token_id=byte_tokenizer.pad_token_id)
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.requires_grad_(requires_grad=False)
    rows = tuple(
        Example(
            ids=torch.randint(10, 200, (length,), dtype=torch.int32).numpy(),
            labels=torch.tensor([at % 2], dtype=torch.int32).numpy(),
            num_targets=1,
        )
        for at, length in enumerate(lengths)
    )
    shape = Shape(
        micro_batch_size=1,
        gradient_accumulation_steps=1,
        seq_len=9,
        padded=False,
        pad_token_id=byte_tokenizer.pad_token_id,
        device="cpu",
    )
    return model, rows, shape


class Heard:
    """A desk that nobody sits at."""

    def __init__(self) -> None:
        self.events = self.watch = self

    def warn(self, _message: str) -> None: ...

    def check(self) -> None: ...


def test_where_a_head_reads_is_told_by_the_longest_rows(byte_tokenizer: Any) -> None:
    """Of a row of one token the first is the last and the mean of all, and the shortest rows come first."""
    model, rows, shape = decoder_reading(byte_tokenizer, 1, 1, 9, 9)
    settings = settings_of(HEAD_ONLY, "cpu", 1.0)
    drawn = with_drawn_rows(model, rows, shape, settings, seed=0, desk=Heard())  # type: ignore[arg-type]
    for row, seen in zip(rows, drawn, strict=True):
        ids = torch.from_numpy(row.ids).long()[None]
        with torch.no_grad():
            last = model.model(input_ids=ids).last_hidden_state[0, -1]
        assert torch.allclose(torch.from_numpy(seen.embedded), last, atol=1e-5)


def test_rows_that_do_not_tell_where_a_head_reads_are_refused(byte_tokenizer: Any) -> None:
    model, rows, shape = decoder_reading(byte_tokenizer, 1, 1, 1, 1)
    with pytest.raises(Ended, match="at its first or at its last token, which balance smote has to know; use longer rows"):
        with_drawn_rows(model, rows, shape, settings_of(HEAD_ONLY, "cpu", 1.0), seed=0, desk=Heard())  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", [CLASSES, METHODS["freeze"]])
def test_smote_is_refused_where_more_than_a_head_trains(classify: Callable[..., Path], strategy: Strategy) -> None:
    outcome = run(classify(strategy=strategy, data=BETWEEN))
    assert outcome.reason is EndReason.BAD_JOB
    assert "there is no text, so it trains a head alone; say method freeze with trainable_layers 0" in outcome.message


def test_an_interrupted_run_of_drawn_rows_ends_with_the_same_bytes(classify: Callable[..., Path]) -> None:
    whole, parted = (classify(name, strategy=HEAD_ONLY, data=BETWEEN, loop=LONG) for name in ("whole", "parted"))
    run(whole)
    assert run(parted, watch=Asked(30)).reason is EndReason.INTERRUPTED
    assert run(parted).reason is EndReason.COMPLETED
    one, other = (job.parent / "output" / "trained.safetensors" for job in (whole, parted))
    assert one.read_bytes() == other.read_bytes()
