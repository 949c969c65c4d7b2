"""Who watches a walk in a test."""

from __future__ import annotations

from remote.contract import Event


class Quiet:
    """A display that remembers phases and sentences."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.notes: list[str] = []

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def event(self, event: Event) -> None:
        if event.kind == "phase_started":
            self.phase(str(event.phase))


class CtrlC(Quiet):
    """Presses Ctrl-C when a phase begins, the first so many times."""

    def __init__(self, at: str, *, times: int = 1) -> None:
        super().__init__()
        self.at = at
        self.times = times

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == self.at and self.phases.count(name) <= self.times:
            raise KeyboardInterrupt
