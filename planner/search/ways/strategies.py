"""The ways to do one job: every Strategy that the search tries on a machine with a given number of GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.advise import Advice, advise
from planner.asking.case import read_case, strategy_of
from planner.asking.request import ESTIMATED, DataAsked, Request, RequestError
from planner.estimators.sequences import packed_rows, share_used
from planner.estimators.time.duration import steps_of
from planner.methods import LAYERS, METHODS, adapter_params, require_within
from planner.refusals import CaseRefused
from planner.search.ways.ladders import Ladder
from planner.strategy.stack import PINNED_STACK
from remote.contract import PACK_TOKENS, Dtype, Strategy

MICRO_BATCHES: Final = (16, 8, 4, 2, 1)  # assumed: kernels like powers of two, and beyond 16 little is gained
MAX_TOKENS_PER_PASS: Final = 16_384  # assumed: above it a larger micro-batch no longer raises tokens/s, only memory
CHECKPOINTING: Final = ("off", "non_reentrant")  # recomputing costs about a third of the time and most of the activations
SEQ_LEN_MULTIPLE: Final = 8  # derived: collators pad to it; matrix units want it
# measured: by at most 1.29 characters understated the tokens of 1,600 docstrings under SmolLM2-135M-Instruct, 2026-11;
# assumed of other text
ESTIMATE_MARGIN: Final = 1.3

SDPA: Final = "sdpa"
EAGER: Final = "eager"

COPIES: Final = {"sharding": "ddp"}
UNSHARDABLE: Final = ("int8",)  # bitsandbytes' int8 weights can't be cut; 4-bit ones can, when stored in a 16-bit dtype
STATES: Final = {"sharding": "zero2"}  # gradients and optimizer states in parts: of an adapter these are small


def check_layers(request: Request, architecture: Architecture) -> None:
    """Raise RequestError where `loop.layers` names a block that the model does not have."""
    last = architecture.depth - 1
    if beyond := [layer for layer in request.loop.layers or () if layer > last]:
        raise RequestError(
            f"layers names block {beyond[0]}, and {architecture.name} has blocks 0 to {last}",
            hint=f"layers: {[layer for layer in request.loop.layers or () if layer <= last] or [last]}",
            place=("loop", "layers"),
        )


def check_attention(request: Request, architecture: Architecture) -> None:
    """Raise RequestError for sdpa where transformers has only eager attention: the trainer would stop on the paid box."""
    if request.training.get("attention") == SDPA and architecture.eager_only:
        raise RequestError(
            f"transformers has no attention {SDPA} for {architecture.model_type}, only {EAGER}",
            hint=f"attention: {EAGER}, or leave it out",
            place=("training", "attention"),
        )


def check_method(request: Request, architecture: Architecture) -> None:
    """Raise CaseRefused for what every way to do the job is refused for: a method that finds nothing to train in this base,
    options that it does not take, a schedule that is not the run's. Each is tried on as many GPUs as were asked for.
    """
    if not request.training:
        return  # what is advised can be done
    ladders = strategies(
        advise(request, architecture),
        model=request.model,
        seq_len=seq_len_of(request, architecture),
        num_gpus=request.where.num_gpus or 1,
        computes_in="bfloat16",
        eager=architecture.eager_only,
        layers=request.loop.layers,
    )
    if refused := refusals_of_all((first for first, *_ in ladders), lambda way: _require_done(way, request, architecture)):
        raise refused[0]


def refusals_of_all(ways: Iterable[Strategy], ask: Callable[[Strategy], object]) -> tuple[CaseRefused, ...]:
    """What `ask` raises for each way; () as soon as it raises nothing for one."""
    refused: list[CaseRefused] = []
    for way in ways:
        try:
            ask(way)
        except CaseRefused as error:
            refused.append(error)
        else:
            return ()
    return tuple(refused)


def _require_done(strategy: Strategy, request: Request, architecture: Architecture) -> None:
    adapter = METHODS[strategy.method].adapter
    adapter_params(architecture, strategy)
    if adapter is not None:
        data = request.data
        number = packed_rows(data, strategy.seq_len)[1].number if data.reading.packing else data.num_examples
        require_within(adapter, strategy, steps_of(strategy, PINNED_STACK, number, request.loop))


def seq_len_of(request: Request, architecture: Architecture) -> int:
    """Tokens of the longest sequence: what the data needs, at most what was said, never more than the model reads."""
    said: int | None = request.training.get("seq_len")
    if said is not None and said > architecture.max_positions:
        raise RequestError(
            f"{architecture.name} reads at most {architecture.max_positions:,} tokens, not {said:,}",
            hint=f"--seq-len {architecture.max_positions}",
            place=("training", "seq_len"),
        )
    counted = request.data.basis != ESTIMATED
    least, most = request.data.least_seq_len, said or architecture.max_positions
    if least is not None and most < least:
        raise RequestError(
            f"no row leaves anything to learn within {most:,} tokens: its answer begins later",
            hint=f"--seq-len {least} at least; most rows need more",
            place=("training", "seq_len"),
        )
    _require_something_to_learn(request.data, most if counted else int(most * ESTIMATE_MARGIN), said=most)
    if said is not None and (request.data.reading.packing or not counted):
        return said
    longest = request.data.max_tokens * (1.0 if counted else ESTIMATE_MARGIN)
    needed = -int(-longest // SEQ_LEN_MULTIPLE) * SEQ_LEN_MULTIPLE
    if request.data.reading.packing:
        needed = max(needed, PACK_TOKENS)
    return min(needed, architecture.max_positions if said is None else said)


def _require_something_to_learn(data: DataAsked, seq_len: int, *, said: int) -> None:
    """Of rows whose tokens are estimated none is known one by one. `seq_len`: the most that `said` tokens may be as estimated.

    Raises RequestError.
    """
    if share_used(data, seq_len) > 0:
        return
    needed = -int(-data.max_tokens // SEQ_LEN_MULTIPLE) * SEQ_LEN_MULTIPLE
    dropped = data.reading.long_rows == "drop"
    why = "longer ones are to be dropped (long_rows)" if dropped else "its answer begins later"
    raise RequestError(
        f"no row leaves anything to learn within {said:,} tokens: {why}",
        hint=f"--seq-len {needed} keeps all of the longest row",
        place=("training", "seq_len"),
    )


def strategies(
    advice: Advice,
    *,
    model: str,
    seq_len: int,
    num_gpus: int,
    computes_in: Dtype,
    eager: bool = False,
    layers: tuple[int, ...] | None = None,
) -> Iterator[Ladder]:
    """Ladders of strategies that differ only in their micro-batch, the largest first.

    Within a ladder memory falls from step to step, so the first that fits is the fastest that fits. `computes_in`: the
    dtype in which the machine multiplies fastest; float32 where 16 bits gain nothing, as on most CPUs. `eager`: the model has
    no other attention. `layers`: the blocks that train, where the job chooses some.
    """
    said = advice.training | {"model": model, "seq_len": seq_len, "num_gpus": num_gpus}
    if layers is not None:
        said["method_options"] = said.get("method_options", {}) | {LAYERS: list(layers)}
    autocast = "none" if computes_in == "float32" else computes_in
    # a float16 autocast scales gradients, and unscales those of fp32 weights only
    recomputing = CHECKPOINTING if METHODS[said["method"]].recomputes else CHECKPOINTING[:1]
    weights = "float32" if METHODS[said["method"]].moves_all and computes_in == "float16" else computes_in
    attention = {"attention": EAGER} if eager else {}
    for variant in advice.variants:
        quant = said.get("quant", variant.get("quant", "none"))
        for sharding in _shardings(said, quant, num_gpus, computes_in):
            chosen = {"param_dtype": weights, "autocast": autocast} | variant | sharding | attention
            several = _said_or(said, "gradient_checkpointing", recomputing)
            first = strategy_of(read_case(chosen | {"gradient_checkpointing": several[0]} | said))
            for checkpointing in several:
                way = msgspec.structs.replace(first, gradient_checkpointing=checkpointing)
                yield _ladder(way, chosen | said, advice)


def _ladder(way: Strategy, said: dict[str, Any], advice: Advice) -> Ladder:
    num_gpus: int = said["num_gpus"]
    per_gpu = max(1, advice.global_batch_size // num_gpus)
    passes: int | None = said.get("gradient_accumulation_steps")
    free = _micro_batches(per_gpu, said["seq_len"])
    if passes is not None and not advice.chose("global_batch_size"):
        free = (max(1, per_gpu // passes),)  # both were said, so the third follows
    return tuple(
        msgspec.structs.replace(
            way, micro_batch_size=size, gradient_accumulation_steps=max(1, per_gpu // size) if passes is None else passes
        )
        for size in _said_or(said, "micro_batch_size", free)
    )


def _micro_batches(per_gpu: int, seq_len: int) -> tuple[int, ...]:
    """Divisors of the share of one GPU, as far as they still raise the speed."""
    largest = max(1, MAX_TOKENS_PER_PASS // seq_len)
    return tuple(size for size in MICRO_BATCHES if size <= largest and per_gpu % size == 0)


def _shardings(said: dict[str, Any], quant: str, num_gpus: int, half: str) -> tuple[dict[str, Any], ...]:
    """How the GPUs of one machine can share the job, the quickest first: copies of the model, then parts of it.

    What is sharded together has one dtype, so packed weights, norms and adapters are held in 16 bits there (peft's guide
    to FSDP and QLoRA).
    """
    if "sharding" in said:
        return ({"sharding": said["sharding"]},)
    if num_gpus == 1:
        return ({"sharding": "none"},)
    parts = {"sharding": "fsdp", "adapter_dtype": half, "kbit_upcast": "none"}
    packed = {"quant_storage": half} if quant != "none" else {}
    states = (STATES,) if METHODS[said["method"]].moves_all else ()
    return (*states, COPIES) if quant in UNSHARDABLE else (*states, COPIES, parts | packed)


def _said_or(said: dict[str, Any], key: str, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    return (said[key],) if key in said else choices
