"""LoRA's inputs as they come, instead of cast to the adapter's fp32 and back: the same numbers."""

from __future__ import annotations

from typing import Any

import pytest

from remote.adapters import adapt
from remote.adapters.table import ADAPTERS
from remote.bases.base import checkpoint_activations
from remote.contract import Loop, Strategy
from remote.ends import Ended
from tests.remote.test_losses import built, lossed, micro, tiny

pytestmark = pytest.mark.torch

AS_THEY_COME = {"cast_input_dtype": False}
FAMILIES = ("llama-3.2-1b", "qwen2.5-1.5b", "gpt2")


def strategy(**said: Any) -> Strategy:
    return Strategy(**{"method": "lora", "rank": 4, "gradient_checkpointing": "off", **said})


def learned(family: str, said: Strategy) -> tuple[float, dict[str, Any]]:
    """(loss, name → gradient) of one micro-batch under bfloat16 autocast; B is no longer zero."""
    import torch

    model = built(tiny(family)).to(torch.bfloat16)
    torch.manual_seed(3)
    adapted = adapt(model, said, Loop())
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    checkpoint_activations(adapted.get_base_model(), said)
    adapted.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return lossed(adapted, micro(256), "hf", "bfloat16")


@pytest.mark.parametrize("method", ["lora", "rslora", "lora_plus", "pissa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_inputs_that_were_cast(family: str, method: str) -> None:
    """To the bit: 16-bit numbers lose nothing on their way to fp32 and back."""
    import torch

    loss, gradients = learned(family, strategy(method=method))
    found, others = learned(family, strategy(method=method, method_options=AS_THEY_COME))
    assert found == loss
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, others[name]), name


@pytest.mark.parametrize("checkpointing", ["non_reentrant", "reentrant"])
def test_blocks_that_are_computed_again_are_so_alike(checkpointing: str) -> None:
    import torch

    loss, gradients = learned("llama-3.2-1b", strategy(method_options=AS_THEY_COME))
    found, others = learned("llama-3.2-1b", strategy(method_options=AS_THEY_COME, gradient_checkpointing=checkpointing))
    assert found == loss
    assert all(torch.equal(gradient, others[name]) for name, gradient in gradients.items())


def kept_bytes(said: Strategy) -> int:
    """Of what the layers keep for the backward pass, each storage once."""
    import torch

    model = built(tiny("llama-3.2-1b")).to(torch.bfloat16)
    adapted = adapt(model, said, Loop()).train()
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", dtype=torch.bfloat16):
        lossed(adapted, micro(256), "hf", "bfloat16")
    return sum(kept.values())


def test_less_is_kept_for_the_backward_pass() -> None:
    assert kept_bytes(strategy(method_options=AS_THEY_COME)) < kept_bytes(strategy())


def test_without_an_autocast_it_is_refused_with_what_to_set() -> None:
    with pytest.raises(Ended, match="set autocast bfloat16"):
        adapt(built(tiny("llama-3.2-1b")), strategy(method_options=AS_THEY_COME, autocast="none"), Loop())


def test_a_word_in_the_place_of_true_or_false_is_refused() -> None:
    with pytest.raises(Ended, match="true or false"):
        adapt(built(tiny("llama-3.2-1b")), strategy(method_options={"cast_input_dtype": "no"}), Loop())


@pytest.mark.parametrize("method", sorted({"dora", "vera", "ia3"} & set(ADAPTERS)))
def test_a_method_whose_layers_read_the_dtype_refuses_it_by_name(method: str) -> None:
    with pytest.raises(Ended, match="cast_input_dtype"):
        adapt(built(tiny("llama-3.2-1b")), strategy(method=method, method_options=AS_THEY_COME), Loop())
