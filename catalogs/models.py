"""`resolve_model`: what a person typed as `--model` -> an Architecture. Never touches the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalogs.architectures import Architecture


class ModelUnknown(Exception):
    """No architecture is known under that name. `hint` says what to type instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def resolve_model(reference: str | Mapping[str, Any], *, base: Path | None = None) -> Architecture:
    """A size word, registry name, hub id, config.json, model folder, GGUF file or inline config.

    `base`: the folder that relative paths start from; None = paths are not looked up. Raises `ModelUnknown`.
    """
    raise NotImplementedError
