"""A run in the order it happens: load, adapt, train, evaluate, save."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from remote import hub
from remote.adapters import adapt, base_of, disabled, way_of
from remote.base import checkpoint_activations, hub_weights, load_base, load_tokenizer, prepare_base
from remote.checkpoints.checkpoint import Progress, put_right, read_progress, trainable
from remote.contract import CHECKPOINT_DIR, AdapterFile, EndReason, JobSpec, Measured, Outcome, Phase, Sample
from remote.data.batches import Shape, collated
from remote.data.split import Data, load_data
from remote.data.tokens import ready
from remote.ends import Ended
from remote.loop import Desk, TrainingLoop, merged_peaks
from remote.machine import preflight
from remote.result.card import model_card
from remote.result.samples import Prompt, answers, prompts_of
from remote.result.save import save_companions, save_manifest, save_weights
from remote.result.verify import sums_of, verify
from remote.step import StepSettings, settings_of

VERIFY_ROWS, VERIFY_TOKENS = 2, 64  # enough to tell two models apart, cheap on any device


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Everything in memory, ready to train."""

    model: Any
    tokenizer: Any
    data: Data
    prompts: tuple[Prompt, ...]
    shape: Shape
    settings: StepSettings
    trainable_params: int
    base_sha256: dict[str, str]  # of a base from the hub


def run(spec: JobSpec, folder: Path, *, cache: Path, desk: Desk) -> Outcome:
    """Carry out `spec` in `folder` and return how it went. Going on from a checkpoint in `folder` is the same call.

    Raises `remote.ends.Ended` for every end without a result that has a known reason.
    """
    spec = located(spec, folder)
    preflight.check_job(spec, folder)
    preflight.check_machine(spec)
    put_right(folder / CHECKPOINT_DIR)
    preflight.check_disk(spec, folder)
    desk.events.emit("machine", versions=preflight.versions(), **preflight.machine(spec.device))
    slow = preflight.slow_here(spec)
    if slow is not None:
        desk.events.emit("warning", message=slow)
    loaded = _load(spec, folder, cache, desk)
    loop = _loop(spec, folder, loaded, desk)
    try:
        reason = loop.run()
    except Ended as end:
        end.measured = measured(loop.step_s, loop.tokens, loop.progress.peaks, desk)
        raise
    hurries = reason == EndReason.DEADLINE or desk.watch.asked  # what is trained is saved; what only shows it is left out
    samples = () if hurries else _samples(spec, loaded, loop.progress, desk)
    files = _save(spec, folder / spec.output, loaded, loop.progress, samples, desk)
    desk.events.leave()
    return _outcome(spec, reason, loop, loaded, samples, files, desk)


def located(spec: JobSpec, folder: Path) -> JobSpec:
    """`spec` with every relative path read from the job's folder."""
    model, data, loop = spec.model, spec.data, spec.loop
    if model.kind != "hub":
        name = model.name or model.location
        model = msgspec.structs.replace(model, location=str(folder / model.location), name=name)
    held_out = None if data.held_out is None else str(folder / data.held_out)
    adapter = None if loop.init_adapter is None else str(folder / loop.init_adapter)
    return msgspec.structs.replace(
        spec,
        model=model,
        data=msgspec.structs.replace(data, train=str(folder / data.train), held_out=held_out),
        loop=msgspec.structs.replace(loop, init_adapter=adapter),
    )


# ── load ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _load(spec: JobSpec, folder: Path, cache: Path, desk: Desk) -> Loaded:
    import torch

    strategy = spec.strategy
    desk.events.enter(Phase.DOWNLOAD)
    base_folder = _base_folder(spec, cache, desk)
    preflight.check_disk(spec, folder)  # once more: the base may be larger than planned
    base_sha256 = hub_weights(spec.model, Path(base_folder))
    desk.watch.check()
    tokenizer = load_tokenizer(base_folder)
    if not ready(tokenizer):
        desk.events.emit(
            "warning", message="the base model has no chat template; a plain one is used and saved with the result"
        )
    data = load_data(
        spec.data,
        tokenizer,
        seq_len=strategy.seq_len,
        seed=spec.loop.seed,
        warn=lambda **data: desk.events.emit("warning", **data),
    )
    desk.watch.check()
    desk.events.enter(Phase.LOAD)
    model = load_base(base_folder, strategy, spec.device)
    torch.manual_seed(spec.loop.seed)
    model = adapt(model, strategy, spec.loop)
    checkpoint_activations(base_of(model), strategy)
    model.train()
    trainable_params = sum(parameter.numel() for _, parameter in trainable(model))
    desk.watch.check()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        data=data,
        prompts=prompts_of(data.held_out_rows, tokenizer, spec.loop.num_samples),
        shape=Shape(
            micro_batch_size=strategy.micro_batch_size,
            gradient_accumulation_steps=strategy.gradient_accumulation_steps,
            seq_len=strategy.seq_len,
            padded=strategy.padded,
            pad_token_id=tokenizer.pad_token_id,
            device=spec.device,
        ),
        settings=settings_of(strategy, spec.device, spec.loop.max_grad_norm),
        trainable_params=trainable_params,
        base_sha256=base_sha256,
    )


def _base_folder(spec: JobSpec, cache: Path, desk: Desk) -> str:
    """The base on the disk. Of one from the hub is said how much had to be fetched: on a kept volume it may lie already."""
    model, is_fetched = spec.model, spec.model.kind == "hub"
    held_bytes = hub.held_bytes(model.location) if is_fetched else 0
    folder = prepare_base(model, cache=cache, dtype=spec.strategy.param_dtype, seed=spec.loop.seed)
    if is_fetched:
        desk.events.emit("base", fetched_bytes=hub.held_bytes(model.location) - held_bytes)
    return folder


