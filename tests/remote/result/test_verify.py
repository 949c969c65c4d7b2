"""What is saved must give back what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file, save_file

from remote.adapters import adapt
from remote.contract import (
    DataSource,
    EndReason,
    JobSpec,
    Loop,
    ModelSource,
    Strategy,
)
from remote.data.batches import Shape, collated
from remote.data.rows import Document
from remote.data.tokens import encode_rows
from remote.ends import Ended
from remote.result.save import save_weights
from remote.result.verify import sums_of, verify
from remote.step import settings_of
from tests.remote.conftest import CONFIG, STRATEGY

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")]

Sums = dict[str, tuple[float, float]]


def trained(strategy: Strategy) -> tuple[Any, Sums]:
    """(a model whose trainable weights moved, what they were before)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = adapt(LlamaForCausalLM(LlamaConfig(**CONFIG)), strategy, Loop())
    before = sums_of(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model, before


def saved(folder: Path, strategy: Strategy, model: Any, tokenizer: Any) -> Path:
    source = ModelSource(kind="folder", location="base", name="tiny")
    data = DataSource(train="data.jsonl")
    spec = JobSpec(run_id="r", model=source, data=data, strategy=strategy, loop=Loop(), device="cpu")
    save_weights(folder, model, tokenizer, spec)
    return folder


def verified(folder: Path, strategy: Strategy, model: Any, before: Sums, tokenizer: Any) -> Any:
    examples = encode_rows([Document(text="one and two"), Document(text="three")], tokenizer, 32).examples
    shape = Shape(micro_batch_size=2, gradient_accumulation_steps=1, seq_len=32, padded=False, pad_token_id=0, device="cpu")
    return verify(folder, model, collated(examples, shape), settings_of(strategy, "cpu", 1.0), strategy, before)


METHODS = [STRATEGY, Strategy(method="full", param_dtype="float32", autocast="none")]


@pytest.mark.parametrize("strategy", METHODS, ids=lambda strategy: strategy.method)
def test_the_files_give_the_same_logits(tmp_path: Path, byte_tokenizer: Any, strategy: Strategy) -> None:
    model, before = trained(strategy)
    found = verified(saved(tmp_path, strategy, model, byte_tokenizer), strategy, model, before, byte_tokenizer)
    assert found.max_difference == 0.0
    assert found.moved_tensors == found.trainable_tensors == len(before)
    assert (found.max_change > 0) == (strategy.method == "lora")


@pytest.mark.parametrize("strategy", METHODS, ids=lambda strategy: strategy.method)
def test_files_that_hold_something_else_are_no_result(tmp_path: Path, byte_tokenizer: Any, strategy: Strategy) -> None:
    """A disk that returns other bytes than were written is found before anybody pays for bringing them home."""
    model, before = trained(strategy)
    (file,) = saved(tmp_path, strategy, model, byte_tokenizer).glob("*.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in load_file(file).items()}, file)
    with pytest.raises(Ended, match="do not give the trained model back") as caught:
        verified(tmp_path, strategy, model, before, byte_tokenizer)
    assert caught.value.reason == EndReason.VERIFY_FAILED


MADE = {  # prompts that layers make, and that are saved as what these make
    "p_tuning": {},
    "prefix_tuning": {"method_options": {"prefix_projection": True, "encoder_hidden_size": 16}},
}


def made_prompt(method: str) -> Strategy:
    """Trained under bfloat16, in which the layers make another prompt than in float32."""
    said: dict[str, Any] = {"method": method, "rank": None, "num_virtual_tokens": 6, "autocast": "bfloat16"} | MADE[method]
    return msgspec.structs.replace(STRATEGY, **said)


@pytest.mark.parametrize("method", MADE)
def test_a_prompt_that_layers_make_is_saved_as_it_trained(tmp_path: Path, byte_tokenizer: Any, method: str) -> None:
    strategy = made_prompt(method)
    model, before = trained(strategy)
    found = verified(saved(tmp_path, strategy, model, byte_tokenizer), strategy, model, before, byte_tokenizer)
    assert found.max_difference == 0.0
    assert found.max_change > 0


@pytest.mark.parametrize("method", MADE)
def test_a_prompt_that_is_not_what_its_layers_make_is_no_result(tmp_path: Path, byte_tokenizer: Any, method: str) -> None:
    strategy = made_prompt(method)
    model, before = trained(strategy)
    (file,) = saved(tmp_path, strategy, model, byte_tokenizer).glob("*.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in load_file(file).items()}, file)
    with pytest.raises(Ended, match="do not give the trained model back"):
        verified(tmp_path, strategy, model, before, byte_tokenizer)


def test_weights_that_never_moved_are_no_result(tmp_path: Path, byte_tokenizer: Any) -> None:
    model, _ = trained(STRATEGY)
    with pytest.raises(Ended, match="left every weight as it was"):
        verified(saved(tmp_path, STRATEGY, model, byte_tokenizer), STRATEGY, model, sums_of(model), byte_tokenizer)


def test_weights_that_are_no_numbers_are_no_result(tmp_path: Path, byte_tokenizer: Any) -> None:
    import torch

    model, before = trained(STRATEGY)
    with torch.no_grad():
        next(parameter for parameter in model.parameters() if parameter.requires_grad)[0, 0] = float("nan")
    with pytest.raises(Ended, match="not finite") as caught:
        verified(saved(tmp_path, STRATEGY, model, byte_tokenizer), STRATEGY, model, before, byte_tokenizer)
    assert caught.value.reason == EndReason.DIVERGED
