"""The training loop: steps, evaluations, checkpoints and the reasons to leave. It can be left and entered at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from remote.adapters.ranks import Ranks, tuner_of
from remote.checkpoints.checkpoint import (
    Progress,
    Trained,
    restore,
    restore_rng,
    restore_weights,
    rng_state,
    with_evaluation,
    write_checkpoint,
)
from remote.checkpoints.push import Pusher
from remote.contract import EndReason, JobSpec, Phase, Reached
from remote.data.batches import Shape, batch_of_step, longest_batch, total_steps
from remote.data.tokens import Example
from remote.ends import Ended
from remote.machine.meters import Meters
from remote.optimizers import build_optimizer, set_learning_rate
from remote.result.evaluate import evaluate
from remote.schedule import learning_rate
from remote.step import StepSettings, scaler_of, step
from remote.telemetry import Events
from remote.watch import Watch
from remote.watchdog import Watchdog

PROBE_STEPS = 2  # the first pays for warm-up, the second is the measure
SLACK = 1.5  # a step or an evaluation may take so much longer than the last one; assumed


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The instruments that every stage writes to or asks; none of them knows of training."""

    events: Events
    watch: Watch
    meters: Meters
    watchdog: Watchdog
    pusher: Pusher | None = None  # where the controller has granted places in object storage


class TrainingLoop:
    """Guards the model in training, its optimizer and how far they are."""

    def __init__(
        self,
        spec: JobSpec,
        model: Any,
        train: Sequence[Example],
        held_out: Sequence[Example],
        *,
        shape: Shape,
        settings: StepSettings,
        checkpoints: Path,
        progress: Progress,
        desk: Desk,
    ) -> None:
        self._spec, self._train, self._held_out = spec, train, held_out
        self._shape, self._settings, self._checkpoints, self._desk = shape, settings, checkpoints, desk
        self._steps_per_epoch = len(train) / shape.sequences_per_step
        self.total_steps = total_steps(len(train), spec.loop.epochs, spec.loop.max_steps, shape.sequences_per_step)
        self._trained = self._with_optimizer(model)
        self._step_s = list(progress.step_s)
        self._evaluation_s = 0.0
        self._saved_at_s = time.monotonic()
        self._tokens = progress.tokens
        self.progress = progress
        self._evaluate_at = evaluation_steps(self.total_steps, spec.loop.evaluations) if held_out else frozenset()

    def _with_optimizer(self, model: Any) -> Trained:
        """`model` as before its first step."""
        optimizer, tuner = build_optimizer(self._spec.strategy, model, self._spec.loop), tuner_of(model)
        said_steps = self._spec.strategy.method_options.get("total_step")
        ranks = None if tuner is None else Ranks(tuner, self.total_steps, said_steps)
        if ranks is not None:
            ranks.watch(optimizer)
        return Trained(model=model, optimizer=optimizer, scaler=scaler_of(self._settings), ranks=ranks)

    def resume(self) -> None:
        """Go on from the checkpoint of `progress`."""
        restore(self._checkpoints, self.progress.step, self._trained)
        self._desk.events.emit("resumed", step=self.progress.step, total_steps=self.total_steps)

    def probe(self) -> None:
        """Step twice on the longest batch, at rate 0, and tell what it took. Nothing is changed by it."""
        before = rng_state()
        batch = longest_batch(self._train, self._shape)
        set_learning_rate(self._trained.optimizer, 0.0)
        seconds = [self._timed_step(batch)[0] for _ in range(PROBE_STEPS)]
        self._trained = self._with_optimizer(self._trained.model)
        restore_rng(before)
        self._desk.events.emit(
            "probe",
            step_s=seconds[-1],
            tokens=sum(micro.num_tokens for micro in batch),
            planned_step_s=self._spec.planned_step_s,
            planned_peak_bytes=self._spec.planned_peak_bytes,
            **self._desk.meters.peaks(),
        )

    def run(self) -> EndReason:
        """Train to the end, to the deadline or until the held-out loss no longer falls. The best weights are in the model.

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
                    self._evaluate()
                if self._lost_patience():
                    return EndReason.STOPPED_EARLY
                if self.progress.step >= self.total_steps:
                    return EndReason.COMPLETED
                self._one_step()
                if time.monotonic() - self._saved_at_s >= self._spec.loop.checkpoint_every_s:
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
        batch = batch_of_step(number, self._train, self._shape, self._spec.loop.seed)
        seconds, loss, grad_norm = self._timed_step(batch)
        tokens = sum(micro.num_tokens for micro in batch)
        self._step_s.append(seconds)
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
            tokens_per_s=tokens / seconds,
            **self._desk.meters.peaks(),
        )

    def _timed_step(self, batch: Any) -> tuple[float, float, float]:
        """(seconds, loss, gradient norm) of one step; reading the loss waits for the device, so the time is true."""
        started_s = time.perf_counter()
        with self._desk.watchdog.watching():
            result = step(self._trained.model, batch, self._trained.optimizer, self._settings, scaler=self._trained.scaler)
            loss, grad_norm = float(result.loss), float(result.grad_norm)
        seconds = time.perf_counter() - started_s
        skipped = self._trained.scaler is not None and math.isfinite(loss)  # a scaler meets overflow now and then, and skips
        if not (math.isfinite(loss) and (skipped or math.isfinite(grad_norm))):
            where = f"step {self.progress.step + 1} of {self.total_steps}"
            raise Ended(EndReason.DIVERGED, f"the loss became {loss} at {where}; a lower learning rate is the usual cure")
        return seconds, loss, grad_norm

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
        self.progress = with_evaluation(self.progress, found)
        events.emit(
            "evaluation",
            step=found.step,
            mean_loss=found.mean_loss,
            rows=len(found.row_losses),
            best=self.progress.best_step == found.step,
            seconds=self._evaluation_s,
        )
        if not math.isfinite(found.mean_loss):
            raise Ended(EndReason.DIVERGED, f"the held-out loss became {found.mean_loss} at step {found.step}")
        if self.progress.best_step == found.step:
            self.checkpoint()

    def _lost_patience(self) -> bool:
        patience = self._spec.loop.early_stopping_evaluations
        if patience is None or self.progress.best_step is None:
            return False
        return sum(evaluation.step > self.progress.best_step for evaluation in self.progress.evaluations) >= patience

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
        )
        size_bytes = write_checkpoint(self._checkpoints, self._trained, self.progress)
        self._saved_at_s = time.monotonic()
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
