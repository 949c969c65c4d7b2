"""`resolve_model`: what a person typed as `--model` -> an Architecture. Never touches the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.config import ConfigUnusable, Undescribed
from catalogs.bases.copies import by_family, by_name, copied, is_size_of, packed_as, sees, squashed
from catalogs.bases.families import architecture_of
from catalogs.bases.hqq import read_hqq
from catalogs.bases.outline import outline_of
from catalogs.failure import Failure
from catalogs.user_file import (
    MAX_CONFIG_BYTES,
    FileUnusable,
    absent_words,
    decode_json,
    exists,
    expanded,
    is_link,
    read_text,
    shortened,
)

REGISTRY: Final = Path(__file__).parents[1] / "data" / "architectures.json"
OUTLINED: Final = Path(__file__).parents[1] / "data" / "outlined.json"
QUANTIZATION: Final = "quantization_config"  # the key of a config under which stored weights say how they are packed
MAX_NAMED: Final = 12  # of a family
SIZE_WORD: Final = re.compile(r"(\d+(?:\.\d+)?)([bm])")


class ModelUnknown(Failure):
    """No architecture is known under that name."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint=hint, place=("model",))

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}"


# Whose weights are behind a form on the hub, by the beginnings of their ids: from the model cards, as of 2026-11.
GATED: Final = (
    *("meta-llama/", "google/gemma-", "mistralai/mistral-", "mistralai/mixtral-"),
    *("bigcode/starcoder", "tiiuae/falcon-180b"),
)


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One base model of the registry."""

    name: str
    hub: tuple[str, ...]  # ids that share this shape: base, instruct, re-uploads
    sizes: tuple[str, ...] = ()  # size words that mean this model
    num_params: int | None  # as the hub counts them; None where no count was at hand
    confidence: Literal["high", "medium"]  # high: the config was read, or is transformers' own; medium: recalled
    source: str
    as_of: str
    config: dict[str, Any]


@cache
def registry() -> tuple[ModelRow, ...]:
    """All rows, in the table's order."""
    return msgspec.json.decode(REGISTRY.read_bytes(), type=tuple[ModelRow, ...])


@cache
def outlined() -> tuple[ModelRow, ...]:
    """Bases whose blocks nobody has described here: transformers builds them, and a trace counts what there is."""
    return msgspec.json.decode(OUTLINED.read_bytes(), type=tuple[ModelRow, ...])


@cache
def _names() -> dict[str, ModelRow]:
    """Every name, hub id and size word, in lower case."""
    rows = (*outlined(), *registry())
    names = {word.lower(): row for row in rows for word in row.sizes}
    names |= {hub_id.lower(): row for row in rows for hub_id in row.hub}
    return names | {row.name.lower(): row for row in rows}


@cache
def _copied() -> dict[str, ModelRow]:
    """Names as copies have them: they keep the name of what they come from, and have its shape."""
    return by_name((*outlined(), *registry()))


@cache
def _families() -> dict[str, dict[str, ModelRow]]:
    return by_family((*outlined(), *registry()))


def _family(reference: str) -> dict[str, ModelRow]:
    """What there is of a family of which only the beginning is named, each by its name."""
    return {} if "/" in reference else _families().get(squashed(reference), {})


def _only_size(reference: str) -> ModelRow | None:
    """The row that is meant by the name of a family that has one size."""
    family = _family(reference)
    return next((row for name, row in family.items() if len(family) == 1 and is_size_of(name, reference)), None)


class Said(Enum):
    """As what a reference names a base, and what is told of that. `{0}`: the reference; `{1}`: the name of the row."""

    SIZE = "typical shape of {0}: {1}; "
    NAME = ""  # its own, or a hub id
    ONLY_SIZE = "{0} is taken for the one size of it that is known; "
    COPY = "{0} is taken for a copy, by its name; "


class Meant(NamedTuple):
    """A row, and how it was found."""

    row: ModelRow
    said: Said


def row_of(reference: str) -> Meant | None:
    """The row that is meant by a name, a hub id, the name of a copy by another owner, or that of a family of one size."""
    if meant := _named(reference):
        return meant
    copy, only = copied(reference, _copied()), _only_size(reference)
    if only is not None and copy in (None, only):
        return Meant(only, Said.ONLY_SIZE)
    return None if copy is None else Meant(copy, Said.COPY)


