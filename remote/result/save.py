"""The result on disk: weights, tokenizer, model card, a script that answers one prompt, and a hash of every file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from remote.adapters import is_adapter, way_of
from remote.adapters.inserted import INSERTED
from remote.bases.heads import NEVER_QUANTIZED
from remote.bases.stored import HQQ, READERS, Reader
from remote.contract import MANIFEST_FILE, STORED_QUANTS, AdapterFile, JobSpec, Value, encode
from remote.digest import sha256_of
from remote.result.saved import PARTS_FILE, SAVING, base_name

HOW_FILE: Final = "rentune.json"  # what try.py has to know
TRY_FILE: Final = "try.py"
MODULES: Final = Path(__file__).parent.parent / "adapters" / "bottleneck.py"  # goes along where try.py needs it
MODULES_FILE: Final = "bottleneck_adapters.py"  # its name there: pandas imports any "bottleneck" that it finds
READER: Final = Path(__file__).parent.parent / "bases" / "hqq.py"  # likewise, of a base that hqq packed
READER_FILE: Final = "hqq_base.py"


class How(Value, frozen=True, kw_only=True):
    """How the result wants to be loaded. `base` is what the user calls the base model; None when the result is whole."""

    base: str | None
    revision: str | None = None  # of a base from the hub: the commit that was trained
    random_base: bool = False  # whether the base was random weights, which are not kept
    quant: str
    double_quant: bool
    dtype: str
    adapters: tuple[str, ...] = ()  # folders of peft's adapters here, in the order in which they go onto the base
    parts: str | None = None  # file of what was trained, by the names of the model's parameters
    pairs: bool = False  # whether the base is an encoder with a decoder
    labels: tuple[str, ...] = ()  # of a classification, the classes in the order of its outputs
    heads: tuple[str, ...] = ()  # likewise, modules that are never quantized
    packed_by: str | None = None  # others, in the way of this name
    told: Mapping[
        str, Mapping[str, str]
    ] = {}  # likewise, to the configuration, by kind of device, so that the kernels are those of the training
    inserted: dict[str, Any] | None = None  # bottleneck adapters that are put into the base first: arguments of `insert`


def save_weights(folder: Path, model: Any, tokenizer: Any, spec: JobSpec) -> None:
    """Write the trained weights and the tokenizer (with the chat template that was trained on) into an empty `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    SAVING[way_of(spec.strategy).saved].save(folder, model, spec)
    tokenizer.save_pretrained(folder)


def save_companions(
    folder: Path, spec: JobSpec, card: str, *, labels: tuple[str, ...] = (), packed_by: str | None = None
) -> None:
    """Write the model card and try.py. `packed_by`: how others have packed the base's weights."""
    (folder / "README.md").write_text(card, encoding="utf-8")
    strategy = spec.strategy
    way = way_of(strategy)
    inserted = INSERTED.get(strategy.method)
    how = How(
        base=base_name(spec) if is_adapter(strategy) else None,
        revision=spec.model.revision,
        random_base=spec.model.kind == "config",
        quant="none" if strategy.quant in STORED_QUANTS else strategy.quant,  # the base's own files say how they are packed
        double_quant=strategy.double_quant,
        dtype=strategy.param_dtype,
        adapters=way.adapter_folders,
        parts=PARTS_FILE if way.saved == "parts" else None,
        pairs=spec.task == "seq2seq",
        labels=labels,
        heads=NEVER_QUANTIZED if labels else (),
        packed_by=packed_by,
        told=READERS.get(packed_by or "", Reader()).told,
        inserted=inserted(strategy, spec.loop) if inserted is not None else None,
    )
    if inserted is not None:
        shutil.copyfile(MODULES, folder / MODULES_FILE)
    if packed_by == HQQ:
        shutil.copyfile(READER, folder / READER_FILE)
    (folder / HOW_FILE).write_bytes(encode(how))
    shutil.copyfile(Path(__file__).with_name("try_adapter.py"), folder / TRY_FILE)


def save_manifest(folder: Path) -> tuple[AdapterFile, ...]:
    """Hash every file of the result and write the list beside them; the list itself is named last."""
    files = [described(folder, path) for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST_FILE]
    manifest = folder / MANIFEST_FILE
    manifest.write_text("".join(f"{file.sha256}  {file.path}\n" for file in files), encoding="utf-8")
    return (*files, described(folder, manifest))


def described(folder: Path, path: Path) -> AdapterFile:
    return AdapterFile(path=path.relative_to(folder).as_posix(), size_bytes=path.stat().st_size, sha256=sha256_of(path))
