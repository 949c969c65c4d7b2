"""A loss in chunks is the loss of transformers, and so are its gradients; only logits are never whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import msgspec
import pytest

from benchmarks.estimates.gpu_memory import FAMILIES, MODELS, TINY, TINY_TOKENS
from catalogs.bases.models import resolve_model
from planner.estimators.memory.step import head as predicted
from remote import losses
from remote.adapters import adapt
from remote.contract import Autocast, Loop, Loss, Strategy
from remote.data.batches import MicroBatch
from remote.data.tokens import IGNORED
from remote.ends import Ended
from remote.losses import mean_loss, token_losses
from remote.result.evaluate import row_losses
from remote.step import settings_of

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning"),  # peft 0.21 says so
]

IN_CHUNKS = tuple(losses.CHUNKS)
ROWS, TOKENS = 2, 24
OWN_PRODUCTS = {
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0},
    "gemma2": {"final_logit_softcapping": 3.0},
}


def tiny(name: str) -> dict[str, Any]:
    """The configuration of a family, small."""
    config = dict(resolve_model(name, base=None).config)
    made: dict[str, Any] = config | {key: value for key, value in TINY.items() if key in config} | TINY_TOKENS
    return made


def built(config: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    said = dict(config)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(said.pop("model_type"), **said)).train()


def micro(vocabulary: int, tokens: int = TOKENS) -> MicroBatch:
    """Rows of which some labels are not learned."""
    import torch

    torch.manual_seed(5)
    ids = torch.randint(3, vocabulary, (ROWS, tokens))
    labels = ids.where(torch.rand(ids.shape) > 0.3, torch.full_like(ids, IGNORED))
    labels[:, 0] = IGNORED  # behind a prompt transformers would learn the first as well
    return MicroBatch(input_ids=ids, labels=labels, attention_mask=None, num_targets=int((labels[:, 1:] != IGNORED).sum()))


def lossed(model: Any, batch: MicroBatch, loss: Loss, autocast: Autocast = "none") -> tuple[float, dict[str, Any]]:
    """(loss, name → gradient) of one micro-batch, whose share of its step is a third."""
    import torch

    torch.manual_seed(7)  # of dropout
    model.zero_grad(set_to_none=True)
    found = mean_loss(model, batch, loss, autocast)
    (found / 3).backward()
    return float(found.detach()), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def assert_same(model: Any, batch: MicroBatch, loss: Loss) -> None:
    import torch

    wanted, gradients = lossed(model, batch, "hf")
    found, others = lossed(model, batch, loss)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("loss", IN_CHUNKS)
@pytest.mark.parametrize("family", [*MODELS, *FAMILIES])
def test_every_family_has_the_loss_and_the_gradients_of_whole_logits(family: str, loss: Loss, few_tokens: None) -> None:
    model = built(tiny(family))
    assert_same(model, micro(model.config.get_text_config().vocab_size), loss)


@pytest.fixture
def few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of five tokens, so that the last is shorter than the others."""
    monkeypatch.setattr(losses, "CHUNKS", dict.fromkeys(IN_CHUNKS, lambda _tokens, _ratio: 5))


@pytest.mark.parametrize("loss", IN_CHUNKS)
@pytest.mark.parametrize("kind", OWN_PRODUCTS)
def test_what_a_model_does_to_its_logits_is_done_to_those_of_a_chunk(kind: str, loss: Loss, few_tokens: None) -> None:
    base = tiny("gemma-2-2b" if kind == "gemma2" else "llama-3.2-1b")
    kept = {key: base[key] for key in base if key not in ("model_type", "architectures", "rope_scaling", "rope_parameters")}
    model = built(kept | {"model_type": kind} | OWN_PRODUCTS[kind])
    assert_same(model, micro(256), loss)