def _named(reference: str) -> Meant | None:
    row = _names().get(reference.strip().lower())
    return None if row is None else Meant(row, Said.SIZE if is_size(reference) else Said.NAME)


def packed_copy(reference: str) -> tuple[str, str] | None:
    """How the weights of a copy are packed whose name says so, and the registry name of what it is a copy of."""
    how, meant = packed_as(reference), row_of(reference)
    if how is None or meant is None or meant.said in (Said.SIZE, Said.NAME):
        return None
    return how, meant.row.name


def is_size(reference: str) -> bool:
    """Whether a model is named by its size alone, which is a shape and no weights."""
    return SIZE_WORD.fullmatch(reference.strip().lower()) is not None


def hub_id_of(reference: str) -> str | None:
    """The hub id with the weights of a hub id in any case, of a registry name, or of the model whose shape a size word means;
    None where the registry knows none.
    """
    word = reference.strip().lower()
    meant = row_of(word)
    if meant is None or ("/" in word and meant.said is not Said.NAME):
        return None
    row = meant.row
    exactly = [hub_id for hub_id in row.hub if word == hub_id.lower() and "/" in word]  # before its namesakes of other owners
    alike = iter(exactly or [hub_id for hub_id in row.hub if squashed(word) == squashed(hub_id)])
    is_row = meant.said is not Said.COPY or squashed(word) == squashed(row.name)  # else a tuning, whose weights are others
    return next(alike, row.hub[0] if row.hub and is_row else None)


def is_gated(hub_id: str) -> bool:
    """Whether the hub gives these weights only to an account that has accepted their terms, as far as is known here."""
    return hub_id.lower().startswith(GATED)


class TypeNotDescribed(ModelUnknown):
    """A config of a type whose blocks nobody has described here; `outline` is what it says all the same."""

    def __init__(self, message: str, hint: str, outline: Architecture) -> None:
        super().__init__(message, hint)
        self.outline = outline


def resolve_model(reference: str | Mapping[str, Any], *, base: Path | None = None) -> Architecture:
    """A size word, registry name, hub id, config.json, model folder, GGUF file or inline config.

    `base`: the folder that relative paths start from; None = paths are not looked up. Raises `ModelUnknown`, and of its kind
    `TypeNotDescribed` for a config of a type that has no row.
    """
    if isinstance(reference, Mapping):
        name = str(reference.get("_name_or_path") or reference.get("model_type", "config"))
        return _built(reference, name=name, source="the config that was given")
    if meant := _named(reference):
        return _of_row(meant, reference)
    if reference.strip() and base is not None and exists(path := base / expanded(reference)):
        return _of_path(path, reference)
    if meant := row_of(reference):
        return _of_row(meant, reference)
    if reference.strip() and base is not None and is_link(base / expanded(reference)):
        raise ModelUnknown(f"{shortened(reference)} {absent_words(base / expanded(reference))}", "give the file that is meant")
    raise _unknown(shortened(reference), looked_up=base is not None)


def _of_row(meant: Meant, reference: str) -> Architecture:
    row = meant.row
    taken = meant.said.value.format(shortened(reference), row.name)
    return _built(row.config, name=row.name, source=f"{taken}{row.source} ({row.as_of})")


CONFIG: Final = "config.json"  # so called in every folder of a model, which is what tells it from others
# What AutoGPTQ and AutoAWQ wrote beside a config.json before it held a `quantization_config`: the file -> the method
STORED_BESIDE: Final = {"quantize_config.json": "gptq", "quant_config.json": "awq"}


