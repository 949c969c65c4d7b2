"""`Request`: what a person asks for, validated once. Everything after it may trust it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from remote.contract import Loop, Task

DEFAULT_EXAMPLES: Final = 1_000  # assumed: a small instruction set (LIMA, arXiv:2305.11206, tunes on 1,000 rows)
DEFAULT_TOKENS_PER_EXAMPLE: Final = 512  # assumed: an instruction and its answer with room (QLoRA, arXiv:2305.14314: 384 + 128)

HELD_OUT_ROWS: Final = 200  # enough for a paired comparison of losses before and after
MAX_HELD_OUT_SHARE: Final = 0.2  # the trainer's rule (remote/data/split.py): a small file is not spent on judging

DataFormat = Literal["auto", "text", "instruction", "chat"]
Basis = Literal["default", "stated", "counted by the model's tokenizer", "estimated from characters"]


class RequestError(Exception):
    """What was asked can't be planned. `str(error)` is one sentence; `hint` says what to type instead."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class DataAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The size of the data: read from a file, or stated. Lengths are tokens after padding or packing."""

    path: str | None = None
    num_examples: int
    mean_tokens: float
    max_tokens: int
    basis: str  # one of `Basis`
    held_out_rows: int = 0
    held_out_path: str | None = None
    format: DataFormat = "auto"
    max_rows: int | None = None  # only the first rows of the file


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What may be rented, and how much of it."""

    gpu_memory_gib: float | None = None  # per GPU, as sold: --gpu-budget, --max-vram
    gpus: tuple[str, ...] = ()  # names in the GPU table; empty = any
    num_gpus: int | None = None
    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()  # set by a saved plan: exactly this machine
    spot: bool | None = None  # None = both
    host: str | None = None  # user@address of a machine that exists
    allow_from: tuple[str, ...] = ()  # CIDRs that may reach SSH on the box; empty = the caller's address only


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that a plan must keep at its p90."""

    max_usd: Decimal | None = None
    max_hours: float | None = None


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """What stays after the run."""

    adapter: str | None = None  # folder at home that gets the adapter; None = in the run's directory
    box_on_failure: bool = False  # leave the box to its deadline when training failed


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A job to plan. `training` holds the case keys of the estimate contract that were said; the planner fills the rest."""

    model: str  # as it was typed
    task: Task = "causal_lm"
    training: dict[str, Any] = {}
    global_batch_size: int | None = None  # sequences per optimizer step; None = planner's choice
    loop: Loop = msgspec.field(default_factory=Loop)
    data: DataAsked
    where: Where = Where()
    budget: Budget = Budget()
    keep: Keep = Keep()
    tags: dict[str, str] = {}
    top: int = 5


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """How long the rows of a file are, in tokens."""

    num_rows: int
    mean_tokens: float
    max_tokens: int
    basis: Basis


Measure = Callable[[str, int | None, str], Lengths]  # path, first rows only, model whose tokens count


def measured_data(
    path: str,
    *,
    measure: Measure | None,
    model: str,
    max_rows: int | None = None,
    held_out_path: str | None = None,
    held_out_rows: int | None = None,
    format: DataFormat = "auto",
) -> DataAsked:
    """Data in a file. Without a file of held-out rows some are kept back: as said, else 200, never more than a fifth."""
    if measure is None:
        raise RequestError(f"{path} cannot be read here", hint="say --examples and --tokens instead")
    lengths = measure(path, max_rows, model)
    wanted_rows = HELD_OUT_ROWS if held_out_rows is None else held_out_rows
    kept_back = 0 if held_out_path is not None else min(wanted_rows, int(lengths.num_rows * MAX_HELD_OUT_SHARE))
    return DataAsked(
        path=path,
        num_examples=lengths.num_rows - kept_back,
        mean_tokens=lengths.mean_tokens,
        max_tokens=lengths.max_tokens,
        basis=lengths.basis,
        held_out_rows=kept_back,
        held_out_path=held_out_path,
        format=format,
        max_rows=max_rows,
    )


def default_data() -> DataAsked:
    """The job that is planned when nothing was said about data: 1,000 examples of 512 tokens."""
    return stated_data(num_examples=None, num_tokens=None, tokens_per_example=DEFAULT_TOKENS_PER_EXAMPLE)


def stated_data(*, num_examples: int | None, num_tokens: int | None, tokens_per_example: int) -> DataAsked:
    """Data known only by numbers: examples, tokens of one pass over them, or both; what is missing follows.

    With both, the mean length is their quotient, and the longest example has at least that many tokens.
    """
    if num_examples is not None and num_tokens is not None and num_tokens < num_examples:
        raise RequestError(
            f"{num_tokens:,} tokens cannot fill {num_examples:,} examples",
            hint="--tokens counts the tokens of one pass over all examples",
        )
    said = num_examples is not None or num_tokens is not None
    if num_examples is None:
        num_examples = DEFAULT_EXAMPLES if num_tokens is None else max(1, -(-num_tokens // tokens_per_example))
    mean = tokens_per_example if num_tokens is None else num_tokens / num_examples
    longest = max(tokens_per_example, -int(-mean // 1))
    basis: Basis = "stated" if said else "default"
    return DataAsked(num_examples=num_examples, mean_tokens=float(mean), max_tokens=longest, basis=basis)


def checked(request: Request) -> Request:
    """`request` itself, when its figures make sense together; a `RequestError` naming the first that does not."""
    data, where, loop = request.data, request.where, request.loop
    faults: tuple[tuple[bool, str, str], ...] = (
        (data.num_examples < 1, f"{data.num_examples} examples are nothing to train on", "--examples 1000"),
        (data.mean_tokens < 1, f"{data.mean_tokens:g} tokens per example are nothing to train on", "--tokens 512000"),
        (
            data.max_tokens < data.mean_tokens,
            f"the longest example ({data.max_tokens} tokens) is shorter than the mean ({data.mean_tokens:g})",
            "raise max_tokens or lower mean_tokens",
        ),
        (loop.epochs <= 0, f"{loop.epochs:g} epochs train nothing", "--epochs 3"),
        (loop.max_steps is not None and loop.max_steps < 1, f"max_steps is {loop.max_steps}", "leave it out, or at least 1"),
        (
            where.gpu_memory_gib is not None and where.gpu_memory_gib <= 0,
            f"a budget of {where.gpu_memory_gib} GB per GPU holds nothing",
            "--gpu-budget 24GB",
        ),
        (where.num_gpus is not None and where.num_gpus < 1, f"num_gpus is {where.num_gpus}", "--num-gpus 1"),
        (
            request.global_batch_size is not None and request.global_batch_size < 1,
            f"global_batch_size is {request.global_batch_size}",
            "--global-batch-size 16",
        ),
        (request.budget.max_usd is not None and request.budget.max_usd < 0, "max_cost is below zero", "--max-cost 5"),
        (
            request.budget.max_hours is not None and request.budget.max_hours <= 0,
            f"max_hours is {request.budget.max_hours}",
            "--max-hours 12",
        ),
        (request.top < 1, f"top is {request.top}", "--top 5"),
    )
    for wrong, message, hint in faults:
        if wrong:
            raise RequestError(message, hint=hint)
    return request
