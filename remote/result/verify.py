"""Before a result is called one: finite, moved, and the files give the same logits as the model that was trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from remote.adapters import is_adapter, load_adapter
from remote.checkpoint import trainable
from remote.contract import EndReason, Strategy, Value
from remote.data.batches import MicroBatch
from remote.ends import Ended
from remote.step import StepSettings, autocast

# Share of the largest logit that a reload may differ by. The same weights through the same kernels differ by nothing on a
# CPU; on a GPU bf16 sums in another order by parts in a thousand. assumed
TOLERANCE: Final = 5e-3


class Verified(Value, frozen=True, kw_only=True):
    """What the checks found."""

    moved_tensors: int
    trainable_tensors: int
    max_difference: float  # of any logit, trained against reloaded
    max_logit: float
    max_change: float  # of any logit, trained against base; 0 where the base is gone


def sums_of(model: Any) -> dict[str, tuple[float, float]]:
    """(sum, sum of magnitudes) in fp64 of each trainable parameter: enough to see that it moved, cheap for a whole model."""
    with torch.no_grad():
        return {
            name: (float(parameter.double().sum()), float(parameter.double().abs().sum()))
            for name, parameter in trainable(model)
        }


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
    reload = _reload_adapter if is_adapter(strategy) else _reload_whole
    base_logits, reloaded = reload(folder, model, strategy, lambda loaded: _logits(loaded, micro, settings))
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


Logits = Callable[[Any], torch.Tensor]


def _reload_adapter(folder: Path, model: Any, strategy: Strategy, logits: Logits) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(logits of the bare base, logits with the adapter read from disk): the base is the one already in memory."""
    base = model.unload()
    bare = logits(base)
    return bare, logits(load_adapter(base, str(folder), strategy, trainable=False).eval())


def _reload_whole(folder: Path, model: Any, _strategy: Strategy, logits: Logits) -> tuple[torch.Tensor | None, torch.Tensor]:
    """(nothing, logits with every weight wiped and read from disk again): a second copy need not fit into memory."""
    from safetensors.torch import load_file

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    for shard in sorted(folder.glob("*.safetensors")):
        model.load_state_dict(load_file(shard), strict=False)
    model.tie_weights()
    return None, logits(model)


def _logits(model: Any, micro: MicroBatch, settings: StepSettings) -> torch.Tensor:
    with torch.no_grad(), autocast(settings):
        logits: torch.Tensor = model(input_ids=micro.input_ids, attention_mask=micro.attention_mask, use_cache=False).logits
    return logits.float()
