"""An earlier adapter that a job goes on with: whether it is one, of the job's base and targets, and the rank that it fixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.user_file import MAX_CONFIG_BYTES, FileUnusable, decode_json, read_text, shortened
from planner.asking.request import Request, RequestError
from remote.contract import ADAPTER_CONFIG, stranger

WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
PLACE: Final = ("loop", "init_adapter")


def continued(request: Request) -> Request:
    """The request with the rank of the adapter that it goes on with. Raises RequestError for a folder that holds none, or one
    of another base, rank or targets than were said.
    """
    folder = request.loop.init_adapter
    if folder is None:
        return request
    config = _config_in(Path(folder), name=shortened(folder))
    rank, said = config["r"], request.training
    why = stranger(config, base=request.model, rank=said.get("rank"), target_modules=said.get("target_modules"))
    if why is not None:
        what, _, cure = why.partition("; ")
        raise RequestError(f"init_adapter: the adapter in {shortened(folder)} {what}", hint=cure, place=PLACE)
    return msgspec.structs.replace(request, training=request.training | {"rank": rank})


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
    if not any((folder / weights).is_file() for weights in WEIGHTS):
        raise _unusable(f"{name} holds no {WEIGHTS[0]}")
    return dict(config)


def _unusable(what: str) -> RequestError:
    return RequestError(f"init_adapter: {what}", hint="the folder of an adapter that an earlier run brought home", place=PLACE)
