"""What autocast does to the arguments of a CUDA operation, done by hand: meta tensors have no autocast of their own.

The lists are those of aten/src/ATen/autocast_mode.h of torch 2.11 to 2.15, without what no language model calls.
"""

from __future__ import annotations

from typing import Any, Final

LOWER: Final = frozenset(
    """
    prelu addmm addmv addr matmul rmatmul einsum mm mv linear addbmm baddbmm bmm chain_matmul conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention
    """.split()  # noqa: SIM905 - a list of words, read as one
)  # in the dtype of autocast
FP32: Final = frozenset(
    """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow rpow softplus layer_norm group_norm
    rms_norm frobenius_norm nuclear_norm cosine_similarity nll_loss cross_entropy kl_div l1_loss smooth_l1_loss huber_loss
    mse_loss soft_margin_loss binary_cross_entropy_with_logits dist cdist logsumexp norm
    """.split()  # noqa: SIM905 - a list of words, read as one
)  # in fp32
FP32_RESULT: Final = frozenset(
    {"prod", "softmax", "log_softmax", "cumprod", "cumsum", "sum"}
)  # these take the dtype as an argument


def concerns(name: str) -> bool:
    """Whether autocast has anything to do with a call of this name."""
    return _bare(name) in LOWER | FP32 | FP32_RESULT


def _bare(name: str) -> str:
    """`matmul` of `__matmul__`."""
    return name[2:-2] if name.startswith("__") else name


class Casts:
    """The casts of one autocast region, with its cache of 16-bit copies of weights."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[Any, Any]] = {}  # id -> (weight, copy); the weight is held so that its id stays its own

    def clear(self) -> None:
        """The outermost autocast region was left."""
        self._copies.clear()

    def applied(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that the operation gets under the autocast that is on."""
        import torch

        name = _bare(name)
        if name in LOWER:
            return self._cast(arguments, options, torch.get_autocast_dtype("cuda"))
        if name in FP32:
            return self._cast(arguments, options, torch.float32)
        if name in FP32_RESULT and options.get("dtype") is None and _is_16_bit(arguments[0]):
            return arguments, {**options, "dtype": torch.float32}
        return arguments, options

    def _cast(self, arguments: tuple[Any, ...], options: dict[str, Any], dtype: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(self.cast(value, dtype) for value in arguments), {
            name: self.cast(value, dtype) for name, value in options.items()
        }

    def cast(self, value: Any, dtype: Any) -> Any:
        """`cached_cast` of autocast_mode.cpp: floating tensors change dtype, trained fp32 leaves once per region."""
        import torch

        if isinstance(value, list | tuple):
            return type(value)(self.cast(item, dtype) for item in value)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dtype in (dtype, torch.float64):
            return value
        wanted = value.requires_grad and value.is_leaf and value.dtype == torch.float32 and torch.is_autocast_cache_enabled()
        if not wanted:
            return value.to(dtype)
        if id(value) not in self._copies:
            self._copies[id(value)] = (value, value.to(dtype))
        return self._copies[id(value)][1]


def _is_16_bit(value: Any) -> bool:
    return bool(value.is_floating_point()) and value.element_size() == 2
