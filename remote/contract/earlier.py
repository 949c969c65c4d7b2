"""An earlier adapter, or a checkpoint, that a job goes on with: whether it is of the job's kind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from remote.contract.strategy import Strategy
from remote.contract.value import Value

ADAPTER_CONFIG: Final = "adapter_config.json"  # as peft names it


class OfBase(Value, frozen=True, kw_only=True):
    """What of `Learned` names the base that a checkpoint's weights are for."""

    base: str


class Begun(Value, frozen=True, kw_only=True):
    """What a checkpoint's progress says of the job that it is of; one of a trainer of before 2026-12 says nothing."""

    strategy: Strategy
    learned: OfBase


def other_job(begun: Begun, *, base: str | None, method: str | None, rank: int | None, target_modules: object) -> str | None:
    """As `stranger`, of a checkpoint: its weights are known by name, so method and targets must be the same. None = unsaid."""
    own = begun.strategy
    if method is not None and method != own.method:
        return f"is of method {own.method}, not {method}; say method {own.method}"
    config = {"base_model_name_or_path": begun.learned.base, "r": own.rank}
    if (why := stranger(config, base=base, rank=rank, target_modules=None)) is not None:
        return why
    if target_modules is not None and _as_set(target_modules) != _as_set(own.target_modules):
        return f"hangs on {_listed(own.target_modules)}, not on {_listed(target_modules)}; say the same target_modules"
    return None


def _as_set(targets: object) -> object:
    return set(targets) if isinstance(targets, list | tuple) else targets


def _listed(targets: object) -> str:
    return ", ".join(sorted(map(str, targets))) if isinstance(targets, list | tuple) else str(targets)


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
