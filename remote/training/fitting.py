"""One step at a time of a model and its optimizer, by a strategy that fits into memory: tried first, stepped down from later.

A probe finds out before anything is learned. Where memory runs out all the same, the work that failed is done again whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from remote.adapters.ranks import Ranks, tuner_of
from remote.adapters.wrapping import base_of
from remote.bases.base import checkpoint_activations
from remote.checkpoints.checkpoint import (
    Progress,
    Trained,
    restore,
    restore_rng,
    rng_state,
    tried_checkpoint,
)
from remote.contract import EndReason, JobSpec, Strategy
from remote.data.batches import Shape, filled, longest_batch, total_steps
from remote.data.tokens import Example
from remote.desk import Desk
from remote.ends import Ended, LoadedAnew, first_line, is_out_of_memory
from remote.kernels import graphs_of, is_not_compiled, run_eagerly, unfuse, why_not_compiled
from remote.losses import takes_chunks
from remote.machine.disk import slow_read_words
from remote.result.evaluate import evaluate
from remote.step import StepSettings, scaler_of, settings_of, step
from remote.streaming import streamed_of
from remote.training.crossings import NOTHING, crossed, moved_by, slow_crossing
from remote.training.forecast import Seen, forecast_of
from remote.training.ladder import (
    HEADROOM,
    JUDGING,
    NOT_COMPILED,
    SLOW_LINK,
    TRAINING,
    WHOLE_LOGITS,
    Rung,
    above,
    below,
    streamed_instead,
    tell_change,
    with_residents,
    with_visits,
)
from remote.training.optimizers import build_optimizer, set_learning_rate
from remote.training.standing import Standing

T = TypeVar("T")
Undo = Callable[[], None]

PROBE_STEPS = 2  # the first pays for warm-up, the second is the measure
WORTH_IT = 0.97  # assumed: of a step's time; what saves less is noise


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, on which rows and how, from where on, and with what it is told and metered."""

    spec: JobSpec
    model: Any
    train: Sequence[Example]
    held_out: Sequence[Example]
    shape: Shape
    settings: StepSettings
    checkpoints: Path
    progress: Progress
    desk: Desk


