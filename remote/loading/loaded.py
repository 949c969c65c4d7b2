"""What a run holds in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remote.data.batches import Shape
from remote.data.split import Data
from remote.data.tokens import Example
from remote.result.samples import Prompt
from remote.step import StepSettings


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Everything in memory, ready to train."""

    model: Any
    tokenizer: Any
    data: Data
    shown: Sequence[Example]  # what is learned from: the data's rows, or what stands for them
    prompts: tuple[Prompt, ...]
    shape: Shape
    settings: StepSettings
    trainable_params: int
    base_sha256: dict[str, str]  # of a base from the hub
    packed_by: str | None = None  # others, in the way of this name
    fresh: tuple[str, ...] = ()  # of a classification, the head's modules
