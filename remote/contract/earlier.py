"""An earlier adapter that a job goes on with: whether it is of the job's kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

ADAPTER_CONFIG: Final = "adapter_config.json"  # as peft names it


def stranger(config: Mapping[str, Any], *, base: str | None, rank: int | None, target_modules: object) -> str | None:
    """What of an adapter's own configuration is not the job's, in a sentence's end; None where all fits.

    A base is known by the last part of its name: the same one may lie in a folder, in a file or at the hub.
    """
    of_base = config.get("base_model_name_or_path")
    if base and of_base and _last(str(of_base)) != _last(base):
        return f"is of the base {of_base}, and the job's is {base}; name the same base"
    own_rank = config.get("r")
    if rank is not None and own_rank is not None and own_rank != rank:
        return f"has rank {own_rank}, not {rank}; leave rank out, or say {own_rank}"
    own_targets = config.get("target_modules")
    if isinstance(target_modules, list | tuple) and isinstance(own_targets, list) and set(own_targets) != set(target_modules):
        listed = ", ".join(sorted(map(str, own_targets)))
        return f"hangs on {listed}, not on {', '.join(map(str, target_modules))}; say the same target_modules"
    return None


def _last(name: str) -> str:
    return PurePosixPath(name).name.lower().removesuffix(".gguf")
