"""Which blocks shall lie in slots while one is visited: itself, and what comes next in the direction of travel."""

from __future__ import annotations

from collections.abc import Sequence


class Course:
    """Guards where the visits are, and which way they go: upwards in a forward pass, downwards in a backward pass."""

    def __init__(self, travelling: Sequence[int], num_slots: int) -> None:
        self._travelling, self._num_slots = tuple(travelling), num_slots
        self._upwards = True
        self.at: int | None = None

    def go(self, number: int) -> tuple[int, ...]:
        """The blocks that are wanted from now on, nearest first. Those that the end of the way leaves over may stay where they
        are: the turn-around begins with them.
        """
        if number == 0:
            self._upwards = True  # below it nothing comes
        elif self.at is not None:
            self._upwards = number > self.at
        self.at = number
        ahead = self._ahead(number)
        return tuple(ahead[: self._num_slots])

    def after(self) -> tuple[int, ...]:
        """The blocks that have to be fetched next, in order, if the way turns around where that of a training step does."""
        if self.at is None:
            return ()
        ahead = self._ahead(self.at)
        back = self._travelling[::-1] if self._upwards else self._travelling
        return tuple(dict.fromkeys((*ahead[self._num_slots :], *back[self._num_slots :])))

    def _ahead(self, number: int) -> tuple[int, ...]:
        ahead = [block for block in self._travelling if (block >= number if self._upwards else block <= number)]
        return tuple(ahead if self._upwards else ahead[::-1])
