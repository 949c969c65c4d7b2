"""Before a result is called one: finite, moved, and the files give the same logits as the model that was trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from remote.adapters import way_of
from remote.checkpoints.checkpoint import trainable
from remote.contract import EndReason, Strategy, Value
from remote.data.batches import MicroBatch
from remote.ends import Ended
from remote.result.evaluate import class_logits_of
from remote.result.saved import SAVING
from remote.step import StepSettings, autocast

# Share of the largest logit that a reload may differ by. The same weights through the same kernels differ by nothing on a
# CPU; on a GPU bf16 sums in another order by parts in a thousand. assumed
TOLERANCE: Final = 5e-3
PIECE_NUMEL: Final = 1 << 22  # 32 MiB in fp64


class Verified(Value, frozen=True, kw_only=True):
    """What the checks found."""

    moved_tensors: int
    trainable_tensors: int
    max_difference: float  # of any logit, trained against reloaded
    max_logit: float
    max_change: float  # of any logit, trained against base; 0 where the base is gone


def sums_of(model: Any) -> dict[str, tuple[float, float]]:
    """(sum, sum of magnitudes) in fp64 of each trainable parameter: enough to see that it moved, cheap for a whole model.

    Piece by piece: in fp64 an embedding would be larger than what the plan keeps free.
    """
    with torch.no_grad():
        return {name: _sums(parameter) for name, parameter in trainable(model)}


def _sums(parameter: torch.Tensor) -> tuple[float, float]:
    total, magnitude = 0.0, 0.0
    for piece in parameter.reshape(-1).split(PIECE_NUMEL):
        whole = piece.double()
        total += float(whole.sum())
        magnitude += float(whole.abs().sum())
    return total, magnitude


def check_weights(model: Any, initial: Mapping[str, tuple[float, float]]) -> tuple[int, int]:
    """(tensors that moved, tensors). Raises `Ended` (diverged, verify failed)."""
    now = sums_of(model)
    broken = [name for name, (_, magnitude) in now.items() if not magnitude < float("inf")]
    if broken:
        raise Ended(EndReason.DIVERGED, f"{len(broken)} trained tensors are not finite, the first is {broken[0]}")
    moved = sum(now[name] != tuple(initial[name]) for name in now)
    if not moved:
        raise Ended(EndReason.VERIFY_FAILED, "training left every weight as it was; is the learning rate 0?")
    return moved, len(now)


def verify(
    folder: Path,
    model: Any,
    micro: MicroBatch,
    settings: StepSettings,
    strategy: Strategy,
    initial: Mapping[str, tuple[float, float]],
) -> Verified:
    """Reload what `folder` holds onto the loaded base and compare logits on `micro`. `model` is used up.

    Raises `Ended` (diverged, verify failed).
    """
    model.eval()
    moved, total = check_weights(model, initial)
    trained = _logits(model, micro, settings)
    base_logits, reloaded = SAVING[way_of(strategy).saved].reload(
        folder, model, strategy, lambda loaded: _logits(loaded, micro, settings)
    )
    found = Verified(
        moved_tensors=moved,
        trainable_tensors=total,
        max_difference=float((reloaded - trained).abs().max()),
        max_logit=float(trained.abs().max()),
        max_change=0.0 if base_logits is None else float((trained - base_logits).abs().max()),
    )
    if not found.max_difference <= TOLERANCE * found.max_logit:
        raise Ended(
            EndReason.VERIFY_FAILED,
            f"the saved files do not give the trained model back: logits differ by {found.max_difference:.3g} "
            f"where the largest is {found.max_logit:.3g}",
        )
    return found


def _logits(model: Any, micro: MicroBatch, settings: StepSettings) -> torch.Tensor:
    if micro.labels.ndim == 1:
        return class_logits_of(model, micro, settings)
    with torch.no_grad(), autocast(settings):
        logits: torch.Tensor = model(**micro.read, **micro.taught, use_cache=False).logits
    return logits[:, -micro.labels.shape[1] :].float()  # without the positions that a prompt stands in
