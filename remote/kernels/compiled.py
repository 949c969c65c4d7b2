"""`kernels: compiled`: a block in training is one graph of torch.compile's, made once and shared by all that are alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from remote.contract import Strategy
from remote.ends import bad_job, first_line

BACKEND: Final = "inductor"  # torch's default: Triton on a card, C++ on a processor; both need a C compiler on the box
_COMPILER: Final = ("torch._dynamo", "torch._inductor", "triton")  # modules whose errors say that nothing was compiled


class InTraining:
    """A module's forward pass: compiled where it trains, as transformers writes it where it is judged or answers.

    Held-out losses, sample answers and the check of the result are so computed as those of the base and of the weights that
    are read back, and no length of an answer is compiled for.
    """

    def __init__(self, module: Any, trained: Callable[..., Any]) -> None:
        self._module, self._trained, self._eager = module, trained, module.forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self._trained if self._module.training else self._eager)(*args, **kwargs)


def compile_blocks(model: Any, strategy: Strategy) -> None:
    """Let each block of `model` be compiled at its first step in training, where the strategy says so. Raises `Ended` (bad
    job) for a model that has no blocks of transformers' own kind.

    Recomputing, adapters and bitsandbytes' 4-bit linears are part of the graph. Lengths and rows are symbols in it, so that one
    serves every batch; torch makes another for a single row, and for a block whose input asks for no gradient.
    """
    if strategy.kernels != "compiled":
        return
    blocks = tuple(blocks_of(model))
    if not blocks:
        raise bad_job(f"a {type(model).__name__} has no blocks that can be compiled; say kernels eager")
    for block in blocks:
        block.forward = InTraining(block, compiled(block.forward))


def compiled(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work` as one graph, made when it is first asked for: rows and lengths are symbols in it."""
    import torch

    made: Callable[..., Any] = torch.compile(work, backend=BACKEND, dynamic=True)
    return made


def run_eagerly(model: Any) -> None:
    """Take back what `compile_blocks` did."""
    for block in blocks_of(model):
        if isinstance(block.__dict__.get("forward"), InTraining):
            del block.forward


def is_not_compiled(error: BaseException) -> bool:
    """Whether a block could not be compiled, whatever of the compiler says so."""
    return any(kind.__module__.startswith(_COMPILER) for kind in type(error).__mro__)


def why_not_compiled(error: BaseException) -> str:
    """The first line of what stopped the compiler, rather than of who reports it."""
    return first_line(getattr(error, "inner_exception", error))


def blocks_of(model: Any) -> Iterator[Any]:
    """What transformers recomputes as one: blocks of encoders and decoders."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