# ── train ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _loop(spec: JobSpec, folder: Path, loaded: Loaded, desk: Desk) -> TrainingLoop:
    """The loop where it stands: at its last checkpoint, or at step 0, probed and with the base's answers taken."""
    checkpoints = folder / CHECKPOINT_DIR
    saved = read_progress(checkpoints)
    loop = TrainingLoop(
        spec,
        loaded.model,
        loaded.data.train,
        loaded.data.held_out,
        shape=loaded.shape,
        settings=loaded.settings,
        checkpoints=checkpoints,
        progress=saved or Progress(initial_sums=sums_of(loaded.model)),
        desk=desk,
    )
    if saved is not None:
        for phase, seconds in saved.phase_s.items():
            desk.events.phase_s[phase] = desk.events.phase_s.get(phase, 0.0) + seconds
        loop.resume()
        return loop
    desk.events.enter(Phase.PROBE)
    loop.probe()
    desk.watch.check()
    desk.events.enter(Phase.EVALUATE)
    before = _base_answers(spec, loaded)
    loop.progress = msgspec.structs.replace(loop.progress, answers_before=before)
    loop.checkpoint()
    return loop


def _base_answers(spec: JobSpec, loaded: Loaded) -> tuple[str, ...]:
    if way_of(spec.strategy).saved != "adapters":  # nothing has moved yet, and what was put in adds nothing so far
        return _answers(spec, loaded)
    with disabled(loaded.model):
        return _answers(spec, loaded)


def _answers(spec: JobSpec, loaded: Loaded) -> tuple[str, ...]:
    return answers(
        loaded.model,
        loaded.tokenizer,
        loaded.prompts,
        loaded.settings,
        max_tokens=spec.loop.sample_tokens,
        max_prompt_tokens=spec.strategy.seq_len,
    )


# ── evaluate, save ─────────────────────────────────────────────────────────────────────────────────────────────────


def _samples(spec: JobSpec, loaded: Loaded, progress: Progress, desk: Desk) -> tuple[Sample, ...]:
    desk.events.enter(Phase.EVALUATE)
    samples = tuple(
        Sample(prompt=prompt.shown, reference=prompt.reference, before=before, after=after)
        for prompt, before, after in zip(loaded.prompts, progress.answers_before, _answers(spec, loaded), strict=True)
    )
    for sample in samples:
        desk.events.emit("sample", **msgspec.structs.asdict(sample))
    return samples


def _save(
    spec: JobSpec, output: Path, loaded: Loaded, progress: Progress, samples: tuple[Sample, ...], desk: Desk
) -> tuple[AdapterFile, ...]:
    desk.events.enter(Phase.SAVE)
    save_weights(output, loaded.model, loaded.tokenizer, spec)
    longest = sorted(loaded.data.train, key=lambda example: example.num_tokens)[-VERIFY_ROWS:]
    micro = collated([example.shortened(VERIFY_TOKENS) for example in longest], loaded.shape)
    found = verify(output, loaded.model, micro, loaded.settings, spec.strategy, progress.initial_sums)
    desk.events.emit("verified", **msgspec.structs.asdict(found))
    card = model_card(
        spec,
        progress,
        samples,
        num_rows=len(loaded.data.train),
        trainable_params=loaded.trainable_params,
        base_sha256=loaded.base_sha256,
        versions=preflight.versions(),
    )
    save_companions(output, spec, card)
    return save_manifest(output)


_MESSAGES = {
    EndReason.COMPLETED: "trained to the end",
    EndReason.STOPPED_EARLY: "stopped early: the held-out loss no longer fell",
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
    return Outcome(
        run_id=spec.run_id,
        reason=reason,
        message=f"{_MESSAGES[reason]} ({progress.step} of {loop.total_steps} steps)",
        phase_s=dict(desk.events.phase_s),
        measured=measured(loop.step_s, loop.tokens, progress.peaks, desk),
        reached=loop.reached,
        trainable_params=loaded.trainable_params,
        train_rows=loaded.data.train_read,
        held_out_rows=loaded.data.held_out_read if loaded.data.held_out_rows else None,
        before=progress.evaluation_at(0),
        after=progress.evaluation_at(progress.best_step),
        samples=samples,
        base_revision=spec.model.revision,
        base_sha256=loaded.base_sha256,
        adapter=files,
        versions=preflight.versions(),
    )


def measured(step_s: Sequence[float], tokens: int, peaks: dict[str, int], desk: Desk) -> Measured:
    """What the meters say at the end, peaks of earlier starts included."""
    return Measured(
        tokens_per_s=tokens / sum(step_s) if step_s else None,
        step_s=statistics.median(step_s) if step_s else None,
        energy_kwh=desk.meters.energy_kwh(),
        steps=len(step_s),
        tokens=tokens,
        **merged_peaks(peaks, desk.meters.peaks()),
    )


def quiet() -> None:
    """Silence what libraries say to nobody in particular; errors still speak."""
    import logging

    logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)  # misses triton, which a CPU has no use for
    import peft  # noqa: F401 - imported here so that its seconds count as environment, like those of its neighbours
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="`past_key_values` is deprecated", category=FutureWarning)  # peft 0.21 says it so
    warnings.filterwarnings("ignore", message="MatMul8bitLt: inputs will be cast")  # true, meant, and said at every step
