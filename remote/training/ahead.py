"""The next step's batch, made while this step runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from remote.data.batches import Batch, Shape, host_batch_of_step
from remote.data.tokens import Example
from remote.loading.beside import Beside


class Ahead:
    """Guards one batch that is made in a thread of its own, for whoever asks for that very step next.

    Which rows make a step follows from seed and number alone, so that what is made ahead is what would be made then.
    """

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        self._examples: Final = examples
        self._seed: Final = seed
        self._made: tuple[int, Shape, Beside[Batch]] | None = None

    def begin(self, step: int, shape: Shape) -> None:
        """Make that step's batch on the host from now on."""
        self._made = (step, shape, Beside(lambda: host_batch_of_step(step, self._examples, shape, self._seed)))

    def take(self, step: int, shape: Shape) -> Batch:
        """The step's batch on its device; made now where another was begun, as after a step down or back."""
        made, self._made = self._made, None
        is_it = made is not None and made[:2] == (step, shape)
        batch = made[2].result() if made is not None and is_it else host_batch_of_step(step, self._examples, shape, self._seed)
        return tuple(micro.onto(shape.device) for micro in batch)
