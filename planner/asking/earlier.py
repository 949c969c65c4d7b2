"""An earlier adapter, or a checkpoint, that a job goes on with: whether it is of the job, and what of the job it fixes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.user_file import MAX_CONFIG_BYTES, FileUnusable, decode_json, read_text, shortened
from planner.asking.request import Request, RequestError
from planner.asking.rules import AUTO
from planner.methods import METHODS, QLORA, QLORA_MEANS
from remote.contract import ADAPTER_CONFIG, ALPHA_PER_RANK, PROGRESS_FILE, WEIGHTS_FILE, Begun, decode, other_job, stranger

WEIGHTS: Final = "adapter_model.safetensors"
PICKLED: Final = "adapter_model.bin"  # as data alone it can't be read: it may run code
SAVED_SAFE: Final = "load it with peft where you trust it, and save it anew with save_pretrained(…, safe_serialization=True)"
FOLDER: Final = "the folder of an adapter that an earlier run brought home, or of a checkpoint"
PLACE: Final = ("loop", "init_adapter")
MAX_PROGRESS_BYTES: Final = 64 * 2**20  # assumed: of a checkpoint; the seconds of a million steps are 20 MB


def continued(request: Request) -> Request:
    """The request with what the adapter or checkpoint that it goes on with fixes: the rank, and of a checkpoint all that its
    weights' names follow from. Raises RequestError for a folder that holds neither, or one of another base, rank, method or
    targets than were said.
    """
    if request.loop.init_adapter is None:
        return request
    folder = Path(request.loop.init_adapter)
    parts = [name for name in (WEIGHTS_FILE, PROGRESS_FILE) if (folder / name).is_file()]
    if len(parts) == 1:
        lacking = PROGRESS_FILE if parts == [WEIGHTS_FILE] else WEIGHTS_FILE
        raise _unusable(f"the checkpoint in {shortened(str(folder))} has no {lacking}")
    fixed = _of_checkpoint(request, folder) if parts else _of_adapter(request, folder)
    return msgspec.structs.replace(request, training=request.training | fixed)


def _of_adapter(request: Request, folder: Path) -> dict[str, Any]:
    config, said = _config_in(folder, name=shortened(str(folder))), request.training
    why = stranger(config, base=request.model, rank=said.get("rank"), target_modules=said.get("target_modules"))
    if why is not None:
        raise _other(f"the adapter in {shortened(str(folder))}", why)
    return {"rank": config["r"]}


def _of_checkpoint(request: Request, folder: Path) -> dict[str, Any]:
    """Of a base that was quantized also how, where nothing is said of the method."""
    name, said = f"the checkpoint in {shortened(str(folder))}", request.training
    try:
        begun = decode(read_text(folder / PROGRESS_FILE, max_bytes=MAX_PROGRESS_BYTES), Begun)
    except FileUnusable as error:
        raise _unusable(f"{PROGRESS_FILE} in {shortened(str(folder))} {error}") from None
    except msgspec.DecodeError:
        raise _unusable(f"{name} does not say of which job it is") from None
    own, method = begun.strategy, said.get("method", AUTO)
    if own.method in METHODS and not METHODS[own.method].goes_on:
        raise _unusable(f"{name} is of method {own.method}, which can't go on with what an earlier run learned")
    named = None if method == AUTO else QLORA_MEANS["method"] if method == QLORA else method
    rank, targets = said.get("rank"), said.get("target_modules")
    why = other_job(begun, base=request.model, method=named, rank=rank, target_modules=targets)
    if why is not None:
        raise _other(name, why)
    return _fixed_by(begun, said, anew=named is None)


def _fixed_by(begun: Begun, said: Mapping[str, Any], *, anew: bool) -> dict[str, Any]:
    own = begun.strategy
    fixed: dict[str, Any] = {"method": own.method} if anew else {}
    if anew and "quant" not in said and own.quant != "none":
        fixed |= {"quant": own.quant, "double_quant": own.double_quant}
    if own.rank is not None:
        fixed |= {"rank": own.rank, "target_modules": own.target_modules}
        fixed |= {} if "alpha" in said else {"alpha": own.alpha or ALPHA_PER_RANK * own.rank}
    return fixed | ({"modules_to_save": own.modules_to_save} if own.modules_to_save else {})


def _config_in(folder: Path, *, name: str) -> dict[str, Any]:
    try:
        config: Any = decode_json(read_text(folder / ADAPTER_CONFIG, max_bytes=MAX_CONFIG_BYTES))
    except FileUnusable as error:
        raise _unusable(f"{ADAPTER_CONFIG} in {name} {error}") from None
    except ValueError:
        raise _unusable(f"{ADAPTER_CONFIG} in {name} is not JSON") from None
    rank = config.get("r") if isinstance(config, dict) else None
    if type(rank) is not int:
        raise _unusable(f"{ADAPTER_CONFIG} in {name} names no rank")
    if not (folder / WEIGHTS).is_file() and (folder / PICKLED).is_file():
        raise _unusable(f"{name} holds pickled weights ({PICKLED}), which may run code where they are read", SAVED_SAFE)
    if not (folder / WEIGHTS).is_file():
        raise _unusable(f"{name} holds no {WEIGHTS}")
    return dict(config)


def _other(name: str, why: str) -> RequestError:
    what, _, cure = why.partition("; ")
    return RequestError(f"init_adapter: {name} {what}", hint=cure, place=PLACE)


def _unusable(what: str, hint: str = FOLDER) -> RequestError:
    return RequestError(f"init_adapter: {what}", hint=hint, place=PLACE)
