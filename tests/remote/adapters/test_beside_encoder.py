"""Methods on a decoder beside an encoder: where they stand, and that what is written is what the loss was of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.training.method_cases import FAMILIES, batch_for, strategy_for
from remote.adapters import adapt
from remote.contract import Loop
from remote.result.try_adapter import new_tokens

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # peft says things to nobody in particular

METHODS = ("lora", "prompt_tuning", "p_tuning", "prefix_tuning", "lora_prompt", "bottleneck", "freeze")
NEVER = 319  # the end of a text, which no row of these comes to


def adapted(method: str, **said: Any) -> Any:
    """A T5 whose adapter is far from doing nothing."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**{**FAMILIES["t5"].config, "eos_token_id": NEVER, **said})
    model = adapt(AutoModelForSeq2SeqLM.from_config(config), strategy_for("t5", method), Loop())
    chance = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=chance)
    return model.eval()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_written_token_by_token_is_what_the_loss_is_made_of(method: str) -> None:
    """The rows are padded, and a learned prompt stands before what is read or what is written."""
    model, micro = adapted(method), batch_for("seq2seq")
    mask = torch.ones_like(micro.input_ids)
    mask[1:, 11:] = 0
    asked = {"input_ids": micro.input_ids, "attention_mask": mask}
    written = new_tokens(model, asked, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert written.shape == (4, 6)
    with torch.no_grad():
        taught = model(**asked, labels=written.contiguous(), use_cache=False).logits.argmax(dim=-1)
    assert torch.equal(taught, written)


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_last_blocks_are_the_decoder_s_and_then_the_encoder_s() -> None:
    assert {name.split(".layer.")[0] for name in trained(adapted("freeze"))} == {"decoder.block.1"}


def test_bottlenecks_stand_behind_both_attentions_of_a_decoder() -> None:
    ends = {name.rpartition(".down.")[0] for name in trained(adapted("bottleneck")) if ".down." in name}
    assert {end for end in ends if end.startswith("decoder.block.0.")} == {
        "decoder.block.0.layer.0.SelfAttention.o",
        "decoder.block.0.layer.1.EncDecAttention.o",
        "decoder.block.0.layer.2.DenseReluDense.wo",
    }
    assert len(ends) == 2 * 2 + 2 * 3


def test_a_prefix_has_the_depth_of_the_decoder_and_the_width_of_its_keys() -> None:
    """MT5's heads together are narrower than its states, and an encoder may be deeper."""
    model = adapted("prefix_tuning", num_layers=3, num_decoder_layers=2, d_kv=8)
    (learned,) = (parameter for parameter in model.parameters() if parameter.requires_grad)
    assert tuple(learned.shape) == (6, 2 * 2 * 4 * 8)


def test_what_is_learned_before_the_text_is_saved_and_read_back(tmp_path: Path) -> None:
    from peft import PeftModel

    model, micro = adapted("prefix_tuning"), batch_for("seq2seq")
    asked = {"input_ids": micro.input_ids, "attention_mask": micro.attention_mask, "labels": micro.labels}
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    with torch.no_grad():
        before = model(**asked, use_cache=False).logits
        after = PeftModel.from_pretrained(model.get_base_model(), str(tmp_path)).eval()(**asked, use_cache=False).logits
    assert torch.allclose(before, after, atol=1e-6)
