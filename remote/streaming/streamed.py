"""A model whose frozen blocks pass through slots on the device. Its own forward and backward passes call for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from remote.adapters.targets import block_number
from remote.contract import BY_TWO_SLOTS, Strategy, evenly_spaced, staged
from remote.ends import bad_job
from remote.streaming.lanes import Lane, lane_to
from remote.streaming.linears import reread
from remote.streaming.places import Layout, Place, layout_of, places_in, views
from remote.streaming.store import HostStore
from remote.streaming.tier import BlockFile, Extent, Reader, file_in
from remote.streaming.visits import Course
from remote.streaming.vocabulary import Vocabulary

MARK: Final = "streamed"  # the attribute of a model that names its Streamed

Fill = Callable[[Any], None]  # gives a module that has none yet its weights


class Block(NamedTuple):
    """One block that travels: where its tensors hang, how they lie, and their bytes on the host, or on its disk."""

    places: tuple[Place, ...]
    layout: Layout
    source: Any
    at_home: tuple[Any, ...]  # its tensors as the host has them


class Held(NamedTuple):
    """What lies where, beside the slots."""

    device: str
    resident_bytes: int  # of the blocks that stay on it
    arenas: tuple[int, ...]  # bytes of each, on the host
    disk_bytes: int = 0


class Moved(NamedTuple):
    """What passed over the link, and what the disk gave."""

    fetched_bytes: int
    read_bytes: int


class Away(NamedTuple):
    """A tensor that autograd saved of a block: where it lies in whatever slot the block is in."""

    block: int
    dtype: Any
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int  # in items


class Streamed:
    """Guards the slots. Reading a tensor of a block that is not in one gives the host's copy."""

    def __init__(
        self, blocks: dict[int, Block], slots: Sequence[Any], lane: Lane, held: Held, reader: Reader | None = None
    ) -> None:
        self._blocks, self._slots, self._lane, self.reader = blocks, slots, lane, reader
        self.held = held
        self.told = False  # that its micro-batches go by themselves
        self.vocabulary: Vocabulary | None = None  # where embedding and head wait on the host as well
        self.modules: tuple[Any, ...] = ()  # all blocks, those that stay as well, in their order
        self._in_slots: list[int | None] = [None] * len(slots)
        self._late: set[int] = set()  # blocks with a slot that the disk has not given yet
        self._bound: set[int] = set()
        self._views: dict[tuple[int, Layout], tuple[Any, ...]] = {}
        self._course = Course(sorted(blocks), len(slots))
        self.fetched_bytes = 0
        self.num_fetches = 0

    @property
    def device_bytes(self) -> int:
        """What of the blocks lies on the device: the slots, and the blocks that stay."""
        return sum(int(slot.numel()) for slot in self._slots) + self.held.resident_bytes

    def visit(self, number: int) -> None:
        """Have block `number` here for whatever is computed from now on, and the next ones on their way."""
        if number == self._course.at:
            return
        wanted = self._course.go(number)
        for block in wanted:
            if block not in self._in_slots:
                self._fetch(block, next(slot for slot, held in enumerate(self._in_slots) if held not in wanted))
        if number in self._blocks and number not in self._bound:
            self._bind(number)
        if self.reader is not None:
            held = set(self._in_slots) - self._late
            self.reader.expect([block for block in (*wanted, *self._course.after()) if block not in held])

    def _fetch(self, number: int, slot: int) -> None:
        self._empty(slot)
        self._in_slots[slot] = number
        if isinstance(self._blocks[number].source, Extent) and not (self.reader and self.reader.is_read(number)):
            self._late.add(number)
        else:
            self._carry(number, slot)

    def _carry(self, number: int, slot: int) -> None:
        """What waits on the disk is waited for here, by the host: until it is read there is nothing to carry."""
        self._late.discard(number)
        block = self._blocks[number]
        read = self.reader if isinstance(block.source, Extent) else None
        source = block.source if read is None else read.take(number)
        self._lane.fetch(slot, self._slots[slot][: block.layout.size_bytes], source)
        if read is not None:
            read.give_back(number, partial(self._lane.settle, slot))
        self.fetched_bytes += block.layout.size_bytes
        self.num_fetches += 1

    def _empty(self, slot: int) -> None:
        """What was in it is read on the host again."""
        before = self._in_slots[slot]
        if before is not None and before in self._bound:
            _put(self._blocks[before].places, self._blocks[before].at_home)
            self._bound.remove(before)
        if before is not None:
            self._late.discard(before)
        self._in_slots[slot] = None

    def _bind(self, number: int) -> None:
        block, slot = self._blocks[number], self._in_slots.index(number)
        if number in self._late:
            self._carry(number, slot)
        self._lane.arrive(slot)
        key = slot, block.layout
        if key not in self._views:
            self._views[key] = views(block.layout, self._slots[slot])
        _put(block.places, self._views[key])
        self._bound.add(number)

    def saving(self) -> Any:
        """While it is entered, what autograd saves of a slot is read anew in the backward pass, in whatever slot it is then."""
        import torch

        slot_of = {slot.untyped_storage().data_ptr(): number for number, slot in enumerate(self._slots)}

        def pack(tensor: Any) -> Any:
            slot = slot_of.get(tensor.untyped_storage().data_ptr())
            block = None if slot is None else self._in_slots[slot]
            if block is None:
                return tensor
            return Away(block, tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())

        def unpack(packed: Any) -> Any:
            if not isinstance(packed, Away):
                return packed
            self.visit(packed.block)
            whole = self._slots[self._in_slots.index(packed.block)]
            return _viewed(whole, packed)

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)

    def link_bytes_per_s(self, times: int) -> float | None:
        """How quick the link is, by copies of one block while nothing else goes on; None where none waits in RAM. Its slot is
        empty afterwards.
        """
        block = next((block for block in self._blocks.values() if not isinstance(block.source, Extent)), None)
        if block is None:
            return None
        slot, self._course.at = 0, None
        self._empty(slot)
        size_bytes = block.layout.size_bytes
        return size_bytes / self._lane.timed_s(self._slots[slot][:size_bytes], block.source, times)

    def moved(self) -> Moved:
        """What has been moved since the start."""
        beside = 0 if self.vocabulary is None else self.vocabulary.fetched_bytes
        return Moved(self.fetched_bytes + beside, 0 if self.reader is None else self.reader.read_bytes)

    @property
    def disk_bytes_per_s(self) -> float | None:
        """How quick the disk has been while it read; None where nothing waits there, or was read yet."""
        return None if self.reader is None else self.reader.bytes_per_s

    def staying(self, room_bytes: int) -> tuple[int, ...]:
        """Which of the blocks that pass by would be kept, were there room for so many bytes more: of those on the disk first,
        then of those in RAM, each evenly spaced.
        """
        most = room_bytes // max((block.layout.size_bytes for block in self._blocks.values()), default=1)
        on_disk = [number for number, block in self._blocks.items() if isinstance(block.source, Extent)]
        in_ram = [number for number in self._blocks if number not in on_disk]
        first, then = min(most, len(on_disk)), min(max(0, most - len(on_disk)), len(in_ram))
        return (
            *(on_disk[at] for at in sorted(evenly_spaced(len(on_disk), first))),
            *(in_ram[at] for at in sorted(evenly_spaced(len(in_ram), then))),
        )

    def on_disk(self, numbers: Sequence[int]) -> int:
        """How many of these blocks wait on the disk."""
        return sum(isinstance(self._blocks[number].source, Extent) for number in numbers)

    def keep(self, numbers: Sequence[int]) -> Callable[[], None]:
        """Have these blocks stay on the device; returns what lets them pass by again. Between steps alone. Where memory
        runs out all is as before.
        """
        blocks, held, kept = self._blocks, self.held, {number: self._blocks[number] for number in numbers}

        def undo() -> None:
            for block in kept.values():
                _put(block.places, block.at_home)
            self._let_pass(blocks, held)

        for slot in range(len(self._slots)):
            self._empty(slot)
        try:
            for block in kept.values():
                _pack(block.places, block.layout, _bytes_on(held.device, block.layout.size_bytes))
        except BaseException:
            undo()
            raise
        stay_bytes = sum(block.layout.size_bytes for block in kept.values())
        passing = {number: block for number, block in blocks.items() if number not in kept}
        self._let_pass(passing, held._replace(resident_bytes=held.resident_bytes + stay_bytes))
        return undo

    def _let_pass(self, blocks: dict[int, Block], held: Held) -> None:
        """From here on these alone come and go."""
        for slot in range(len(self._slots)):
            self._empty(slot)
        self._blocks, self.held = blocks, held
        self._course = Course(sorted(blocks), len(self._slots))

    def travelling(self) -> set[tuple[int, str]]:
        """The keys of the places whose tensors travel."""
        outside = set() if self.vocabulary is None else self.vocabulary.keys
        return {place.key for block in self._blocks.values() for place in block.places} | outside

    @contextmanager
    def head_held(self) -> Iterator[None]:
        """Within it a head that comes for the loss comes once."""
        with nullcontext() if self.vocabulary is None else self.vocabulary.held():
            yield


