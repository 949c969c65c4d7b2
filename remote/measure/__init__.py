"""One real step with random weights, watched: `python -m remote.measure < asked.json > measured.json`.

The model is transformers' own, built on the device and never read from a disk (`random_weights`); adapter, optimizer and step
are the trainer's. `gauge` reads torch's and the driver's counters.
"""

from __future__ import annotations

import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from remote.contract import Loop
from remote.measure.gauge import Gauge
from remote.measure.random_weights import random_batch, random_model, vocabulary_of
from remote.measured import StepAsked, StepMeasured

LIBRARIES: Final = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
LOOP: Final = Loop()  # what an optimizer needs beside the Strategy moves no memory


def measure(asked: StepAsked) -> StepMeasured:
    """Build, step, measure. A card that is too small is an answer; all else that goes wrong is raised."""
    import torch

    gauge = Gauge(asked.device)
    try:
        return _measured(asked, gauge)
    except torch.OutOfMemoryError as error:
        return StepMeasured(
            end="out_of_memory",
            device_name=gauge.device_name,
            versions=versions(),
            message=str(error).partition("\n")[0],
        )


def versions() -> dict[str, str]:
    """Releases of the libraries that ran."""
    found: dict[str, str] = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _measured(asked: StepAsked, gauge: Gauge) -> StepMeasured:
    from remote.adapters import adapt, base_of
    from remote.adapters.ranks import Ranks, tuner_of
    from remote.bases.base import checkpoint_activations, upcast
    from remote.result.evaluate import row_losses
    from remote.step import scaler_of, settings_of, step
    from remote.streaming import settle
    from remote.training.optimizers import build_optimizer

    strategy, device = asked.strategy, asked.device
    model = random_model(asked.config, strategy, device)
    upcast(model, strategy)
    gauge.note("weights")
    model = adapt(model, strategy, LOOP)
    settle(model)
    checkpoint_activations(base_of(model), strategy)
    model.train()
    gauge.note("adapter")
    optimizer, tuner = build_optimizer(strategy, model, LOOP), tuner_of(model)
    if tuner is not None:
        Ranks(tuner, None).watch(optimizer)
    settings = settings_of(strategy, device, LOOP.max_grad_norm)
    scaler = scaler_of(settings)
    batch = random_batch(strategy, vocabulary=vocabulary_of(asked.config, model), device=device)
    step(model, batch, optimizer, settings, scaler=scaler)  # makes the states
    gauge.note("states")
    gauge.forget_peak()
    seconds: list[float] = []
    queued: list[float] = []
    joules_before = gauge.energy_j()
    for _ in range(asked.num_steps):
        gauge.wait()
        started = time.monotonic()
        result = step(model, batch, optimizer, settings, scaler=scaler)
        queued.append(time.monotonic() - started)
        gauge.wait()
        seconds.append(time.monotonic() - started)
    joules_after = gauge.energy_j()
    gauge.note_peak("step")
    loss = float(result.loss)
    reserved, process = gauge.reserved_peak_bytes(), gauge.process_bytes()
    gauge.forget_peak()
    model.eval()
    row_losses(model, batch[0], settings)
    gauge.note_peak("evaluation")
    step_s = statistics.median(seconds)
    return StepMeasured(
        end="measured",
        device_name=gauge.device_name,
        versions=versions(),
        allocated_bytes=gauge.allocated_bytes,
        reserved_peak_bytes=reserved,
        process_bytes=process,
        context_bytes=None if process is None or reserved is None else process - reserved,
        step_s=step_s,
        queued_s=statistics.median(queued) if device == "cuda" else None,
        tokens_per_s=sum(micro.num_tokens for micro in batch) / step_s,
        power_w=None if joules_before is None or joules_after is None else (joules_after - joules_before) / sum(seconds),
        loss=loss,
    )
