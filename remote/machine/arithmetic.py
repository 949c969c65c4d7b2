"""Does the device compute right? One product in the precision that the job trains in, against the same one made here by hand.

A kernel that is missing fails at once; one that was built for another card may run and give nonsense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from remote.contract import STORED_QUANTS, EndReason, Strategy
from remote.ends import Ended, first_line

if TYPE_CHECKING:
    import torch

ROWS, INPUTS, OUTPUTS = 64, 512, 256  # of the product; large enough for the kernels of training, and over in a moment
SEED: Final = 7

# The most that an output may be off, over the root of the mean square of all. derived: inputs in bf16 or int8 are off by parts
# in 500, and of 16,000 sums of 512 the worst by four times as much; a wrong sum is off by about 1. On a CPU it is 0.016 at
# most (2026-11-27).
TOLERANCE: Final = 0.1
# The most that a weight may be off that was packed into 4 bits, over the largest of its block. derived: half the widest gap
# between two codes of nf4 (-1 and -0.696) or fp4 (0.667 and 1), and what packing the scales as well adds.
PACKING_TOLERANCE: Final = 0.2


class Product(NamedTuple):
    """What the device made of `inputs`, and the weight that it multiplied with, both read back."""

    made: torch.Tensor  # fp64 [rows, outputs]
    weight: torch.Tensor  # fp64 [outputs, inputs]


def tried_in(strategy: Strategy) -> str:
    """The precision of the product that is tried: bitsandbytes' own, else what the base is computed in, also one that others
    packed, whose package is tried by loading it.
    """
    return strategy.param_dtype if _PRODUCTS[strategy.quant] is _plain else strategy.quant


def check_arithmetic(strategy: Strategy, device: str) -> float:
    """The largest error of an output, over their root mean square. Raises `Ended` (preflight) for more than rounding makes."""
    import torch

    drawn = torch.Generator().manual_seed(SEED)
    inputs = torch.randn(ROWS, INPUTS, generator=drawn)
    weight = torch.randn(OUTPUTS, INPUTS, generator=drawn)
    what = tried_in(strategy)
    try:
        with torch.no_grad():
            product = _PRODUCTS[strategy.quant](inputs, weight, strategy, device)
    except Exception as error:
        raise Ended(
            EndReason.PREFLIGHT,
            f"a product in {what} can't be computed on this {_DEVICES[device]}: {first_line(error)}; another one is the cure",
        ) from error
    exact = inputs.double() @ product.weight.T
    off = float((product.made - exact).abs().max() / exact.square().mean().sqrt())
    if not off <= TOLERANCE:
        raise Ended(
            EndReason.PREFLIGHT,
            f"this {_DEVICES[device]} computes a product in {what} wrong: an output is off by {off:.2g} of their size, where "
            f"rounding makes at most {TOLERANCE:g}; another one is the cure",
        )
    return off


_DEVICES: Final[Mapping[str, str]] = {"cuda": "card", "cpu": "processor"}


def _plain(inputs: torch.Tensor, weight: torch.Tensor, strategy: Strategy, device: str) -> Product:
    import torch

    dtype = getattr(torch, strategy.param_dtype)
    on_device = weight.to(device, dtype)
    made = torch.nn.functional.linear(inputs.to(device, dtype), on_device)
    return Product(_at_home(made), _at_home(on_device))


def _int8(inputs: torch.Tensor, weight: torch.Tensor, _strategy: Strategy, device: str) -> Product:
    import bitsandbytes
    import torch

    linear = bitsandbytes.nn.Linear8bitLt(INPUTS, OUTPUTS, bias=False, has_fp16_weights=False)
    linear.weight = bitsandbytes.nn.Int8Params(weight.half(), requires_grad=False, has_fp16_weights=False)
    linear = linear.to(device)
    made = linear(inputs.to(device, torch.float16))
    codes, scales = linear.state.CB, linear.state.SCB
    unpacked = _at_home(codes) * _at_home(scales)[:, None] / 127
    _require_like(unpacked, weight, weight.abs().amax(dim=1, keepdim=True))
    return Product(_at_home(made), unpacked)


def _packed_4bit(inputs: torch.Tensor, weight: torch.Tensor, strategy: Strategy, device: str) -> Product:
    import bitsandbytes
    import torch

    compute = getattr(torch, strategy.param_dtype if strategy.autocast == "none" else strategy.autocast)
    linear = bitsandbytes.nn.Linear4bit(
        INPUTS,
        OUTPUTS,
        bias=False,
        compute_dtype=compute,
        compress_statistics=strategy.double_quant,
        quant_type=strategy.quant,
        quant_storage=getattr(torch, strategy.quant_storage),
    )
    linear.weight = bitsandbytes.nn.Params4bit(
        weight,
        requires_grad=False,
        compress_statistics=strategy.double_quant,
        quant_type=strategy.quant,
        quant_storage=getattr(torch, strategy.quant_storage),
        module=linear,
    )
    linear = linear.to(device)
    made = linear(inputs.to(device, compute))
    state = linear.weight.quant_state
    unpacked, largest = unpacked_4bit(linear.weight.data, state)
    _require_like(unpacked, weight, largest)
    return Product(_at_home(made), unpacked)


def unpacked_4bit(packed: torch.Tensor, state: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, largest of each one's block) in fp64, by hand: each byte holds two codes, the first in its upper half."""
    import torch

    half_bytes = packed.detach().cpu().contiguous().view(torch.uint8).flatten()
    codes = torch.stack([half_bytes >> 4, half_bytes & 0xF], dim=1).flatten().long()
    scales = _at_home(state.absmax)
    if state.nested:
        table, outer = _at_home(state.state2.code), _at_home(state.state2.absmax)
        scales = table[scales.long()] * outer.repeat_interleave(state.state2.blocksize)[: len(scales)] + float(state.offset)
    spread = scales.repeat_interleave(state.blocksize)[: len(codes)].reshape(state.shape)
    return _at_home(state.code)[codes].reshape(state.shape) * spread, spread


def _require_like(unpacked: torch.Tensor, weight: torch.Tensor, largest: torch.Tensor) -> None:
    """Raises ValueError where what was packed is not what it was packed from."""
    off = float(((unpacked - weight.double()).abs() / largest).max())
    if not off <= PACKING_TOLERANCE:
        raise ValueError(f"a packed weight is off by {off:.2g} of the largest of its block")


def _at_home(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().double()


_PRODUCTS: Final[Mapping[str, Callable[[Any, Any, Strategy, str], Product]]] = {
    "none": _plain,
    "int8": _int8,
    "nf4": _packed_4bit,
    "fp4": _packed_4bit,
    **dict.fromkeys(STORED_QUANTS, _plain),
}
