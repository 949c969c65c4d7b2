"""Bottleneck adapters as a job asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from remote.adapters.options import layers_apart, options_of
from remote.adapters.wrapping import cast_trainable
from remote.contract import Loop, Strategy
from remote.ends import bad_job

AFTER, NON_LINEARITY = "after", "non_linearity"
CHOICES: Final = {AFTER: ("attention", "feed_forward"), NON_LINEARITY: ("relu", "gelu", "silu", "tanh")}


def bottleneck(model: Any, strategy: Strategy, loop: Loop) -> Any:
    """Bottleneck adapters of width `rank`, behind attention and feed-forward of each block, or as `method_options` say."""
    from remote.adapters.bottleneck import insert

    if not insert(model, **bottleneck_options(strategy, loop)):
        raise bad_job("this model has no place that a bottleneck adapter can stand behind; choose lora")
    cast_trainable(model, strategy.adapter_dtype)
    return model


def bottleneck_options(strategy: Strategy, loop: Loop) -> dict[str, Any]:
    """What `remote.adapters.bottleneck.insert` is told. Raises `Ended` (bad job) for words that it does not know."""
    strategy, loop = layers_apart(strategy, loop)
    options = options_of(strategy, CHOICES, "bottleneck")
    if strategy.rank is None:
        raise bad_job('method "bottleneck" needs the adapters\' width; set training.rank')
    said = {AFTER: list(options.get(AFTER, CHOICES[AFTER])), NON_LINEARITY: options.get(NON_LINEARITY, "relu")}
    for key, words in ((AFTER, said[AFTER]), (NON_LINEARITY, [said[NON_LINEARITY]])):
        if unknown := [word for word in words if word not in CHOICES[key]]:
            raise bad_job(f'bottleneck knows no {key} "{unknown[0]}"; it knows {", ".join(CHOICES[key])}')
    return {"width": strategy.rank, "layers": None if loop.layers is None else list(loop.layers), **said}


# Method → what of a job its modules are made of, for whoever puts them into the base again.
INSERTED: Final[Mapping[str, Callable[[Strategy, Loop], dict[str, Any]]]] = {"bottleneck": bottleneck_options}
