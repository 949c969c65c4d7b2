"""A tape of operations as autograd sees them, and the memory that replaying it takes.

Whoever writes a block onto the tape says, for each operation, what it makes, what it keeps for backward, which inputs
get a gradient and what scratch it needs. Replaying forward and backward over these lifetimes gives the bytes that are
saved and both peaks; no constant is fitted. All sizes are bytes, in numbers or in letters (see `letters`).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from planner.estimators.memory.step.letters import highest

Tensor = int  # an index into Tape.sizes
Peak = tuple[int, ...]


class Op(msgspec.Struct, frozen=True):
    """One node of the graph. Sizes in bytes."""

    inputs: tuple[Tensor, ...]
    output: Tensor
    saves: tuple[Tensor, ...]  # tensors kept for backward
    keeps: int  # bytes of its own kept for backward: a mask, a statistic, a log-sum-exp
    grads: tuple[Tensor, ...]  # inputs that get a gradient
    passes: bool  # the gradient is handed on as it is (add, view)
    scratch: int  # beside the output, during forward
    backward_scratch: int  # beside the gradients, during backward
    weight_gradient: int  # made in backward and alive until the optimizer step
    on_node: bool = False  # what it saves hangs on the node of the graph itself, where no hook of a checkpoint sees it
    asks: bool = False  # backward asks for something saved, be it a weight: a checkpoint is then computed again
    views: bool = False  # its gradients are views of what a matrix product made


def _view(base: Tensor, view: Tensor, *, joins: bool) -> Op:
    """A view costs nothing forward; the one that `joins` makes the base's gradient of all its siblings'."""
    return Op((base,), view, (), 0, (base,) if joins else (), passes=False, scratch=0, backward_scratch=0, weight_gradient=0)


class Profile(msgspec.Struct, frozen=True):
    """What a tape takes. The input is not counted, wherever it is kept."""

    saved: int  # after forward, for backward
    saves_input: bool  # whether the input itself is among what is saved
    # Peaks: the largest of these, whichever that is in a batch.
    plain_peak: Peak  # of forward when nothing is saved: the first pass of a checkpointed block, or evaluation
    forward_peak: Peak  # of forward with everything saved so far
    again_peak: Peak  # of the same up to what is saved last, where a non-re-entrant checkpoint stops computing again
    backward_peak: Peak  # above the state before forward: saved tensors, gradients, scratch
    weight_gradients: int  # left behind by backward
    waiting: int  # gradients when backward first asks for what was saved: a block that is computed again is so beside them


class Tape(msgspec.Struct):
    """Operations in the order of the forward pass."""

    sizes: list[int] = []  # of a tensor's gradient, and of its storage if it has its own
    roots: list[Tensor] = []  # whose storage a tensor lies in: its own, or that of a view's base
    ops: list[Op] = []
    outside: set[Tensor] = set()  # further inputs, owned by the caller as the source is
    handed_back: set[Tensor] = set()  # beside the result: alive as long as that where it lives through backward

    @property
    def attributes(self) -> set[Tensor]:
        """Storages that hang on nodes of the graph: there until the whole graph is gone."""
        return {self.roots[tensor] for op in self.ops if op.on_node for tensor in op.saves}

    @property
    def saved_apart(self) -> set[Tensor]:
        """Storages that are saved where a checkpoint's hooks see it: not kept, and there again once they are made again."""
        return {self.roots[tensor] for op in self.ops if not op.on_node for tensor in op.saves}

    def tensor(self, num_bytes: int, *, base: Tensor | None = None) -> Tensor:
        """A tensor that comes from outside, or a view of `base`."""
        self.sizes.append(num_bytes)
        self.roots.append(len(self.roots) if base is None else self.roots[base])
        return len(self.sizes) - 1

    def split(self, base: Tensor, parts: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Views that together are `base`. Their gradients are joined into one when backward gets here."""
        views = []
        for index, num_bytes in enumerate(parts):
            view = self.tensor(num_bytes, base=base)
            joins = index == len(parts) - 1  # the last part is the first that backward meets
            self.ops.append(_view(base, view, joins=joins))
            views.append(view)
        return tuple(views)

    def hold(self, *tensors: Tensor) -> None:
        """What a frame of Python keeps alive until what was written last has run: a module's arguments, a block's locals."""
        last = self.ops[-1]
        more = tuple(tensor for tensor in dict.fromkeys(tensors) if tensor not in last.inputs)
        self.ops[-1] = msgspec.structs.replace(last, inputs=(*last.inputs, *more))

    def op(
        self,
        inputs: tuple[Tensor, ...],
        num_bytes: int,
        *,
        saves: tuple[Tensor, ...] = (),
        keeps: int = 0,
        grads: tuple[Tensor, ...] | None = None,
        passes: bool = False,
        saves_output: bool = False,
        scratch: int = 0,
        backward_scratch: int = 0,
        weight_gradient: int = 0,
        on_node: bool = False,
        asks: bool = False,
        views: bool = False,
    ) -> Tensor:
        """Record one operation and return its output, a new tensor of `num_bytes`. `grads` None: every input gets one."""
        output = self.tensor(num_bytes)
        saves = (*saves, output) if saves_output else saves
        grads = inputs if grads is None else grads
        self.ops.append(
            Op(inputs, output, saves, keeps, grads, passes, scratch, backward_scratch, weight_gradient, on_node, asks, views)
        )
        return output


def replay(tape: Tape, source: Tensor, *, output_lives: bool, output_gradient: bool = True, adds_up: bool = False) -> Profile:
    """Run the tape forward and backward.

    `source` is the tape's input, owned by the caller. `output_lives`: the output stays alive through backward (as under
    re-entrant checkpointing), and so does its gradient, an argument of the checkpoint's own backward. `output_gradient`:
    backward starts with a gradient of the output's size (False for a loss).
    `adds_up`: a weight's gradient goes at once into one that stands already, or is used up, so none is left behind.
    """
    first_saver = _first_savers(tape)
    saves_input = first_saver.pop(source, None) is not None
    for tensor in tape.outside:
        first_saver.pop(tensor, None)
    saved_bytes, plain_peak, forward_levels = _forward(tape, source, first_saver)
    result = tape.ops[-1].output
    held = tape.sizes[result] if output_lives and result not in first_saver else 0
    freed_late = tape.attributes | tape.handed_back if output_lives else tape.attributes
    freed = {tensor: index for tensor, index in first_saver.items() if tensor not in freed_late}
    backward_peak, weight_gradients, waiting = _backward(
        tape, saved_bytes + held, freed, with_gradient=output_gradient, held=output_lives, adds_up=adds_up
    )
    forward_peak, again_peak = highest(forward_levels), highest(forward_levels[: _num_again(tape)])
    return Profile(saved_bytes, saves_input, plain_peak, forward_peak, again_peak, backward_peak, weight_gradients, waiting)


def _num_again(tape: Tape) -> int:
    """Levels of forward, the empty one included, up to what is saved last. An operation's inputs are saved before it runs,
    its output and what it keeps of its own afterwards; so are those of a function of Python, which alone has scratch.

    derived: the pack hook of torch's checkpoint raises `_StopRecomputationError` once everything that was saved is there.
    """
    last = max(
        (index for index, op in enumerate(tape.ops) if (op.saves and not op.on_node) or op.keeps or op.asks),
        default=len(tape.ops) - 1,
    )
    op = tape.ops[last]
    return last + 1 + bool(op.output in op.saves or op.keeps or op.scratch)


def _first_savers(tape: Tape) -> dict[Tensor, int]:
    """Saved tensor (its root) -> the first operation that saves it, whose backward is the last to need it."""
    roots = tape.roots
    first: dict[Tensor, int] = {}
    for index, op in enumerate(tape.ops):
        for tensor in op.saves:
            first.setdefault(roots[tensor], index)
    return first


def _forward(tape: Tape, source: Tensor, saved: dict[Tensor, int]) -> tuple[int, Peak, list[int]]:
    """Bytes saved at the end; the peak when nothing is saved, and the levels after each operation when everything is.

    A tensor dies after its last reader.
    """
    sizes, roots = tape.sizes, tape.roots
    last_use = {roots[tensor]: index for index, op in enumerate(tape.ops) for tensor in op.inputs}
    dying: dict[int, list[Tensor]] = {}
    for tensor, index in last_use.items():
        if tensor != source and tensor not in tape.outside:
            dying.setdefault(index, []).append(tensor)
    plain = live = 0
    plain_levels, levels = [0], [0]
    for index, op in enumerate(tape.ops):
        size = sizes[op.output] if roots[op.output] == op.output else 0
        plain += size
        live += size + op.keeps
        plain_levels.append(plain + op.scratch)
        levels.append(live + op.scratch)
        for tensor in dying.get(index, ()):
            plain -= sizes[tensor]
            if tensor not in saved:
                live -= sizes[tensor]
    result = tape.ops[-1].output
    return live - (0 if result in saved else sizes[result]), highest(plain_levels), levels


class _Gradients:
    """Gradients on their way down. Several tensors may share one storage, which dies with its last user."""

    def __init__(self) -> None:
        self.storage_of: dict[Tensor, int] = {}
        self.sizes: list[int] = []
        self.users: list[int] = []
        self.viewed: list[bool] = []
        self.live = 0

    def add(self, tensor: Tensor, num_bytes: int, *, users: int = 1, views: bool = False) -> int:
        """A gradient of its own for `tensor`, which `users` have. Returns what is there beside them all while it is added up.

        A second gradient is added in place to the first if that has one user and is no view, for a view's storage is its
        base's as well; else the sum is a tensor of its own (`can_accumulate_inplace` of torch's input_buffer.cpp).
        """
        beside = 0
        if tensor in self.storage_of:
            if self._adds_in_place(tensor):
                return num_bytes
            beside, views = num_bytes + self._alone(tensor), False
            self.drop(tensor)
        self.storage_of[tensor] = len(self.sizes)
        self.sizes.append(num_bytes)
        self.users.append(users)
        self.viewed.append(views)
        self.live += num_bytes
        return beside

    def share(self, source: Tensor, target: Tensor) -> int:
        """`target` gets the very gradient of `source`. Returns what is there beside them all while it is added up."""
        storage = self.storage_of[source]
        if target not in self.storage_of:
            self.users[storage] += 1
            self.storage_of[target] = storage
            return 0
        if self._adds_in_place(target):
            return 0
        return self.add(target, self.sizes[storage]) - self.sizes[storage]

    def drop(self, tensor: Tensor) -> None:
        storage = self.storage_of.pop(tensor)
        self.users[storage] -= 1
        if not self.users[storage]:
            self.live -= self.sizes[storage]

    def _adds_in_place(self, tensor: Tensor) -> bool:
        storage = self.storage_of[tensor]
        return self.users[storage] == 1 and not self.viewed[storage]

    def _alone(self, tensor: Tensor) -> int:
        """Bytes of its gradient that nothing else holds."""
        storage = self.storage_of[tensor]
        return self.sizes[storage] if self.users[storage] == 1 else 0


def _backward(
    tape: Tape, kept_bytes: int, first_saver: dict[Tensor, int], *, with_gradient: bool, held: bool, adds_up: bool
) -> tuple[Peak, int, int]:
    """The peak, the bytes of weight gradients left behind, and those that wait when something saved is first asked for.

    Every operation leads to the result, so each has a gradient, but for copies of what is frozen.
    """
    sizes = tape.sizes
    freed_by: dict[int, int] = {}
    for tensor, index in first_saver.items():
        freed_by[index] = freed_by.get(index, 0) + sizes[tensor]
    gradients = _Gradients()
    result = tape.ops[-1].output
    gradients.add(result, sizes[result] if with_gradient else 0, users=2 if held else 1)
    weight_gradients, levels, waiting = 0, [kept_bytes + gradients.live], None
    for index in range(len(tape.ops) - 1, -1, -1):
        op = tape.ops[index]
        if op.output not in gradients.storage_of:
            kept_bytes -= op.keeps + freed_by.get(index, 0)
            continue
        if waiting is None and ((op.saves and not op.on_node) or op.asks):
            waiting = gradients.live
        made = {} if op.passes else {tensor: sizes[tensor] for tensor in op.grads}
        passing = op.backward_scratch + sum(made.values()) + op.weight_gradient
        levels.append(kept_bytes + gradients.live + weight_gradients + passing)
        weight_gradients += 0 if adds_up else op.weight_gradient
        kept_bytes -= op.keeps + freed_by.get(index, 0)
        levels += [kept_bytes + weight_gradients + level for level in _handed_down(gradients, op, made)]
    return highest(levels), weight_gradients, waiting or 0


def _handed_down(gradients: _Gradients, op: Op, made: dict[Tensor, int]) -> Iterator[int]:
    """Bytes of all gradients while those of one operation's inputs are added up, each where that takes a tensor more.

    derived: what came in and what was saved are gone by then (`evaluate_function` of torch's engine.cpp).
    """
    if op.passes:
        for tensor in op.grads:
            if beside := gradients.share(op.output, tensor):
                yield gradients.live + beside
    gradients.drop(op.output)
    to_come = sum(made.values())
    for tensor, num_bytes in made.items():
        to_come -= num_bytes
        beside = gradients.add(tensor, num_bytes, views=op.views)
        if beside > num_bytes:
            yield gradients.live + beside + to_come


def idle_bytes(tape: Tape) -> int:
    """Bytes that `replay` counts as saved and that are not when what comes in wants no gradient.

    Of a first block over a frozen embedding: what comes before its first trained operation needs no backward, and of a product
    a factor is kept for the gradient of the other alone. What an encoder made asks for one.
    """
    trained: set[Tensor] = set(tape.outside)
    needed: set[Tensor] = set()
    idle: set[Tensor] = set()
    kept = 0
    for op in tape.ops:
        reached = op.weight_gradient > 0 or not trained.isdisjoint(op.inputs)
        if reached:
            trained.add(op.output)
        for tensor in op.saves:
            asked = reached and not _factor_of_idle(op, tensor, trained)
            (needed if asked else idle).add(tape.roots[tensor])
        kept += 0 if reached else op.keeps
    return kept + sum(tape.sizes[root] for root in idle - needed)


def _factor_of_idle(op: Op, tensor: Tensor, trained: set[Tensor]) -> bool:
    """Whether it is one of two factors, both kept, of which the other wants no gradient."""
    factors = set(op.inputs)
    return len(factors) == 2 and factors == set(op.saves) and trained.isdisjoint(factors - {tensor})
