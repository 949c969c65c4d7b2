"""What stands on top of the base: the head that writes text, or the one that tells classes apart."""

from __future__ import annotations

from typing import Any

from planner.methods import NUM_LABELS
from planner.methods.others import OTHERS
from planner.refusals import OTHERWISE, Untraceable
from remote.contract import Strategy, Task


def maker_of(config: Any, task: Task) -> Any:
    """Transformers' maker of the model that a task trains. Raises Untraceable where it has none for this configuration."""
    from transformers import AutoModelForSequenceClassification

    if task != "classification":
        return language_maker(config)
    if type(config) not in AutoModelForSequenceClassification._model_mapping:  # noqa: SLF001 - what from_config looks into
        raise Untraceable("task", f"transformers has no {config.model_type} that tells classes apart", OTHERWISE)
    config.num_labels = NUM_LABELS
    config.pad_token_id = 0 if config.pad_token_id is None else config.pad_token_id  # which word it is changes no size
    return AutoModelForSequenceClassification


def language_maker(config: Any) -> Any:
    """Of transformers' makers of language models the first that knows this configuration: of two stacks both, of one a
    decoder before an encoder. None = none does.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    whole = (AutoModelForSeq2SeqLM,) if config.is_encoder_decoder else ()
    makers = (*whole, AutoModelForCausalLM, AutoModelForMaskedLM)
    # _model_mapping is the table that from_config itself looks into
    return next((maker for maker in makers if type(config) in maker._model_mapping), None)  # noqa: SLF001


def fresh_of(model: Any, task: Task) -> tuple[str, ...]:
    """The modules that no file brings weights for, as `remote.bases.heads` finds them: all that stands beside the base."""
    if task != "classification":
        return ()
    beside = {name: part for name, part in model.named_children() if name != model.base_model_prefix}
    return tuple(sorted(name for name, part in beside.items() if next(part.parameters(), None) is not None))


def require_headed(strategy: Strategy, task: Task) -> None:
    """Raise Untraceable for a method that peft's own defaults alone hang, where a head of classes is to train beside it."""
    if task == "classification" and strategy.method in OTHERS:
        raise Untraceable("task", f"a trace hangs {strategy.method} on models that write text alone", OTHERWISE)
