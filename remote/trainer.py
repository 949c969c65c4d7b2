"""A run in the order it happens: load, adapt, train, evaluate, save."""

from __future__ import annotations

import statistics
import warnings
from pathlib import Path

import msgspec

from remote.checkpoints.checkpoint import Progress, put_right, read_progress
from remote.checkpoints.same_job import learned_by, unlike
from remote.contract import (
    CHECKPOINT_DIR,
    AdapterFile,
    EndReason,
    JobSpec,
    Measured,
    Outcome,
    Phase,
    Sample,
    Strategy,
    best_by_of,
    with_template_at,
)
from remote.data.batches import collated
from remote.desk import Desk
from remote.ends import Ended, LoadedAnew, bad_job
from remote.loading.load import load
from remote.loading.loaded import Loaded
from remote.machine import preflight
from remote.machine.products import card_capability, multiplying
from remote.reports import bring_along, reporting
from remote.result.card import model_card
from remote.result.doubts import doubts_of
from remote.result.save import save_companions, save_manifest, save_weights
from remote.result.verify import sums_of, verify
from remote.shown import base_answers, samples_of
from remote.training.best import FIGURES
from remote.training.fitting import Training
from remote.training.ladder import GIVEN_UP, changes
from remote.training.loop import TrainingLoop
from remote.training.standing import merged_peaks

VERIFY_ROWS, VERIFY_TOKENS = 2, 64  # enough to tell two models apart, cheap on any device


def run(spec: JobSpec, folder: Path, *, cache: Path, desk: Desk) -> Outcome:
    """Carry out `spec` in `folder` and return how it went. Going on from a checkpoint in `folder` is the same call.

    Raises `remote.ends.Ended` for every end without a result that has a known reason.
    """
    spec = located(spec, folder)
    preflight.check_job(spec, folder)
    preflight.check_machine(spec, desk.meters.card)
    put_right(folder / CHECKPOINT_DIR)
    preflight.check_disk(spec, folder)
    desk.events.emit("machine", versions=preflight.versions(), **preflight.machine(spec.device))
    with multiplying(card_capability(spec.device), desk.events.warn, tf32=spec.loop.tf32):
        return _on_machine(spec, folder, cache, desk)


def _on_machine(spec: JobSpec, folder: Path, cache: Path, desk: Desk) -> Outcome:
    found = preflight.tried(spec, folder)
    desk.events.emit("preflight", **found)
    for is_slow in (preflight.slow_disk, preflight.slow_link, preflight.slow_reading):
        if (slow := is_slow(spec, found)) is not None:
            desk.events.emit("warning", message=slow)
    if (slow := preflight.slow_here(spec)) is not None:
        desk.events.emit("warning", message=slow)
    saved = read_progress(folder / CHECKPOINT_DIR, desk.events.warn)
    spec = _as_it_goes_on(spec, saved)
    for phase, seconds in saved.phase_s.items() if saved is not None else ():
        desk.events.phase_s[phase] = desk.events.phase_s.get(phase, 0.0) + seconds
    step = 0 if saved is None else saved.step
    with reporting(spec.loop.report_to, folder, spec.run_id, step, desk.events):
        loaded, loop, reason = _trained(spec, folder, cache, saved, desk)
    spec = msgspec.structs.replace(spec, strategy=loop.strategy)
    hurries = reason == EndReason.DEADLINE or desk.watch.asked  # what is trained is saved; what only shows it is left out
    samples = () if hurries else samples_of(spec, loaded, loop.progress, desk)
    files = _save(spec, folder, loaded, loop.progress, samples, desk)
    desk.events.leave()
    return _outcome(spec, reason, loop, loaded, samples, files, desk)


