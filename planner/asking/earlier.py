"""An earlier adapter that a job goes on with: whether it is one, and the rank that it fixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.user_file import MAX_CONFIG_BYTES, FileUnusable, decode_json, read_text, shortened
from planner.asking.request import Request, RequestError

CONFIG: Final = "adapter_config.json"  # as peft names it
WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
PLACE: Final = ("loop", "init_adapter")


def continued(request: Request) -> Request:
    """The request with the rank of the adapter that it goes on with. Raises RequestError for a folder that holds none, or one
    of another rank than was said.
    """
    folder = request.loop.init_adapter
    if folder is None:
        return request
    rank = _rank_in(Path(folder), name=shortened(folder))
    said = request.training.get("rank", rank)
    if said != rank:
        raise RequestError(
            f"init_adapter: the adapter in {shortened(folder)} has rank {rank}, not {said}", hint=f"rank {rank}", place=PLACE
        )
    return msgspec.structs.replace(request, training=request.training | {"rank": rank})


def _rank_in(folder: Path, *, name: str) -> int:
    try:
        config: Any = decode_json(read_text(folder / CONFIG, max_bytes=MAX_CONFIG_BYTES))
    except FileUnusable as error:
        raise _unusable(f"{CONFIG} in {name} {error}") from None
    except ValueError:
        raise _unusable(f"{CONFIG} in {name} is not JSON") from None
    rank = config.get("r") if isinstance(config, dict) else None
    if type(rank) is not int:
        raise _unusable(f"{CONFIG} in {name} names no rank")
    if not any((folder / weights).is_file() for weights in WEIGHTS):
        raise _unusable(f"{name} holds no {WEIGHTS[0]}")
    return rank


def _unusable(what: str) -> RequestError:
    return RequestError(f"init_adapter: {what}", hint="the folder of an adapter that an earlier run brought home", place=PLACE)
