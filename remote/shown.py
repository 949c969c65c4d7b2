"""What a run shows of itself in words: answers to some held-out prompts, as it begins and of its result."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from remote.adapters import disabled, way_of
from remote.checkpoints.checkpoint import Progress
from remote.contract import JobSpec, Phase, Sample
from remote.data.classes import encode_classes
from remote.data.labelled import Labelled
from remote.desk import Desk
from remote.ends import Ended, first_line, is_out_of_memory
from remote.loading.loaded import Loaded
from remote.result.samples import Answer, answers, class_answers


def base_answers(spec: JobSpec, loaded: Loaded, desk: Desk) -> tuple[Answer, ...]:
    """What is answered before anything has moved: by the base, or with the earlier adapter that the job goes on with, as what
    was judged then.
    """
    goes_on = spec.loop.init_adapter is not None
    if goes_on or way_of(spec.strategy).saved != "adapters":  # what was put in adds nothing so far
        return _told(lambda: _answers(spec, loaded), desk)
    with disabled(loaded.model):
        return _told(lambda: _answers(spec, loaded), desk)


def samples_of(spec: JobSpec, loaded: Loaded, progress: Progress, desk: Desk) -> tuple[Sample, ...]:
    """Held-out prompts with the answers before and after; each is told."""
    desk.events.enter(Phase.EVALUATE)
    if not progress.answers_before:
        return ()
    samples = tuple(
        Sample(prompt=prompt.shown, reference=prompt.reference, before=before, after=after.text, ended=after.ended)
        for prompt, before, after in zip(
            loaded.prompts, progress.answers_before, _told(lambda: _answers(spec, loaded), desk), strict=False
        )
    )
    for sample in samples:
        desk.events.emit("sample", **msgspec.structs.asdict(sample))
    return samples


def _told(asked: Callable[[], tuple[Answer, ...]], desk: Desk) -> tuple[Answer, ...]:
    """What is answered; nothing where memory holds no answers, or the model writes none (transformers 5.24 makes the cache of a
    T5 as deep as its encoder, and a deeper decoder finds no place in it): a run is not lost for what only shows it.
    """
    try:
        return asked()
    except Ended:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a model's own generate comes upon
        words = first_line(error)
        why = "memory ran out while they were made" if is_out_of_memory(error) else "this model could not make them"
    desk.meters.forget()
    desk.events.warn(f"the result is shown without sample answers: {why} ({words})")
    return ()


def _answers(spec: JobSpec, loaded: Loaded) -> tuple[Answer, ...]:
    if loaded.data.classes:
        rows = loaded.data.held_out_rows[: len(loaded.prompts)]
        examples = encode_classes(
            [row for row in rows if isinstance(row, Labelled)],
            loaded.tokenizer,
            spec.strategy.seq_len,
            classes=loaded.data.classes,
        ).examples
        named = class_answers(loaded.model, examples, loaded.data.classes, loaded.shape, loaded.settings)
        return tuple(Answer(text=name, ended=True) for name in named)  # a class has no end to come to
    return answers(
        loaded.model,
        loaded.tokenizer,
        loaded.prompts,
        loaded.settings,
        max_tokens=spec.loop.sample_tokens,
        max_prompt_tokens=spec.strategy.seq_len,
    )