def _trained(
    spec: JobSpec, folder: Path, cache: Path, saved: Progress | None, desk: Desk
) -> tuple[Loaded, TrainingLoop, EndReason]:
    """What was loaded, the loop at its end, and why it ended. Where memory holds no more than a part of the base at once, all
    of it is let go of, and the run goes on from its newest checkpoint with the base streamed.
    """
    while isinstance(done := _tried(spec, folder, cache, saved, desk), Strategy):
        spec = msgspec.structs.replace(spec, strategy=done)
        desk.meters.forget()
        saved = read_progress(folder / CHECKPOINT_DIR, desk.events.warn)
        if saved is not None:
            saved = msgspec.structs.replace(saved, peaks={}, strategy=done)  # from here on, of what fits
    return done


def _tried(
    spec: JobSpec, folder: Path, cache: Path, saved: Progress | None, desk: Desk
) -> tuple[Loaded, TrainingLoop, EndReason] | Strategy:
    """The same of one strategy, or the one to go on by: with these frames goes what held on to the model."""
    try:
        loaded = load(spec, folder, cache, desk)
        loop = _loop(spec, folder, loaded, saved, desk)
        return loaded, loop, _metered(loop, desk)
    except LoadedAnew as asked:
        return asked.strategy


def _metered(loop: TrainingLoop, desk: Desk) -> EndReason:
    try:
        return loop.run()
    except Ended as end:
        end.measured = measured(loop.progress, desk)
        raise


def _as_it_goes_on(spec: JobSpec, saved: Progress | None) -> JobSpec:
    """`spec` by the strategy that its newest checkpoint was made with: what memory did not hold once is not tried again.

    Raises `Ended` (bad job) for a checkpoint of another job.
    """
    if saved is None or saved.strategy is None:
        return spec
    others = [name for name in changes(spec.strategy, saved.strategy) if name not in GIVEN_UP]
    found = [(name, getattr(saved.strategy, name), getattr(spec.strategy, name)) for name in others]
    found += unlike(saved.learned, learned_by(spec)) if saved.learned is not None else ()
    if found:
        what, was, asked = found[0]
        raise bad_job(f"the checkpoint is of another job: its {what} is {was!r}, not {asked!r}; start anew in an empty folder")
    return msgspec.structs.replace(spec, strategy=saved.strategy)


def located(spec: JobSpec, folder: Path) -> JobSpec:
    """`spec` with every relative path read from the job's folder."""
    model, data, loop = spec.model, spec.data, spec.loop
    if model.kind != "hub":
        name = model.name or model.location
        model = msgspec.structs.replace(model, location=str(folder / model.location), name=name)
    held_out = None if data.held_out is None else str(folder / data.held_out)
    data_at = msgspec.structs.replace(data, train=str(folder / data.train), held_out=held_out)
    adapter = None if loop.init_adapter is None else str(folder / loop.init_adapter)
    return msgspec.structs.replace(
        spec,
        model=model,
        data=with_template_at(data_at, lambda path: str(folder / path)),
        loop=msgspec.structs.replace(loop, init_adapter=adapter),
    )


# ── train ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _loop(spec: JobSpec, folder: Path, loaded: Loaded, saved: Progress | None, desk: Desk) -> TrainingLoop:
    """The loop where it stands: at its last checkpoint, or at step 0, probed and with the base's answers taken."""
    loop = TrainingLoop(
        Training(
            spec=spec,
            model=loaded.model,
            train=loaded.shown,
            held_out=loaded.data.held_out,
            shape=loaded.shape,
            settings=loaded.settings,
            checkpoints=folder / CHECKPOINT_DIR,
            progress=saved or Progress(initial_sums=sums_of(loaded.model)),
            desk=desk,
        )
    )
    if saved is not None:
        loop.resume()
        return loop
    desk.events.enter(Phase.PROBE)
    loop.probe()
    desk.watch.check()
    desk.events.enter(Phase.EVALUATE)
    before = base_answers(spec, loaded, desk)
    loop.begin([answer.text for answer in before])
    return loop


# ── evaluate, save ─────────────────────────────────────────────────────────────────────────────────────────────────


