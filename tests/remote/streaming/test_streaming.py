"""Layer streaming on a CPU, where the device is slots whose bytes are counted: it trains what a resident model trains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.streaming.gradients import arms, by, gradient_rows
from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.memory.held.offloading import streamed_blocks
from planner.estimators.memory.held.weights import weights_of
from planner.strategy.stack import PINNED_STACK
from remote.adapters import adapt, base_of
from remote.bases.base import checkpoint_activations
from remote.checkpoints.checkpoint import trainable
from remote.contract import Loop, Strategy, arenas
from remote.measure.random_weights import random_batch, random_model
from remote.step import settings_of, step
from remote.streaming import settle, streamed_of
from remote.streaming.lanes import AtOnce
from remote.training.optimizers import build_optimizer

pytestmark = [pytest.mark.torch]

CONFIG: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 512, "tie_word_embeddings": False,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
STRATEGY = Strategy(
    method="lora",
    rank=4,
    quant="nf4",
    double_quant=True,
    param_dtype="float32",
    autocast="none",
    optimizer="adamw_torch",
    micro_batch_size=2,
    gradient_accumulation_steps=2,
    seq_len=16,
)
QUANTS: Mapping[str, dict[str, Any]] = {
    "double": {},
    "single": {"double_quant": False},
    "int8": {"quant": "int8", "double_quant": False},
    "none": {"quant": "none", "double_quant": False},
}


def changed(**said: Any) -> Strategy:
    return msgspec.structs.replace(STRATEGY, **said)


def built(strategy: Strategy, *, lane: Any = None, disk: Path | None = None, config: dict[str, Any] = CONFIG) -> Any:
    import torch

    torch.manual_seed(1)
    model = random_model(config, strategy, "cpu", lane=lane, disk=disk)
    torch.manual_seed(2)
    model = adapt(model, strategy, Loop())
    settle(model)
    checkpoint_activations(base_of(model), strategy)
    return model.train()


def stepped(model: Any, strategy: Strategy, steps: int) -> dict[str, Any]:
    import torch

    torch.manual_seed(3)
    optimizer, settings = build_optimizer(strategy, model, Loop()), settings_of(strategy, "cpu", 1.0)
    for _ in range(steps):
        step(model, random_batch(strategy, vocabulary=320, device="cpu"), optimizer, settings)
    return {name: parameter.detach().clone() for name, parameter in trainable(model)}


@pytest.mark.parametrize("checkpointing", ["non_reentrant", "reentrant"])
@pytest.mark.parametrize("quant", QUANTS)
def test_every_gradient_is_the_resident_model_s(quant: str, checkpointing: str) -> None:
    """Bit for bit, with each number of slots; and of the control, which refills outside of what is recomputed, they are not."""
    strategy = changed(**QUANTS[quant], gradient_checkpointing=checkpointing)
    rows = gradient_rows(CONFIG, strategy, "cpu")
    assert [row["arm"] for row in rows] == list(arms("cpu", strategy.quant))
    wrong = {row["arm"] for row in rows if not row["as_it_must_be"]}
    assert wrong <= ({"control: refilled outside of what is recomputed"} if checkpointing == "reentrant" else set())
    assert all(row["tensors"] == 2 * 7 * 5 for row in rows)


def test_adapters_on_attention_alone_get_their_gradients_through_frozen_linears() -> None:
    """The first thing that a block's backward pass meets is then a frozen matrix, before anything is recomputed."""
    rows = gradient_rows(CONFIG, changed(target_modules=("q_proj", "v_proj")), "cpu")
    assert all(row["as_it_must_be"] for row in rows)


@pytest.mark.parametrize("resident", [0, 2, 5])
def test_the_adapter_after_twenty_steps_is_the_same(resident: int) -> None:
    there = stepped(built(STRATEGY), STRATEGY, 20)
    streams = changed(offload="stream", streaming=by(2, resident))
    here = stepped(built(streams), streams, 20)
    assert there.keys() == here.keys()
    assert all(here[name].equal(tensor) for name, tensor in there.items())


def test_of_int8_no_race_can_be_lost_for_the_host_looks_for_outliers_before_each_product() -> None:
    """Why that control is left out of the arms on a card: a branch on a tensor of the device waits for it."""
    import bitsandbytes

    kernels = (Path(bitsandbytes.__file__).parent / "backends/cuda/ops.py").read_text(encoding="utf-8")
    (quantized,) = re.findall(r'\("bitsandbytes::int8_vectorwise_quant", "cuda"\)\ndef .*?(?=\n@|\Z)', kernels, re.DOTALL)
    assert "outliers = A.abs() >= threshold" in quantized
    assert "if outliers.any():" in quantized
    (packed,) = re.findall(r'\("bitsandbytes::dequantize_4bit", "cuda"\)\ndef .*?(?=\n@|\Z)', kernels, re.DOTALL)
    assert ".any()" not in packed
    lost = "control: copies and kernels do not wait"
    assert (lost in arms("cuda", "nf4"), lost in arms("cuda", "int8")) == (True, False)


