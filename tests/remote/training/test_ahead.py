"""The next batch is made while the step runs, and nothing within a step waits for the device."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

import remote.step
import remote.training.ahead
import remote.training.fitting
from remote.__main__ import carry_out
from remote.adapters import adapt
from remote.contract import Loop, Strategy
from remote.data.batches import Batch, MicroBatch, Shape, batch_of_step, host_batch_of_step
from remote.data.tokens import Example
from remote.kernels import masks, rows_apart
from remote.measure.random_weights import random_batch, random_model
from remote.step import settings_of, step
from remote.training.ahead import Ahead
from remote.training.optimizers import build_optimizer
from remote.watch import Watch
from tests.remote.conftest import MakeJob
from tests.remote.test_losses import tiny

pytestmark = pytest.mark.torch

PATIENCE_S = 60.0  # of a test for a thread; it is over in milliseconds
SHAPE = Shape(micro_batch_size=2, gradient_accumulation_steps=2, seq_len=16, padded=True, pad_token_id=0, device="cpu")
SMALLER = Shape(micro_batch_size=1, gradient_accumulation_steps=4, seq_len=16, padded=True, pad_token_id=0, device="cpu")


def rows() -> list[Example]:
    ids = [np.arange(1, length, dtype=np.int32) for length in (4, 9, 7, 3, 12, 5, 8, 6)]
    return [Example(ids=each, labels=each, num_targets=len(each) - 1) for each in ids]


def same(one: Batch, other: Batch) -> bool:
    import torch

    pairs = zip(one, other, strict=True)
    return all(torch.equal(a.input_ids, b.input_ids) and torch.equal(a.labels, b.labels) for a, b in pairs)


@pytest.mark.parametrize("begun", [None, (3, SHAPE), (4, SHAPE), (3, SMALLER)])
def test_what_is_taken_is_that_step_s_batch_whatever_was_begun(begun: tuple[int, Shape] | None) -> None:
    ahead = Ahead(rows(), seed=5)
    if begun is not None:
        ahead.begin(*begun)
    assert same(ahead.take(3, SHAPE), batch_of_step(3, rows(), SHAPE, 5))
    assert same(ahead.take(4, SHAPE), batch_of_step(4, rows(), SHAPE, 5))


def test_for_a_card_it_waits_in_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No card is in this machine: what would be pinned is counted."""
    pinned: list[MicroBatch] = []

    def pin(micro: MicroBatch) -> MicroBatch:
        pinned.append(micro)
        return micro

    monkeypatch.setattr(MicroBatch, "pinned", pin)
    host_batch_of_step(0, rows(), SHAPE, 5)
    assert pinned == []
    host_batch_of_step(0, rows(), replace(SHAPE, device="cuda"), 5)
    assert len(pinned) == 2


def test_a_run_makes_each_batch_but_the_first_in_a_thread_while_the_step_before_runs(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[int, str] = {}
    arrived = {number: threading.Event() for number in range(13)}
    real, real_step, steps = host_batch_of_step, remote.step.step, iter(range(-2, 12))

    def making(number: int, *rest: Any) -> Batch:
        batch = real(number, *rest)
        made[number] = threading.current_thread().name
        arrived[number].set()
        return batch

    def stepping(*args: Any, **said: Any) -> Any:
        number = next(steps)  # two of the probe come first
        if 0 <= number < 11:
            assert arrived[number + 1].wait(PATIENCE_S), "the next batch is made while this step has not begun to compute"
        return real_step(*args, **said)

    monkeypatch.setattr(remote.training.ahead, "host_batch_of_step", making)
    monkeypatch.setattr(remote.training.fitting, "step", stepping)
    carry_out(make_job("ahead"), watch=Watch())
    main = threading.current_thread().name
    assert made == {0: main} | dict.fromkeys(range(1, 12), "beside")


PACKED = "packed"
WAYS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora, kept": {"gradient_checkpointing": "off"},
    "lora over nf4": {"quant": "nf4", "double_quant": True},
    "loss chunked": {"loss": "chunked"},
    "loss liger": {"loss": "liger"},
    "full": {"method": "full", "rank": None},
    PACKED: {},
}


def two_texts_a_row() -> Any:
    import torch

    return torch.cat([torch.arange(20), torch.arange(12)]).repeat(2, 1)


def test_where_transformers_has_renamed_what_it_looks_by_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each micro-batch would wait for the card again, and nothing would show it. The pinned one has that name."""
    from transformers import masking_utils

    assert hasattr(masking_utils, masks.LOOKS)
    monkeypatch.delattr(masking_utils, masks.LOOKS)
    for _ in range(2):
        with rows_apart(packed=False):
            pass
    (told,) = [record.getMessage() for record in caplog.records if masks.LOOKS in record.getMessage()]
    assert told.startswith("this transformers has no find_packed_sequence_indices: it looks at each micro-batch on the device")


def test_what_is_told_of_packed_rows_is_what_transformers_would_find_out() -> None:
    import torch
    from transformers import masking_utils

    found = masking_utils.find_packed_sequence_indices(two_texts_a_row())
    with rows_apart(packed=True):
        assert torch.equal(masking_utils.find_packed_sequence_indices(two_texts_a_row()), found)
    with rows_apart(packed=False):
        assert masking_utils.find_packed_sequence_indices(two_texts_a_row()) is None
    assert torch.equal(masking_utils.find_packed_sequence_indices(two_texts_a_row()), found)


@pytest.mark.parametrize("way", WAYS)
def test_no_number_of_the_device_is_read_within_a_step(way: str) -> None:
    """Of accumulated micro-batches; reading one waits for all that was asked of the device. One step is made before: what a
    library looks up once is none of a step's.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    read: list[str] = []

    class Reading(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func._schema.name in ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero"):
                read.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    said = msgspec.convert(
        {"method": "lora", "rank": 4, "micro_batch_size": 2, "gradient_accumulation_steps": 2, "seq_len": 32, **WAYS[way]},
        Strategy,
    )
    torch.manual_seed(0)
    model = adapt(random_model(tiny("llama-3.2-1b"), said, "cpu"), said, Loop()).train()
    optimizer, settings = build_optimizer(said, model, Loop()), settings_of(said, "cpu", 1.0)
    batch = random_batch(said, vocabulary=256, device="cpu")
    if way == PACKED:
        batch = tuple(replace(micro, position_ids=two_texts_a_row()) for micro in batch)
    step(model, batch, optimizer, settings)
    with Reading():
        result = step(model, batch, optimizer, settings)
        assert read == []
        float(result.loss)
    assert read == ["aten::_local_scalar_dense"]
