"""An adapter on a base: a new one, or one from disk."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from remote.adapters.packed import hung_on_packed, keep_scales
from remote.checkpoints.files import is_checkpoint
from remote.contract import Strategy
from remote.ends import bad_job, first_line


def with_adapter(model: Any, config: Any, strategy: Strategy, init_adapter: str | None, *, keeps_dtype: bool = False) -> Any:
    """`model` with the adapter that peft makes of `config`, or with the one in the folder `init_adapter`. A checkpoint there
    is none: what it has learned is filled in once all that trains is there (`begin_with`).

    `keeps_dtype`: what trains stays in the base's dtype, else it is cast to the Strategy's `adapter_dtype`.
    """
    from peft import get_peft_model

    if is_classifier(model):
        config.task_type = "SEQ_CLS"
    elif model.config.is_encoder_decoder:
        config.task_type = "SEQ_2_SEQ_LM"
        _shape_prefix(model, config)
    try:
        if init_adapter is not None and not is_checkpoint(Path(init_adapter)):
            adapted = load_adapter(model, init_adapter, strategy, trainable=True)
        else:
            _require_named(model, getattr(config, "modules_to_save", None) or ())
            with _without_peft_warnings(), hung_on_packed():
                adapted = get_peft_model(model, config, autocast_adapter_dtype=_raised(strategy))
            keep_scales(adapted)
    except (ValueError, TypeError) as error:  # targets that it does not have or peft can't wrap, a folder without an adapter
        raise bad_job(f"the adapter does not fit this model: {first_line(error)}") from error
    except RuntimeError as error:
        if "size mismatch" not in str(error):  # torch's words for weights of another shape
            raise
        raise bad_job(f"the adapter in {init_adapter} was made for another base: its weights have other shapes") from error
    _name_feed_forward(adapted.peft_config["default"])
    if not keeps_dtype:
        cast_trainable(adapted, strategy.adapter_dtype)
    return adapted


def _shape_prefix(model: Any, config: Any) -> None:
    """Let a prefix have the shape of the decoder's keys: peft 0.21 takes the encoder's depth, and the width of states."""
    if config.peft_type == "PREFIX_TUNING":
        sizes = model.config
        config.num_layers, config.num_attention_heads = sizes.num_decoder_layers, sizes.num_heads
        config.token_dim = sizes.num_heads * sizes.d_kv


def is_classifier(model: Any) -> bool:
    """Whether its head tells classes apart."""
    return type(model).__name__.endswith("ForSequenceClassification")


def _require_named(model: Any, names: Iterable[str]) -> None:
    """Raise `Ended` (bad job) for a module that is to be trained whole and is not there: peft passes over it in silence."""
    paths = [path for path, _ in model.named_modules(remove_duplicate=False)]
    for name in names:
        if not any(path.endswith(name) for path in paths):
            raise bad_job(f'modules_to_save has "{name}", which names no module of this model')


def base_of(model: Any) -> Any:
    """The model that adapters were put on: itself where there are none."""
    while hasattr(model, "get_base_model"):
        model = model.get_base_model()
    return model


def bare(model: Any) -> Any:
    """The base without its adapters; `model` is used up."""
    while hasattr(model, "get_base_model"):
        if model.active_peft_config.is_prompt_learning:
            model = model.get_base_model()
            continue
        _originals_put_back(model)
        model = _unloaded(model)
    return model


def _unloaded(model: Any) -> Any:
    """Without its adapter's layers. peft 0.21 refuses to take IA³'s off packed weights, for they can't be merged there, which
    nobody asks for; what all its tuners share takes them off.
    """
    from peft import IA3Model
    from peft.tuners.tuners_utils import BaseTuner

    if isinstance(model.base_model, IA3Model):
        return BaseTuner._unload_and_optionally_merge(model.base_model, merge=False)  # noqa: SLF001 - unload calls it
    return model.unload()


def _originals_put_back(model: Any) -> None:
    """The base's modules in place of those that were trained whole: peft 0.21 unloads only such as are one linear, and of a
    pooler or a head of several it asks for a weight (all tuners that have no `_replace_module` of their own, as LoRA has).
    """
    from peft.utils.other import ModulesToSaveWrapper

    for path, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, module.original_module)


def _name_feed_forward(config: Any) -> None:
    """Let IA³ name its feed-forward modules as its targets are named: peft saves them apart, and refuses to read them so."""
    suffixes = getattr(config, "feedforward_modules", None)
    if suffixes:
        config.feedforward_modules = {name for name in config.target_modules if name.endswith(tuple(suffixes))}


def load_adapter(model: Any, folder: str, strategy: Strategy, *, trainable: bool) -> Any:
    """The base `model` with the adapter that `folder` holds."""
    from peft import AdaLoraModel, PeftModel

    with _without_peft_warnings(), hung_on_packed():
        loaded = PeftModel.from_pretrained(model, folder, is_trainable=trainable, autocast_adapter_dtype=_raised(strategy))
    if isinstance(loaded.base_model, AdaLoraModel):  # peft 0.21 names only one that trains, and asks where there is a loss
        loaded.base_model.trainable_adapter_name = "default"
    keep_scales(loaded)
    return loaded


def _raised(strategy: Strategy) -> bool:
    """Whether peft shall raise 16-bit adapters to fp32; the only cast that it knows."""
    return strategy.adapter_dtype == "float32"


# What peft 0.21 says while it wraps a model, and nobody can do anything about: by words and kind.
_SAID_IN_VAIN: Final[tuple[tuple[str, type[Warning]], ...]] = (
    ("`is_gradient_checkpointing` is deprecated", FutureWarning),  # it asks transformers 5.24 by a name that will go away
    ("You are trying to modify a model with PEFT for a second time", UserWarning),  # LoRA and a prompt: it is meant
    # AdaLoRA's ranks, which it looks for as LoRA's; those of fused experts, which it looks for among modules
    ("The following (rank|alpha)_pattern keys did not match", RuntimeWarning),
    ("Unsupported layer type .*Norm", UserWarning),  # norms have no features in and out, and need none
    ("fan_in_fan_out is set to False but the target module is `Conv1D`", UserWarning),  # it sets the right one itself
)


@contextmanager
def disabled(model: Any) -> Iterator[None]:
    """Peft's adapters switched off for a while. What trained before trains after: peft would let all of an adapter train."""
    trains = [parameter.requires_grad for parameter in model.parameters()]
    with model.disable_adapter():
        yield
    for parameter, before in zip(model.parameters(), trains, strict=True):
        parameter.requires_grad_(requires_grad=before)


@contextmanager
def _without_peft_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for words, kind in _SAID_IN_VAIN:
            warnings.filterwarnings("ignore", message=words, category=kind)
        yield


def cast_trainable(model: Any, dtype: str) -> None:
    """Hold every trainable parameter in `dtype`."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, dtype))


def freeze_first_factor(model: Any, strategy: Strategy) -> None:
    """Leave LoRA's A as it was drawn, as LoRA-FA does. Raises `Ended` (bad job) where there is more than A and B."""
    factors = [name for name, parameter in model.named_parameters() if parameter.requires_grad and "lora" in name]
    if not factors or not all("lora_A" in name or "lora_B" in name for name in factors):
        raise bad_job(
            f'optimizer "lora_fa" trains LoRA\'s B alone, and method "{strategy.method}" has more or none; choose lora'
        )
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(requires_grad=False)


def feed_as_they_come(model: Any) -> None:
    """Let LoRA's layers hand on what comes in as it is: under autocast their products are made in its dtype all the same.

    peft 0.21 casts it to the adapter's fp32 first, and autocast casts that back, so that each linear's backward pass keeps a
    copy of its own; now linears that read the same state keep that alone. Over bitsandbytes' linears peft casts nothing.
    """
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False
