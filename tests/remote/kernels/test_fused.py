"""Norms, rotations and gated MLPs of one kernel each: the step is the eager one, in each family, and all can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from remote.adapters import adapt, base_of
from remote.bases.base import checkpoint_activations
from remote.contract import CAPABILITIES, FUSED_FAMILIES, Loop, Strategy
from remote.kernels import compiled, fuse, fused, unfuse
from remote.kernels.compiled import InTraining
from remote.measure.random_weights import random_batch, random_model
from remote.step import settings_of, step
from remote.training.optimizers import build_optimizer
from tests.remote.kernels.test_compiled import Graphs
from tests.remote.test_losses import tiny

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own compiler, of torch's own parts
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]
LLAMA = {**tiny("llama-3.2-1b"), "num_hidden_layers": 2}
ELSE_OF = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "hidden_size": 64}
WAYS: dict[str, dict[str, Any]] = {
    "recomputed, dropped out": {"dropout": 0.1},
    "kept, DoRA": {"gradient_checkpointing": "off", "method": "dora"},
    "everything trains": {"method": "full", "rank": None},
    "nf4": {"quant": "nf4", "double_quant": True},
    "int8, kept": {"quant": "int8", "gradient_checkpointing": "off"},
}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graphs]:
    import torch

    torch.compiler.reset()
    found = Graphs()
    monkeypatch.setattr(compiled, "BACKEND", found)
    yield found
    torch.compiler.reset()


def strategy(**said: Any) -> Strategy:
    shape = {"method": "lora", "rank": 4, "micro_batch_size": 2, "gradient_accumulation_steps": 2, "optimizer": "sgd"}
    return msgspec.convert({**shape, "loss": "chunked", **said}, Strategy)


def config_of(family: str) -> dict[str, Any]:
    """A tiny base of that family."""
    kept = {
        key: value
        for key, value in LLAMA.items()
        if key not in ("model_type", "architectures", "rope_scaling", "rope_parameters")
    }
    return kept | ELSE_OF | {"model_type": family, "num_hidden_layers": 1}


def built(said: Strategy, config: dict[str, Any]) -> Any:
    import torch

    torch.manual_seed(0)
    model = adapt(random_model(config, said, "cpu"), said, Loop())
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    checkpoint_activations(base_of(model), said)
    fuse(model, said)
    return model.train()


def stepped(said: Strategy, config: dict[str, Any], lengths: tuple[int, ...] = (32, 24, 40)) -> list[tuple[float, float]]:
    """(loss, gradient norm) of steps of unlike lengths."""
    import torch

    model = built(said, config)
    optimizer, settings = build_optimizer(said, model, Loop(learning_rate=0.1)), settings_of(said, "cpu", 1.0)
    seen = []
    for length in lengths:
        torch.manual_seed(length)
        batch = random_batch(msgspec.structs.replace(said, seq_len=length), vocabulary=256, device="cpu")
        result = step(model, batch, optimizer, settings)
        seen.append((float(result.loss), float(result.grad_norm)))
    unfuse(model)
    return seen


def alike(found: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in expected], rel=1e-3)
    assert [norm for _, norm in found] == pytest.approx([norm for _, norm in expected], rel=1e-2)


@pytest.mark.parametrize("way", WAYS)
def test_steps_are_those_of_eager_parts_whatever_their_length(way: str, graphs: Graphs) -> None:
    expected = stepped(strategy(**WAYS[way]), LLAMA)
    assert graphs.made == 0
    alike(stepped(strategy(**WAYS[way], kernels="fused"), LLAMA), expected)
    assert 3 <= graphs.made <= 6, "a norm, a rotation and a gate, twice at most: where an input asks for no gradient"
    assert graphs.run > graphs.made


@pytest.mark.parametrize("family", FUSED_FAMILIES)
def test_each_family_that_is_named_has_these_parts(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is reached by the step, which is the eager one to the bit where nothing is compiled: tracing takes seconds."""
    config, reached = config_of(family), set[int]()

    def as_it_is(work: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            reached.add(id(work))
            return work(*args, **kwargs)

        return counted

    monkeypatch.setattr(fused, "compiled", as_it_is)
    expected = stepped(strategy(), config, (24,))
    assert not reached
    assert stepped(strategy(kernels="fused"), config, (24,)) == expected
    assert len(reached) >= 4, "two norms of the block and the last one or more, a rotation and a gate"


def test_what_is_judged_is_computed_as_the_base_is_and_all_can_be_taken_back(graphs: Graphs) -> None:
    import torch

    model = built(strategy(kernels="fused", gradient_checkpointing="off"), LLAMA)
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad():
        judged = model.eval()(input_ids=ids).logits
    assert graphs.made == 0
    model.train()(input_ids=ids)
    run = graphs.run
    assert run > 0
    unfuse(model)
    model(input_ids=ids)
    assert graphs.run == run
    assert not any(isinstance(each.__dict__.get("forward"), InTraining) for each in model.modules())
    with torch.no_grad():
        assert torch.equal(model.eval()(input_ids=ids).logits, judged)


def test_another_family_is_refused_with_what_to_say() -> None:
    with pytest.raises(Exception, match="this base is a gpt2; say kernels eager"):
        built(strategy(kernels="fused"), tiny("gpt2"))


def test_what_was_not_tried_is_named_before_anything_is_rented() -> None:
    assert "kernels=fused with offload=stream" in CAPABILITIES.missing(strategy(offload="stream", kernels="fused"))
    assert "kernels=fused with task=classification" in CAPABILITIES.missing(strategy(kernels="fused"), "classification")
    for quant in ("none", "nf4", "fp4", "int8"):
        assert CAPABILITIES.missing(strategy(kernels="fused", quant=quant)) == ()
