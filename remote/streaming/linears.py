"""bitsandbytes' linears with a backward pass that reads the weight as it is then.

bitsandbytes keeps the packed weight of the forward pass as a plain attribute of its context, which checkpointing cannot drop:
once a slot is refilled, its backward pass multiplies by another block's weight, and only the last blocks' gradients are right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple


class Weight(NamedTuple):
    """The weight of a linear, wherever it lies: how to have it here, and how to compute with it."""

    module: Any
    visit: Callable[[], None]
    product: Callable[[Any, Any, Any], Any]  # (module, inputs, bias)
    dense: Callable[[Any, Any], Any]  # (module, dtype) → the matrix as it is now


def reread(module: Any, visit: Callable[[], None]) -> bool:
    """Let a linear of bitsandbytes visit its block, and read its weight, in both passes; returns whether it is one. Others stay
    as they are: autograd saves what they multiply by as a tensor, which checkpointing makes anew.
    """
    kind = type(module).__name__
    if kind not in _KINDS:
        return False
    module.__class__ = _streamed(kind)
    module.visit = visit
    return True


def _product_4bit(module: Any, inputs: Any, bias: Any) -> Any:
    """As `bitsandbytes.autograd.MatMul4Bit.forward` computes it."""
    import torch

    state = module.weight.quant_state
    nested = {
        "absmax_8bit": state.absmax,
        "absmax_code": state.state2.code,
        "absmax_offset": state.offset,
    } if state.nested else {}  # fmt: skip
    absmax = state.state2.absmax if state.nested else state.absmax
    return torch.ops.bitsandbytes.gemm_4bit.default(
        inputs, _codes(module), state.shape, absmax, state.blocksize, state.quant_type, bias=bias, **nested
    )


def _dense_4bit(module: Any, dtype: Any) -> Any:
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(_codes(module), module.weight.quant_state).to(dtype)


def _codes(module: Any) -> Any:
    """The packed weight as a plain tensor, without asking its class whether it has a say: that is Python at every product."""
    import torch

    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - no public name
        return module.weight.data.view(-1, 1)


def _product_int8(module: Any, inputs: Any, bias: Any) -> Any:
    import bitsandbytes

    return bitsandbytes.matmul(inputs, module.weight, bias=bias, state=module.state)


def _dense_int8(module: Any, dtype: Any) -> Any:
    """As `bitsandbytes.autograd.MatMul8bitLt.backward` unpacks it."""
    return module.weight.data.to(dtype, copy=True).mul_(module.state.SCB.unsqueeze(1).mul(1.0 / 127.0))


@cache
def _function() -> Any:
    import torch

    class Product(torch.autograd.Function):  # type: ignore[misc]
        """A frozen weight's product: the gradient goes to the inputs, and to a bias that trains."""

        @staticmethod
        def forward(ctx: Any, inputs: Any, bias: Any, weight: Weight) -> Any:
            ctx.weight, ctx.dtype, ctx.bias_dtype = weight, inputs.dtype, None if bias is None else bias.dtype
            return weight.product(weight.module, inputs, bias)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            (gradient,) = gradients
            of_inputs, of_bias = None, None
            if ctx.needs_input_grad[1]:
                of_bias = gradient.sum(0, dtype=ctx.bias_dtype)
            if ctx.needs_input_grad[0]:
                ctx.weight.visit()
                of_inputs = gradient.matmul(ctx.weight.dense(ctx.weight.module, gradient.dtype)).to(ctx.dtype)
            return of_inputs, of_bias, None

    return Product


class Kind(NamedTuple):
    """How bitsandbytes' linear of one kind readies itself for its inputs, and computes."""

    ready: Callable[[Any, Any], Any]  # (module, inputs) → the inputs in the dtype that is computed in
    product: Callable[[Any, Any, Any], Any]
    dense: Callable[[Any, Any], Any]


def _ready_4bit(module: Any, inputs: Any) -> Any:
    if module.compute_dtype is None:
        module.set_compute_type(inputs)
    return inputs if module.compute_dtype is None else inputs.to(module.compute_dtype)


def _ready_int8(module: Any, inputs: Any) -> Any:
    module.state.is_training = module.training
    module.state.CB = module.weight.data
    return inputs


_KINDS: Final[Mapping[str, Kind]] = {
    "Linear4bit": Kind(_ready_4bit, _product_4bit, _dense_4bit),
    "Linear8bitLt": Kind(_ready_int8, _product_int8, _dense_int8),
}


@cache
def _streamed(name: str) -> Any:
    import bitsandbytes

    kind = _KINDS[name]

    class Streamed(getattr(bitsandbytes.nn, name)):  # type: ignore[misc]
        """A linear whose weight may lie elsewhere until it is computed with."""

        visit: Callable[[], None]

        def forward(self, x: Any) -> Any:
            self.visit()
            inputs = kind.ready(self, x)
            bias = None if self.bias is None else self.bias.to(inputs.dtype)
            return _function().apply(inputs, bias, Weight(self, self.visit, kind.product, kind.dense)).to(x.dtype)

        @property
        def W_q(self) -> Any:  # noqa: N802 - the name by which peft 0.21 knows a linear that unpacks itself
            """The packed weight. Of one without this name, on the host, peft puts a new one into the module once it has read
            it, as DoRA does for its norm: no visit would reach that, and all of the base would go to the device.
            """
            return self.weight

        def dequantize(self) -> Any:
            """The matrix as it is now, by peft's own arithmetic."""
            from peft.utils.integrations import dequantize_bnb_weight

            return dequantize_bnb_weight(self.weight, state=getattr(self, "state", None))

    return Streamed
