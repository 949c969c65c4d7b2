"""The base model in memory, exactly as the Strategy says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from remote.adapters.targets import is_norm
from remote.bases.hqq import load_hqq
from remote.bases.stored import HQQ, read_stored
from remote.contract import STORED_QUANTS, Dtype, Strategy, Task
from remote.ends import bad_job, first_line
from remote.streaming import stream


def load_base(folder: str, strategy: Strategy, device: str, task: Task = "causal_lm", disk: Path | None = None) -> Any:
    """The base model on `device`: quantized, cast and frozen as `strategy` says, in evaluation mode. One that is streamed is
    read into the host's memory, and never lies on a GPU as a whole; what of it waits on the disk does so in the folder `disk`.
    Raises `Ended` (bad job) for one that is not for `task`, or whose files lack weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = AutoConfig.from_pretrained(folder)
    if task == "seq2seq" and not config.is_encoder_decoder:
        raise bad_job(f"a {config.model_type} has no encoder beside its decoder; say task causal_lm")
    maker = AutoModelForSeq2SeqLM if task == "seq2seq" else AutoModelForCausalLM

    if read_stored(folder).how == HQQ:
        return _packed_by_hqq(folder, maker, strategy, device)
    streams = strategy.offload == "stream"
    model, info = maker.from_pretrained(
        folder,
        dtype=getattr(torch, strategy.param_dtype),
        attn_implementation=strategy.attention,
        **as_stored(folder, quantization_config(strategy), device),
        device_map={"": "cpu" if streams else device},
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
    )
    require_weights(info["missing_keys"])
    keep_differentiable(model)
    keep_eager(model, device)
    upcast(model, strategy)
    if streams:
        stream(model, strategy, device, disk=disk)
    return model


def _packed_by_hqq(folder: str, maker: Any, strategy: Strategy, device: str) -> Any:
    import torch

    try:
        model, missing = load_hqq(
            Path(folder),
            maker,
            dtype=getattr(torch, strategy.param_dtype),
            compute_dtype=getattr(torch, _computed_in(strategy)),
            device=device,
            attn_implementation=strategy.attention,
        )
    except ValueError as error:
        raise bad_job(f"the base's weights can't be read: {first_line(error)}") from error
    require_weights(missing)
    upcast(model, strategy)
    return model


def _computed_in(strategy: Strategy) -> Dtype:
    return strategy.param_dtype if strategy.autocast == "none" else strategy.autocast


def require_weights(missing: Iterable[str]) -> None:
    """Raise `Ended` (bad job) for weights that no file brought: transformers draws them at random, and says so to its log."""
    names = sorted(missing)
    if names:
        raise bad_job(
            f"the base's files hold no weights for {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: they are "
            "not whole, or of another type of model"
        )


def as_stored(folder: str, quantization: Any, device: str, **said: Any) -> dict[str, Any]:
    """What `from_pretrained` is told of the quantization, and of what is `said` for the model's configuration. Weights that are
    packed on the disk are taken as they lie there; what they are computed in is the job's, whatever they were packed for.
    """
    from transformers import AutoConfig

    stored = read_stored(folder)
    if quantization is not None and not stored.packed_here:
        return {"quantization_config": quantization, **said}
    written = stored.to_train(device) if quantization is None else quantization.to_dict()
    if written is None:  # not even that: with a None transformers takes weights that are stored packed for plain ones
        return said
    config = AutoConfig.from_pretrained(folder, **said)
    config.quantization_config = written
    return {"config": config}


def quantization_config(strategy: Strategy) -> Any:
    """What bitsandbytes is told; None for a base that stays as it is, or as others packed it."""
    if strategy.quant == "none" or strategy.quant in STORED_QUANTS:
        return None
    import torch
    from transformers import BitsAndBytesConfig

    if strategy.quant == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=strategy.quant,
        bnb_4bit_use_double_quant=strategy.double_quant,
        bnb_4bit_compute_dtype=getattr(torch, _computed_in(strategy)),
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
    """Let a linear of bitsandbytes hold an int8 weight and its scales, one per output."""
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


def keep_eager(model: Any, device: str) -> None:
    """Let gptqmodel's linears unpack their weights on a CPU without what it would compile for that: at the first step, for
    minutes, and by a compiler that a box need not have.
    """
    for module in model.modules() if device == "cpu" else ():
        if hasattr(module, "qweight"):
            vars(module).pop("dequantize_weight", None)


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
