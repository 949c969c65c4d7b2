"""A whole base, packed from disk to disk. Cut off at any moment, it goes on with the file that it was at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from remote.bases.base import put_in_linears, quantization_config
from remote.checkpoints.files import fsynced, fsynced_folder, write_whole
from remote.contract import PACKED_HERE, PACKED_KEY, PackedFile, Strategy
from remote.digest import sha256_of
from remote.ends import bad_job, first_line
from remote.quantized.index import WEIGHTS, Index, base_mark, how_of, read_index, write_index
from remote.quantized.shards import MAP_NAME, Packs, keys_of, packs_for, shards_of, write_packed

CONFIG: Final = "config.json"
LEFT: Final = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")  # weights, in whatever form
NOT_TAKEN: Final = (CONFIG, MAP_NAME)  # written anew

Tell = Callable[[PackedFile], object]


def pack(source: Path, into: Path, strategy: Strategy, *, tell: Tell = lambda _: None) -> Index:
    """Pack the base in the folder `source` as `strategy` says, into the folder `into`. What lies there whole is not made again.

    At any time one file of weights is read, and what it becomes is held. Raises `Ended` (bad job) for a base that can't be
    packed so, or a folder that holds another one.
    """
    shards = _packable(source, strategy)
    asked = Index(base=base_mark(source, shards), how=how_of(strategy))
    packs = _packs(source, strategy, shards)
    index = _begun(into, asked)
    for number, shard in enumerate(shards, 1):
        made, known = into / shard.name, index.sha256.get(shard.name)
        torn = known is None or not made.is_file() or sha256_of(made) != known
        if torn:
            index = _with(into, index, shard.name, _pack_one(shard, made, packs))
        tell(
            PackedFile(
                file=shard.name,
                number=number,
                of=len(shards),
                read_bytes=shard.stat().st_size,
                written_bytes=made.stat().st_size,
                packed_now=torn,
            )
        )
    return _finished(source, into, index, strategy)


def _packable(source: Path, strategy: Strategy) -> tuple[Path, ...]:
    """The files of a base's weights, which can be packed as the strategy says."""
    if strategy.quant not in PACKED_HERE:
        raise bad_job(f"bases are packed here in {' or '.join(PACKED_HERE)}, not in {strategy.quant}")
    if not (source / CONFIG).is_file():
        raise bad_job(f"the model folder {source} holds no {CONFIG}")
    if "quantization_config" in json.loads((source / CONFIG).read_bytes()):
        raise bad_job(f"the weights in {source} are packed already; name the base that they were made from")
    return shards_of(source)


def _begun(into: Path, asked: Index) -> Index:
    """What lies in the folder already; the index alone where nothing does."""
    into.mkdir(parents=True, exist_ok=True)
    before = read_index(into)
    if before is None:
        if any(into.glob(WEIGHTS)) or (into / CONFIG).exists():
            raise bad_job(f"{into} holds a model that was not packed here; name an empty folder")
        write_index(into, asked)
        return asked
    if before.base != asked.base:
        raise bad_job(f"{into} holds what was packed of another base; name an empty folder")
    if before.how != asked.how:
        raise bad_job(f"{into} holds this base packed in another way ({_words(before)}); name an empty folder")
    return before


def _words(index: Index) -> str:
    return ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(index.how).items())


def _packs(source: Path, strategy: Strategy, shards: tuple[Path, ...]) -> Packs:
    """What becomes of each tensor. Raises `Ended` (bad job) where the files name their weights otherwise than the model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(source)
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, strategy.param_dtype))
    except (ValueError, KeyError) as error:
        raise bad_job(f"the model in {source} can't be read: {first_line(error)}") from error
    put_in_linears(model, quantization_config(strategy), getattr(torch, strategy.param_dtype))
    found = packs_for(model, getattr(torch, strategy.param_dtype))
    held = {key for shard in shards for key in keys_of(shard)}
    lacking = sorted(found.packs.keys() - held)
    if lacking:
        raise bad_job(
            f"the files in {source} hold no {lacking[0]}, which the model has: such a base is packed while it is loaded"
        )
    return found


def _pack_one(shard: Path, made: Path, packs: Packs) -> str:
    """Hex sha256 of the file, which gets its name once all of it is on the disk."""
    making = made.with_name(f".{made.name}.making")
    sha256 = write_packed(shard, making, packs)
    fsynced(making)
    making.replace(made)
    fsynced_folder(made.parent)
    return sha256


def _with(into: Path, index: Index, name: str, sha256: str) -> Index:
    index = msgspec.structs.replace(index, sha256={**index.sha256, name: sha256}, whole=False)
    write_index(into, index)
    return index


def _finished(source: Path, into: Path, index: Index, strategy: Strategy) -> Index:
    """Beside the weights what else a base consists of; its configuration last: without it a folder is no model."""
    weights = {name: sha256 for name, sha256 in index.sha256.items() if Path(name).match(WEIGHTS)}
    names = {*weights, CONFIG}
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix not in LEFT and file.name not in NOT_TAKEN and not file.name.startswith("."):
            shutil.copyfile(file, into / file.name)
            names.add(file.name)
    if (source / MAP_NAME).is_file():
        write_whole(into / MAP_NAME, json.dumps(_map(into, sorted(weights))).encode())
        names.add(MAP_NAME)
    config = json.loads((source / CONFIG).read_bytes())
    config["quantization_config"] = quantization_config(strategy).to_dict()
    config[PACKED_KEY] = msgspec.to_builtins(index.how)
    write_whole(into / CONFIG, json.dumps(config, indent=2).encode())
    sha256 = {name: weights.get(name) or sha256_of(into / name) for name in sorted(names)}
    index = msgspec.structs.replace(index, sha256=sha256, whole=True)
    write_index(into, index)
    return index


def _map(into: Path, files: list[str]) -> dict[str, Any]:
    """Tensor → file, as transformers reads it."""
    keys = {key: name for name in files for key in keys_of(into / name)}
    return {"metadata": {"total_size": sum((into / name).stat().st_size for name in files)}, "weight_map": keys}