@pytest.mark.parametrize("loss", IN_CHUNKS)
@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(method="lora", rank=4, param_dtype="float32", autocast="none"),
        Strategy(method="lora", rank=4, param_dtype="float32", autocast="none", modules_to_save=("lm_head",)),
        Strategy(method="prompt_tuning", num_virtual_tokens=6, param_dtype="float32", autocast="none"),
        Strategy(
            method="prefix_tuning",
            num_virtual_tokens=6,
            param_dtype="float32",
            autocast="none",
            gradient_checkpointing="off",
        ),
        Strategy(method="bitfit", param_dtype="float32", autocast="none"),
    ],
    ids=lambda strategy: strategy.method + "+".join(("", *strategy.modules_to_save)),
)
def test_adapters_learn_the_same(strategy: Strategy, loss: Loss, few_tokens: None) -> None:
    config = tiny("llama-3.2-1b") | {"tie_word_embeddings": False, "attention_bias": True}
    model = adapt(built(config), strategy, Loop()).train()
    assert_same(model, micro(256), loss)


@pytest.mark.parametrize("loss", IN_CHUNKS)
def test_sixteen_bits_differ_by_their_rounding_alone(loss: Loss, few_tokens: None) -> None:
    import torch

    model = built(tiny("llama-3.2-1b"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        batch = micro(256)
        wanted, gradients = lossed(model, batch, "hf", "bfloat16")
        found, others = lossed(model, batch, loss, "bfloat16")
    assert found == pytest.approx(wanted, rel=1e-3)
    for name, gradient in gradients.items():
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), others[name].flatten(), dim=0) > 0.999, name


def test_held_out_losses_are_those_of_whole_logits(few_tokens: None) -> None:
    strategy = Strategy(method="prompt_tuning", num_virtual_tokens=6, param_dtype="float32", autocast="none")
    model, batch = adapt(built(tiny("llama-3.2-1b")), strategy, Loop()).eval(), micro(256)
    whole = settings_of(strategy, "cpu", 1.0)
    wanted = row_losses(model, batch, whole)
    assert row_losses(
        model, batch, settings_of(msgspec.structs.replace(strategy, loss="chunked"), "cpu", 1.0)
    ) == pytest.approx(wanted)
    assert token_losses(model, batch, "liger", "none").shape == (ROWS, TOKENS)


def test_an_output_matrix_that_no_chunk_is_multiplied_by_is_refused_by_name() -> None:
    strategy = Strategy(method="lora", rank=4, target_modules=("lm_head",), param_dtype="float32", autocast="none")
    model = adapt(built(tiny("llama-3.2-1b") | {"tie_word_embeddings": False}), strategy, Loop())
    with pytest.raises(Ended, match="a loss in chunks needs a plain one: say loss hf"):
        mean_loss(model, micro(256), "liger", "none")


def test_the_model_is_as_it_was_after_a_loss_in_chunks() -> None:
    model = built(tiny("llama-3.2-1b"))
    mean_loss(model, micro(256), "liger", "none")
    assert model(input_ids=micro(256).input_ids).logits.shape[-1] == 256


@pytest.mark.parametrize("tokens", [1, 255, 256, 4096, 8191])
def test_the_planner_counts_the_chunks_that_are_made(tokens: int) -> None:
    for loss in IN_CHUNKS:
        for ratio in (1, 7, 31, 124):
            assert predicted.OWN_CHUNKS[loss](tokens, ratio) == losses.CHUNKS[loss](tokens, ratio)
    assert set(IN_CHUNKS) < set(get_args(Loss))


@pytest.mark.parametrize("family", ["gpt2", "qwen2.5-0.5b"])
def test_classes_are_told_apart_without_keeping_keys_and_values(family: str) -> None:
    """They are for text that goes on, and took 3 % of a step's memory."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    said = tiny(family) | {"num_labels": 2, "pad_token_id": 0}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(said.pop("model_type"), **said))
    kept: list[Any] = []
    model.register_forward_hook(lambda _module, _arguments, output: kept.append(output.past_key_values))
    labels = torch.zeros(ROWS, dtype=torch.int64)
    of_text = micro(100)
    mean_loss(model, replace(of_text, labels=labels), "hf", "none")
    assert kept == [None]
