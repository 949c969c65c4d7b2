"""The training loop: steps, evaluations, checkpoints and the reasons to leave. It can be left and entered at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from remote.checkpoints.checkpoint import Progress, bytes_of, restore_weights, write_checkpoint
from remote.checkpoints.rhythm import is_due
from remote.checkpoints.room import make_room
from remote.checkpoints.same_job import learned_by
from remote.contract import EndReason, Phase, Reached, Strategy, best_by_of, rhythm_of
from remote.ends import Ended
from remote.machine.advice import Stepped
from remote.machine.ram import own_ram_bytes
from remote.result.evaluate import evaluate
from remote.training.ahead import Ahead
from remote.training.fitting import Fitting, Training
from remote.training.forecast import forecast
from remote.training.ladder import JUDGING, TRAINING
from remote.training.optimizers import set_learning_rate
from remote.training.patience import Spikes, evaluations_in_vain
from remote.training.schedule import learning_rate
from remote.training.standing import Standing

SLACK = 1.5  # a step or an evaluation may take so much longer than the last one; assumed


class TrainingLoop:
    """Guards what comes next in a training: a step, an evaluation, a checkpoint or the end."""

    def __init__(self, begun: Training) -> None:
        self._loop, self._train, self._held_out = begun.spec.loop, begun.train, begun.held_out
        self._checkpoints, self._desk = begun.checkpoints, begun.desk
        self._standing = Standing(begun.progress)
        self._fitting = Fitting(begun, self._standing)
        self._steps_per_epoch = len(begun.train) / begun.shape.sequences_per_step
        self._ahead = Ahead(begun.train, begun.spec.loop.seed)
        self._spikes = Spikes()
        self._best_by = best_by_of(begun.spec.loop, begun.spec.task)
        self._evaluation_s = 0.0
        self._saved_at_s = time.monotonic()
        self._evaluate_at = evaluation_steps(self.total_steps, begun.spec.loop.evaluations) if begun.held_out else frozenset()

    def resume(self) -> None:
        """Go on from the checkpoint of `progress`."""
        self._fitting.restore(self.progress)
        self._standing.is_saved()

    def begin(self, answers: Sequence[str]) -> None:
        """Begin with a checkpoint of step 0, and what held-out prompts were answered there."""
        self._standing.answered(answers)
        self.checkpoint()

    def probe(self) -> None:
        """As `Fitting.probe`: find out what fits before anything is learned."""
        self._fitting.probe()

    def run(self) -> EndReason:
        """Train to the end, to the deadline or until held-out rows are answered no better. The best weights are in the model.

        Raises `Ended` (interrupted, after a checkpoint; deadline, when no step was made; diverged).
        """
        reason = self._to_the_end()
        if reason == EndReason.DEADLINE and self.progress.step == 0:
            raise Ended(EndReason.DEADLINE, "the deadline left no time for a single step")
        best = self.progress.best_step
        if best is not None and best != self.progress.step:
            restore_weights(self._checkpoints, best, self._fitting.trained.model)
        return reason

    def _to_the_end(self) -> EndReason:
        try:
            while True:
                self._heed_notice()
                if self._evaluation_is_due():
                    self._fitting.fitted(self._evaluate, JUDGING)
                if self._lost_patience():
                    return EndReason.STOPPED_EARLY
                if self.progress.step >= self.total_steps:
                    return EndReason.COMPLETED
                self._fitting.fitted(self._one_step, TRAINING)
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
        fitting, took_s, number = self._fitting, self.progress.step_s, self.progress.step
        self._desk.events.enter(Phase.TRAIN)
        self._desk.watch.check(needed_s=SLACK * (took_s[-1] if took_s else 0.0))
        rate = learning_rate(number, self.total_steps, self._loop, steps_per_epoch=self._steps_per_epoch)
        set_learning_rate(fitting.trained.optimizer, rate)
        if fitting.trained.ranks is not None:
            fitting.trained.ranks.step = number + 1
        began_s = time.perf_counter()
        batch = self._ahead.take(number, fitting.shape)
        batch_s = time.perf_counter() - began_s
        if number + 1 < self.total_steps:
            self._ahead.begin(number + 1, fitting.shape)
        seconds, loss, grad_norm = fitting.timed_step(batch)
        tokens = sum(micro.num_tokens for micro in batch)
        self._heed_spike(number + 1, loss)
        self._desk.advisor.stepped(
            Stepped(step=number + 1, step_s=batch_s + seconds, batch_s=batch_s, ram_bytes=own_ram_bytes())
        )
        self._standing.stepped(seconds, tokens)
        self._desk.events.emit(
            "step",
            step=number + 1,
            total_steps=self.total_steps,
            epoch=(number + 1) * fitting.shape.sequences_per_step / len(self._train),
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
        if words is not None and self._loop.on_spike == "stop":
            raise Ended(EndReason.DIVERGED, words)
        if words is not None:
            self._desk.events.warn(words)

    def _forecast(self) -> dict[str, float]:
        return forecast(
            self._fitting.spec,
            self.progress.step_s,
            self._evaluation_s,
            steps_left=self.total_steps - self.progress.step,
            evaluations_left=sum(at > self.progress.step for at in self._evaluate_at),
        )

    def _evaluation_is_due(self) -> bool:
        at = self.progress.step
        return at in self._evaluate_at and self.progress.evaluation_at(at) is None

    def _evaluate(self) -> None:
        fitting, events, watch = self._fitting, self._desk.events, self._desk.watch
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
                fitting.trained.model, self._held_out, fitting.shape, fitting.settings, step=self.progress.step, between=between
            )
        self._evaluation_s = time.monotonic() - started_s
        self._standing.judged(found, self._best_by)
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
        saved = self._standing.saved
        return is_due(
            rhythm_of(self._loop),
            step=self.progress.step,
            saved_step=0 if saved is None else saved.step,
            since_saved_s=time.monotonic() - self._saved_at_s,
            steps_per_epoch=self._steps_per_epoch,
        )

    def _lost_patience(self) -> bool:
        patience = self._loop.early_stopping_evaluations
        return (
            patience is not None
            and evaluations_in_vain(self.progress.evaluations, self._loop.early_stopping_min_delta, self._best_by) >= patience
        )

    def checkpoint(self) -> None:
        """Write where the run is."""
        started_s = time.monotonic()
        desk = self._desk
        progress, trained = self._noted(), self._fitting.trained
        make_room(self._checkpoints, bytes_of(trained), keep={progress.best_step}, tell=desk.events.warn)
        size_bytes = write_checkpoint(self._checkpoints, trained, progress, keep=self._loop.keep_checkpoints)
        self._standing.is_saved()
        self._saved_at_s = time.monotonic()
        seconds = self._saved_at_s - started_s
        desk.watch.saved_in(seconds)
        desk.events.emit("checkpoint", step=progress.step, size_bytes=size_bytes, seconds=seconds)
        if desk.pusher is not None:
            desk.pusher.push(progress.step, progress.best_step)

    def _noted(self) -> Progress:
        desk, spec = self._desk, self._fitting.spec
        return self._standing.noted(
            phase_s=desk.events.phase_s, peaks=desk.meters.peaks(), strategy=spec.strategy, learned=learned_by(spec)
        )

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._standing.progress

    @property
    def strategy(self) -> Strategy:
        """That is carried out: the job's, or what memory has left of it."""
        return self._fitting.spec.strategy

    @property
    def total_steps(self) -> int:
        """Of the whole run."""
        return self._fitting.total_steps

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


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """Steps after which held-out loss is taken: before the first, after the last, and `evaluations` evenly between."""
    return frozenset(round(steps * index / (evaluations + 1)) for index in range(evaluations + 2))
