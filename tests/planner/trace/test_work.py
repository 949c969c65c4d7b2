"""What an adapter asks of a card beside its linear's own products, against peft's layers: counted below autograd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import peft
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from planner.methods import ADAPTERS, WORK, Both
from planner.methods.adapters import WORK_UNCAST
from remote.adapters.wrapping import feed_as_they_come
from tests.planner.trace.test_launches import FREE

pytestmark = pytest.mark.torch

INPUTS, OUTPUTS, TOKENS = 512, 1024, 128
RANK: Final = 8
HERE: Final[dict[str, Any]] = {"target_modules": ["linear"]}
CONFIGS: Final[dict[str, peft.PeftConfig]] = {
    "lora": peft.LoraConfig(r=RANK, **HERE),
    "dora": peft.LoraConfig(r=RANK, use_dora=True, **HERE),
    "adalora": peft.AdaLoraConfig(target_r=RANK, init_r=RANK, total_step=100, **HERE),
    "loha": peft.LoHaConfig(r=RANK, **HERE),
    "lokr": peft.LoKrConfig(r=RANK, **HERE),
    "fourierft": peft.FourierFTConfig(n_frequency=100, **HERE),
    "oft": peft.OFTConfig(r=0, oft_block_size=32, **HERE),
    "boft": peft.BOFTConfig(boft_block_size=4, **HERE),
    "vera": peft.VeraConfig(r=RANK, **HERE),
    "ia3": peft.IA3Config(feedforward_modules=[], **HERE),
}
MULTIPLIES: Final = frozenset({"mm", "bmm", "addmm", "baddbmm"})
# Trained tensors that each token is multiplied with, which the count of trained parameters has already: of a rank, in and out.
THEIR_OWN: Final = {"lora": 1, "dora": 1, "adalora": 1}


class Base(torch.nn.Module):  # type: ignore[misc]
    """One frozen linear in 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(INPUTS, OUTPUTS, bias=False, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.linear(x)
        return found


def tensors_in(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)


class Counting(TorchDispatchMode):  # type: ignore[misc]
    """Bytes that are read and written by what multiplies nothing, and multiply-adds."""

    moved_bytes = 0
    multiplied = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, name = func(*args, **(kwargs or {})), func._schema.name.removeprefix("aten::")
        if name in MULTIPLIES:
            *_, left, right = tensors_in(list(args))
            self.multiplied += left.numel() * right.shape[-1]
        elif name not in FREE:
            self.moved_bytes += sum(each.numel() * each.element_size() for each in tensors_in([list(args), out]))
        return out


def counted(kind: str, tokens: int, *, casts: bool = True) -> tuple[Counting, Counting]:
    """Forward and backward, as a trainer does them: bfloat16 autocast, adapters in fp32."""
    model = peft.get_peft_model(Base(), CONFIGS[kind]).train()
    if not casts:
        feed_as_they_come(model)
    x = torch.randn(tokens, INPUTS, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16), Counting() as forward:
        y = model(x)
    gradient = torch.ones_like(y)
    with Counting() as backward:
        y.backward(gradient)
    return forward, backward


def test_every_adapter_has_its_work_and_stands_here() -> None:
    assert WORK.keys() == ADAPTERS.keys() == CONFIGS.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WORK)
def test_a_layer_of_peft_asks_what_the_table_says(kind: str) -> None:
    """What grows with the tokens by the difference of two lengths, and what does not by the rest."""
    work, few, many = WORK[kind], counted(kind, TOKENS), counted(kind, 2 * TOKENS)  # type: ignore[index]

    def grows(name: str, at: int) -> int:
        return int(getattr(many[at], name)) - int(getattr(few[at], name))

    def stays(name: str, at: int) -> int:
        return int(getattr(few[at], name)) - grows(name, at)

    weights, squares, widths = INPUTS * OUTPUTS, INPUTS**2, INPUTS + OUTPUTS

    def each(place: int, *terms: tuple[Both, float]) -> float:
        return sum(of_both[place] * size for of_both, size in terms)

    own = THEIR_OWN.get(kind, 0) * RANK * widths
    for place in (0, 1):
        by_tokens = (
            weights
            + (1 + place) * own
            + each(place, (work.products, weights), (work.squares, squares), (work.thin, RANK * widths))
        )
        made = each(
            place, (work.cubes, INPUTS**3), (work.ranked_weights, RANK * weights), (work.ranked_squares, RANK * squares)
        )
        moved = each(place, (work.weight_bytes, weights), (work.square_bytes, squares))
        # OFT's blocks and LoKr's two factors are small beside the linear
        assert grows("multiplied", place) == pytest.approx(TOKENS * by_tokens, rel=0.08)
        assert stays("multiplied", place) == pytest.approx(made, rel=0.1, abs=0.1 * TOKENS * weights)
        assert stays("moved_bytes", place) == pytest.approx(moved, rel=0.1, abs=5 * weights)
    bytes_of_token = sum(grows("moved_bytes", place) for place in (0, 1)) / TOKENS
    in_bytes, out_bytes = (30, 14) if kind == "lora" else (work.input_bytes, work.output_bytes)
    assert bytes_of_token == pytest.approx(in_bytes * INPUTS + out_bytes * OUTPUTS, rel=0.1)


def test_lora_whose_input_is_not_cast_moves_less_than_half_the_bytes() -> None:
    few, many = (counted("lora", tokens, casts=False) for tokens in (TOKENS, 2 * TOKENS))
    moved = sum(more.moved_bytes - less.moved_bytes for less, more in zip(few, many, strict=True)) / TOKENS
    assert moved == pytest.approx(6 * INPUTS + 14 * OUTPUTS, rel=0.1)
    assert WORK_UNCAST.input_bytes == WORK_UNCAST.output_bytes == (6 + 14) / 2
