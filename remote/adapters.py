"""From a frozen base to something trainable: one row per method. The table imports neither torch nor peft."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from remote.contract import ALPHA_PER_RANK, Loop, Strategy
from remote.ends import bad_job, first_line

ALL_LINEAR: Final = "all-linear"
BLOCK_NUMBER: Final = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")  # how transformers' models name their blocks


def _lora(strategy: Strategy, loop: Loop) -> Any:
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


# Method → its peft configuration; None where the model itself is trained.
ADAPTERS: Final[Mapping[str, Callable[[Strategy, Loop], Any] | None]] = {
    "lora": _lora,
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
    return _with_adapter(model, config, strategy, loop.init_adapter)


def linears_in(model: Any, layers: tuple[int, ...]) -> set[str]:
    """Full names of the linear modules of these blocks."""
    import torch

    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    numbered = ((name, BLOCK_NUMBER.search(name)) for name in linears)
    found = {name for name, number in numbered if number is not None and int(number[1]) in layers}
    if not found:
        raise bad_job(f"the model has no linear modules in layers {', '.join(map(str, layers))}")
    return found


def _with_adapter(model: Any, config: Any, strategy: Strategy, init_adapter: str | None) -> Any:
    from peft import get_peft_model

    try:
        if init_adapter is not None:
            adapted = load_adapter(model, init_adapter, strategy, trainable=True)
        else:
            with _without_peft_warnings():
                adapted = get_peft_model(model, config, autocast_adapter_dtype=_raised(strategy))
    except ValueError as error:  # targets that this model does not have, a folder that holds no adapter
        raise bad_job(f"the adapter does not fit this model: {first_line(error)}") from error
    cast_trainable(adapted, strategy.adapter_dtype)
    return adapted


def load_adapter(model: Any, folder: str, strategy: Strategy, *, trainable: bool) -> Any:
    """The base `model` with the adapter that `folder` holds."""
    from peft import PeftModel

    with _without_peft_warnings():
        return PeftModel.from_pretrained(model, folder, is_trainable=trainable, autocast_adapter_dtype=_raised(strategy))


def _raised(strategy: Strategy) -> bool:
    """Whether peft shall raise 16-bit adapters to fp32; the only cast that it knows."""
    return strategy.adapter_dtype == "float32"


@contextmanager
def _without_peft_warnings() -> Iterator[None]:
    """Wrapping a model, peft 0.21 asks transformers 5.24 by a name that will go away; a user can't do anything about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def cast_trainable(model: Any, dtype: str) -> None:
    """Hold every trainable parameter in `dtype`."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, dtype))


def is_adapter(strategy: Strategy) -> bool:
    """Whether the result is an adapter beside an untouched base, rather than a whole model."""
    return ADAPTERS[strategy.method] is not None
