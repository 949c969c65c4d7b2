"""The closed form of a way to train: every instant in letters, made once; a batch puts its numbers in.

What it depends on beside the batch (architecture, strategy, stack, card) is its key, so whoever asks again for the same with
another batch pays for a few products only.
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators.memory.batch import sizes_of, without_sizes
from planner.estimators.memory.held.offloading import passing_bytes
from planner.estimators.memory.instants import Parts, instants_of
from planner.estimators.memory.kept import visited_bytes
from planner.estimators.memory.refused.support import require_closed_form
from planner.estimators.memory.scene import CPU, MemoryClass, Scene, memory_class, scene_of
from planner.estimators.memory.step.letters import Sizes, Values, highest, in_numbers, values_of
from planner.plan import Instant
from planner.strategy.stack import Stack
from remote.contract import Strategy, Task

KEPT: Final = 1024  # assumed: a search over one model asks for some dozens


class ClosedForm(msgspec.Struct, frozen=True):
    """What may be alive in each instant, and what may be so at the peak. Bytes in letters."""

    scene: Scene
    instants: dict[Instant, dict[int, Parts]]  # all components together, and each
    peaks: tuple[int, ...]

    @property
    def cut_into(self) -> int:
        """Where there are blocks of several kinds, a part of the stack can hold fractions of each."""
        return self.scene.kinds[0].of if len(self.scene.kinds) > 1 else 1


class Filled(msgspec.Struct, frozen=True):
    """A closed form, and the numbers of a batch for its letters."""

    form: ClosedForm
    values: Values

    @property
    def scene(self) -> Scene:
        """What the form was made of."""
        return self.form.scene

    def number(self, size: int) -> int:
        """A size in this batch."""
        return in_numbers(size, self.values)

    def peak_bytes(self) -> int:
        """The most that is allocated at any moment."""
        return max(in_numbers(peak, self.values) for peak in self.form.peaks)

    def by_instant(self) -> dict[Instant, tuple[int, Parts]]:
        """The highest moment of each instant: its bytes in this batch, and its components in letters."""
        return {
            instant: max(((self.number(total), parts) for total, parts in moments.items()), key=itemgetter(0))
            for instant, moments in self.form.instants.items()
        }

    def components(self, parts: Parts) -> Parts:
        """What is alive of each component in this batch. A block that backward has mostly freed is fewer activations."""
        alive = {name: number for name, size in parts.items() if size and (number := in_numbers(size, self.values))}
        if (freed := alive.get("temporaries", 0)) < 0:
            alive |= {"activations": alive.get("activations", 0) + freed, "temporaries": 0}
        return alive


def filled(
    architecture: Architecture, strategy: Strategy, *, task: Task, gpu: Gpu | None, stack: Stack, on_cpu: bool = False
) -> Filled:
    """The closed form for this strategy, with its batch put in. Raises `Unsupported` where there is none."""
    card = CPU if on_cpu else memory_class(gpu)
    alike = card._replace(workspaces=0)  # they are a letter
    form = _closed_form(architecture, without_sizes(architecture, strategy), task, alike, stack)
    sizes = sizes_of(architecture, strategy, stack, workspaces=card.workspaces)
    values = values_of(sizes, cut_into=form.cut_into)
    if strategy.offload != "stream":
        return Filled(form, values)
    return Filled(form, values_of(_as_streamed(sizes, form.scene, strategy, values), cut_into=form.cut_into))


def _as_streamed(sizes: Sizes, scene: Scene, strategy: Strategy, values: Values) -> Sizes:
    """The sizes of a scene whose blocks are streamed plainly, with what this strategy leaves on the card beside."""
    resident = passing_bytes(strategy, scene.weights) - passing_bytes(scene.strategy, scene.weights)
    visited = visited_bytes(scene, strategy, lambda size: in_numbers(size, values))
    return msgspec.structs.replace(sizes, resident=resident, visited=visited)


@lru_cache(maxsize=KEPT)
def _closed_form(architecture: Architecture, strategy: Strategy, task: Task, card: MemoryClass, stack: Stack) -> ClosedForm:
    require_closed_form(architecture, strategy, task=task, stack=stack)
    return closed_form_of(scene_of(architecture, strategy, task=task, card=card, stack=stack))


def closed_form_of(scene: Scene) -> ClosedForm:
    """The instants of a scene, and the peaks among them."""
    instants = instants_of(scene)
    return ClosedForm(scene, instants, highest(total for moments in instants.values() for total in moments))
