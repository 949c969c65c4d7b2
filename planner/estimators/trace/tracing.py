"""One real step, traced: the model is built, the optimizer's states are made, `remote.step.step` runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from planner.estimators.memory.scene import NUM_WORKSPACES, workspace_bytes
from planner.estimators.trace.autocast import Casts
from planner.estimators.trace.build import (
    DEVICE,
    Subject,
    adapted,
    configured,
    keep_outputs,
    load,
    micro_batch,
    skeleton,
    with_optimizer,
)
from planner.estimators.trace.modes import as_cuda, recording
from planner.estimators.trace.pose import posing_as_cuda
from planner.estimators.trace.recorder import Recorder, Role, Stage, Trace
from planner.refusals import OTHERWISE, CaseRefused, Untraceable
from planner.strategy.stack import PINNED_STACK, EvaluationAsked, Stack
from remote.contract import Strategy, Task
from remote.training.collector import uncollected

# What foreign code says when it gives up -> what to ask for instead
OF_USE: Final = {
    "does not support activation checkpointing": "gradient_checkpointing off",
    "Attempting to unscale FP16 gradients": "param_dtype float32 where the base trains, else adapter_dtype float32",
}
# and what to say in its place
IN_OUR_WORDS: Final = {
    "Attempting to unscale FP16 gradients": "a float16 autocast scales gradients, and torch unscales none of float16 weights",
}


def traced(
    config: Mapping[str, Any],
    strategy: Strategy,
    *,
    stack: Stack = PINNED_STACK,
    compute_capability: tuple[int, int] | None = None,
    task: Task = "causal_lm",
) -> Trace:
    """The log of loading, preparing, one step and one evaluation batch. None = some present card.

    Raises Untraceable where the model's or the adapter's own code gives up on tensors without values.
    """
    # that there is no triton for a counter of FLOPs, and no kernel for answers on a CPU, concerns nobody here
    for name in ("torch.utils.flop_counter", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import peft  # noqa: F401 - some of its modules make tensors as they are imported: not while the log is kept

    casts = Casts()
    with posing_as_cuda(casts), uncollected():
        tokens = strategy.micro_batch_size * strategy.seq_len
        try:
            found = configured(config)
            recorder = Recorder(device_type=DEVICE, vocabulary=found.vocab_size, tokens=tokens)
            model = skeleton(found, strategy, recorder, task)
            with recording(recorder, padded=strategy.padded):
                subject = _subject(model, strategy, recorder, task)
                keep_outputs(subject.model, stack.keep_outputs)
                for _ in range(NUM_WORKSPACES):
                    recorder.keep(workspace_bytes(compute_capability), Role.WORKSPACES)
                with as_cuda(recorder, casts, compute_capability):
                    _step(subject, recorder)
                    _evaluate(subject, strategy, stack.evaluation, recorder, task)
        except (CaseRefused, MemoryError):
            raise
        except Exception as error:  # what foreign code raises on tensors without values is of any kind
            said = _first_line(error)
            hint = next((hint for words, hint in OF_USE.items() if words in said), OTHERWISE)
            told = next((ours for words, ours in IN_OUR_WORDS.items() if words in said), said)
            raise Untraceable("model", f"{config.get('model_type')} can't be traced: {told}", hint) from error
        return recorder.trace()


def _subject(model: Any, strategy: Strategy, recorder: Recorder, task: Task) -> Subject:
    load(model, strategy, recorder)
    return with_optimizer(adapted(model, strategy, recorder, task), strategy, recorder, task)


def _step(subject: Subject, recorder: Recorder) -> None:
    from remote.step import step

    entered = subject.model.register_forward_pre_hook(lambda *_: recorder.enter(Stage.FORWARD))
    subject.optimizer.register_step_pre_hook(lambda *_: recorder.enter(Stage.OPTIMIZER_STEP))
    step(subject.model, subject.batch, subject.optimizer, subject.settings, scaler=subject.scaler)
    entered.remove()


def _evaluate(subject: Subject, strategy: Strategy, asked: EvaluationAsked | None, recorder: Recorder, task: Task) -> None:
    """One batch, every position being labelled: which are is a matter of values."""
    import torch

    from remote.losses import class_logits, class_losses
    from remote.result.evaluate import answers_to, losses_in_chunks
    from remote.step import autocast

    recorder.enter(Stage.EVALUATION)
    size = (asked.micro_batch_size if asked else None) or strategy.micro_batch_size
    length = (asked.seq_len if asked else None) or strategy.seq_len
    subject.model.eval()
    apart = subject.model.config.is_encoder_decoder
    micro = micro_batch(size, length, padded=strategy.padded, apart=apart, task=task)
    if task == "classification":
        with torch.no_grad(), autocast(subject.settings):
            class_losses(class_logits(subject.model, micro), micro.labels)
        return
    if strategy.loss != "hf":
        losses_in_chunks(subject.model, micro, subject.settings)
        return
    answers_to(subject.model, micro, subject.settings).losses(lambda each: each.flatten(0, 1))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
