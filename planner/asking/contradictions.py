"""Wishes that make sense alone and exclude each other: one table, for options and job files alike."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

import msgspec

from planner.asking.request import HOST, LOCAL, OWN_MACHINES, Request, RequestError
from planner.asking.rules import AUTO
from planner.methods import METHODS
from remote.contract import CAPABILITIES, HEAD_ALONE, SMOTE, SMOTE_REFUSED, names_label, read_every


class Contradiction(msgspec.Struct, frozen=True):
    """When two wishes exclude each other, the sentence about them, what to do, and where a job file says the second."""

    holds: Callable[[Request], bool]
    sentence: str  # `{request}` and `{method}` stand for what was asked
    hint: str
    place: tuple[str, ...]


def _rents_nothing(request: Request) -> bool:
    where = request.where
    return where.host is not None or (bool(where.providers) and OWN_MACHINES.issuperset(where.providers))


def _has_no_chosen_blocks(request: Request) -> bool:
    """Whether the method trains something else than parts of blocks: all of the base, or what stands in front of it."""
    method = METHODS.get(_method(request))
    return method is not None and (method.moves_all or (method.prompt is not None and method.adapter is None))


def _starts_anew(request: Request) -> bool:
    """Whether the method can't go on with an adapter."""
    method = METHODS.get(_method(request))
    return method is not None and not method.goes_on


def _needs_wandb(request: Request) -> bool:
    return any(name.startswith("wandb") for name in request.loop.report_to)


def _trains_here(request: Request) -> bool:
    """Whether nothing but this very machine is asked for, whose own packages may be trained with."""
    return request.where.host is None and request.where.providers == (LOCAL,)


def _reads_no_labels(request: Request) -> bool:
    return request.task != "classification" and request.data.unread_labels > 0


def _trains_head_alone(request: Request) -> bool:
    """As `remote.adapters.parts.trains_head_alone` has it of a strategy."""
    none_moves = request.training.get("trainable_layers") == 0 and request.loop.layers is None
    return _method(request) == "freeze" and none_moves


def _method(request: Request) -> str:
    return str(request.training.get("method", AUTO))


ALWAYS_PADDED: Final = ("classification", "seq2seq")  # tasks of bases that look both ways


