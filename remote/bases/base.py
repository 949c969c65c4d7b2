"""The base model: brought onto the disk in a form that loads fast, then into memory exactly as the Strategy says."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from remote.adapters.targets import is_norm
from remote.bases import hub
from remote.contract import PACKED_KEY, Dtype, ModelSource, Strategy, Task
from remote.data.byte_tokenizer import byte_tokenizer
from remote.data.check import TOKENIZER_FILES
from remote.digest import fingerprint_of, sha256_of
from remote.ends import bad_job, first_line
from remote.quantized.index import require_whole
from remote.streaming import stream

log = logging.getLogger(__name__)

SUMS: Final = "SHA256SUMS"  # in a folder that was made here


# ── on the disk ────────────────────────────────────────────────────────────────────────────────────────────────────


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
    found = _hashes(folder, "*.safetensors")
    wrong = [name for name, sha256 in source.sha256.items() if found.get(name) != sha256]
    if wrong:
        raise bad_job(f"{wrong[0]} of {source.location} is not what the hub said it would be: its SHA-256 differs")
    return found


def _folder(source: ModelSource, _cache: Path, _dtype: Dtype, _seed: int) -> str:
    if not (Path(source.location) / "config.json").is_file():
        raise bad_job(f"the model folder {source.location} holds no config.json")
    return source.location


def _gguf(source: ModelSource, cache: Path, dtype: Dtype, _seed: int) -> str:
    file = Path(source.location)
    if not file.is_file():
        raise bad_job(f"there is no GGUF file at {file}")
    return _converted(cache / f"{file.stem}-{fingerprint_of(file)}-{dtype}", lambda into: _write_gguf(file, dtype, into, cache))


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
    return _converted(making, lambda into: _write_random(file, place if own else None, dtype, seed, into))


_PREPARE: Final[Mapping[str, Callable[[ModelSource, Path, Dtype, int], str]]] = {
    "folder": _folder,
    "gguf": _gguf,
    "hub": _hub,
    "config": _config,
}


def _converted(folder: Path, write: Callable[[Path], None]) -> str:
    """`folder`, made by `write` unless an earlier run made it, and each file still has the hash that it had then: a volume that
    is kept may come from a machine that was cut off. Moved into place whole: a kill leaves nothing half done.
    """
    if folder.is_dir() and not _is_as_made(folder):
        log.warning("%s is not as an earlier run made it, and is made anew", folder)
        shutil.rmtree(folder)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-", ignore_cleanup_errors=True) as making:
            write(Path(making) / "model")
            (Path(making) / "model" / SUMS).write_text(_sums(Path(making) / "model"))
            try:
                (Path(making) / "model").rename(folder)
            except OSError:
                if not folder.is_dir():  # another run that was faster is fine
                    raise
    return str(folder)


def _is_as_made(folder: Path) -> bool:
    return (folder / SUMS).is_file() and (folder / SUMS).read_text() == _sums(folder)


def _sums(folder: Path) -> str:
    """As `sha256sum` writes them."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in _hashes(folder, "*").items() if name != SUMS)


def _hashes(folder: Path, pattern: str) -> dict[str, str]:
    """File below it → hex sha256. Hashing lets go of the interpreter, and a large base has dozens of files."""
    files = sorted(file for file in folder.rglob(pattern) if file.is_file())
    with ThreadPoolExecutor() as pool:
        return {str(file.relative_to(folder)): sha256 for file, sha256 in zip(files, pool.map(sha256_of, files), strict=True)}


def prepare_tokenizer(model: Path, *, cache: Path) -> str:
    """What `load_tokenizer` can open: the model folder itself, or the folder that the tokenizer of a GGUF was written to."""
    if model.suffix != ".gguf":
        return str(model)
    return _converted(cache / f"{model.stem}-{fingerprint_of(model)}-tokenizer", lambda into: _write_tokenizer(model, into))