def _save(
    spec: JobSpec, folder: Path, loaded: Loaded, progress: Progress, samples: tuple[Sample, ...], desk: Desk
) -> tuple[AdapterFile, ...]:
    desk.events.enter(Phase.SAVE)
    output = folder / spec.output
    save_weights(output, loaded.model, loaded.tokenizer, spec)
    longest = sorted(loaded.data.train, key=lambda example: example.num_tokens)[-VERIFY_ROWS:]
    micro = collated([example.shortened(VERIFY_TOKENS) for example in longest], loaded.shape)
    found = verify(output, loaded.model, micro, loaded.settings, spec.strategy, progress.initial_sums)
    desk.events.emit("verified", **msgspec.structs.asdict(found))
    card = model_card(
        spec,
        progress,
        samples,
        read=loaded.data.train_read,
        held_out=loaded.data.held_out_read,
        classes=loaded.data.classes,
        trainable_params=loaded.trainable_params,
        base_sha256=loaded.base_sha256,
        versions=preflight.versions(),
    )
    save_companions(output, spec, card, labels=tuple(each.name for each in loaded.data.classes), packed_by=loaded.packed_by)
    bring_along(folder, output)
    return save_manifest(output)


_MESSAGES = {
    EndReason.COMPLETED: "trained to the end",
    EndReason.STOPPED_EARLY: "stopped early: the held-out {figure} no longer {better}",
    EndReason.DEADLINE: "saved and left before the deadline",
}


def _outcome(
    spec: JobSpec,
    reason: EndReason,
    loop: TrainingLoop,
    loaded: Loaded,
    samples: tuple[Sample, ...],
    files: tuple[AdapterFile, ...],
    desk: Desk,
) -> Outcome:
    progress = loop.progress
    before, after = progress.evaluation_at(0), progress.evaluation_at(progress.best_step)
    by = best_by_of(spec.loop, spec.task)
    doubts = tuple(
        doubts_of(
            before,
            after,
            loaded.prompts,
            samples,
            sample_tokens=spec.loop.sample_tokens,
            by=by,
            rows_of_classes=loaded.data.held_out_classes,
        )
    )
    for doubt in doubts:
        desk.events.warn(doubt.message)
    return Outcome(
        run_id=spec.run_id,
        reason=reason,
        message=f"{_MESSAGES[reason].format(figure=FIGURES[by][0], better='fell' if by == 'loss' else 'rose')} "
        f"({progress.step} of {loop.total_steps} steps)",
        phase_s=dict(desk.events.phase_s),
        measured=measured(progress, desk),
        reached=loop.reached,
        strategy=loop.strategy,
        trainable_params=loaded.trainable_params,
        train_rows=loaded.data.train_read,
        held_out_rows=loaded.data.held_out_read if loaded.data.held_out_rows else None,
        before=before,
        after=after,
        classes=tuple(each.name for each in loaded.data.classes),
        samples=samples,
        doubts=doubts,
        base_revision=spec.model.revision,
        base_sha256=loaded.base_sha256,
        adapter=files,
        versions=preflight.versions(),
    )


def measured(progress: Progress, desk: Desk) -> Measured:
    """What the meters say at the end, peaks of earlier starts included."""
    step_s = progress.step_s
    return Measured(
        tokens_per_s=progress.tokens / sum(step_s) if step_s else None,
        step_s=statistics.median(step_s) if step_s else None,
        energy_kwh=desk.meters.energy_kwh(),
        steps=len(step_s),
        tokens=progress.tokens,
        **merged_peaks(progress.peaks, desk.meters.peaks()),
    )


def quiet() -> None:
    """Silence what libraries say to nobody in particular; errors still speak."""
    import logging

    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # misses triton, which a CPU has no use for
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # misses a kernel for answers alone, as it is imported
    import peft  # noqa: F401 - imported here so that its seconds count as environment, like those of its neighbours
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="`past_key_values` is deprecated", category=FutureWarning)  # peft 0.21 says it so
    warnings.filterwarnings("ignore", message="MatMul8bitLt: inputs will be cast")  # true, meant, and said at every step