class Fitting:
    """Guards the model in training, its optimizer, and the strategy that is carried out."""

    def __init__(self, begun: Training, standing: Standing) -> None:
        spec, train, shape = begun.spec, begun.train, begun.shape
        self.spec, self.shape, self.settings = spec, shape, begun.settings  # as far as memory lets them be
        self._train, self._held_out = train, begun.held_out
        self._checkpoints, self._desk, self._standing = begun.checkpoints, begun.desk, standing
        self.total_steps = total_steps(len(train), spec.loop.epochs, spec.loop.max_steps, shape.sequences_per_step)
        self._compiled_in_s = 0.0  # what the probe's first steps took beyond those behind them
        self._carried = NOTHING  # by the newest step that the probe timed
        self._moving = False  # whether the optimizer has begun to change weights and moments since the step began
        self._graphs = graphs_of(spec, spec.strategy, begun.model, begun.desk.events.warn)
        self.trained = self._with_optimizer(begun.model)

    def restore(self, saved: Progress) -> None:
        """Be as that checkpoint says."""
        restore(self._checkpoints, saved.step, self.trained)
        self._desk.events.emit("resumed", step=saved.step, total_steps=self.total_steps)

    def _with_optimizer(self, model: Any) -> Trained:
        """`model` as before its first step."""
        optimizer, tuner = build_optimizer(self.spec.strategy, model, self.spec.loop), tuner_of(model)
        said_steps = self.spec.strategy.method_options.get("total_step")
        ranks = None if tuner is None else Ranks(tuner, self.total_steps, said_steps)
        if ranks is not None:
            ranks.watch(optimizer)
        optimizer.register_step_pre_hook(self._note_move)
        return Trained(model=model, optimizer=optimizer, scaler=scaler_of(self.settings), ranks=ranks)

    def _note_move(self, *_: Any) -> None:
        self._moving = True

    @property
    def strategy(self) -> Strategy:
        """That is carried out: the job's, or what memory has left of it."""
        return self.spec.strategy

    def probe(self) -> None:
        """Step twice on the longest batch at rate 0, judge the heaviest batch of held-out rows, save; tell what it took. The
        run is as before: only fewer rows at once where memory ran out, or more where it is free and that is faster.
        """
        before = rng_state()
        step_s, tokens = self.fitted(self._probed, TRAINING)
        step_s = self._with_fewer_crossings(self._with_headroom(step_s))
        judging_s, judged_tokens = self.fitted(self._judged_once, JUDGING)
        started_s = time.monotonic()
        size_bytes = tried_checkpoint(self._checkpoints, self.trained)
        seen = Seen(
            step_s=step_s,
            tokens=tokens,
            judging_s=judging_s,
            judged_tokens=judged_tokens,
            save_s=time.monotonic() - started_s,
        )
        self.trained = self._with_optimizer(self.trained.model)
        restore_rng(before)
        self._desk.events.emit(
            "probe",
            **msgspec.structs.asdict(seen),
            **({"compile_s": self._compiled_in_s} if self.strategy.kernels != "eager" else {}),
            save_bytes=size_bytes,
            total_steps=self.total_steps,
            forecast_s=forecast_of(seen, self.spec.loop, self._train, self._held_out, self.shape, self.total_steps),
            planned_step_s=self.spec.planned_step_s,
            planned_peak_bytes=self.spec.planned_peak_bytes,
            **self._read(),
            **self._desk.meters.peaks(),
        )

    def _read(self) -> dict[str, float | None]:
        """How quick the disk gave the blocks that wait there, told in words too where that is far slower than planned."""
        streamed = streamed_of(self.trained.model)
        if streamed is None or streamed.reader is None:
            return {}
        bytes_per_s = streamed.reader.bytes_per_s
        slow = slow_read_words(bytes_per_s, planned_bytes_per_s=self.spec.planned_read_bytes_per_s)
        if slow is not None:
            self._desk.events.warn(f"while the probe stepped {slow}")
        return {"disk_read_bytes_per_s": bytes_per_s}

    def _probed(self) -> tuple[float, int]:
        """(seconds of the last step, tokens of each)."""
        batch = longest_batch(self._train, self.shape)
        set_learning_rate(self.trained.optimizer, 0.0)
        seconds = []
        for _ in range(PROBE_STEPS):
            before = moved_by(self.trained.model)
            seconds.append(self.timed_step(batch)[0])
        self._carried = crossed(before, moved_by(self.trained.model))
        self._compiled_in_s += max(0.0, seconds[0] - seconds[-1])
        return seconds[-1], sum(micro.num_tokens for micro in batch)

    def _judged_once(self) -> tuple[float, int]:
        """(seconds, tokens) of the heaviest batch of held-out rows; no tokens where there are none."""
        if not self._held_out:
            return 0.0, 0
        rows = [self._held_out[index] for index in filled(self._held_out, self.shape.tokens_per_micro_batch)[-1]]
        started_s = time.monotonic()
        with self._desk.watchdog.watching():
            evaluate(self.trained.model, rows, self.shape, self.settings, step=0, between=lambda *_: None)
        return time.monotonic() - started_s, sum(row.num_tokens for row in rows)

    def _with_headroom(self, step_s: float) -> float:
        """Seconds of a step once as many rows go at once as are faster and have room: a second probe, and more."""
        while (higher := above(self.strategy)) is not None and self._desk.meters.takes_twice():
            tried_s = self._quicker(higher, step_s, HEADROOM, "there is room for more rows at once")
            if tried_s is None:
                break
            step_s = tried_s
        return step_s

    def _with_fewer_crossings(self, step_s: float) -> float:
        """Seconds of a step once less passes a link, or a disk, that is slower than planned and holds the step up: by more
        micro-batches a visit, then by more blocks that stay on the card, as far as that is faster and has room.
        """
        streamed = streamed_of(self.trained.model)
        slow = None if streamed is None else slow_crossing(streamed, self._carried, self.spec, step_s)
        if streamed is None or slow is None:
            return step_s
        while (higher := with_visits(self.strategy)) is not None:
            tried_s = self._quicker(higher, step_s, SLOW_LINK, slow)
            if tried_s is None:
                break
            step_s = tried_s
        numbers = streamed.staying(self._desk.meters.room_bytes())
        if not numbers:
            return step_s
        higher = with_residents(self.strategy, len(numbers), from_disk=streamed.on_disk(numbers))
        return self._quicker(higher, step_s, SLOW_LINK, slow, begin=partial(streamed.keep, numbers)) or step_s

    def _quicker(
        self, higher: Strategy, step_s: float, reason: str, why: str, *, begin: Callable[[], Undo] = lambda: _as_is
    ) -> float | None:
        """Seconds of a step by that strategy, which is kept and told of; None where it is not faster, or memory lacks: then all
        is as before. `begin` does what it needs beside, and returns what undoes that.
        """
        kept, undo = self.strategy, _as_is
        self._carry_out(higher)
        try:
            undo = begin()
            tried_s = self._probed()[0]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            tried_s = math.inf
        if tried_s <= WORTH_IT * step_s:
            self._tell_change(reason, kept, f"{why}: a step takes {tried_s:.2f} s, not {step_s:.2f}")
            return tried_s
        undo()
        self._carry_out(kept)
        self.trained = self._with_optimizer(self.trained.model)
        self.trained.optimizer.zero_grad(set_to_none=True)
        self._desk.meters.forget()
        return None

    # ── when memory runs out, or a compiler gives up ───────────────────────────────────────────────────────────────────

    def fitted(self, work: Callable[[], T], rungs: tuple[Rung, ...]) -> T:
        """What `work` returns. Where memory runs out in it, again from where it began, one rung further down each time; where
        its blocks can't be compiled, again without.

        Raises `Ended` (out of memory) at the foot of the ladder.
        """
        while True:
            began, self._moving = rng_state(), False
            try:
                return work()
            except Exception as error:
                gives_up = self._what_gives(error, rungs)
                if gives_up is None:
                    raise
            # out of the handler: with the error went the frames that held on to the tensors of the failed try
            gives_up()
            self._undo(began)

    def _what_gives(self, error: Exception, rungs: tuple[Rung, ...]) -> Callable[[], None] | None:
        """How to go on behind that error; None where there is no way."""
        if is_out_of_memory(error):
            return partial(self._step_down, rungs, first_line(error))
        if self.strategy.kernels != "eager" and is_not_compiled(error):
            return partial(self._compile_no_more, why_not_compiled(error))
        return None

    def _compile_no_more(self, words: str) -> None:
        """Compute blocks as transformers writes them, from here on."""
        compiled = self.strategy
        self._carry_out(msgspec.structs.replace(compiled, kernels="eager"))
        self._tell_change(NOT_COMPILED, compiled, f"the blocks can't be compiled here ({words})")

    def _step_down(self, rungs: tuple[Rung, ...], words: str) -> None:
        """Take the next rung and tell of it."""
        strategy, events = self.strategy, self._desk.events
        lower = below(strategy, rungs if takes_chunks(self.trained.model) else WHOLE_LOGITS[rungs])
        if lower is None:
            self._load_anew(words)
            raise Ended(
                EndReason.OUT_OF_MEMORY,
                f"the job does not fit into memory (during {events.phase}), not even one row at a time: {words}; a card with "
                "more memory, a shorter seq_len or a smaller base is the cure",
            )
        self._carry_out(lower)
        self._tell_change(EndReason.OUT_OF_MEMORY, strategy, f"memory ran out ({words})")

    def _load_anew(self, words: str) -> None:
        """Raises `LoadedAnew` where the base, streamed, may go on from the newest checkpoint."""
        lower = streamed_instead(self.strategy, self.spec.device, self.spec.task)
        if lower is not None:
            tell_change(self._desk.events, self._standing.progress.step, self.strategy, lower, f"memory ran out ({words})")
            raise LoadedAnew(lower)

    def _tell_change(self, reason: str, before: Strategy, why: str) -> None:
        tell_change(self._desk.events, self._standing.progress.step, before, self.strategy, why, reason=reason)

    def _carry_out(self, strategy: Strategy) -> None:
        """Go on by a strategy that makes the same steps out of the same rows."""
        if strategy.kernels != self.strategy.kernels and strategy.kernels == "eager":  # no step goes the other way
            run_eagerly(self.trained.model)
            unfuse(self.trained.model)
        if strategy.gradient_checkpointing != self.strategy.gradient_checkpointing:
            checkpoint_activations(base_of(self.trained.model), strategy)
        self.spec = msgspec.structs.replace(self.spec, strategy=strategy)
        if self._graphs is not None:  # what they hold is of other shapes, or of another way; their memory is needed
            self._graphs = graphs_of(self.spec, strategy, self.trained.model, self._desk.events.warn)
        self.settings = settings_of(strategy, self.spec.device, self.settings.max_grad_norm)
        self.shape = replace(
            self.shape,
            micro_batch_size=strategy.micro_batch_size,
            gradient_accumulation_steps=strategy.gradient_accumulation_steps,
        )

    def _undo(self, began: Any) -> None:
        """Be again where the work began. Gradients alone are thrown away; an optimizer that was half done is made anew from the
        newest checkpoint, since nobody knows which weights it had moved. Before there is one, nothing moves: the rate is 0.
        """
        self.trained.optimizer.zero_grad(set_to_none=True)
        if self._moving:
            self.trained = self._with_optimizer(self.trained.model)  # the old moments are let go of first
        self._desk.meters.forget()
        back = self._standing.went_back(moved=self._moving)
        if back is not None:
            self.restore(back)
            return
        scaler = scaler_of(self.settings)  # one that has unscaled the gradients of the failed try would refuse the next
        if scaler is not None:
            scaler.load_state_dict(self.trained.scaler.state_dict())
        self.trained = replace(self.trained, scaler=scaler)
        restore_rng(began)

    def timed_step(self, batch: Any) -> tuple[float, float, float]:
        """(seconds, loss, gradient norm) of one step; reading the loss waits for the device, so the time is true."""
        started_s = time.perf_counter()
        with self._desk.watchdog.watching():
            result = step(
                self.trained.model,
                batch,
                self.trained.optimizer,
                self.settings,
                scaler=self.trained.scaler,
                graphs=self._graphs,
            )
            loss, grad_norm = float(result.loss), float(result.grad_norm)
        seconds = time.perf_counter() - started_s
        skipped = self.trained.scaler is not None and math.isfinite(loss)  # a scaler meets overflow now and then, and skips
        if not (math.isfinite(loss) and (skipped or math.isfinite(grad_norm))):
            where = f"step {self._standing.progress.step + 1} of {self.total_steps}"
            raise Ended(EndReason.DIVERGED, f"the loss became {loss} at {where}; a lower learning rate is the usual cure")
        return seconds, loss, grad_norm


def _as_is() -> None:
    return
