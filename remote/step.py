"""The one training step: forward, loss, backward, clip, optimizer. What trains, what is traced and what is measured is this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from remote.contract import Autocast, Strategy
from remote.data.batches import MicroBatch


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What a step needs to know beside its tensors."""

    device_type: str  # "cuda" or "cpu"
    autocast: Autocast
    max_grad_norm: float


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Scalars, still on the device: reading one waits for the step to be finished."""

    loss: torch.Tensor  # mean over all labels of the step, however it was cut into micro-batches
    grad_norm: torch.Tensor  # before clipping


def settings_of(strategy: Strategy, device: str, max_grad_norm: float) -> StepSettings:
    return StepSettings(device_type=device, autocast=strategy.autocast, max_grad_norm=max_grad_norm)


def scaler_of(settings: StepSettings) -> torch.amp.GradScaler | None:
    """What a step under a float16 autocast needs against underflow; bfloat16 needs nothing."""
    return torch.amp.GradScaler(settings.device_type) if settings.autocast == "float16" else None


def step(
    model: torch.nn.Module,
    batch: Sequence[MicroBatch],
    optimizer: torch.optim.Optimizer,
    settings: StepSettings,
    *,
    scaler: Any = None,
) -> StepResult:
    """One optimizer step over the micro-batches of `batch`; gradients are gone afterwards.

    Each micro-batch's mean loss is weighted by its share of the labels, so the gradient is that of one large batch.
    Nothing of the model's output outlives its micro-batch, and nothing waits for the device. `scaler` is the
    torch.amp.GradScaler of a float16 autocast.
    """
    num_targets = sum(micro.num_targets for micro in batch)
    losses: list[torch.Tensor] = []
    for micro in batch:
        share = _loss(model, micro, settings) * (micro.num_targets / num_targets)
        (share if scaler is None else scaler.scale(share)).backward()
        losses.append(share.detach())
        del share
    if scaler is not None:
        scaler.unscale_(optimizer)
    grad_norm = torch.nn.utils.clip_grad_norm_(list(parameters(optimizer)), settings.max_grad_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(loss=torch.stack(losses).sum(), grad_norm=grad_norm)


def _loss(model: torch.nn.Module, micro: MicroBatch, settings: StepSettings) -> torch.Tensor:
    with autocast(settings):
        loss: torch.Tensor = model(
            input_ids=micro.input_ids, attention_mask=micro.attention_mask, labels=micro.labels, use_cache=False
        ).loss
    return loss


def autocast(settings: StepSettings) -> AbstractContextManager[Any]:
    """The precision that forward passes run in: training, evaluation and verification alike."""
    if settings.autocast == "none":
        off: AbstractContextManager[Any] = torch.autocast(settings.device_type, enabled=False)
        return off
    on: AbstractContextManager[Any] = torch.autocast(settings.device_type, dtype=getattr(torch, settings.autocast))
    return on


def parameters(optimizer: torch.optim.Optimizer) -> Iterable[torch.nn.Parameter]:
    """The parameters that the optimizer moves."""
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
