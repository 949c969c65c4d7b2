"""Who was born when, as what, and when it died: the log that a trace leaves."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple


class Role(StrEnum):
    """What a piece of memory is for. The words are those of the estimate contract's components."""

    WEIGHTS = "weights"
    ADAPTER = "adapter"
    GRADIENTS = "gradients"
    OPTIMIZER = "optimizer"
    ACTIVATIONS = "activations"  # made in a forward pass (or its recomputation) and alive at its end
    LOGITS = "logits"  # tokens × vocabulary, in whatever dtype: logits, log-probabilities, their gradients
    TEMPORARIES = "temporaries"
    INPUTS = "inputs"  # the batch
    KERNEL_SCRATCH = "kernel_scratch"  # inside a CUDA kernel's launch
    WORKSPACES = "workspaces"  # of cuBLAS


class Stage(StrEnum):
    """What was running."""

    LOAD = "load"
    PREPARE = "prepare"
    STATES = "states"  # the optimizer's states are made here, as if by an earlier step
    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER_STEP = "optimizer_step"
    EVALUATION = "evaluation"


class Mark(NamedTuple):
    """From this event on, `stage` is running."""

    position: int
    stage: Stage


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A log of events. Event i ≥ 0 is the birth of storage i, event ~i its death."""

    events: tuple[int, ...]
    sizes: tuple[int, ...]  # bytes as torch asked for them
    roles: tuple[Role, ...]
    marks: tuple[Mark, ...]
    num_trained: int = 0  # parameters that got a gradient
    num_base: int = 0  # parameters of the base


MADE_IN: Final[dict[Stage, Role]] = {  # what survives a stage that makes only one kind of thing
    Stage.LOAD: Role.WEIGHTS,
    Stage.PREPARE: Role.WEIGHTS,
    Stage.STATES: Role.OPTIMIZER,
}


class Recorder:
    """Keeps the log while a step runs. It sees storages (through `saw`), never values."""

    def __init__(self, *, device_type: str, vocabulary: int, tokens: int) -> None:
        self._device_type, self._vocabulary, self._tokens = device_type, vocabulary, tokens
        self._events: list[int] = []
        self._sizes: list[int] = []
        self._roles: list[Role] = []
        self._marks: list[Mark] = []
        self._numbers: dict[int, int] = {}  # of the living, by address of the C++ storage
        self._watches: dict[int, Any] = {}
        self._fresh: list[int] = []  # made since the running forward pass (or recomputation) began
        self._stage = Stage.LOAD
        self.num_trained = self.num_base = 0
        self.enter(Stage.LOAD)

    @property
    def stage(self) -> Stage:
        return self._stage

    def enter(self, stage: Stage) -> None:
        """Say what runs from here on."""
        self._settle()
        if not self._marks or stage != self._stage:
            self._marks.append(Mark(len(self._events), stage))
        self._stage = stage

    def saw(self, tensor: Any, *, computing_forward: bool = False) -> None:
        """A tensor came out of an operation. `computing_forward`: in a forward pass, or in one that backward repeats."""
        if tensor.device.type != self._device_type:
            return
        storage = tensor.untyped_storage()
        if storage._cdata in self._numbers:  # noqa: SLF001 - the only name a storage has while it lives
            return
        size = storage.nbytes()
        if not size:  # CUDA allocates nothing for it
            return
        if not computing_forward:
            self._settle()
        number = self._birth(size, Role.LOGITS if self._is_logits(tensor) else MADE_IN.get(self._stage, Role.TEMPORARIES))
        if computing_forward:
            self._fresh.append(number)
        self._watch(storage, number)

    def assign(self, tensor: Any, role: Role) -> None:
        """Say what a tensor is for; it has been that since its birth."""
        self.saw(tensor)
        if (number := self._numbers.get(tensor.untyped_storage()._cdata)) is not None:  # noqa: SLF001
            self._roles[number] = role

    def scratch(self, size_bytes: int) -> None:
        """Memory inside a kernel's launch: gone again when it returns."""
        if size_bytes:
            self._events.append(~self._birth(size_bytes, Role.KERNEL_SCRATCH))

    def keep(self, size_bytes: int, role: Role) -> None:
        """Memory that no tensor of ours holds and that never goes away."""
        self._birth(size_bytes, role)

    def trace(self) -> Trace:
        """The log so far."""
        self._settle()
        return Trace(
            events=tuple(self._events),
            sizes=tuple(self._sizes),
            roles=tuple(self._roles),
            marks=tuple(self._marks),
            num_trained=self.num_trained,
            num_base=self.num_base,
        )

    def _birth(self, size_bytes: int, role: Role) -> int:
        number = len(self._sizes)
        self._sizes.append(size_bytes)
        self._roles.append(role)
        self._events.append(number)
        return number

    def _watch(self, storage: Any, number: int) -> None:
        key = storage._cdata  # noqa: SLF001

        def died(_: Any) -> None:
            del self._numbers[key], self._watches[number]
            self._events.append(~number)

        self._numbers[key] = number
        self._watches[number] = weakref.ref(storage, died)

    def _is_logits(self, tensor: Any) -> bool:
        shape = tensor.shape
        return len(shape) > 1 and shape[-1] == self._vocabulary and 2 * tensor.numel() > self._tokens * self._vocabulary

    def _settle(self) -> None:
        """A forward pass is over: what it made and what still lives is kept for backward."""
        for number in self._fresh:
            if number in self._watches and self._roles[number] == Role.TEMPORARIES:
                self._roles[number] = Role.ACTIVATIONS
        self._fresh.clear()