CONTRADICTIONS: Final[tuple[Contradiction, ...]] = (
    Contradiction(
        lambda request: request.where.host is not None and set(request.where.providers) - {HOST} != set(),
        "the host {request.where.host} is a machine of yours, and provider {request.where.providers[0]} is another",
        "leave one of them out",
        ("where", "host"),
    ),
    Contradiction(
        lambda request: request.where.spot is True and _rents_nothing(request),
        "no machine of your own is sold as spot",
        "leave spot out",
        ("where", "spot"),
    ),
    Contradiction(
        lambda request: bool(request.where.allow_from) and _rents_nothing(request),
        "allow_from opens the firewall of a rented machine, and this job rents none",
        "leave allow_from out",
        ("where", "allow_from"),
    ),
    Contradiction(
        lambda request: request.loop.init_adapter is not None and _starts_anew(request),
        "init_adapter goes on with an adapter of an earlier run, and method {method} can't",
        "leave init_adapter out, or choose method lora",
        ("loop", "init_adapter"),
    ),
    Contradiction(
        lambda request: request.loop.layers is not None and _has_no_chosen_blocks(request),
        "layers says which blocks are trained, and method {method} chooses none",
        "leave layers out, or choose method lora",
        ("loop", "layers"),
    ),
    Contradiction(
        lambda request: request.loop.warmup_steps is not None and request.loop.warmup_epochs is not None,
        "the warm-up is said in steps and in epochs",
        "leave warmup_steps or warmup_epochs out",
        ("loop", "warmup_epochs"),
    ),
    Contradiction(
        lambda request: request.loop.warmup_steps is not None and request.loop.warmup_steps >= (request.loop.max_steps or inf),
        "the warm-up of {request.loop.warmup_steps} steps leaves none of max_steps {request.loop.max_steps} at the whole rate",
        "a smaller warmup_steps, or a larger max_steps",
        ("loop", "warmup_steps"),
    ),
    Contradiction(
        lambda request: request.loop.warmup_epochs is not None and request.loop.warmup_epochs >= request.loop.epochs,
        "the warm-up of {request.loop.warmup_epochs:g} epochs leaves none of {request.loop.epochs:g} at the whole rate",
        "a smaller warmup_epochs, or more epochs",
        ("loop", "warmup_epochs"),
    ),
    Contradiction(
        lambda request: request.data.reading.format == "classification" and request.task != "classification",
        "format classification has labels, and task {request.task} learns none",
        "task: classification",
        ("data", "format"),
    ),
    Contradiction(
        lambda request: request.task == "classification" and request.data.reading.format not in ("auto", "classification"),
        "task classification learns labels, and rows of format {request.data.reading.format} have none",
        "leave format out",
        ("data", "format"),
    ),
    Contradiction(
        lambda request: request.purpose.use_case == "classification" and _reads_no_labels(request),
        "{request.data.unread_labels:,} rows have a label beside their text, and task {request.task} does not learn it",
        "--task classification (task: classification in a job file), or leave the use case out",
        ("purpose", "use_case"),
    ),
    Contradiction(
        lambda request: request.data.reading.balance != "none" and request.task != "classification",
        "balance weighs classes, and task {request.task} has none",
        "leave balance out, or say task: classification",
        ("data", "balance"),
    ),
    Contradiction(
        lambda request: request.data.reading.balance == SMOTE and not _trains_head_alone(request),
        SMOTE_REFUSED,
        f"say {HEAD_ALONE}, or balance: class_weights",
        ("data", "balance"),
    ),
    Contradiction(
        lambda request: request.training.get("trainable_layers") == 0 and request.task != "classification",
        "trainable_layers 0 trains a new head alone, and task {request.task} has none",
        "trainable_layers 1 or more",
        ("training", "trainable_layers"),
    ),
    Contradiction(
        lambda request: names_label(request.data.reading.columns) and request.task != "classification",
        "columns names a label, and task {request.task} learns none",
        "task: classification (--task classification), or leave the label out",
        ("data", "columns"),
    ),
    Contradiction(
        lambda request: request.data.reading.long_rows == "split" and request.task == "classification",
        "long_rows split would make rows without a label of their own",
        "long_rows: cut, or drop",
        ("data", "long_rows"),
    ),
    Contradiction(
        lambda request: request.task == "seq2seq" and request.data.reading.format not in ("auto", "instruction"),
        "task seq2seq learns one answer to one text, and rows of format {request.data.reading.format} are none",
        'rows of "prompt" and "completion", or task: causal_lm',
        ("data", "format"),
    ),
    Contradiction(
        lambda request: request.task == "seq2seq" and request.data.reading.long_rows == "split",
        "long_rows split would part a text from its answer",
        "long_rows: cut, or drop",
        ("data", "long_rows"),
    ),
    Contradiction(
        lambda request: request.data.reading.target_tokens is not None and request.task != "seq2seq",
        "target_tokens is the length of a decoder's side, and task {request.task} has one side",
        "leave target_tokens out, or say task: seq2seq",
        ("data", "target_tokens"),
    ),
    Contradiction(
        lambda request: request.data.reading.chat_template is not None and request.task != "causal_lm",
        "chat_template writes conversations, and task {request.task} reads texts as they are",
        "leave chat_template out",
        ("data", "chat_template"),
    ),
    Contradiction(
        lambda request: request.data.reading.packing and request.task != "causal_lm",
        "packing lays several texts into a row, and task {request.task} has one answer to each",
        "leave packing out; row_order: by_length saves padding here",
        ("data", "packing"),
    ),
    Contradiction(
        lambda request: request.data.reading.packing and _method(request) in CAPABILITIES.unpacked,
        "method {method} puts tokens of its own before a row, and packing has several texts in it",
        "leave packing out, or choose method lora",
        ("data", "packing"),
    ),
    Contradiction(
        lambda request: request.data.reading.packing and request.training.get("padded") is False,
        "packing keeps the texts of a row apart by a mask, and padded false has none",
        "leave padded out",
        ("training", "padded"),
    ),
    Contradiction(
        lambda request: request.task in ALWAYS_PADDED and request.training.get("padded") is False,
        "task {request.task} pads its rows, and padded false has nothing padded",
        "leave padded out",
        ("training", "padded"),
    ),
    Contradiction(
        lambda request: request.loop.checkpoint_every is not None and read_every(request.loop.checkpoint_every) is None,
        "checkpoint_every is {request.loop.checkpoint_every!r}, which is no number of steps, epochs, s, min or h",
        "checkpoint_every: 200 steps, 0.5 epochs or 10 min",
        ("loop", "checkpoint_every"),
    ),
    Contradiction(
        lambda request: request.loop.best_by not in (None, "loss") and request.task != "classification",
        "best_by {request.loop.best_by} is a figure of classes, and task {request.task} has none",
        "best_by: loss, or say task: classification",
        ("loop", "best_by"),
    ),
    Contradiction(
        lambda request: _needs_wandb(request) and not _trains_here(request),
        "report_to wandb needs the library of that name, which is none of the box's packages",
        "report_to: [tensorboard], which `wandb sync` reads at home",
        ("loop", "report_to"),
    ),
    Contradiction(
        lambda request: request.loop.early_stopping_evaluations is not None and request.loop.evaluations == 0,
        "early stopping counts evaluations, and there are none",
        "evaluations: 4, or leave early_stopping_evaluations out",
        ("loop", "early_stopping_evaluations"),
    ),
)


def consistent(request: Request) -> Request:
    """`request` itself, when its wishes can all be fulfilled; a `RequestError` about the first two that cannot."""
    for wrong in CONTRADICTIONS:
        if wrong.holds(request):
            sentence = wrong.sentence.format(request=request, method=_method(request))
            raise RequestError(sentence, hint=wrong.hint, place=wrong.place)
    return request
