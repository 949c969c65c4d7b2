"""The training loop: steps, evaluations, checkpoints and the reasons to leave. It can be left and entered at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import msgspec

from remote.checkpoints.checkpoint import (
    bytes_of,
    restore,
    restore_weights,
    with_evaluation,
    write_checkpoint,
)
from remote.checkpoints.rhythm import is_due
from remote.checkpoints.room import make_room
from remote.checkpoints.same_job import learned_by
from remote.contract import EndReason, Phase, Reached, best_by_of, rhythm_of
from remote.data.batches import batch_of_step
from remote.ends import Ended
from remote.machine.advice import Stepped
from remote.machine.ram import own_ram_bytes
from remote.result.evaluate import evaluate
from remote.training.fitting import Fitting, Training
from remote.training.forecast import forecast
from remote.training.ladder import JUDGING, TRAINING
from remote.training.optimizers import set_learning_rate
from remote.training.patience import Spikes, evaluations_in_vain
from remote.training.schedule import learning_rate

SLACK = 1.5  # a step or an evaluation may take so much longer than the last one; assumed


class TrainingLoop(Fitting):
    """Guards how far a training is, and what comes next."""

    def __init__(self, begun: Training) -> None:
        super().__init__(begun)
        self._spikes = Spikes()
        self._best_by = best_by_of(begun.spec.loop, begun.spec.task)
        self._evaluation_s = 0.0
        self._saved_at_s = time.monotonic()
        self._evaluate_at = evaluation_steps(self.total_steps, begun.spec.loop.evaluations) if begun.held_out else frozenset()

    def resume(self) -> None:
        """Go on from the checkpoint of `progress`."""
        restore(self._checkpoints, self.progress.step, self._trained)
        self._saved = self.progress
        self._desk.events.emit("resumed", step=self.progress.step, total_steps=self.total_steps)

    def run(self) -> EndReason:
        """Train to the end, to the deadline or until held-out rows are answered no better. The best weights are in the model.

        Raises `Ended` (interrupted, after a checkpoint; deadline, when no step was made; diverged).
        """
        reason = self._to_the_end()
        if reason == EndReason.DEADLINE and self.progress.step == 0:
            raise Ended(EndReason.DEADLINE, "the deadline left no time for a single step")
        best = self.progress.best_step
        if best is not None and best != self.progress.step:
            restore_weights(self._checkpoints, best, self._trained.model)
        return reason

    def _to_the_end(self) -> EndReason:
        try:
            while True:
                self._heed_notice()
                if self._evaluation_is_due():
                    self._fitted(self._evaluate, JUDGING)
                if self._lost_patience():
                    return EndReason.STOPPED_EARLY
                if self.progress.step >= self.total_steps:
                    return EndReason.COMPLETED
                self._fitted(self._one_step, TRAINING)
                if self._checkpoint_is_due():
                    self.checkpoint()
        except Ended as end:
            if end.reason == EndReason.DEADLINE:
                return end.reason
            if end.reason == EndReason.INTERRUPTED:
                self.checkpoint()
                raise Ended(end.reason, f"{end} after step {self.progress.step} of {self.total_steps}") from end
            raise

    def _heed_notice(self) -> None:
        """A checkpoint of this very step, while there is a machine to write it on."""
        notice = self._desk.watch.take_notice()
        if notice is not None:
            self._desk.events.emit("spot_notice", action=notice.action, left_s=notice.left_s, step=self.progress.step)
            self.checkpoint()

    def _one_step(self) -> None:
        self._desk.events.enter(Phase.TRAIN)
        self._desk.watch.check(needed_s=SLACK * (self._step_s[-1] if self._step_s else 0.0))
        number = self.progress.step
        rate = learning_rate(number, self.total_steps, self._spec.loop, steps_per_epoch=self._steps_per_epoch)
        set_learning_rate(self._trained.optimizer, rate)
        if self._trained.ranks is not None:
            self._trained.ranks.step = number + 1
        began_s = time.perf_counter()
        batch = batch_of_step(number, self._train, self._shape, self._spec.loop.seed)
        batch_s = time.perf_counter() - began_s
        seconds, loss, grad_norm = self._timed_step(batch)
        tokens = sum(micro.num_tokens for micro in batch)
        self._heed_spike(number + 1, loss)
        self._step_s.append(seconds)
        self._desk.advisor.stepped(
            Stepped(step=number + 1, step_s=batch_s + seconds, batch_s=batch_s, ram_bytes=own_ram_bytes())
        )
        self._tokens += tokens
        self.progress = msgspec.structs.replace(self.progress, step=number + 1)
        self._desk.events.emit(
            "step",
            step=number + 1,
            total_steps=self.total_steps,
            epoch=(number + 1) * self._shape.sequences_per_step / len(self._train),
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=rate,
            tokens=tokens,
            num_targets=sum(micro.num_targets for micro in batch),
            step_s=seconds,
            batch_s=batch_s,
            tokens_per_s=tokens / seconds,
            **self._forecast(),
            **self._desk.meters.peaks(),
        )

    def _heed_spike(self, number: int, loss: float) -> None:
        words = self._spikes.saw(number, loss)
        if words is not None and self._spec.loop.on_spike == "stop":
            raise Ended(EndReason.DIVERGED, words)
        if words is not None:
            self._desk.events.warn(words)

    def _forecast(self) -> dict[str, float]:
        return forecast(
            self._spec,
            self._step_s,
            self._evaluation_s,
            steps_left=self.total_steps - self.progress.step,
            evaluations_left=sum(at > self.progress.step for at in self._evaluate_at),
        )

    def _evaluation_is_due(self) -> bool:
        at = self.progress.step
        return at in self._evaluate_at and self.progress.evaluation_at(at) is None

    def _evaluate(self) -> None:
        events, watch = self._desk.events, self._desk.watch
        events.enter(Phase.EVALUATE)
        watch.check(needed_s=SLACK * self._evaluation_s)

        def between(done: int, total: int) -> None:
            self._desk.watchdog.beat()
            events.progress("evaluate", done, total)
            self._heed_notice()
            watch.check()

        started_s = time.monotonic()
        with self._desk.watchdog.watching():
            found = evaluate(
                self._trained.model, self._held_out, self._shape, self._settings, step=self.progress.step, between=between
            )
        self._evaluation_s = time.monotonic() - started_s
        self.progress = with_evaluation(self.progress, found, self._best_by)
        events.emit(
            "evaluation",
            step=found.step,
            mean_loss=found.mean_loss,
            rows=len(found.row_losses),
            best=self.progress.best_step == found.step,
            **found.metrics,
            seconds=self._evaluation_s,
        )
        if not math.isfinite(found.mean_loss):
            raise Ended(EndReason.DIVERGED, f"the held-out loss became {found.mean_loss} at step {found.step}")
        if self.progress.best_step == found.step:
            self.checkpoint()

    def _checkpoint_is_due(self) -> bool:
        return is_due(
            rhythm_of(self._spec.loop),
            step=self.progress.step,
            saved_step=0 if self._saved is None else self._saved.step,
            since_saved_s=time.monotonic() - self._saved_at_s,
            steps_per_epoch=self._steps_per_epoch,
        )

    def _lost_patience(self) -> bool:
        patience = self._spec.loop.early_stopping_evaluations
        return (
            patience is not None
            and evaluations_in_vain(self.progress.evaluations, self._spec.loop.early_stopping_min_delta, self._best_by)
            >= patience
        )

    def checkpoint(self) -> None:
        """Write where the run is."""
        started_s = time.monotonic()
        desk = self._desk
        self.progress = msgspec.structs.replace(
            self.progress,
            tokens=self._tokens,
            step_s=tuple(self._step_s),
            phase_s=dict(desk.events.phase_s),
            peaks=merged_peaks(self.progress.peaks, desk.meters.peaks()),
            strategy=self.strategy,
            learned=learned_by(self._spec),
        )
        make_room(self._checkpoints, bytes_of(self._trained), keep={self.progress.best_step}, tell=desk.events.warn)
        size_bytes = write_checkpoint(self._checkpoints, self._trained, self.progress, keep=self._spec.loop.keep_checkpoints)
        self._saved, self._saved_at_s = self.progress, time.monotonic()
        seconds = self._saved_at_s - started_s
        desk.watch.saved_in(seconds)
        desk.events.emit("checkpoint", step=self.progress.step, size_bytes=size_bytes, seconds=seconds)
        if desk.pusher is not None:
            desk.pusher.push(self.progress.step, self.progress.best_step)

    @property
    def reached(self) -> Reached:
        """How far it came, and whose weights are in the model once `run` has returned."""
        progress = self.progress
        return Reached(
            step=progress.step,
            total_steps=self.total_steps,
            judged_step=max((evaluation.step for evaluation in progress.evaluations), default=0),
            weights_step=progress.step if progress.best_step is None else progress.best_step,
        )

    @property
    def tokens(self) -> int:
        return self._tokens

    @property
    def step_s(self) -> Sequence[float]:
        return self._step_s


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """Steps after which held-out loss is taken: before the first, after the last, and `evaluations` evenly between."""
    return frozenset(round(steps * index / (evaluations + 1)) for index in range(evaluations + 2))


def merged_peaks(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The larger figure of each meter."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in one | other}
