"""`cuda_graphs`: what a micro-batch launches, forward and backward, recorded once a shape and played again without Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from remote.contract import JobSpec, Strategy, ungraphed
from remote.data.batches import TENSORS, MicroBatch
from remote.ends import first_line
from remote.kernels.compiled import blocks_of

Compute = Callable[[MicroBatch, Any], Any]  # (micro-batch, its weight in the step) → its part of the loss; gradients are added
Tell = Callable[[str], object]


class Recorder(Protocol):
    """Who can keep what a device was asked for."""

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """(what does the same again on the same memory, where its result lies each time). `work` itself is not carried out."""


class CardRecorder:
    """Guards the memory that a card's graphs share: none of them needs what another has left, but for a loss each."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        import torch

        graph = torch.cuda.CUDAGraph()
        # beside us a thread pins the next batch's memory, which a capture that watches all threads would fail of
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = work()
        self._pool = graph.pool()
        return graph.replay, result


RECORDERS: Final[dict[str, Callable[[], Recorder]]] = {"cuda": CardRecorder}


def graphs_of(spec: JobSpec, strategy: Strategy, model: Any, tell: Tell) -> Graphs | None:
    """What records the steps of a job that asks for it; None, and told, where it would change nothing."""
    if not spec.loop.cuda_graphs:
        return None
    device = spec.device
    words = [f"device={device}"] * (device not in RECORDERS) + [*ungraphed(strategy, spec.task)]
    if words:
        tell(f"cuda_graphs changes nothing: {', '.join(words)} can't be recorded")
        return None
    return Graphs(RECORDERS[device](), model, tell)


class _Tape:
    """One shape's recording, with the memory that it reads."""

    def __init__(self, micro: MicroBatch, recorder: Recorder, compute: Compute) -> None:
        import torch

        device = micro.input_ids.device
        self._weight = torch.ones((), device=device)
        self._num_targets: Any = torch.ones((), device=device)
        self._tensors = {name: tensor.clone() for name, tensor in _tensors(micro).items()}
        read = replace(micro, **self._tensors, num_targets=self._num_targets)
        self._again, self._loss = recorder(lambda: compute(read, self._weight))

    def play(self, micro: MicroBatch, weight: float) -> Any:
        for name, tensor in _tensors(micro).items():
            self._tensors[name].copy_(tensor, non_blocking=True)
        self._num_targets.fill_(micro.num_targets)
        self._weight.fill_(weight)
        self._again()
        return self._loss.clone()


class Graphs:
    """Guards the recordings of a model in training, and the memory of its gradients, which each of them adds to.

    The first micro-batch of a shape is computed as ever and its shape is recorded behind it; all others are played. A model
    that draws numbers (dropout) is not recorded: what is computed again in backward has to draw the same.
    """

    def __init__(self, recorder: Recorder, model: Any, tell: Tell) -> None:
        self._recorder, self._model, self._tell = recorder, model, tell
        self._tapes: dict[tuple[Any, ...], _Tape] = {}
        self._gradients: list[tuple[Any, Any]] = []
        self._refused = False

    @property
    def num_recorded(self) -> int:
        """Shapes that are played from now on."""
        return len(self._tapes)

    def begin(self) -> None:
        """Before a step: gradients are zero, where the recordings look for them."""
        import torch

        if not self._gradients:
            return
        torch._foreach_zero_([gradient for _, gradient in self._gradients])
        for parameter, gradient in self._gradients:
            parameter.grad = gradient

    def passed(self, micro: MicroBatch, weight: float, compute: Compute, trained: Iterable[Any]) -> Any:
        """One micro-batch through the model and back; its part of the loss."""
        shape = tuple((name, tuple(tensor.shape)) for name, tensor in _tensors(micro).items())
        if shape in self._tapes:
            return self._tapes[shape].play(micro, weight)
        if self._refused:
            return compute(micro, weight)
        before = _chance(micro)
        loss = compute(micro, weight)
        self._record(shape, micro, compute, list(trained), drew=_chance(micro) != before)
        return loss

    def _record(self, shape: tuple[Any, ...], micro: MicroBatch, compute: Compute, trained: list[Any], *, drew: bool) -> None:
        if drew:
            return self._refuse("the model draws numbers while it trains (dropout)")
        if any(parameter.grad is None for parameter in trained):
            return self._refuse("a weight that trains has had no gradient")
        self._gradients = self._gradients or [(parameter, parameter.grad) for parameter in trained]
        try:
            with _drawing_nothing(self._model):
                self._tapes[shape] = _Tape(micro, self._recorder, compute)
        except Exception as error:  # noqa: BLE001 - whatever a library does that no recording can hold, the step can do without
            self._refuse(first_line(error))
        return None

    def _refuse(self, why: str) -> None:
        self._refused = True
        self._tell(f"cuda_graphs changes nothing from here on: {why}; each kernel is launched by itself")


def _tensors(micro: MicroBatch) -> Mapping[str, Any]:
    return {name: tensor for name in TENSORS if (tensor := getattr(micro, name)) is not None}


def _chance(micro: MicroBatch) -> bytes:
    """The state from which numbers are drawn on the micro-batch's device."""
    import torch

    device = micro.input_ids.device
    state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    return bytes(state.numpy().tobytes())


@contextmanager
def _drawing_nothing(model: Any) -> Iterator[None]:
    """Within it blocks that are computed again don't ask for the state of chance, which a card tells nobody who records."""
    held = {block: vars(block).get("_gradient_checkpointing_func") for block in blocks_of(model)}
    held = {block: again for block, again in held.items() if again is not None}
    for block, again in held.items():
        block._gradient_checkpointing_func = partial(again, preserve_rng_state=False)  # noqa: SLF001 - transformers' own place
    try:
        yield
    finally:
        for block, again in held.items():
            block._gradient_checkpointing_func = again  # noqa: SLF001
