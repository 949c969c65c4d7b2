"""What a run needs from home: the base model and the data, found on disk before anything is rented."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from catalogs.bases.models import hub_id_of, is_gated, is_size
from catalogs.user_file import expanded
from planner.asking.request import DataAsked, Keep, Request
from planner.plan import Plan
from provision.errors import BadInput, Refused
from provision.prepare.inputs.base_files import require_whole
from provision.prepare.inputs.parts import UnreadableData, brought, files_of, hub_words, placed

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")
TOKEN: Final = "HF_TOKEN"  # noqa: S105 - the variable's name
ENDPOINT: Final = "HF_ENDPOINT"


class BaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """Where the base comes from. `path` is set for what lies at home, `hub_id` for what the box fetches itself."""

    kind: Literal["folder", "gguf", "hub", "config"]
    path: str | None = None
    hub_id: str | None = None
    endpoint: str | None = None  # where the hub is, if not at its own address
    revision: str | None = None  # the commit
    sha256: dict[str, str] = {}  # weight file → hex, as far as the hub says


def find_base(reference: str) -> BaseModel:
    """Read from disk what `reference` is: a folder with weights, a GGUF file, a bare config.json; else a hub id, or a name for
    which the registry knows one. Raises BadInput for what has a shape but no weights, and for a
    folder that no model could be loaded from.
    """
    path = expanded(reference)
    if path.is_dir():
        has_weights = any(file.suffix in WEIGHT_SUFFIXES for file in path.iterdir())
        if has_weights:
            require_whole(path)
        return BaseModel(kind="folder" if has_weights else "config", path=str(path.resolve()))
    if path.is_file():
        return BaseModel(kind="gguf" if path.suffix == ".gguf" else "config", path=str(path.resolve()))
    known = hub_id_of(reference)
    if is_size(reference) or (known is None and "/" not in reference):
        example = f"; {known}, for example" if known is not None else ""
        raise BadInput(
            f"{reference} is a shape without weights: it can be planned, not trained.",
            hint=f"Name a hub id (owner/name), a model folder or a GGUF file{example}.",
            place=("model",),
        )
    return BaseModel(kind="hub", hub_id=known or reference)


def rehearsal_words(base: BaseModel) -> str | None:
    """That the base has no weights of its own, where it has none, as a sentence; else None."""
    if base.kind != "config":
        return None
    return f"{base.path} has no weights: random ones are trained; unless that is all of them, it is a rehearsal without a use"


def hub_secrets(base: BaseModel, environment: Mapping[str, str]) -> dict[str, str]:
    """What the box needs to fetch the base from the hub: the user's token, as huggingface_hub finds it, and another address."""
    if base.kind != "hub":
        return {}
    token = environment.get(TOKEN) or kept_token(environment)
    return {name: value for name, value in ((TOKEN, token), (ENDPOINT, base.endpoint)) if value}


def kept_token(environment: Mapping[str, str]) -> str:
    """What `hf auth login` has kept, by the variables that huggingface_hub 1.x reads."""
    home = environment.get("HF_HOME") or f"{environment.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    file = expanded(environment.get("HF_TOKEN_PATH") or f"{home}/token")
    with suppress(OSError, ValueError):
        return file.read_text().strip()
    return ""


def require_hub_access(base: BaseModel, environment: Mapping[str, str]) -> None:
    """Raises Refused where the base is known to be gated and there is no token: the box would be paid for in vain."""
    if base.hub_id is not None and is_gated(base.hub_id) and TOKEN not in hub_secrets(base, environment):
        raise Refused(
            f"{base.hub_id} is gated, and there is no token to fetch it with.",
            hint=f"Accept its terms at huggingface.co/{base.hub_id}, then: {TOKEN}=… rentune run …",
        )


def with_absolute_paths(request: Request) -> Request:
    """The same request, its files named so that a process in another folder finds them. Raises BadInput without data, and where
    the adapter can't be kept.
    """
    model = expanded(request.model)
    adapter = adapter_folder(request.keep)
    return msgspec.structs.replace(
        request,
        data=with_absolute_data(request.data),
        model=str(model.resolve()) if model.exists() else request.model,
        keep=msgspec.structs.replace(request.keep, adapter=str(adapter) if adapter else None),
    )


def with_absolute_data(data: DataAsked) -> DataAsked:
    """The data that was asked for, by absolute paths. Raises BadInput where there is none to train on."""
    if data.path is None:
        raise BadInput("There is no data to train on.", hint="Name a file: --data FILE, or `data:` in the job file.")
    return data.placed(_existing)


def adapter_folder(keep: Keep) -> Path | None:
    """Where the adapter is to be kept, if the request says. Raises BadInput where it can't be, or something lies there."""
    if not keep.adapter:
        return None
    folder = Path(os.path.realpath(expanded(keep.adapter)))  # Path.resolve raises for links that lead in a circle
    _require_writable(folder)
    _require_empty(folder)
    return folder


def _require_empty(folder: Path) -> None:
    """A file there may be an earlier run's only adapter, or a page of the user's own by the name of one of ours."""
    there: list[str] = []
    with suppress(OSError):  # no folder, or one that may not be read: whoever brings the adapter home looks at each name again
        there = sorted(each.name for each in folder.iterdir())
    if not there:
        return
    raise BadInput(
        f"The adapter can't be kept in {folder}: {there[0]} lies there{' among other files' * (len(there) > 1)}.",
        hint="Under `keep:`, let `adapter:` name a new folder, or an empty one; or leave it out.",
        place=("keep", "adapter"),
    )


def _require_writable(folder: Path) -> None:
    """Try it where the folder stands or will stand; nothing is left there. Raises BadInput."""
    import tempfile  # only where something is kept: it costs start-up time

    place = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            return
    except OSError as error:
        reason = f"{place}: {error.strerror or error}"
    raise BadInput(
        f"The adapter can't be kept in {folder} ({reason}).",
        hint="Under `keep:`, let `adapter:` name a folder to write to.",
        place=("keep", "adapter"),
    )


def input_files(plan: Plan, base: BaseModel) -> tuple[Path, ...]:
    """Everything at home that the box will need."""
    data = plan.request.data
    rows: list[str] = []
    for path, more in ((data.path, data.more), (data.held_out_path, ())):
        if path is not None:
            try:
                rows += placed(path, "rows", more)[1]
            except UnreadableData:
                rows.append(path)  # a folder that is gone, or empty by now
    named = (base.path, *rows, data.reading.template_path, plan.request.loop.init_adapter)
    return tuple(Path(name) for name in named if name is not None)


def _existing(name: str) -> str:
    path = expanded(brought(name))
    hint = "Give the path of a JSONL, JSON, CSV or text file, of a folder of some, or a pattern such as rows/*.jsonl."
    try:
        found = files_of(path)
    except UnreadableData as error:
        raise BadInput(f"There is no data: {error}.", hint=hint) from None
    if not all(part.path.is_file() for part in found):
        raise BadInput(f"The data file {name} is not there.", hint=hub_words(name) or hint)
    return str(path.resolve())
