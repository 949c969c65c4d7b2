"""The levers that lower a job's GPU memory, from what its result does not feel to what it does.

For all who ask what would change an estimate. A search has an order of its own: ladders, whose steps are of the same `MOVES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.card.moves import MOVES, MoveName
from planner.methods import DEFAULT_RANK, DEFAULT_TARGETS, METHODS, NF4, QLORA_MEANS
from planner.strategy.cuts import cut_of
from planner.strategy.precision import FOUR_BIT, usual_upcast
from planner.strategy.stack import Stack
from remote.contract import ALPHA_PER_RANK, Strategy


class Change(NamedTuple):
    """A strategy with one lever pulled."""

    words: str  # the keys of a case and what to set them to
    changes: dict[str, Any]  # the same as values
    strategy: Strategy
    beside: dict[str, Any] = {}  # keys of the case that have to follow, and that no Strategy has


Steps = Callable[[Strategy, Architecture, Stack], Iterator[Change]]


class Lever(NamedTuple):
    """One way to need less. `steps`: how far it can be pulled, the gentlest first; none where it does not apply."""

    name: str
    steps: Steps
    once: bool = False  # its steps are halvings: one is enough to show what it does
    timed: bool = True  # whether the estimate of speed knows what it costs


def steps_of(
    lever: Lever, strategy: Strategy, architecture: Architecture, stack: Stack, mean_seq_len: float | None
) -> Iterator[Change]:
    """The lever's steps; where the case says how long sequences are in the mean, what is cut shorter is so in the mean."""
    for change in lever.steps(strategy, architecture, stack):
        length = change.changes.get("seq_len")
        if length is None or mean_seq_len is None or mean_seq_len <= length:
            yield change
        else:
            yield change._replace(words=f"{change.words} with mean_seq_len {length}", beside={"mean_seq_len": float(length)})


def _set(strategy: Strategy, words: str | None = None, **changes: Any) -> Iterator[Change]:
    """The one step that sets these keys, unless they say so already. `words`: where fewer than all of them mean the same."""
    changed = msgspec.structs.replace(strategy, **changes)
    if changed != strategy:
        yield Change(words or _typed(changes), changes, changed)


def _moved(strategy: Strategy, *names: MoveName) -> Iterator[Change]:
    """Those of these moves that may be made, each by itself."""
    for name in names:
        if MOVES[name].may(strategy):
            yield from _set(strategy, **MOVES[name].sets)


def _typed(changes: dict[str, Any]) -> str:
    """Every key with its value: one of them, and what goes with it."""
    first, *others = (key if value is True else f"{key} {_said(value)}" for key, value in changes.items())
    return f"{first} with {' and '.join(others)}" if others else first


def _said(value: Any) -> str:
    match value:
        case tuple():
            return ",".join(value)
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _checkpointing(strategy: Strategy, *_: object) -> Iterator[Change]:
    """Linears of 8 bits keep what they were given past autograd's own saving: a re-entrant checkpoint alone lets go of it."""
    if not METHODS[strategy.method].recomputes:
        return
    if strategy.gradient_checkpointing == "off":
        yield from _set(strategy, gradient_checkpointing="non_reentrant")
    if strategy.quant == "int8" and strategy.gradient_checkpointing in ("off", "non_reentrant"):
        yield from _set(strategy, gradient_checkpointing="reentrant")


def _attention(strategy: Strategy, architecture: Architecture, _: Stack) -> Iterator[Change]:
    if strategy.attention == "eager" and not architecture.eager_only:
        yield from _set(strategy, attention="sdpa")


def _loss(strategy: Strategy, *_: object) -> Iterator[Change]:
    yield from _moved(strategy, "no logits", "logits in chunks")


