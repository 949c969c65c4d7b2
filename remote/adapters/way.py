"""`Way`: how one method turns a frozen base into something that trains, and what of it is the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from remote.adapters.targets import (
    ALL_LINEAR,
    DEFAULT,
    default_targets,
    feed_forward_ends,
    linears_in,
    linears_within,
    routers_in,
    stored_linears,
)
from remote.adapters.wrapping import with_adapter
from remote.contract import Loop, Strategy

# The whole model; adapters that peft reads; adapters of a base whose own weights were changed for them; or a file of what was
# trained, to be put into the base by name.
Saved = Literal["whole", "adapters", "moved_base", "parts"]

Configure = Callable[[Strategy, Loop], Any]


class Way(NamedTuple):
    """One row of the table of methods."""

    attach: Callable[[Any, Strategy, Loop], Any]  # the frozen base → what trains, which may wrap it
    saved: Saved
    trains_base: bool = False  # weights of the base itself move, so they can't be quantized
    folders: tuple[str, ...] = (".",)  # of the adapters within the result, in the order in which they go onto the base

    @property
    def adapter_folders(self) -> tuple[str, ...]:
        """Where peft finds adapters in the result; nowhere where it reads none."""
        return self.folders if self.saved in ("adapters", "moved_base") else ()


def by_peft(configure: Configure) -> Way:
    """The way of a method that peft carries out: `configure` says how."""

    def attach(model: Any, strategy: Strategy, loop: Loop) -> Any:
        config = configure(strategy, loop)
        if strategy.target_modules == DEFAULT and config.peft_type == "LORA":
            config.target_modules = default_targets(model)
        if config.peft_type == "IA3" and config.feedforward_modules is None:
            config.feedforward_modules = feed_forward_ends(model)
        if strategy.target_modules == ALL_LINEAR:
            config.exclude_modules = [*routers_in(model), *linears_within(model, strategy.modules_to_save)] or None
            if stored := stored_linears(model):
                config.target_modules = stored
            if loop.layers is not None:  # peft takes the one or the other
                config.target_modules = linears_in(model, loop.layers)
        return with_adapter(model, config, strategy, loop.init_adapter)

    return Way(attach, "adapters")
