"""From a frozen base to something trainable. Importing this imports neither torch nor peft.

`table` has one row per method, a `way` each; `configs` and `prompts` say what peft is told, `parts` trains the base where it
stands, `pissa` moves it, `inserted` puts in what peft does not have (`bottleneck`); `ranks` hands out AdaLoRA's; `targets`
finds modules, `options` reads `method_options`, `wrapping` puts peft's adapters on a base.
"""

from __future__ import annotations

from remote.adapters.table import ADAPTERS, adapt, is_adapter, way_of
from remote.adapters.wrapping import bare, base_of, disabled

__all__ = ["ADAPTERS", "adapt", "bare", "base_of", "disabled", "is_adapter", "way_of"]