@pytest.mark.parametrize("quant", ["double", "int8"])
def test_dora_reads_packed_weights_for_its_norm_and_leaves_them_where_they_are_streamed_from(quant: str) -> None:
    """Once peft has read a weight on the host it puts it anew into its module, where no visit would reach it."""
    said = QUANTS[quant] | {"method": "dora"}
    there = stepped(built(changed(**said)), changed(**said), 3)
    streams = changed(**said, offload="stream", streaming=by(1, 0))
    model = built(streams)
    linears = [module for module in model.modules() if hasattr(module, "visit")]
    assert len(linears) == 7 * 5
    streamed = streamed_of(model)
    assert streamed is not None
    assert streamed.travelling() >= {(id(module.weight), "data") for module in linears}
    here = stepped(model, streams, 3)
    assert there.keys() == here.keys()
    assert all(here[name].equal(tensor) for name, tensor in there.items())


class Late(AtOnce):
    """A copy that is made when somebody waits for it and not before; until then the slot holds what no weight is."""

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
    streams = changed(offload="stream", streaming=by(2))
    assert all(
        tensor.equal(other)
        for tensor, other in zip(
            stepped(built(streams), streams, 3).values(),
            stepped(built(streams, lane=Late()), streams, 3).values(),
            strict=True,
        )
    )


@pytest.mark.parametrize(("resident", "slots"), [(0, 2), (2, 2), (0, 3), (1, 3)])
def test_each_block_is_fetched_once_a_pass_but_for_the_turn_around(resident: int, slots: int) -> None:
    """What the forward pass leaves in the slots the backward pass begins with, and the other way round."""
    streams = changed(offload="stream", streaming=by(slots, resident))
    model = built(streams)
    streamed = streamed_of(model)
    assert streamed is not None
    stepped(model, streams, 1)
    before = streamed.num_fetches
    stepped(model, streams, 3)
    assert streamed.num_fetches - before == 3 * STRATEGY.gradient_accumulation_steps * 2 * (5 - resident - slots)


def test_a_weight_that_is_away_is_read_on_the_host() -> None:
    """A state dict is whole at any time, whatever lies in the slots."""
    there, streams = built(STRATEGY), changed(offload="stream", streaming=by(2, 1))
    here = built(streams)
    whole = {name: tensor.clone() for name, tensor in base_of(there).state_dict().items()}
    for steps in (0, 1):
        stepped(here, streams, steps)
        found = base_of(here).state_dict()
        frozen = [name for name in whole if "lora" not in name]
        assert len(frozen) > 5 * 7
        assert all(found[name].equal(whole[name]) for name in frozen)


def test_passes_without_gradients_are_the_resident_model_s() -> None:
    import torch

    streams = changed(offload="stream", streaming=by(2, 1))
    models = [built(STRATEGY).eval(), built(streams).eval()]
    tokens = torch.arange(12).reshape(1, 12)
    with torch.no_grad():
        one, other = (model(input_ids=tokens, use_cache=False).logits for model in models)
        assert one.equal(other)
        generated = [model.generate(tokens, max_new_tokens=4, do_sample=False) for model in models]
    assert generated[0].equal(generated[1])


@pytest.mark.parametrize("quant", QUANTS)
@pytest.mark.parametrize("resident", [0, 2])
def test_what_lies_where_is_what_the_planner_counts(quant: str, resident: int) -> None:
    """Device: slots of the largest block, and blocks that reside. Host: the arenas. To the byte, also while it trains."""
    strategy = changed(**QUANTS[quant], offload="stream", streaming=by(2, resident))
    model = built(strategy)
    streamed = streamed_of(model)
    assert streamed is not None
    weights = weights_of(resolve_model(CONFIG), strategy, task="causal_lm", stack=PINNED_STACK)
    away = streamed_blocks(strategy, weights)
    assert streamed.held.arenas == arenas(away)
    planned = sum(weights.travelling) - sum(away) + 2 * max(away)
    stepped(model, strategy, 2)
    assert streamed.device_bytes == planned
    on_gpu = estimate_vram(resolve_model(CONFIG), strategy).components["weights"]
    assert on_gpu == weights.outer + weights.staying + planned
