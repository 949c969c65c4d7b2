"""One visit of a streamed block serves several micro-batches, and each is the micro-batch that it would be alone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from remote.adapters import adapt, base_of
from remote.bases.base import checkpoint_activations
from remote.checkpoints.checkpoint import trainable
from remote.contract import Loop, Strategy, Streaming
from remote.data.batches import MicroBatch
from remote.losses import mean_loss
from remote.measure.random_weights import random_batch, random_model
from remote.step import settings_of, step
from remote.streaming import settle, stream, streamed_of
from remote.streaming.lanes import AtOnce
from remote.streaming.together import seeds
from remote.training.optimizers import build_optimizer

pytestmark = pytest.mark.torch

DEPTH, ACCUMULATED = 4, 4
QWEN2: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": DEPTH, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 512, "tie_word_embeddings": False,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
GEMMA3 = QWEN2 | {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 8}  # two kinds of blocks, each with its mask
NF4 = Strategy(
    method="lora",
    rank=4,
    dropout=0.2,
    quant="nf4",
    double_quant=True,
    param_dtype="float32",
    autocast="none",
    optimizer="adamw_torch",
    micro_batch_size=1,
    gradient_accumulation_steps=ACCUMULATED,
    seq_len=12,
)
PLAIN = msgspec.structs.replace(NF4, quant="none", double_quant=False)


def streams(strategy: Strategy, visits: int, kept: int = 0) -> Strategy:
    said = Streaming(num_slots=2, num_resident_blocks=0, num_visits=visits, num_blocks_without_recompute=kept)
    return msgspec.structs.replace(strategy, offload="stream", streaming=said)


def models(config: dict[str, Any], strategy: Strategy, streamed: Strategy) -> tuple[Any, Any]:
    """The same model, resident and streamed. Random codes are drawn alike; random plain weights are copied."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(1)
    if strategy.quant == "none":
        said = dict(config)
        base = AutoModelForCausalLM.from_config(AutoConfig.for_model(said.pop("model_type"), **said), dtype=torch.float32)
        twin = copy.deepcopy(base)
        stream(twin, streamed, "cpu")
    else:
        base = random_model(config, strategy, "cpu")
        torch.manual_seed(1)
        twin = random_model(config, streamed, "cpu")
    return adapted(base, strategy), adapted(twin, streamed)


def adapted(model: Any, strategy: Strategy) -> Any:
    import torch

    torch.manual_seed(2)
    model = adapt(model, strategy, Loop())
    settle(model)
    checkpoint_activations(base_of(model), strategy)
    return model.train()


def alone(model: Any, batch: Sequence[MicroBatch], visits: int) -> dict[str, Any]:
    """Gradients of one micro-batch after the other, each from its own seed."""
    import torch

    torch.manual_seed(3)
    whole = sum(micro.share for micro in batch)
    for at in range(0, len(batch), visits):
        group = batch[at : at + visits]
        drawn = seeds(len(group))
        left = torch.get_rng_state()
        for micro, seed in zip(group, drawn, strict=True):
            torch.manual_seed(seed)
            (mean_loss(model, micro, "hf", "none") * (micro.share / whole)).backward()
        torch.set_rng_state(left)
    return {name: parameter.grad.clone() for name, parameter in trainable(model)}


def stepped(model: Any, strategy: Strategy, batch: Sequence[MicroBatch]) -> dict[str, Any]:
    """Gradients as the optimizer meets them."""
    import torch

    torch.manual_seed(3)
    found: dict[str, Any] = {}
    optimizer = build_optimizer(strategy, model, Loop())
    optimizer.register_step_pre_hook(
        lambda *_: found.update((name, parameter.grad.clone()) for name, parameter in trainable(model))
    )
    step(model, batch, optimizer, settings_of(strategy, "cpu", 1e9))
    return found


def uneven(strategy: Strategy) -> tuple[MicroBatch, ...]:
    """Micro-batches of which each counts otherwise."""
    import torch

    torch.manual_seed(4)
    batch = random_batch(strategy, vocabulary=320, device="cpu")
    for number, micro in enumerate(batch):
        micro.labels[:, 1 : 1 + number] = -100
    return tuple(
        MicroBatch(input_ids=micro.input_ids, labels=micro.labels, attention_mask=None, num_targets=11 - number)
        for number, micro in enumerate(batch)
    )


@pytest.mark.parametrize(
    ("config", "strategy", "visits", "kept", "checkpointing"),
    [
        (QWEN2, NF4, 2, 0, "non_reentrant"),
        (QWEN2, NF4, 4, 0, "reentrant"),
        (QWEN2, PLAIN, 3, 0, "non_reentrant"),
        (QWEN2, PLAIN, 1, 3, "non_reentrant"),
        (GEMMA3, NF4, 4, 2, "non_reentrant"),
        (GEMMA3, PLAIN, 2, 2, "reentrant"),
    ],
    ids=lambda value: getattr(value, "quant", value["model_type"] if isinstance(value, dict) else str(value)),
)
def test_every_gradient_is_the_resident_model_s_with_dropout_on(
    config: dict[str, Any], strategy: Strategy, visits: int, kept: int, checkpointing: Any
) -> None:
    """Bit for bit, also where the last group is smaller and where the last blocks are not computed again."""
    strategy = msgspec.structs.replace(strategy, gradient_checkpointing=checkpointing)
    streamed = streams(strategy, visits, kept)
    there, here = models(config, strategy, streamed)
    batch = uneven(strategy)
    expected, found = alone(there, batch, visits), stepped(here, streamed, batch)
    assert expected.keys() == found.keys()
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    assert any(tensor.abs().max() > 0 for tensor in expected.values())


