"""The peft configuration of each method that hangs on modules of the base."""

from __future__ import annotations

import inspect
from typing import Any

from remote.adapters.targets import ALL_LINEAR
from remote.contract import ALPHA_PER_RANK, Loop, Strategy
from remote.ends import bad_job


def lora(strategy: Strategy, loop: Loop) -> Any:
    """LoRA (Hu et al., arXiv:2106.09685); `method_options` are further fields of peft's LoraConfig."""
    from peft import LoraConfig

    if strategy.rank is None:
        raise bad_job('method "lora" needs a rank; set training.rank')
    unknown = sorted(set(strategy.method_options) - set(inspect.signature(LoraConfig).parameters))
    if unknown:
        raise bad_job(f'method_options has "{unknown[0]}", which peft\'s LoraConfig does not know')
    targets = strategy.target_modules
    named: dict[str, Any] = {
        "r": strategy.rank,
        "lora_alpha": strategy.alpha if strategy.alpha is not None else ALPHA_PER_RANK * strategy.rank,
        "lora_dropout": strategy.dropout,
        "target_modules": None if targets == "default" else targets if isinstance(targets, str) else list(targets),
        "modules_to_save": list(strategy.modules_to_save) or None,
        "layers_to_transform": None if loop.layers is None or targets == ALL_LINEAR else list(loop.layers),
        "task_type": "CAUSAL_LM",
    }
    return LoraConfig(**{**strategy.method_options, **named})
