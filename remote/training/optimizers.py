"""Optimizers by their contract names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from remote.adapters.options import LORA_FA, LORA_PLUS, RATE_RATIO
from remote.contract import ALPHA_PER_RANK, Loop, Strategy
from remote.ends import bad_job

Build = Callable[[Strategy, Any, Loop], Any]  # what is trained of a model, into torch's or a library's optimizer

RATE_FACTOR: Final = "rate_factor"  # of a group of parameters: its rate over the schedule's
DEFAULT_RATE_RATIO: Final = 16.0  # derived: 2⁴, what Hayou et al. (arXiv:2402.12354) set where they did not search


def _adamw(**options: bool) -> Build:
    def build(strategy: Strategy, model: Any, loop: Loop) -> Any:
        import torch

        return torch.optim.AdamW(_groups(strategy, model), lr=loop.learning_rate, weight_decay=loop.weight_decay, **options)

    return build


def _adamw_8bit(strategy: Strategy, model: Any, loop: Loop) -> Any:
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(_groups(strategy, model), lr=loop.learning_rate, weight_decay=loop.weight_decay)


def _sgd(strategy: Strategy, model: Any, loop: Loop) -> Any:
    import torch

    return torch.optim.SGD(_groups(strategy, model), lr=loop.learning_rate, weight_decay=loop.weight_decay, foreach=True)


def _groups(strategy: Strategy, model: Any) -> list[dict[str, Any]]:
    """What is trained. Of LoRA+ in two groups: B learns faster than all else."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if strategy.method != LORA_PLUS:
        return [{"params": [parameter for _, parameter in trained]}]
    ratio = strategy.method_options.get(RATE_RATIO, DEFAULT_RATE_RATIO)
    if not isinstance(ratio, int | float) or not ratio > 0:
        raise bad_job(f"{RATE_RATIO} must be a number above 0, not {ratio!r}")
    fast = [parameter for name, parameter in trained if "lora_B" in name]
    slow = [parameter for name, parameter in trained if "lora_B" not in name]
    return [{"params": slow}, {"params": fast, RATE_FACTOR: float(ratio)}]


def _lora_fa(strategy: Strategy, model: Any, loop: Loop) -> Any:
    """LoRA-FA (Zhang et al., arXiv:2308.03303): A stays as it was drawn, and B's gradient is corrected for that."""
    from peft.optimizers import create_lorafa_optimizer

    alpha = strategy.alpha if strategy.alpha is not None else ALPHA_PER_RANK * (strategy.rank or 0)
    # r and lora_alpha say what no group of peft 0.21 reads any more: each layer's own scale counts
    optimizer = create_lorafa_optimizer(
        model, r=strategy.rank or 1, lora_alpha=alpha, lr=loop.learning_rate, weight_decay=loop.weight_decay
    )
    optimizer.register_load_state_dict_post_hook(_onto_its_device)
    return optimizer


def _onto_its_device(optimizer: Any) -> None:
    """What LoRA-FA remembers goes by names, and torch brings only what goes by parameters to where these lie."""
    device = optimizer.param_groups[0]["params"][0].device
    for state in optimizer.state.values():
        state.update({name: value.to(device) for name, value in state.items() if hasattr(value, "to")})


OPTIMIZERS: Final[Mapping[str, Build]] = {
    "adamw_torch": _adamw(foreach=True),
    "adamw_torch_fused": _adamw(fused=True),
    "adamw_8bit": _adamw_8bit,
    "sgd": _sgd,
    LORA_FA: _lora_fa,
}


def build_optimizer(strategy: Strategy, model: Any, loop: Loop) -> Any:
    """The Strategy's optimizer over every trainable parameter of `model`."""
    return OPTIMIZERS[strategy.optimizer](strategy, model, loop)


def set_learning_rate(optimizer: Any, rate: float) -> None:
    """Give every group of parameters its rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(RATE_FACTOR, 1.0)
