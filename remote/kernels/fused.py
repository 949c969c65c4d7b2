"""`kernels: fused`: a norm, a rotation, a gate's product are one kernel each, made by torch.compile of transformers' code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from remote.adapters.wrapping import base_of
from remote.contract import FUSED_FAMILIES, Strategy
from remote.ends import bad_job
from remote.kernels.compiled import InTraining, blocks_of, compiled

ROTATION: Final = "apply_rotary_pos_emb"  # of a family's module in transformers (5.24): what its attention calls


class _Rotation:
    """A family's rotation of queries and keys: one kernel where gradients are asked for, as it is where something is judged."""

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain = plain
        self._compiled = compiled(plain)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import torch

        return (self._compiled if torch.is_grad_enabled() else self.plain)(*args, **kwargs)


def fuse(model: Any, strategy: Strategy) -> None:
    """Let norms, rotations and gated MLPs of `model` train by fewer kernels, where the strategy says so. Linears, adapters and
    attention stay as they are. Raises `Ended` (bad job) for a family whose parts are not known to be made so.
    """
    if strategy.kernels != "fused":
        return
    family = base_of(model).config.get_text_config().model_type
    if family not in FUSED_FAMILIES:
        raise bad_job(f"kernels fused are for {', '.join(FUSED_FAMILIES)}, and this base is a {family}; say kernels eager")
    norms, mlps = ([each for each in model.modules() if type(each).__name__.endswith(end)] for end in ("RMSNorm", "MLP"))
    for norm in norms:
        norm.forward = InTraining(norm, compiled(norm.forward))
    gated = compiled(partial(_gated, mlps[0].act_fn))
    for mlp in mlps:
        mlp.forward = InTraining(mlp, partial(_mlp, mlp, gated))
    module = _module_of(model)
    if not isinstance(getattr(module, ROTATION), _Rotation):
        setattr(module, ROTATION, _Rotation(getattr(module, ROTATION)))


def unfuse(model: Any) -> None:
    """Take back what `fuse` did."""
    for each in model.modules():
        if isinstance(each.__dict__.get("forward"), InTraining):
            del each.forward
    module = _module_of(model)
    rotation = getattr(module, ROTATION, None)
    if isinstance(rotation, _Rotation):
        setattr(module, ROTATION, rotation.plain)


def _gated(activation: Callable[[Any], Any], gate: Any, up: Any) -> Any:
    return activation(gate) * up


def _mlp(mlp: Any, gated: Callable[..., Any], hidden: Any) -> Any:
    return mlp.down_proj(gated(mlp.gate_proj(hidden), mlp.up_proj(hidden)))


def _module_of(model: Any) -> Any:
    """Where transformers keeps the family's code."""
    return sys.modules[type(next(blocks_of(model))).__module__]
