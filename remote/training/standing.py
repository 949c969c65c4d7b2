"""How far a training is, and the checkpoint that it can go back to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from remote.checkpoints.checkpoint import Progress, with_evaluation
from remote.checkpoints.same_job import Learned
from remote.contract import BestBy, Evaluation, Strategy


class Standing:
    """Guards the progress, which each step replaces, and the newest checkpoint of this process, or that it went on from."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._saved: Progress | None = None

    @property
    def progress(self) -> Progress:
        return self._progress

    @property
    def saved(self) -> Progress | None:
        return self._saved

    def answered(self, answers: Sequence[str]) -> None:
        """What held-out prompts were answered before anything was learned."""
        self._progress = msgspec.structs.replace(self._progress, answers_before=tuple(answers))

    def stepped(self, seconds: float, tokens: int) -> None:
        """One optimizer step more."""
        now = self._progress
        self._progress = msgspec.structs.replace(
            now, step=now.step + 1, tokens=now.tokens + tokens, step_s=(*now.step_s, seconds)
        )

    def judged(self, found: Evaluation, by: BestBy) -> None:
        """One evaluation more."""
        self._progress = with_evaluation(self._progress, found, by)

    def noted(
        self, *, phase_s: Mapping[str, float], peaks: Mapping[str, int], strategy: Strategy, learned: Learned
    ) -> Progress:
        """What a checkpoint says of the run beside its steps."""
        now = self._progress
        self._progress = msgspec.structs.replace(
            now, phase_s=dict(phase_s), peaks=merged_peaks(now.peaks, peaks), strategy=strategy, learned=learned
        )
        return self._progress

    def is_saved(self) -> None:
        """A checkpoint of this very step lies on the disk, whole."""
        self._saved = self._progress

    def went_back(self, *, moved: bool) -> Progress | None:
        """The checkpoint that the work goes on from after one that failed; None where no weight had `moved`, or before there is
        one: then it is where it was. Peaks are from here on those of what fits.
        """
        back = self._saved if moved else None
        self._progress = msgspec.structs.replace(back or self._progress, peaks={})
        return back


def merged_peaks(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The larger figure of each meter."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}