def test_a_block_is_fetched_so_many_times_less_and_the_last_are_computed_once() -> None:
    """Each group goes up and down once; what the turn-around finds in the slots is not fetched again."""
    fetched, computed = {}, {}
    for visits, kept in ((1, 0), (2, 0), (4, 0), (4, 3)):
        strategy = streams(NF4, visits, kept)
        model = models(QWEN2, NF4, strategy)[1]
        streamed = streamed_of(model)
        assert streamed is not None
        stepped(model, strategy, uneven(NF4))
        before, passes = streamed.num_fetches, Counter[str]()
        hooks = [block.mlp.register_forward_hook(lambda *_, seen=passes: seen.update(("block",))) for block in streamed.modules]
        stepped(model, strategy, uneven(NF4))
        for hook in hooks:
            hook.remove()
        fetched[visits, kept], computed[visits, kept] = streamed.num_fetches - before, passes["block"]
    once = 2 * (DEPTH - 2)
    assert fetched == {(1, 0): 4 * once, (2, 0): 2 * once, (4, 0): once, (4, 3): once}
    assert computed[4, 3] == computed[4, 0] - ACCUMULATED * 3
    assert computed[4, 0] == 2 * DEPTH * ACCUMULATED


def test_what_is_trained_and_drawn_goes_on_as_if_nothing_had_been_interleaved() -> None:
    """Two steps in a row, and generated tokens after them: no block is left changed."""
    import torch

    strategy = streams(NF4, 2, 1)
    resident, streamed = models(QWEN2, NF4, strategy)
    for _ in range(2):
        stepped(streamed, strategy, uneven(NF4))
    for (_, here), (_, there) in zip(trainable(streamed), trainable(resident), strict=True):
        there.data.copy_(here.data)
    tokens = torch.arange(8).reshape(1, 8)
    with torch.no_grad():
        one, other = (model.eval()(input_ids=tokens, use_cache=False).logits for model in (resident, streamed))
    assert one.equal(other)


def test_micro_batches_of_a_model_that_computes_between_its_blocks_go_by_themselves(caplog: pytest.LogCaptureFixture) -> None:
    """With the same gradients, and a word of it, once."""
    strategy = streams(NF4, 2, 1)
    resident, streamed = models(QWEN2, NF4, strategy)

    def doubled(_module: Any, _inputs: Any, output: Any) -> Any:
        return (output[0] * 2,) if isinstance(output, tuple) else output * 2

    for model in (resident, streamed):
        base_of(model).model.layers[0].register_forward_hook(doubled)
    batch = uneven(NF4)
    expected, found = alone(resident, batch, 2), stepped(streamed, strategy, batch)
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    assert caplog.messages == ["this model computes something between its blocks, so each micro-batch has visits of its own"]


class Late(AtOnce):
    """A copy that is made when somebody waits for it; until then the slot holds what no weight is."""

    def __init__(self) -> None:
        self.begun: dict[int, tuple[Any, Any]] = {}

    def fetch(self, slot: int, into: Any, source: Any) -> None:
        into.fill_(255)
        self.begun[slot] = into, source

    def arrive(self, slot: int) -> None:
        into, source = self.begun.pop(slot, (None, None))
        if into is not None:
            into.copy_(source)


def test_nothing_computes_with_a_slot_before_its_copy_has_arrived() -> None:
    """Neither in a visit for several micro-batches nor where the backward pass alone comes by."""
    import torch

    strategy = streams(NF4, 2, 2)
    at_once = models(QWEN2, NF4, strategy)[1]
    torch.manual_seed(1)
    late = adapted(random_model(QWEN2, strategy, "cpu", lane=Late()), strategy)
    expected, found = (stepped(model, strategy, uneven(NF4)) for model in (at_once, late))
    assert all(found[name].equal(tensor) for name, tensor in expected.items())


def test_the_plan_counts_what_waits_for_the_visits_and_what_is_kept() -> None:
    """Every other micro-batch's input of each block; and the activations of all in a block that is not computed again."""
    architecture, wide = (
        resolve_model("7b"),
        msgspec.structs.replace(NF4, param_dtype="bfloat16", autocast="bfloat16", seq_len=2048),
    )

    def activations(visits: int, kept: int = 0) -> int:
        return estimate_vram(architecture, streams(wide, visits, kept)).components["activations"]

    hidden = 2048 * architecture.hidden_size * 2
    assert activations(2) - activations(1) == activations(3) - activations(2) == hidden * (architecture.depth + 1)
    assert activations(2, 2) - activations(2, 1) == activations(2, 1) - activations(2) > 2 * hidden
