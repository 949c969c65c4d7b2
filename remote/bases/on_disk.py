"""The base model, brought onto the disk in a form that loads fast."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from remote.bases import hub
from remote.bases.made import hashes, made_once
from remote.bases.tokenizer import gguf_file, load_tokenizer, prepare_tokenizer
from remote.contract import TOKENIZER_FILES, Dtype, ModelSource
from remote.data.byte_tokenizer import byte_tokenizer
from remote.digest import fingerprint_of
from remote.ends import bad_job, first_line


def prepare_base(source: ModelSource, *, cache: Path, dtype: Dtype, seed: int) -> str:
    """What `from_pretrained` can open: the folder itself, a hub id, or the folder that a GGUF or config was turned into."""
    return _PREPARE[source.kind](source, cache, dtype, seed)


def _hub(source: ModelSource, _cache: Path, _dtype: Dtype, _seed: int) -> str:
    return hub.fetch(source.location, source.revision)


def hub_weights(source: ModelSource, folder: Path) -> dict[str, str]:
    """Weight file → hex sha256 of what was fetched from the hub; nothing of any other base: it came from home as it was.

    Raises `Ended` (bad job) where a file is missing or is not what the job says.
    """
    if source.kind != "hub":
        return {}
    found = hashes(folder, "*.safetensors")
    wrong = [name for name, sha256 in source.sha256.items() if found.get(name) != sha256]
    if wrong:
        raise bad_job(f"{wrong[0]} of {source.location} is not what the hub said it would be: its SHA-256 differs")
    return found


def _folder(source: ModelSource, _cache: Path, _dtype: Dtype, _seed: int) -> str:
    if not (Path(source.location) / "config.json").is_file():
        raise bad_job(f"the model folder {source.location} holds no config.json")
    return source.location


def _gguf(source: ModelSource, cache: Path, dtype: Dtype, _seed: int) -> str:
    file = gguf_file(source)
    return made_once(cache / f"{file.stem}-{fingerprint_of(file)}-{dtype}", lambda into: _write_gguf(file, dtype, into, cache))


def _config(source: ModelSource, cache: Path, dtype: Dtype, seed: int) -> str:
    place = Path(source.location)
    file = place / "config.json" if place.is_dir() else place
    if not file.is_file():
        raise bad_job(f"there is no model configuration at {file}")
    own = [place / name for name in TOKENIZER_FILES if (place / name).is_file()]
    digest = hashlib.sha256(file.read_bytes())
    for each in own:
        digest.update(each.read_bytes())
    making = cache / f"random-{digest.hexdigest()[:16]}-{seed}-{dtype}"
    return made_once(making, lambda into: _write_random(file, place if own else None, dtype, seed, into))


_PREPARE: Final[Mapping[str, Callable[[ModelSource, Path, Dtype, int], str]]] = {
    "folder": _folder,
    "gguf": _gguf,
    "hub": _hub,
    "config": _config,
}


def _write_gguf(file: Path, dtype: Dtype, into: Path, cache: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=getattr(torch, dtype))
    except (ValueError, KeyError) as error:
        raise bad_job(f"{file.name} can't be read as a GGUF model: {first_line(error)}") from error
    model.hf_quantizer = None  # the weights are plain tensors by now; with the mark transformers refuses to write them
    del model.config.quantization_config
    model.save_pretrained(into)
    # Read once: it takes longer than the weights of a small model.
    shutil.copytree(prepare_tokenizer(file, cache=cache), into, dirs_exist_ok=True)


def _write_random(file: Path, tokens: Path | None, dtype: Dtype, seed: int, into: Path) -> None:
    """`tokens`: the folder of a tokenizer; None = text is read as bytes."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(file)
    tokenizer = load_tokenizer(str(tokens)) if tokens is not None else byte_tokenizer()
    if config.vocab_size < len(tokenizer):
        raise bad_job(f"{file.name} has a vocabulary of {config.vocab_size}; its tokenizer needs at least {len(tokenizer)}")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    torch.manual_seed(seed)
    writes = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # ModernBERT only reads
    whole = AutoModelForCausalLM if writes else AutoModel
    if config.is_encoder_decoder:
        whole, config.decoder_start_token_id = AutoModelForSeq2SeqLM, config.pad_token_id
    whole.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(into)
    tokenizer.save_pretrained(into)
