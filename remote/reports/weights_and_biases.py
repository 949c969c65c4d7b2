"""Weights & Biases, through its library where that is installed: to its host where that is asked for, else into files alone."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

PROJECT: Final = "rentune"
# Nothing of the machine, of the code or of the console is told: figures alone are asked for.
SILENT: Final[Mapping[str, Any]] = {
    "x_disable_stats": True,
    "x_disable_meta": True,
    "console": "off",
    "disable_git": True,
    "silent": True,
}


class WeightsAndBiases:
    """Guards one run there. Offline it lies below `folder`, for `wandb sync`."""

    def __init__(self, folder: Path, run_id: str, step: int, *, online: bool) -> None:
        wandb = importlib.import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=PROJECT,
            id=run_id,
            dir=str(folder),
            mode="online" if online else "offline",
            resume="allow" if online and step else None,
            settings=wandb.Settings(**SILENT),
        )

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()