def _write_tokenizer(file: Path, into: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(into)


def _write_gguf(file: Path, dtype: Dtype, into: Path, cache: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=getattr(torch, dtype))
        tokenizer = prepare_tokenizer(file, cache=cache)  # read once: it takes longer than the weights of a small model
    except (ValueError, KeyError) as error:
        raise bad_job(f"{file.name} can't be read as a GGUF model: {first_line(error)}") from error
    model.hf_quantizer = None  # the weights are plain tensors by now; with the mark transformers refuses to write them
    del model.config.quantization_config
    model.save_pretrained(into)
    shutil.copytree(tokenizer, into, dirs_exist_ok=True)


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


# How weights are stored → the packages that transformers 5.24 reads them with, beside those of the box.
STORED_BY: Final[Mapping[str | None, tuple[str, ...]]] = {
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
    "hqq": ("hqq",),
}

# ── in memory ──────────────────────────────────────────────────────────────────────────────────────────────────────


def load_tokenizer(folder: str, *, writes: bool = True) -> Any:
    """The tokenizer in a folder. Raises `Ended` (bad job) for one that can't train; what `writes` must know how to end."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not tokenizer.is_fast or (writes and tokenizer.eos_token is None):
        raise bad_job(f"the tokenizer in {folder} needs a tokenizer.json and an end-of-sequence token")
    return tokenizer


def check_stored(folder: str, strategy: Strategy) -> None:
    """Raise `Ended` (bad job) for weights that are stored packed where nothing here reads them, or the job packs them again; of
    those that `remote.quantized` packed, where they are not as it left them, or not as the job wants them.
    """
    config = json.loads((Path(folder) / "config.json").read_bytes())
    if PACKED_KEY in config and require_whole(Path(folder), strategy):
        return
    how = config.get("quantization_config", {}).get("quant_method")
    lacking = [package for package in STORED_BY.get(how, ()) if find_spec(package) is None]
    if lacking:
        raise bad_job(
            f"the base's weights are stored in {how}, and what reads them is not installed here: {' and '.join(lacking)}; "
            "name the base that it was made from"
        )
    if how is not None and strategy.quant != "none":
        raise bad_job(f'the base\'s weights are stored in {how}, and quant {strategy.quant} packs them again; use quant "none"')


def load_base(folder: str, strategy: Strategy, device: str, task: Task = "causal_lm") -> Any:
    """The base model on `device`: quantized, cast and frozen as `strategy` says, in evaluation mode. One that is streamed is
    read into the host's memory, and never lies on a GPU as a whole. Raises `Ended` (bad job) for one that is not for `task`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = AutoConfig.from_pretrained(folder)
    if task == "seq2seq" and not config.is_encoder_decoder:
        raise bad_job(f"a {config.model_type} has no encoder beside its decoder; say task causal_lm")
    maker = AutoModelForSeq2SeqLM if task == "seq2seq" else AutoModelForCausalLM

    streams = strategy.offload == "stream"
    model = maker.from_pretrained(
        folder,
        dtype=getattr(torch, strategy.param_dtype),
        attn_implementation=strategy.attention,
        **as_stored(folder, quantization_config(strategy)),
        device_map={"": "cpu" if streams else device},
        local_files_only=True,
    )
    keep_differentiable(model)
    upcast(model, strategy)
    if streams:
        stream(model, strategy, device)
    return model


def as_stored(folder: str, quantization: Any, **said: Any) -> dict[str, Any]:
    """What `from_pretrained` is told of the quantization, and of what is `said` for the model's configuration. Weights that are
    packed on the disk are taken as they lie there; what they are computed in is the job's, whatever they were packed for.
    """
    from transformers import AutoConfig

    if not _is_packed_here(Path(folder)):
        return {"quantization_config": quantization, **said}
    config = AutoConfig.from_pretrained(folder, **said)
    config.quantization_config = quantization.to_dict()
    return {"config": config}


def _is_packed_here(folder: Path) -> bool:
    return PACKED_KEY in json.loads((folder / "config.json").read_bytes())


def quantization_config(strategy: Strategy) -> Any:
    """What bitsandbytes is told; None for a base that stays as it is."""
    if strategy.quant == "none":
        return None
    import torch
    from transformers import BitsAndBytesConfig

    if strategy.quant == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    compute_dtype = strategy.param_dtype if strategy.autocast == "none" else strategy.autocast
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=strategy.quant,
        bnb_4bit_use_double_quant=strategy.double_quant,
        bnb_4bit_compute_dtype=getattr(torch, compute_dtype),
        bnb_4bit_quant_storage=getattr(torch, strategy.quant_storage),
    )


def put_in_linears(model: Any, quantization: Any, dtype: Any) -> None:
    """Put bitsandbytes' linears where transformers puts them, without weights."""
    from transformers.quantizers.auto import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(quantization)
    quantizer.preprocess_model(model, dtype=dtype, device_map=None)
    quantizer.postprocess_model(model)
    keep_differentiable(model)


def hold_4bit(module: Any, packed: Any, state: Any) -> None:
    """Let a linear of bitsandbytes hold a 4-bit weight that is packed already, with its `QuantState`."""
    import bitsandbytes

    old = module.weight
    module.weight = bitsandbytes.nn.Params4bit(
        packed,
        requires_grad=False,
        quant_state=state,
        blocksize=state.blocksize,
        compress_statistics=old.compress_statistics,
        quant_type=old.quant_type,
        quant_storage=old.quant_storage,
        module=module,
        bnb_quantized=True,
    )
    module.quant_state = state


def hold_int8(module: Any, codes: Any, scales: Any) -> None:
    """The same of an int8 weight and its scales, one per output."""
    import bitsandbytes

    module.weight = bitsandbytes.nn.Int8Params(codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scales)


def _is_packed(parameter: Any) -> bool:
    return type(parameter).__name__ in ("Params4bit", "Int8Params")


def _every(_module: Any) -> bool:
    return True


_UPCAST: Final[Mapping[str, Callable[[Any], bool] | None]] = {"none": None, "norms": is_norm, "full": _every}


def keep_differentiable(model: Any) -> None:
    """Let bitsandbytes' 4-bit linears lie on a CPU as they were packed, whether they train or answer.

    On cores with AVX512 in bf16 they would be laid out anew at the first answer, and stay so: its product for those (0.50) has
    no backward pass, so after an evaluation no gradient would get past a linear.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def upcast(model: Any, strategy: Strategy) -> None:
    """Raise 16-bit tensors to fp32: nothing, the norms, or all that is not packed (as peft's k-bit preparation does)."""
    import torch

    wanted = _UPCAST[strategy.kbit_upcast]
    if wanted is None:
        return
    for module in model.modules():
        for parameter in module.parameters(recurse=False) if wanted(module) else ():
            if parameter.dtype in (torch.float16, torch.bfloat16) and not _is_packed(parameter):
                parameter.data = parameter.data.to(torch.float32)


CHECKPOINTING: Final[Mapping[str, dict[str, bool] | None]] = {
    "off": None,
    "non_reentrant": {"use_reentrant": False},
    "reentrant": {"use_reentrant": True},
}


def checkpoint_activations(model: Any, strategy: Strategy) -> None:
    """Recompute activations in the backward pass. Re-entrant recomputation needs an input that wants a gradient."""
    options = CHECKPOINTING[strategy.gradient_checkpointing]
    if options is None:
        return
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:  # transformers before 5.24, which a measurement on somebody else's machine may have
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    if options["use_reentrant"]:
        model.enable_input_require_grads()
