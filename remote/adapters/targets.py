"""Which modules of a model a job means."""

from __future__ import annotations

import re
from typing import Any, Final

from remote.ends import bad_job

ALL_LINEAR: Final = "all-linear"
BLOCK_NUMBER: Final = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")  # how transformers' models name their blocks


def linears_in(model: Any, layers: tuple[int, ...]) -> set[str]:
    """Full names of the linear modules of these blocks."""
    import torch

    linears = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    numbered = ((name, BLOCK_NUMBER.search(name)) for name in linears)
    found = {name for name, number in numbered if number is not None and int(number[1]) in layers}
    if not found:
        raise bad_job(f"the model has no linear modules in layers {', '.join(map(str, layers))}")
    return found
