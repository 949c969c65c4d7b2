"""One row per method: how it makes a base trainable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from remote.adapters import configs
from remote.adapters.targets import ALL_LINEAR, linears_in
from remote.adapters.wrapping import with_adapter
from remote.contract import Loop, Strategy

# Method → its peft configuration; None where the model itself is trained.
ADAPTERS: Final[Mapping[str, Callable[[Strategy, Loop], Any] | None]] = {
    "lora": configs.lora,
    "rslora": configs.rslora,
    "dora": configs.dora,
    "loha": configs.loha,
    "lokr": configs.lokr,
    "oft": configs.oft,
    "boft": configs.boft,
    "vera": configs.vera,
    "fourierft": configs.fourierft,
    "ia3": configs.ia3,
    "full": None,
}


def adapt(model: Any, strategy: Strategy, loop: Loop) -> Any:
    """`model` with everything frozen but what `strategy` trains. A peft method wraps it; "full" returns it as it is."""
    configure = ADAPTERS[strategy.method]
    if configure is None:
        model.requires_grad_(requires_grad=True)
        return model
    model.requires_grad_(requires_grad=False)
    config = configure(strategy, loop)
    if loop.layers is not None and strategy.target_modules == ALL_LINEAR:  # peft takes the one or the other
        config.target_modules = linears_in(model, loop.layers)
    return with_adapter(model, config, strategy, loop.init_adapter)


def is_adapter(strategy: Strategy) -> bool:
    """Whether the result is an adapter beside an untouched base, rather than a whole model."""
    return ADAPTERS[strategy.method] is not None
