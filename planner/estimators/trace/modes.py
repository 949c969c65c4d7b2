"""The two views of a running step: the operations below autograd, and the calls above it, answered as CUDA would.

Both are torch modes and live in functions, so that this module imports without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from planner.estimators.trace.autocast import Casts, concerns
from planner.estimators.trace.kernels import SCRATCH, STAND_INS
from planner.estimators.trace.operands import require_one_dtype
from planner.estimators.trace.recorder import Recorder, Stage
from planner.estimators.trace.repeats import Repeats
from planner.refusals import Untraceable

FLASH_CAPABILITY: Final = (8, 0)  # derived: check_flash_attention_hardware_support of torch's sdp_utils.cpp
FLASH_WIDTH: Final = 256  # derived: check_head_dim_size_flash, same file
MASK_MULTIPLE: Final = 16  # derived: pad_bias of torch's attention.cpp: a mask's rows are padded to this


# ── below autograd ─────────────────────────────────────────────────────────────────────────────────────────────────────


def recording(recorder: Recorder, *, padded: bool) -> Any:
    """A mode that shows `recorder` every tensor. `padded`: what a step is told when it asks its mask whether all is text."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    repeats = Repeats()

    def show(out: Any) -> None:
        if isinstance(out, torch.Tensor):
            # In forward, or in what backward computes again: only there does autograd note operations down.
            again = recorder.stage == Stage.BACKWARD and torch.is_grad_enabled()
            recorder.saw(out, computing_forward=again or recorder.stage == Stage.FORWARD)
        elif isinstance(out, tuple | list):
            for item in out:
                show(item)

    class Recording(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            name = func._schema.name  # noqa: SLF001 - the only name that all overloads share
            if name in ASKED and args[0].is_meta:
                return _answered(args[0], padded=padded)
            if recorder.stage != Stage.BACKWARD:
                require_one_dtype(name, args)
            if name in STAND_INS:
                with self:
                    return STAND_INS[name](*args, **kwargs)
            if name == "aten::add" and recorder.stage == Stage.BACKWARD and _adds_in_place(*args, **kwargs):
                return args[0].add_(args[1])
            out = repeats.run(func, args, kwargs)
            show(out)
            if name in SCRATCH:
                recorder.scratch(SCRATCH[name](*args, **kwargs))
            return out

    return Recording()


# What an owner of a tensor and its storage count up to when nobody else holds them, seen from within a mode:
# measured, torch 2.15; the comparison with a run that no mode watches fails when another release counts differently.
SOLE_TENSOR: Final = 4
SOLE_STORAGE: Final = 2


def _adds_in_place(one: Any, other: Any, *, alpha: float = 1) -> bool:
    """Whether autograd sums two gradients into the first (`can_accumulate_inplace` of torch's input_buffer.cpp).

    It does when nobody else holds the first, but never under a mode; so the mode has to do it.
    """
    import torch

    return (
        isinstance(other, torch.Tensor)
        and not torch.is_grad_enabled()
        and alpha == 1
        and (one.shape, one.dtype) == (other.shape, other.dtype)
        and one._use_count() == SOLE_TENSOR  # noqa: SLF001
        and torch._C._storage_Use_Count(one.untyped_storage()._cdata) == SOLE_STORAGE  # noqa: SLF001
        and bool(torch.ops.aten.is_non_overlapping_and_dense(one))
    )


ASKED: Final = frozenset({"aten::_local_scalar_dense", "aten::is_nonzero"})


def _answered(asked: Any, *, padded: bool) -> Any:
    """The value of a tensor that has none: is there no padding? did no gradient overflow? Anything else is unknown."""
    import torch

    if asked.dtype == torch.bool:
        return not padded
    if asked.is_floating_point():
        return 0.0
    raise Untraceable("model", "the model's code looks at values in the middle of a step, which only real data have")


# ── above autograd ─────────────────────────────────────────────────────────────────────────────────────────────────────


def as_cuda(recorder: Recorder, casts: Casts, compute_capability: tuple[int, int] | None) -> Any:
    """A mode under which calls take the branches that they take on CUDA. None = a present card."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    flash = compute_capability is None or compute_capability >= FLASH_CAPABILITY
    _drop_as_cuda()
    plain: dict[Any, bool] = {}  # most calls only ask for a shape or a dtype

    class AsCuda(TorchFunctionMode):  # type: ignore[misc]  # torch is untyped here
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if func not in plain:
                plain[func] = func not in calls and not concerns(getattr(func, "__name__", ""))
            if plain[func]:
                return func(*args, **kwargs)
            if torch.is_autocast_enabled("cuda"):
                args, kwargs = casts.applied(func.__name__, args, kwargs)
            return calls.get(func, func)(*args, **kwargs)

    mode = AsCuda()

    def backward(tensors: Any, gradients: Any = None, *_: Any, **options: Any) -> None:
        # The engine is entered below this mode's own interception, with the mode on: what backward computes again must
        # take the same branches as the first time.
        recorder.enter(Stage.BACKWARD)
        gradients = gradients if gradients is not None else options.get("grad_tensors")
        with mode:
            _run_backward(_as_tuple(tensors), gradients)

    calls: Mapping[Any, Callable[..., Any]] = {
        torch.Tensor.backward: backward,
        torch.autograd.backward: backward,
        functional.scaled_dot_product_attention: lambda *args, **kwargs: _attention(*args, **kwargs, flash=flash),
        functional.dropout: _dropout,
        torch.dropout: _dropout,
        **dict.fromkeys((functional.softmax, torch.softmax, torch.Tensor.softmax), _softmax),
    }
    return mode


def _as_tuple(tensors: Any) -> tuple[Any, ...]:
    import torch

    return (tensors,) if isinstance(tensors, torch.Tensor) else tuple(tensors)


def _run_backward(tensors: tuple[Any, ...], gradients: Iterable[Any] | None) -> None:
    """torch.autograd.backward without its detour over __torch_function__, which would switch every mode off."""
    import torch
    from torch.autograd import graph

    seeds = tuple(torch.ones_like(tensor) for tensor in tensors) if gradients is None else _as_tuple(gradients)
    keep_graph = create_graph = False
    graph._engine_run_backward(  # noqa: SLF001 - the engine's only entry from Python
        tensors, seeds, keep_graph, create_graph, (), allow_unreachable=True, accumulate_grad=True
    )


def _dropout(value: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:  # noqa: FBT001, FBT002, ARG001
    """CUDA's fused kernel keeps a mask of one byte per element; what meta would do keeps a mask of the value's dtype."""
    import torch

    return torch.native_dropout(value, p, train=True)[0] if training and p > 0 else value


@cache
def _drop_as_cuda() -> Any:
    """The same inside torch's own composites, which no function mode sees: attention by plain mathematics drops weights. It
    holds for meta tensors alone, and as long as what is returned lives.
    """
    from torch.library import Library

    registered = Library("aten", "IMPL")
    registered.impl("dropout", _dropout, "AutogradMeta")
    return registered


def _softmax(value: Any, dim: int = -1, *_: Any, dtype: Any = None, **__: Any) -> Any:
    """fp16 becomes fp32 inside CUDA's kernel; other dtypes are cast before."""
    import torch

    if value.dtype == torch.float16 and dtype == torch.float32:
        return torch.ops.aten._softmax(value, dim, half_to_float=True)  # noqa: SLF001
    return torch.ops.aten.softmax.int(value, dim, dtype)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    flash: bool,
) -> Any:
    """The kernel that torch's select_sdp_backend picks: flash, memory-efficient, or plain mathematics.

    cuDNN's kernel, which Hopper and Blackwell put first, is taken to need what flash needs: assumed.
    """
    import torch

    aten = torch.ops.aten
    half = query.dtype in (torch.bfloat16, torch.float16)
    if query.shape[1] != key.shape[1] and not enable_gqa:  # check_batch_size_and_num_heads_dense of torch's sdp_utils
        return aten._scaled_dot_product_attention_math(query, key, value, attn_mask, dropout_p, is_causal, scale=scale)[0]  # noqa: SLF001
    if attn_mask is None and half and flash and query.shape[-1] == value.shape[-1] <= FLASH_WIDTH:
        padded = [_padded_head(tensor) for tensor in (query, key, value)]
        out = aten._scaled_dot_product_flash_attention(*padded, dropout_p, is_causal, scale=scale)[0]  # noqa: SLF001
        return out if out.shape[-1] == value.shape[-1] else out[..., : value.shape[-1]]
    if (query.dtype == torch.bfloat16 and not flash) or query.shape[-1] % (8 if half else 4):
        return aten._scaled_dot_product_attention_math(  # noqa: SLF001
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )[0]
    mask = None if attn_mask is None else _bias(attn_mask, query, key)
    return aten._scaled_dot_product_efficient_attention(  # noqa: SLF001
        query, key, value, mask, _wants_gradient(query, key, value), dropout_p, is_causal, scale=scale
    )[0]


def _wants_gradient(*tensors: Any) -> bool:
    import torch

    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _padded_head(tensor: Any) -> Any:
    """Flash wants heads of a multiple of eight (pad_last_dim of attention.cpp)."""
    from torch.nn import functional

    rest = -tensor.shape[-1] % 8
    return functional.pad(tensor, (0, rest)) if rest else tensor


def _bias(mask: Any, query: Any, key: Any) -> Any:
    """A boolean mask becomes an additive one in the query's dtype, rows padded, the same for all heads."""
    import torch
    from torch.nn import functional

    if mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, torch.full((), -torch.inf, dtype=query.dtype, device=query.device))
    rest = -mask.shape[-1] % MASK_MULTIPLE
    if rest:
        mask = functional.pad(mask, (0, rest))[..., : mask.shape[-1]]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
