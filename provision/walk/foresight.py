"""What the trainer's pace says of the deadline, told while there is time to do something about it."""

from __future__ import annotations

from provision.walk.held import Run
from provision.watch.progress import outlasting_words
from provision.watch.view import View, after
from remote.contract import Event


class Foresight:
    """Says once that the deadline will come before the end of the training."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._view = View()
        self._told = False

    def heard(self, event: Event) -> None:
        """The next event of the trainer."""
        self._view = after(self._view, event)
        if not self._told and event.kind == "step" and self._view.outlasts(self._run.state.deadline_at_s):
            self._told = True
            self._run.display.note(outlasting_words(self._view, left_s=self._run.left_s))