def _micro_batch(strategy: Strategy, *_: object) -> Iterator[Change]:
    """Divisors alone: an optimizer step is of as many sequences as before."""
    micro_batch, accumulation = strategy.micro_batch_size, strategy.gradient_accumulation_steps
    for size in range(micro_batch // 2, 0, -1):
        if micro_batch % size == 0:
            more = accumulation * micro_batch // size
            yield from _set(strategy, micro_batch_size=size, gradient_accumulation_steps=more)


def _optimizer(strategy: Strategy, *_: object) -> Iterator[Change]:
    yield from _moved(strategy, "states of 8 bits", "paged states")


def _adapter_dtype(strategy: Strategy, *_: object) -> Iterator[Change]:
    if strategy.adapter_dtype == "float32" and not METHODS[strategy.method].moves:
        yield from _set(strategy, adapter_dtype="bfloat16" if strategy.autocast == "none" else strategy.autocast)


def _quant(strategy: Strategy, *_: object) -> Iterator[Change]:
    if strategy.quant == "none" and not METHODS[strategy.method].moves_linears:
        yield from _set(strategy, "quant nf4", quant="nf4", kbit_upcast=usual_upcast("nf4"))  # what these words alone mean
        yield from _set(strategy, **NF4, kbit_upcast="none")


def _upcast(strategy: Strategy, *_: object) -> Iterator[Change]:
    if strategy.kbit_upcast == "full":
        yield from _moved(strategy, "no upcast")


def _offloaded(strategy: Strategy, *_: object) -> Iterator[Change]:
    if strategy.gradient_checkpointing != "off":
        yield from _set(strategy, gradient_checkpointing="offloaded")
    yield from _moved(strategy, "states in RAM", "streamed", "weights in RAM")


def _rank(strategy: Strategy, *_: object) -> Iterator[Change]:
    """The update's scale, alpha / rank, stays what it is."""
    if strategy.rank is None:
        return
    scale = strategy.alpha / strategy.rank if strategy.alpha is not None else ALPHA_PER_RANK
    for rank in _halved(strategy.rank, 1):
        words = None if METHODS[strategy.method].adapter else f"rank {rank}"  # what hangs on no linear reads no alpha
        yield from _set(strategy, words, rank=rank, alpha=scale * rank)


def _targets(strategy: Strategy, architecture: Architecture, _: Stack) -> Iterator[Change]:
    if strategy.target_modules == "all-linear":
        few = DEFAULT_TARGETS.get(strategy.method, {}).get(architecture.model_type)
        if few is not None:
            yield from _set(strategy, target_modules=few)


def _length(strategy: Strategy, *_: object) -> Iterator[Change]:
    for length in _halved(strategy.seq_len, 256):
        yield from _set(strategy, seq_len=length)


def _method(strategy: Strategy, *_: object) -> Iterator[Change]:
    if METHODS[strategy.method].moves_all:
        lora: dict[str, Any] = {"method": "lora", "rank": DEFAULT_RANK, "alpha": ALPHA_PER_RANK * DEFAULT_RANK}
        yield from _set(strategy, "method lora", **lora)
        yield from _set(strategy, "method qlora", **(lora | QLORA_MEANS), kbit_upcast=usual_upcast("nf4"))


def _more_gpus(strategy: Strategy, _: Architecture, stack: Stack) -> Iterator[Change]:
    """As few more as every machine and every group of parallel ranks can have alike."""
    cut = cut_of(strategy)
    if not cut.spreads_blocks and cut.engine != "deepspeed":
        more = strategy.num_gpus + math.lcm(strategy.num_nodes, stack.model_parallel)
        stored = {"quant_storage": "bfloat16"} if strategy.quant in FOUR_BIT else {}
        yield from _set(strategy, num_gpus=more, sharding="fsdp", **stored)


LEVERS: Final[tuple[Lever, ...]] = (
    Lever("recompute activations", _checkpointing),
    Lever("a kernel for attention", _attention, timed=False),
    Lever("a loss without whole logits", _loss, timed=False),
    Lever("a smaller micro-batch", _micro_batch, once=True),
    Lever("no fp32 copies of the base", _upcast),
    Lever("a 16-bit adapter", _adapter_dtype),
    Lever("an 8-bit optimizer", _optimizer, timed=False),
    Lever("a 4-bit base", _quant),
    Lever("RAM instead", _offloaded),
    Lever("a lower rank", _rank, once=True),
    Lever("fewer targets", _targets),
    Lever("shorter sequences", _length, once=True),
    Lever("another method", _method),
    Lever("more GPUs", _more_gpus),
)


def _halved(number: int, least: int) -> Iterator[int]:
    while number // 2 >= least:
        number //= 2
        yield number
