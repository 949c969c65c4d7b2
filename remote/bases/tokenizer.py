"""The tokenizer of a base, which is there long before its weights are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from remote.bases import hub
from remote.bases.made import made_once
from remote.contract import ModelSource
from remote.digest import fingerprint_of
from remote.ends import bad_job, first_line


def load_tokenizer(folder: str, *, writes: bool = True) -> Any:
    """The tokenizer in a folder. Raises `Ended` (bad job) for one that can't train; what `writes` must know how to end."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.is_fast or (writes and tokenizer.eos_token is None):
        raise bad_job(f"the tokenizer in {folder} needs a tokenizer.json and an end-of-sequence token")
    return tokenizer


def prepare_tokenizer(model: Path, *, cache: Path) -> str:
    """What `load_tokenizer` can open: the model folder itself, or the folder that the tokenizer of a GGUF was written to.

    Raises `Ended` (bad job) for a GGUF file that can't be read.
    """
    if model.suffix != ".gguf":
        return str(model)
    return made_once(cache / f"{model.stem}-{fingerprint_of(model)}-tokenizer", lambda into: _write_tokenizer(model, into))


def tokenizer_ahead(source: ModelSource, *, cache: Path) -> str | None:
    """What `load_tokenizer` can open before the base's weights have come; None = the weights' folder is where it will be.

    Raises `Ended` (bad job) where it can't be had.
    """
    return _AHEAD[source.kind](source, cache)


def gguf_file(source: ModelSource) -> Path:
    """Raises `Ended` (bad job) where there is none."""
    file = Path(source.location)
    if not file.is_file():
        raise bad_job(f"there is no GGUF file at {file}")
    return file


def _folder(source: ModelSource, _cache: Path) -> str | None:
    return source.location if (Path(source.location) / "config.json").is_file() else None


_AHEAD: Final[Mapping[str, Callable[[ModelSource, Path], str | None]]] = {
    "folder": _folder,
    "gguf": lambda source, cache: prepare_tokenizer(gguf_file(source), cache=cache),
    "hub": lambda source, _: hub.fetch(source.location, source.revision, only=hub.WORDS),
    "config": lambda _, __: None,
}


def _write_tokenizer(file: Path, into: Path) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (ValueError, KeyError) as error:
        raise bad_job(f"{file.name} can't be read as a GGUF model: {first_line(error)}") from error
    tokenizer.save_pretrained(into)
