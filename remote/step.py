"""The one training step: forward, loss, backward, clip, optimizer. What trains, what is traced and what is measured is this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from remote.contract import BY_TWO_SLOTS, Autocast, Loss, Strategy
from remote.data.batches import MicroBatch
from remote.kernels import Graphs, rows_apart
from remote.losses import mean_loss
from remote.streaming import streamed_of
from remote.streaming.together import Work, together


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What a step needs to know beside its tensors."""

    device_type: str  # "cuda" or "cpu"
    autocast: Autocast
    max_grad_norm: float
    loss: Loss = "hf"
    num_visits: int = 1  # micro-batches that one visit of a streamed block serves
    num_kept: int = 0  # the last blocks, which are not computed again


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Scalars, still on the device: reading one waits for the step to be finished."""

    loss: torch.Tensor  # mean over all labels of the step, however it was cut into micro-batches
    grad_norm: torch.Tensor  # before clipping


def settings_of(strategy: Strategy, device: str, max_grad_norm: float) -> StepSettings:
    streaming = (strategy.streaming or BY_TWO_SLOTS) if strategy.offload == "stream" else BY_TWO_SLOTS
    return StepSettings(
        device_type=device,
        autocast=strategy.autocast,
        max_grad_norm=max_grad_norm,
        loss=strategy.loss,
        num_visits=streaming.num_visits,
        num_kept=streaming.num_blocks_without_recompute,
    )


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
    graphs: Graphs | None = None,
) -> StepResult:
    """One optimizer step over the micro-batches of `batch`; gradients are gone afterwards.

    Each micro-batch's mean loss is weighted by its share of the labels, so the gradient is that of one large batch.
    Nothing of the model's output outlives its micro-batch, and nothing waits for the device. `scaler` is the
    torch.amp.GradScaler of a float16 autocast. `graphs` plays what it has recorded of micro-batches of the same shape.
    """
    whole = sum(micro.share for micro in batch)

    def part(micro: MicroBatch) -> torch.Tensor:
        return _loss(model, micro, settings) * (micro.share / whole)

    def weighted(micro: MicroBatch, weight: Any) -> torch.Tensor:
        return _passed(lambda it: _loss(model, it, settings) * weight, backward, micro)

    def backward(share: torch.Tensor) -> None:
        (share if scaler is None else scaler.scale(share)).backward()

    losses: list[torch.Tensor] = []
    streamed = streamed_of(model)
    if streamed is not None and (settings.num_visits > 1 or settings.num_kept):
        works = [Work(partial(part, micro), backward, partial(autocast, settings)) for micro in batch]
        for at in range(0, len(works), settings.num_visits):
            losses += together(streamed, works[at : at + settings.num_visits], num_kept=settings.num_kept)
    elif graphs is not None:
        graphs.begin()
        losses += [graphs.passed(micro, micro.share / whole, weighted, parameters(optimizer)) for micro in batch]
    else:
        losses += [_passed(part, backward, micro) for micro in batch]
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


def _passed(
    part: Callable[[MicroBatch], torch.Tensor], backward: Callable[[torch.Tensor], None], micro: MicroBatch
) -> torch.Tensor:
    """One micro-batch through the model and back; its part of the loss."""
    share = part(micro)
    backward(share)
    return share.detach()


def _loss(model: torch.nn.Module, micro: MicroBatch, settings: StepSettings) -> torch.Tensor:
    with autocast(settings), rows_apart(packed=micro.position_ids is not None):
        return mean_loss(model, micro, settings.loss, settings.autocast)


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