def _of_path(path: Path, reference: str) -> Architecture:
    if path.is_dir():
        path = _config_in(path)
        reference = str(Path(reference) / path.name)
    if path.suffix == ".gguf":
        from catalogs.bases.gguf import GgufUnreadable, read_gguf_config  # only then: it costs start-up time

        try:
            return _built(read_gguf_config(path), name=path.stem, source=f"GGUF header of {reference}")
        except GgufUnreadable as error:
            raise ModelUnknown(f"{reference}: {error}", "give a GGUF file of a known architecture") from error
    try:
        config = decode_json(read_text(path, max_bytes=MAX_CONFIG_BYTES))
    except FileUnusable as error:
        raise ModelUnknown(f"{reference} {error}", "give the config.json of a transformers model") from None
    except ValueError as error:
        raise ModelUnknown(f"{reference} is not a readable config.json", str(error)) from None
    if not isinstance(config, dict):
        raise ModelUnknown(f"{reference} does not hold one JSON object", "give the config.json of a transformers model")
    said_beside = next((file for file in STORED_BESIDE if exists(path.parent / file)), None)
    if said_beside is not None and config.get(QUANTIZATION) is None:
        config |= {QUANTIZATION: {"quant_method": STORED_BESIDE[said_beside]}}
        reference = str(Path(reference).parent / said_beside)
    elif path.name == CONFIG and config.get(QUANTIZATION) is None and (packed := read_hqq(path.parent)) is not None:
        config |= {QUANTIZATION: packed}
    name = path.parent.name if path.name == CONFIG and path.parent.name else path.stem
    return _built(config, name=name, source=reference, file=reference)


def _config_in(folder: Path) -> Path:
    """The folder's config.json, else its only GGUF file."""
    if (config := folder / CONFIG).exists():
        return config
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) == 1:
        return ggufs[0]
    found = f"{len(ggufs)} GGUF files" if ggufs else "no config.json and no GGUF file"
    raise ModelUnknown(f"the folder {folder} holds {found}", "name the file")


def _built(config: Mapping[str, Any], *, name: str, source: str, file: str | None = None) -> Architecture:
    """`file`: which one holds the config, to be named in a complaint; None where it was given itself."""
    try:
        return architecture_of(config, name=name, source=source)
    except Undescribed as error:
        message = f"{file}: {error.message}" if file else error.message
        try:
            outline = outline_of(config, name=name, source=source)
        except ConfigUnusable:
            raise ModelUnknown(message, error.hint) from error
        raise TypeNotDescribed(message, error.hint, outline) from error
    except ConfigUnusable as error:
        raise ModelUnknown(f"{file}: {error.message}" if file else error.message, error.hint) from error


def _unknown(reference: str, *, looked_up: bool) -> ModelUnknown:
    word = reference.strip().lower()
    if size := SIZE_WORD.fullmatch(word):
        return ModelUnknown(f"no typical model of {reference} is known", f"nearest sizes: {', '.join(_nearest_sizes(size))}")
    if sees(word):
        what = f"{reference} sees images, and bases that do are not estimated yet"
        return ModelUnknown(what, "name the language model inside it, or give the config.json of that")
    if family := _family(word):
        known = ", ".join(family) if len(family) <= MAX_NAMED else f"{', '.join([*family][:MAX_NAMED])}, …"
        return ModelUnknown(f"{reference} is only the beginning of a name", f"name the whole: {known}")
    from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

    if "/" in word:  # whoever names an owner means the hub
        spelled = {hub_id.lower(): hub_id for row in registry() for hub_id in row.hub}
        near = [spelled[each] for each in get_close_matches(word, spelled, n=4, cutoff=0.6)]
    else:
        sizes = [part for part in word.split("-") if SIZE_WORD.fullmatch(part) and part in _names()]
        close = [*sizes, *get_close_matches(word, _names(), n=4, cutoff=0.5)]
        near = list(dict.fromkeys(each if each in sizes else _names()[each].name for each in close))
    hint = f"nearest: {', '.join(near)}" if near else "give a config.json, a model folder, a GGUF file or a size such as 7b"
    no_file = " and no such file exists" if looked_up else ""
    return ModelUnknown(f"no model {reference} in the registry{no_file}", f"{hint}; any other base by its config.json")


def _nearest_sizes(size: re.Match[str]) -> list[str]:
    """The two size words below and the two above, as far as there are any."""
    wanted = _params(size)
    known = sorted((_params(match), word) for word in _names() if (match := SIZE_WORD.fullmatch(word)))
    below = [word for params, word in known if params <= wanted][-2:]
    return below + [word for params, word in known if params > wanted][:2]


def _params(size: re.Match[str]) -> float:
    return float(size[1]) * {"b": 1e9, "m": 1e6}[size[2]]
