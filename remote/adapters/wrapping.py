"""An adapter on a base: a new one, or one from disk."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from remote.contract import Strategy
from remote.ends import bad_job, first_line


def with_adapter(model: Any, config: Any, strategy: Strategy, init_adapter: str | None) -> Any:
    """`model` with the adapter that peft makes of `config`, or with the one in the folder `init_adapter`."""
    from peft import get_peft_model

    try:
        if init_adapter is not None:
            adapted = load_adapter(model, init_adapter, strategy, trainable=True)
        else:
            with _without_peft_warnings():
                adapted = get_peft_model(model, config, autocast_adapter_dtype=_raised(strategy))
    except (ValueError, TypeError) as error:  # targets that it does not have or peft can't wrap, a folder without an adapter
        raise bad_job(f"the adapter does not fit this model: {first_line(error)}") from error
    _name_feed_forward(adapted.peft_config["default"])
    cast_trainable(adapted, strategy.adapter_dtype)
    return adapted


def _name_feed_forward(config: Any) -> None:
    """Let IA³ name its feed-forward modules as its targets are named: peft saves them apart, and refuses to read them so."""
    suffixes = getattr(config, "feedforward_modules", None)
    if suffixes:
        config.feedforward_modules = {name for name in config.target_modules if name.endswith(tuple(suffixes))}


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