def _viewed(slot: Any, away: Away) -> Any:
    items = slot[: slot.numel() // away.dtype.itemsize * away.dtype.itemsize].view(away.dtype)
    return items.as_strided(away.shape, away.stride, away.start)


def _put(places: Sequence[Place], tensors: Sequence[Any]) -> None:
    """Twice a visit: without asking bitsandbytes' parameters whether they have a say, it takes half the time."""
    import torch

    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - no public name
        for place, tensor in zip(places, tensors, strict=True):
            place.put(tensor)


def stream(
    model: Any,
    strategy: Strategy,
    device: str,
    *,
    fill: Fill = lambda _module: None,
    lane: Lane | None = None,
    disk: Path | None = None,
) -> None:
    """Pack the frozen blocks of `model` into host memory, and let its passes fetch them; all else goes to `device`.

    Before any adapter is put on it. `fill` makes the weights of one module at a time, for a model that never is in one place.
    `disk`: the folder for blocks that the strategy puts there. Raises `Ended` for a model without blocks, with too little
    memory, or without such a folder.
    """
    blocks = dict(_blocks_of(model))
    said = strategy.streaming or BY_TWO_SLOTS
    staying = evenly_spaced(len(blocks), min(len(blocks), said.num_resident_blocks))
    passing = [number for number in blocks if number not in staying]
    away = {passing[at] for at in evenly_spaced(len(passing), min(len(passing), said.num_disk_blocks))}
    store = HostStore(len(passing) - len(away), pinned=said.pinned and device != "cpu")
    if away and disk is None:
        raise bad_job("blocks are to wait on the disk, and nothing says in which folder; set num_disk_blocks 0")
    file = file_in(disk) if away and disk is not None else None
    travelling: dict[int, Block] = {}
    resident_bytes = 0
    seen: set[tuple[int, str]] = set()
    for number, module in blocks.items():
        fill(module)
        places = tuple(places_in(module))
        _require_own(places, seen)
        _move([place for place in places if not place.travels], device)
        packed = tuple(place for place in places if place.travels)
        layout = layout_of(packed)
        if number in staying:
            resident_bytes += layout.size_bytes
            _pack(packed, layout, _bytes_on(device, layout.size_bytes))
        elif file is not None and number in away:
            travelling[number] = _written(file, packed, layout)
        else:
            room = store.room(layout.size_bytes)
            travelling[number] = Block(packed, layout, room, _pack(packed, layout, room))
    fill(model)
    vocabulary = Vocabulary(model, device, store.room_beside) if said.vocabulary_passes else None
    num_slots = min(said.num_slots, len(travelling))
    slots = [_bytes_on(device, max(block.layout.size_bytes for block in travelling.values())) for _ in range(num_slots)]
    read = None if file is None else _reader(file, travelling, store)
    held = Held(device, resident_bytes, tuple(store.arena_bytes), 0 if file is None else file.size_bytes)
    streamed = Streamed(travelling, slots, lane or lane_to(device, num_slots), held, read)
    for number, module in blocks.items():
        _call(streamed, number, module)
    streamed.modules, streamed.vocabulary = tuple(blocks.values()), vocabulary
    setattr(model, MARK, streamed)
    _forget_map(model)
    settle(model)


def streamed_of(model: Any) -> Streamed | None:
    """The slots of a model, under whatever adapters; None where it is not streamed."""
    while hasattr(model, "get_base_model"):
        model = model.get_base_model()
    return getattr(model, MARK, None)


def settle(model: Any) -> None:
    """Move what has come onto a streamed model to its device: adapters are made where the weight beside them lies."""
    streamed = streamed_of(model)
    if streamed is not None:
        travelling = streamed.travelling()
        _move([place for place in places_in(model) if place.key not in travelling], streamed.held.device)


def _blocks_of(model: Any) -> Iterator[tuple[int, Any]]:
    """Number and module of each block, in their order."""
    found: dict[int, Any] = {}
    for name, module in model.named_modules():
        number = block_number(f"{name}.")
        if number is not None and number not in found:
            found[number] = module
    if not found:
        raise bad_job('this model has no blocks that could be streamed; use offload "none"')
    yield from sorted(found.items())


def _require_own(places: Sequence[Place], seen: set[tuple[int, str]]) -> None:
    own = {place.key for place in places if place.travels}
    if own & seen:
        raise bad_job('blocks of this model share weights, which streaming can\'t part; use offload "none"')
    seen |= own


def _move(places: Sequence[Place], device: str) -> None:
    for place in places:
        tensor = place.read()
        if tensor.device.type != device:
            place.put(tensor.to(device))


def _pack(places: Sequence[Place], layout: Layout, room: Any) -> tuple[Any, ...]:
    packed = views(layout, room)
    for place, view in zip(places, packed, strict=True):
        view.copy_(place.read())
        place.put(view)
    return packed


def _written(file: BlockFile, places: Sequence[Place], layout: Layout) -> Block:
    """A block in the file. Whoever reads a tensor of it meanwhile reads it there."""
    room = _bytes_on("cpu", layout.size_bytes)
    _pack(places, layout, room)
    extent = file.add(room)
    at_home = views(layout, file.mapped(extent))
    _put(places, at_home)
    return Block(tuple(places), layout, extent, at_home)


def _reader(file: BlockFile, travelling: Mapping[int, Block], store: HostStore) -> Reader:
    extents = {number: block.source for number, block in travelling.items() if isinstance(block.source, Extent)}
    sizes = staged([extent.size_bytes for extent in extents.values()])
    return Reader(file, extents, [store.room_beside(size_bytes) for size_bytes in sizes])


def _bytes_on(device: str, size_bytes: int) -> Any:
    import torch

    return torch.empty(size_bytes, dtype=torch.uint8, device=device)


def _call(streamed: Streamed, number: int, block: Any) -> None:
    """Let whatever is computed within a block visit it first: transformers recomputes what a block does, not its own hooks.

    What a block calls, and what holds a matrix; linears that read their weight anew do so by themselves, and need no hook.
    """

    def visit() -> None:
        streamed.visit(number)

    def before(_module: Any, _inputs: Any) -> None:
        streamed.visit(number)

    called = set(block.children())
    for module in block.modules():
        if reread(module, visit) or module is block:
            continue
        if module in called or any(parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
            module.register_forward_pre_hook(before)


def _forget_map(model: Any) -> None:
    """Where it was loaded is not where it lies: peft would spread it anew."""
    if hasattr(model, "hf_device_map"):
        del model.hf_device_map
