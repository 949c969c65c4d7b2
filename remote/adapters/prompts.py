"""Methods that put learned positions in front of a sequence: as embeddings, or as keys and values of every block."""

from __future__ import annotations

from typing import Any

import msgspec

from remote.adapters.configs import lora
from remote.adapters.options import fields_of, no_layers, options_of
from remote.adapters.way import by_peft
from remote.adapters.wrapping import with_adapter
from remote.contract import Loop, Strategy
from remote.ends import bad_job


def prompt_tuning(strategy: Strategy, loop: Loop) -> Any:
    """Prompt tuning (Lester et al., arXiv:2104.08691): one learned embedding for each virtual token."""
    from peft import PromptTuningConfig

    return _config(PromptTuningConfig, strategy, loop)


def p_tuning(strategy: Strategy, loop: Loop) -> Any:
    """P-tuning (Liu et al., arXiv:2103.10385): the embeddings come out of a small MLP, or an LSTM and an MLP."""
    from peft import PromptEncoderConfig

    return _config(PromptEncoderConfig, strategy, loop)


def prefix_tuning(strategy: Strategy, loop: Loop) -> Any:
    """Prefix tuning (Li and Liang, arXiv:2101.00190); `prefix_projection` lets an MLP make keys and values."""
    from peft import PrefixTuningConfig

    if strategy.gradient_checkpointing != "off":
        raise bad_job(
            "prefix_tuning can't train with gradient checkpointing: a block that is computed again would meet its prefix "
            'twice; set gradient_checkpointing "off", or choose prompt_tuning or p_tuning'
        )
    return _config(PrefixTuningConfig, strategy, loop)


def lora_and_prompt(model: Any, strategy: Strategy, loop: Loop) -> Any:
    """LoRA in the base, and in front of it a prompt. `method_options` are LoRA's."""
    adapted = by_peft(lora).attach(model, strategy, loop)
    tensors = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    bare = msgspec.structs.replace(strategy, method_options={})
    prompted = with_adapter(adapted, prompt_tuning(bare, Loop()), strategy, None)
    for tensor in tensors:  # peft froze them together with the base
        tensor.requires_grad_(requires_grad=True)
    return prompted


def _config(kind: Any, strategy: Strategy, loop: Loop) -> Any:
    no_layers(strategy, loop)
    if strategy.num_virtual_tokens is None:
        raise bad_job(f'method "{strategy.method}" needs virtual tokens; set training.num_virtual_tokens')
    options = options_of(strategy, fields_of(kind), f"peft's {kind.__name__}")
    # peft 0.21 would learn as many embeddings again for a decoder beside an encoder, and read none of those; of a prefix it
    # makes the cache of such a decoder where both are counted
    stacks = {"num_transformer_submodules": 1} if kind.__name__ != "PrefixTuningConfig" else {}
    said = {"num_virtual_tokens": strategy.num_virtual_tokens, "task_type": "CAUSAL_LM", **stacks}
    return kind(**{**options, **said})
