"""Bottleneck adapters (Houlsby et al., arXiv:1902.00751): small residual networks behind attention and feed-forward.

This file travels with a result: it needs torch and nothing else, so that `try.py` can use it where it lies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch

PLACES: Final = ("attention", "feed_forward")
# The last linear of each place, by transformers' names (T5's last); what is no attention's is a feed-forward's.
ATTENTION: Final = re.compile(
    r"\.(\d+)\.(?:\w+\.)*(?:self_attn|self_attention|attention|attn)(?:\.\w+)*\.(?:o_proj|out_proj|c_proj|dense)$"
    r"|\.block\.(\d+)\.layer\.\d+\.(?:SelfAttention|EncDecAttention)\.o$"
)
FEED_FORWARD: Final = re.compile(
    r"\.(\d+)\.(?:\w+\.)*(?:down_proj|fc2|c_proj|dense_4h_to_h|output\.dense)$|\.block\.(\d+)\.(?:\w+\.)*DenseReluDense\.wo$"
)
NON_LINEARITIES: Final = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "silu": torch.nn.SiLU, "tanh": torch.nn.Tanh}


class Bottleneck(torch.nn.Module):  # type: ignore[misc]  # torch has no types for mypy here
    """A linear, and behind it x + up(f(down(x))); up starts at zero, so at first nothing changes."""

    def __init__(self, base: Any, features: int, width: int, non_linearity: str) -> None:
        super().__init__()
        self.base = base
        self.down = torch.nn.Linear(features, width)
        self.non_linearity = NON_LINEARITIES[non_linearity]()
        self.up = torch.nn.Linear(width, features)
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    @property
    def weight(self) -> torch.Tensor:
        """Of the linear: T5 asks for its dtype."""
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.base(x)
        inner = self.down(y.to(self.down.weight.dtype))
        learned: torch.Tensor = self.up(self.non_linearity(inner))
        return y + learned.to(y.dtype)


def place_of(name: str) -> tuple[str, int] | None:
    """("attention" or "feed_forward", block) of a module that an adapter can stand behind."""
    for place, pattern in ((PLACES[0], ATTENTION), (PLACES[1], FEED_FORWARD)):
        found = pattern.search(f".{name}")
        if found is not None:
            return place, int(found[1] or found[2])
    return None


def insert(
    model: Any,
    *,
    width: int,
    after: Sequence[str] = PLACES,
    non_linearity: str = "relu",
    layers: Iterable[int] | None = None,
) -> int:
    """Put adapters of `width` into `model`, frozen as it is; returns how many. `layers`: only into these blocks."""
    chosen = None if layers is None else set(layers)
    found = [(name, place_of(name)) for name, _ in model.named_modules()]
    names = [
        name for name, place in found if place is not None and place[0] in after and (chosen is None or place[1] in chosen)
    ]
    for name in names:
        above, _, last = name.rpartition(".")
        parent, base = model.get_submodule(above), model.get_submodule(name)
        features = base.out_features if hasattr(base, "out_features") else base.nf  # GPT-2's Conv1D calls it nf
        setattr(parent, last, Bottleneck(base, features, width, non_linearity).to(base.weight.device))
    return len(names)
