"""From a frozen base to something trainable. Importing this imports neither torch nor peft.

`table` has one row per method, `configs` the peft configurations that its rows build, `targets` finds modules in a model,
`wrapping` puts an adapter on a base, new or from disk.
"""

from __future__ import annotations

from remote.adapters.table import ADAPTERS, adapt, is_adapter
from remote.adapters.wrapping import load_adapter

__all__ = ["ADAPTERS", "adapt", "is_adapter", "load_adapter"]
