"""One row per method: how it makes a base trainable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from remote.adapters import configs, parts, prompts
from remote.adapters.inserted import bottleneck
from remote.adapters.options import LORA_FA, casting_apart, layers_apart
from remote.adapters.pissa import pissa
from remote.adapters.way import Way, by_peft
from remote.adapters.wrapping import feed_as_they_come, freeze_first_factor
from remote.contract import Loop, Strategy

ADAPTERS: Final[Mapping[str, Way]] = {
    "lora": by_peft(configs.lora),
    "rslora": by_peft(configs.rslora),
    "pissa": Way(pissa, "moved_base"),
    "lora_plus": by_peft(configs.lora_plus),
    "dora": by_peft(configs.dora),
    "adalora": by_peft(configs.adalora),
    "loha": by_peft(configs.loha),
    "lokr": by_peft(configs.lokr),
    "oft": by_peft(configs.oft),
    "boft": by_peft(configs.boft),
    "vera": by_peft(configs.vera),
    "fourierft": by_peft(configs.fourierft),
    "ia3": by_peft(configs.ia3),
    "prompt_tuning": by_peft(prompts.prompt_tuning),
    "p_tuning": by_peft(prompts.p_tuning),
    "prefix_tuning": by_peft(prompts.prefix_tuning),
    "lora_prompt": Way(prompts.lora_and_prompt, "adapters", folders=("lora", "prompt")),
    "bottleneck": Way(bottleneck, "parts"),
    "ln_tuning": Way(parts.ln_tuning, "adapters"),
    "bitfit": Way(parts.bitfit, "parts", trains_base=True),
    "freeze": Way(parts.freeze, "parts", trains_base=True),
    "full": Way(parts.whole, "whole", trains_base=True),
}


def adapt(model: Any, strategy: Strategy, loop: Loop) -> Any:
    """`model` with everything frozen but what `strategy` trains."""
    strategy, loop = layers_apart(strategy, loop)
    strategy, casts = casting_apart(strategy)
    model.requires_grad_(requires_grad=False)
    adapted = ADAPTERS[strategy.method].attach(model, strategy, loop)
    if strategy.optimizer == LORA_FA:
        freeze_first_factor(adapted, strategy)
    if not casts:
        feed_as_they_come(adapted)
    return adapted


def way_of(strategy: Strategy) -> Way:
    """The row of its method."""
    return ADAPTERS[strategy.method]


def is_adapter(strategy: Strategy) -> bool:
    """Whether the result lies beside an untouched base, rather than being a whole model."""
    return way_of(strategy).saved != "whole"
