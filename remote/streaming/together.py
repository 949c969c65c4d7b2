"""One visit of a block serves several micro-batches: all of them go up through the blocks side by side, and down again.

Each is the micro-batch that it would be alone: its blocks begin at the same inputs and random numbers, and every parameter gets
the gradients in the same order. What is kept of it is the input of each block, so the peak within a block is still that of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import torch

from remote.streaming.streamed import Streamed

log = logging.getLogger(__name__)

SWITCH: Final = "gradient_checkpointing"  # of a block of transformers
NAME: Final = "hidden_states"  # what transformers calls them where they come by name

Wrap = Callable[[torch.Tensor], Any]  # hidden states → as a block of this model answers


class Work(NamedTuple):
    """What is done with a micro-batch beside its blocks."""

    loss: Callable[[], torch.Tensor]  # its part of the step's loss, by one pass of the whole model
    backward: Callable[[torch.Tensor], object]
    precision: Callable[[], AbstractContextManager[Any]]  # that the pass runs in


class Call(NamedTuple):
    """How the model calls a block, beside the hidden states."""

    arguments: tuple[Any, ...]
    options: dict[str, Any]
    named: bool  # whether the hidden states come by name

    def of(self, block: Any, hidden: torch.Tensor) -> torch.Tensor:
        before, by_name = ((), {NAME: hidden}) if self.named else ((hidden,), {})
        answer = block(*before, *self.arguments, **self.options, **by_name)
        found: torch.Tensor = answer[0] if isinstance(answer, tuple) else answer
        return found


class Numbers(NamedTuple):
    """Where the generators of random numbers stand; asking them waits for no device."""

    host: torch.Tensor
    device: torch.Tensor | None


class _Reached(Exception):
    """The last block is reached: what comes behind it is asked for later."""


class _Strange(Exception):
    """What comes to a block is not what the one before it gave."""


@dataclass
class Way:
    """One micro-batch on its way."""

    work: Work
    began: Numbers  # before anything of it is computed
    numbers: Numbers  # before what is computed next
    calls: tuple[Call, ...]  # of the blocks
    wrap: Wrap
    entrance: torch.Tensor  # what comes to the first block
    hidden: torch.Tensor  # what comes to the next one
    gradient: torch.Tensor | None = None  # of what came out of the next one, once it is on its way down
    inputs: list[torch.Tensor] = field(default_factory=list)
    before: list[Numbers] = field(default_factory=list)  # where its numbers stood, block by block
    kept: dict[int, torch.Tensor] = field(default_factory=dict)  # outputs of the blocks that are not computed again


def together(streamed: Streamed, works: Sequence[Work], *, num_kept: int) -> list[torch.Tensor]:
    """Forward and backward passes of the micro-batches of `works`; returns their losses. The last `num_kept` blocks keep what
    they computed, and are not computed again.

    Each micro-batch draws its random numbers from a seed of its own. Those of a model that computes something between its
    blocks go by themselves, one after the other, and that is told.
    """
    begins = list(_seeded(len(works)))
    left = _numbers()
    try:
        with _without_recomputing(streamed.modules):
            losses = _led(streamed, [_entered(*each, streamed.modules) for each in zip(works, begins, strict=True)], num_kept)
    except _Strange:
        if not streamed.told:
            log.warning("this model computes something between its blocks, so each micro-batch has visits of its own")
        streamed.told = True
        losses = [_alone(*each) for each in zip(works, begins, strict=True)]
    _set_numbers(left)
    return losses


def _led(streamed: Streamed, ways: Sequence[Way], num_kept: int) -> list[torch.Tensor]:
    """Up and down again."""
    blocks, lowest = streamed.modules, _lowest(streamed.modules, ways)
    for number, block in enumerate(blocks):
        keeps = streamed if number >= max(lowest, len(blocks) - num_kept) else None
        for way in ways:
            _up(way, number, block, keeps)
    with streamed.head_held():
        losses = [_turned(way, blocks) for way in ways]
    for number in range(len(blocks) - 1, lowest - 1, -1):
        for way in ways:
            _down(way, number, blocks[number], needed=number > lowest or way.entrance.requires_grad)
    for way in ways:
        if way.entrance.requires_grad:
            torch.autograd.backward(way.entrance, way.gradient)
    return losses


def _alone(work: Work, began: Numbers) -> torch.Tensor:
    _set_numbers(began)
    loss = work.loss()
    work.backward(loss)
    return loss.detach()


def _lowest(blocks: Sequence[Any], ways: Sequence[Way]) -> int:
    """The first block that a gradient has to come to; as many as there are where none has."""
    if any(way.entrance.requires_grad for way in ways):
        return 0
    trains = (number for number, block in enumerate(blocks) if any(each.requires_grad for each in block.parameters()))
    return next(trains, len(blocks))


# ── one micro-batch ────────────────────────────────────────────────────────────────────────────────────────────────


def _entered(work: Work, began: Numbers, blocks: Sequence[Any]) -> Way:
    """What comes to the first block, and how each block is called: by a pass in which no block computes. Raises `_Strange`."""
    for wrap in (_plain, _tupled):
        _set_numbers(began)
        with suppress(_Strange):
            entrance, calls = _listened(work, blocks, wrap)
            return Way(work, began, _numbers(), calls, wrap, entrance, entrance.detach())
    raise _Strange


def _plain(hidden: torch.Tensor) -> Any:
    return hidden


def _tupled(hidden: torch.Tensor) -> Any:
    return (hidden,)


def _listened(work: Work, blocks: Sequence[Any], wrap: Wrap) -> tuple[torch.Tensor, tuple[Call, ...]]:
    heard: list[torch.Tensor] = []
    calls: list[Call] = []

    def hear(*arguments: Any, **options: Any) -> Any:
        named = NAME in options
        hidden = options.pop(NAME) if named else arguments[0]
        call = Call(arguments if named else arguments[1:], options, named)
        learned = (
            each for each in (*call.arguments, *options.values()) if isinstance(each, torch.Tensor) and each.requires_grad
        )
        if any(hidden is not before for before in heard) or any(True for _ in learned):
            raise _Strange
        heard.append(hidden)
        calls.append(call)
        if len(calls) == len(blocks):
            raise _Reached
        return wrap(hidden)

    with _answering(blocks, hear), suppress(_Reached):
        work.loss()
    return heard[0], tuple(calls)


def _up(way: Way, number: int, block: Any, keeps: Streamed | None) -> None:
    """Through one block; it keeps what it computes where somebody reads its weights for that anew."""
    way.before.append(way.numbers)
    _set_numbers(way.numbers)
    hidden = way.hidden if keeps is None else way.hidden.detach().requires_grad_(number > 0 or way.entrance.requires_grad)
    with torch.no_grad() if keeps is None else keeps.saving(), way.work.precision():
        output = way.calls[number].of(block, hidden)
    if keeps is not None:
        way.kept[number] = output
    way.inputs.append(hidden)
    way.hidden, way.numbers = output.detach(), _numbers()


def _turned(way: Way, blocks: Sequence[Any]) -> torch.Tensor:
    """The loss, from the last block's output on, with its gradient come back to there."""
    top, left = way.hidden.requires_grad_(), len(blocks)

    def hear(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left:
            return way.wrap(options[NAME] if NAME in options else arguments[0])
        _set_numbers(way.numbers)
        return way.wrap(top)

    _set_numbers(way.began)
    with _answering(blocks, hear):
        loss = way.work.loss()
    way.work.backward(loss)
    way.gradient, way.hidden = top.grad, way.inputs[-1]  # its output is let go of
    return loss.detach()


def _down(way: Way, number: int, block: Any, *, needed: bool) -> None:
    hidden, output = way.inputs.pop(), way.kept.pop(number, None)
    if output is None:
        hidden = hidden.detach().requires_grad_(needed)
        _set_numbers(way.before[number])
        with torch.enable_grad(), way.work.precision():
            output = way.calls[number].of(block, hidden)
    torch.autograd.backward(output, way.gradient)
    way.gradient = hidden.grad


# ── what it does to the model and to random numbers meanwhile ──────────────────────────────────────────────────────


@contextmanager
def _answering(blocks: Sequence[Any], answer: Callable[..., Any]) -> Iterator[None]:
    """Blocks that answer so instead of computing."""
    before = [block.__dict__.get("forward") for block in blocks]
    for block in blocks:
        block.forward = answer
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            if own is None:
                del block.forward
            else:
                block.forward = own


@contextmanager
def _without_recomputing(blocks: Sequence[Any]) -> Iterator[None]:
    """Blocks that keep what they compute: what is computed again is computed again here."""
    recomputing = [block for block in blocks if getattr(block, SWITCH, False)]
    for block in recomputing:
        setattr(block, SWITCH, False)
    try:
        yield
    finally:
        for block in recomputing:
            setattr(block, SWITCH, True)


def _numbers() -> Numbers:
    return Numbers(torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None)


def _set_numbers(numbers: Numbers) -> None:
    torch.set_rng_state(numbers.host)
    if numbers.device is not None:
        torch.cuda.set_rng_state(numbers.device)


def seeds(number: int) -> list[int]:
    """Of so many micro-batches, drawn from the generator that all else draws from."""
    return [int(seed) for seed in torch.randint(2**62, (number,))]


def _seeded(number: int) -> Iterator[Numbers]:
    """Where the generators stand at the begin of each; they are left as they are once the seeds are drawn."""
    drawn = seeds(number)
    left = _numbers()
    for seed in drawn:
        torch.manual_seed(seed)
        yield _numbers()
    _set_numbers(left)
