"""The one training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import remote.step
import remote.training.fitting
from remote.contract import Loop, Strategy
from remote.data.batches import Batch, Shape, batched, collated
from remote.data.tokens import IGNORED, Example
from remote.step import StepSettings, step
from remote.training.optimizers import build_optimizer

pytestmark = pytest.mark.torch

PLAIN = StepSettings(device_type="cpu", autocast="none", max_grad_norm=1.0)


def model(seed: int = 0) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def examples() -> list[Example]:
    """Rows of unlike length, of which unlike parts are learned: the case in which a mean of means is wrong."""
    rng = np.random.default_rng(0)
    made = []
    for length, prompt in ((24, 20), (17, 3), (9, 2), (6, 5)):
        ids = rng.integers(0, 64, length).astype(np.int32)
        labels = np.where(np.arange(length) < prompt, IGNORED, ids).astype(np.int32)
        made.append(Example(ids=ids, labels=labels, num_targets=int((labels[1:] != IGNORED).sum())))
    return made


def shape(micro_batch_size: int, *, padded: bool = False) -> Shape:
    return Shape(
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=1,
        seq_len=32,
        padded=padded,
        pad_token_id=0,
        device="cpu",
    )


def stepped(batch: Batch, **loop: Any) -> tuple[Any, Any]:
    """(the model after one step of plain gradient descent, what the step returned)."""
    trained = model()
    trained.train()
    optimizer = build_optimizer(Strategy(method="lora", optimizer="sgd"), trained, Loop(learning_rate=1.0, **loop))
    return trained, step(trained, batch, optimizer, PLAIN)


def test_what_trains_is_the_step_that_everybody_else_calls() -> None:
    assert vars(remote.training.fitting)["step"] is remote.step.step


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
def test_micro_batches_give_the_step_of_the_large_batch(micro_batch_size: int) -> None:
    import torch

    whole, at_once = stepped(batched(examples(), shape(4)))
    pieces, in_pieces = stepped(batched(examples(), shape(micro_batch_size)))
    assert torch.allclose(at_once.loss, in_pieces.loss, atol=1e-6)
    assert torch.allclose(at_once.grad_norm, in_pieces.grad_norm, atol=1e-5)
    for (name, one), (_, other) in zip(whole.named_parameters(), pieces.named_parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5), name


def test_padding_without_a_mask_changes_nothing() -> None:
    import torch

    _, masked = stepped(batched(examples(), shape(4, padded=True)))
    _, bare = stepped(batched(examples(), shape(4)))
    assert torch.allclose(masked.loss, bare.loss, atol=1e-6)
    assert torch.allclose(masked.grad_norm, bare.grad_norm, atol=1e-5)


def test_the_loss_is_the_mean_over_every_learned_token_of_the_step() -> None:
    import torch

    rows = examples()
    with torch.no_grad():
        logits = model()(input_ids=collated(rows, shape(4)).input_ids).logits.double()
    lost = [
        torch.nn.functional.cross_entropy(logits[row, at - 1], torch.tensor(int(example.labels[at]))).item()
        for row, example in enumerate(rows)
        for at in range(1, example.num_tokens)
        if example.labels[at] != IGNORED
    ]
    _, result = stepped(batched(rows, shape(2)))
    assert result.loss.item() == pytest.approx(sum(lost) / len(lost), abs=1e-5)


def test_gradients_are_gone_after_the_step() -> None:
    trained, _ = stepped(batched(examples(), shape(2)))
    assert all(parameter.grad is None for parameter in trained.parameters())


def test_a_gradient_longer_than_the_limit_is_cut_to_it() -> None:
    import torch

    before = model()
    after, result = stepped(batched(examples(), shape(4)))
    moved = torch.cat([(a - b).flatten() for a, b in zip(after.parameters(), before.parameters(), strict=True)]).norm()
    assert result.grad_norm.item() > PLAIN.max_grad_norm
    assert moved.item() == pytest.approx(PLAIN.max_grad_norm, abs=1e-3)


def test_a_float16_autocast_scales_its_loss_and_steps_all_the_same() -> None:
    import torch

    half = StepSettings(device_type="cpu", autocast="float16", max_grad_norm=1.0)
    trained = model()
    optimizer = build_optimizer(Strategy(method="lora", optimizer="adamw_torch"), trained, Loop())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    result = step(trained, batched(examples(), shape(2)), optimizer, half, scaler=scaler)
    _, exact = stepped(batched(examples(), shape(2)))
    assert result.grad_norm.item() == pytest.approx(exact.grad_norm.item(), rel=0.02)
    assert optimizer.state


def test_micro_batches_scaled_by_a_scaler_give_the_steps_of_the_large_batch_those_that_are_skipped_too() -> None:
    """Scaling, accumulation and clipping together: the first scale is too large for any gradient in fp16."""
    import torch

    half = StepSettings(device_type="cpu", autocast="float16", max_grad_norm=0.1)
    ends = []
    for micro_batch_size in (4, 1):
        trained = model()
        optimizer = build_optimizer(Strategy(method="lora", optimizer="sgd"), trained, Loop(learning_rate=1.0))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=2.0**-30)
        scales, skipped = [], []
        for _ in range(4):
            result = step(trained, batched(examples(), shape(micro_batch_size)), optimizer, half, scaler=scaler)
            scales.append(scaler.get_scale())
            skipped.append(not torch.isfinite(result.grad_norm))
        ends.append((trained, scales, skipped))
    (whole, scales, skipped), (pieces, *same) = ends
    assert [scales, skipped] == same
    assert skipped == [True, False, False, False]
    for (name, before), (_, one), (_, other) in zip(
        model().named_parameters(), whole.named_parameters(), pieces.named_parameters(), strict=True
    ):
        assert torch.allclose(one, other, atol=2e-3), name
        assert not one.equal(before), name
