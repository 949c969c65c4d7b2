"""A base with a head that tells classes apart, in place of the one that writes text."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from remote.bases.base import as_stored, keep_differentiable, keep_eager, quantization_config, require_weights, upcast
from remote.contract import Strategy
from remote.ends import bad_job, first_line

HEADS: Final = ("classifier", "score", "pre_classifier", "head", "pooler")  # as transformers' models name what is on top
NEVER_QUANTIZED: Final = (*HEADS, "pooler.dense")  # by transformers' rule: beginnings and ends of a module's path


class ClassHead(NamedTuple):
    """What a head has to know."""

    names: tuple[str, ...]  # of the classes, in the order of its outputs
    pad_token_id: int  # a decoder is read at the last token before it
    seed: int  # of the weights that it starts from


class Classifier(NamedTuple):
    model: Any
    fresh: tuple[str, ...]  # modules that the base brings no weights for: they are trained whole, whatever the method


def load_classifier(folder: str, strategy: Strategy, device: str, head: ClassHead) -> Classifier:
    """The base on `device` with a new head, quantized and cast as `strategy` says; the head never is quantized.

    Raises `Ended` (bad job) for a type of base that transformers has no such head for.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    quantization = quantization_config(strategy)
    if quantization is not None:
        quantization.llm_int8_skip_modules = list(NEVER_QUANTIZED)
    torch.manual_seed(head.seed)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=getattr(torch, strategy.param_dtype),
            attn_implementation=strategy.attention,
            **as_stored(
                folder,
                quantization,
                device,
                num_labels=len(head.names),
                id2label=dict(enumerate(head.names)),
                label2id={name: number for number, name in enumerate(head.names)},
                pad_token_id=head.pad_token_id,
            ),
            device_map={"": device},
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except ValueError as error:
        if "attention implementation" in str(error):  # transformers' words: DeBERTa computes its own
            raise bad_job(f'this base can\'t train with attention "{strategy.attention}"; use attention "eager"') from error
        raise bad_job(f"this base takes no head for classes: {first_line(error)}") from error
    if model.config.is_encoder_decoder:
        raise bad_job(
            "this base has an encoder and a decoder, and a head for classes is trained on one of them; use an encoder, as "
            'BERT is, or task "seq2seq" with the class as the answer'
        )
    keep_differentiable(model)
    keep_eager(model, device)
    upcast(model, strategy)
    return Classifier(model, _fresh(model, info["missing_keys"]))


def _fresh(model: Any, missing: set[str]) -> tuple[str, ...]:
    """The modules whose weights no file brought: those on top of the base, and a pooler within it."""
    prefix = f"{model.base_model_prefix}."
    found = {
        key.removeprefix(prefix).rpartition(".")[0].partition(".")[0] if key.startswith(prefix) else key.partition(".")[0]
        for key in missing
    }
    require_weights(found - set(HEADS))
    return tuple(sorted(found))


def with_head(strategy: Strategy, fresh: tuple[str, ...]) -> Strategy:
    """`strategy` that trains these modules whole, beside what it says itself."""
    return msgspec.structs.replace(strategy, modules_to_save=(*strategy.modules_to_save, *fresh))


def settled(model: Any, strategy: Strategy, fresh: tuple[str, ...]) -> Any:
    """`model` with its head in training. Without an autocast it meets hidden states of the base's dtype, and so has it."""
    import torch

    dtype = strategy.param_dtype if strategy.autocast == "none" else strategy.adapter_dtype
    for path, module in model.named_modules():
        steps = path.split(".")
        if not any(name in steps for name in fresh) or "original_module" in steps:
            continue
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(requires_grad=True)
            parameter.data = parameter.data.to(getattr(torch, dtype))
    return model
