"""What CUDA multiplies: operands of one dtype. The meta device asks for none, so the trace does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from planner.refusals import CaseError

# derived: addmm_out_cuda_impl and bmm_out_cuda_impl of torch's Blas.cpp, validate_sdpa_input of sdp_utils_cpp.h, and the
# data pointers of one type in LayerNormKernelImplInternal of layer_norm_kernel.cu
OF_ONE_DTYPE: Final = frozenset(
    {
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
        "aten::baddbmm",
        "aten::native_layer_norm",
        "aten::_scaled_dot_product_flash_attention",
        "aten::_scaled_dot_product_efficient_attention",
    }
)


def require_one_dtype(name: str, arguments: tuple[Any, ...]) -> None:
    """Raise CaseError where the operands of `name` differ, and no autocast makes them equal."""
    import torch

    if name not in OF_ONE_DTYPE or torch.is_autocast_enabled("cuda"):
        return
    found = dict.fromkeys(_dtypes(arguments))
    if len(found) > 1:
        said = " with ".join(str(dtype).removeprefix("torch.") for dtype in found)
        words = f"without autocast an operation of this model ({name.removeprefix('aten::')}) meets {said}, which CUDA refuses"
        raise CaseError("autocast", words, "autocast bfloat16")


def _dtypes(arguments: tuple[Any, ...]) -> Iterator[Any]:
    import torch

    return (value.dtype for value in arguments if isinstance(value, torch.Tensor) and value.is_floating_point())
