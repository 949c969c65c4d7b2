"""Where the tensors of a block hang: those that travel between host and device, and those that stay on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from remote.contract import STREAMED_GRAIN_BYTES


class Place(NamedTuple):
    """One tensor: how it is read and how another one is put there."""

    read: Callable[[], Any]
    put: Callable[[Any], None]
    key: tuple[int, str]  # of whom, by identity, and what
    travels: bool


class Piece(NamedTuple):
    """Where one tensor lies in the bytes of its block."""

    start: int
    size_bytes: int
    dtype: Any
    shape: tuple[int, ...]


class Layout(NamedTuple):
    """How the travelling tensors of a block lie behind one another; blocks that are alike have equal layouts."""

    pieces: tuple[Piece, ...]
    size_bytes: int


def places_in(module: Any) -> Iterator[Place]:
    """The places of a module and all below it. Matrices travel; vectors, code tables and buffers stay."""
    for each in module.modules():
        for name, parameter in each.named_parameters(recurse=False):
            yield _of_parameter(each, name, travels=parameter.dim() > 1)
        for name, _ in each.named_buffers(recurse=False):
            yield _of_attribute(each, name, travels=False)
        yield from _BESIDE.get(_kind(each), _nothing)(each)


def layout_of(places: Sequence[Place]) -> Layout:
    """Each tensor begins at the grain."""
    pieces, end = [], 0
    for place in places:
        tensor = place.read()
        size_bytes = tensor.numel() * tensor.element_size()
        pieces.append(Piece(end, size_bytes, tensor.dtype, tuple(tensor.shape)))
        end += -(-size_bytes // STREAMED_GRAIN_BYTES) * STREAMED_GRAIN_BYTES
    return Layout(tuple(pieces), end)


def views(layout: Layout, buffer: Any) -> tuple[Any, ...]:
    """The tensors of a block whose bytes `buffer` holds."""
    return tuple(
        buffer[piece.start : piece.start + piece.size_bytes].view(piece.dtype).view(piece.shape) for piece in layout.pieces
    )


def _kind(module: Any) -> str:
    """The class that bitsandbytes gave a linear, whatever it has become since; peft's classes of the same names hold it."""
    kinds = (kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("bitsandbytes"))
    return next((name for name in kinds if name in _BESIDE), "")


def _of_parameter(module: Any, name: str, *, travels: bool) -> Place:
    parameter = getattr(module, name)  # looked up once: it is put at every visit

    def put(tensor: Any) -> None:
        parameter.data = tensor

    return Place(lambda: parameter.data, put, (id(parameter), "data"), travels)


def _of_attribute(owner: Any, name: str, *, travels: bool) -> Place:
    return Place(lambda: getattr(owner, name), lambda tensor: setattr(owner, name, tensor), (id(owner), name), travels)


def _nothing(_module: Any) -> Iterator[Place]:
    return iter(())


def _beside_four_bit(module: Any) -> Iterator[Place]:
    state = module.weight.quant_state
    yield _of_attribute(state, "absmax", travels=True)
    yield _of_attribute(state, "code", travels=False)
    if state.nested:
        yield _of_attribute(state.state2, "absmax", travels=True)
        yield _of_attribute(state.state2, "code", travels=False)
        yield _of_attribute(state, "offset", travels=False)


def _beside_int8(module: Any) -> Iterator[Place]:
    if module.weight.CB is not None:
        module.init_8bit_state()  # as its first forward pass would do
    yield _of_attribute(module.state, "SCB", travels=False)


_BESIDE: Final[Mapping[str, Callable[[Any], Iterator[Place]]]] = {
    "Linear4bit": _beside_four_bit,
    "Linear8bitLt": _beside_int8,
}
