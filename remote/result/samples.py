"""Held-out prompts, answered greedily: what the numbers mean in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from remote.data.batches import Shape, collated
from remote.data.labelled import Class, Labelled
from remote.data.pairs import sides_of
from remote.data.rows import Conversation, Row
from remote.data.tokens import Example, first_token, rendered_messages
from remote.result.evaluate import class_logits_of
from remote.result.try_adapter import new_tokens
from remote.step import StepSettings, autocast

OPENING_SHARE: Final = 0.5  # of a document is shown, the rest is to be written


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the model reads (`text`), what a person reads (`shown`), and what stands in the data."""

    text: str
    shown: str
    reference: str
    turn_tokens: int | None = None  # of the reference, where it is a turn that an answer should end like


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model wrote."""

    text: str
    ended: bool  # by itself, before its tokens were used up


def prompts_of(rows: Sequence[Row], tokenizer: Any, num_samples: int) -> tuple[Prompt, ...]:
    """The first `num_samples` held-out rows as prompts: a conversation up to its last answer, a document's first half."""
    return tuple(_prompt(row, tokenizer) for row in rows[:num_samples])


def prompts_of_pairs(rows: Sequence[Row], tokenizer: Any, num_samples: int) -> tuple[Prompt, ...]:
    """The first held-out rows as prompts of an encoder with a decoder: what it reads, which no template writes."""
    sides = [sides_of(row) for row in rows[:num_samples]]
    return tuple(
        Prompt(
            text=f"{source}{tokenizer.eos_token}",
            shown=source,
            reference=target,
            turn_tokens=len(tokenizer(target, add_special_tokens=False).input_ids),
        )
        for source, target in sides
    )


def _prompt(row: Row, tokenizer: Any) -> Prompt:
    if isinstance(row, Labelled):
        shown = row.text if row.pair is None else f"{row.text}\n\n{row.pair}"
        return Prompt(text=shown, shown=shown, reference=row.label)
    if not isinstance(row, Conversation):
        cut = round(len(row.text) * OPENING_SHARE)
        return Prompt(text=first_token(tokenizer) + row.text[:cut], shown=row.text[:cut], reference=row.text[cut:])
    last = max(index for index, message in enumerate(row.messages) if message.role == "assistant")
    return Prompt(
        text=rendered_messages(row.messages[:last], tokenizer, answer_next=True) if last else first_token(tokenizer),
        shown=row.messages[last - 1].content if last else "",
        reference=row.messages[last].content,
        turn_tokens=len(tokenizer(row.messages[last].content, add_special_tokens=False).input_ids),
    )


def class_answers(
    model: Any, examples: Sequence[Example], classes: Sequence[Class], shape: Shape, settings: StepSettings
) -> tuple[str, ...]:
    """The likeliest class of each, and how likely it is."""
    if not examples:
        return ()
    was_training = model.training
    model.eval()
    chances = torch.softmax(class_logits_of(model, collated(examples, shape), settings), dim=-1)
    model.train(was_training)
    best = chances.max(dim=-1)
    found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return tuple(f"{classes[number].name} ({chance:.0%})" for chance, number in found)


def answers(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], settings: StepSettings, *, max_tokens: int, max_prompt_tokens: int
) -> tuple[Answer, ...]:
    """One greedy answer of at most `max_tokens` tokens for each prompt, all in one batch; a prompt keeps its end."""
    if not prompts:
        return ()
    ids = [tokenizer(prompt.text, add_special_tokens=False).input_ids[-max_prompt_tokens:] for prompt in prompts]
    ids = [row or [tokenizer.eos_token_id] for row in ids]
    padded = tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt").to(model.device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast(settings):
            greedy = _greedy(model, tokenizer, max_tokens)
            new = new_tokens(model, padded, generation_config=greedy)
    finally:
        model.train(was_training)
    ended = torch.isin(new, torch.tensor(greedy.eos_token_id, device=new.device)).any(dim=1).tolist()
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return tuple(Answer(text=text.strip(), ended=end) for text, end in zip(texts, ended, strict=True))


def _greedy(model: Any, tokenizer: Any, max_tokens: int) -> Any:
    from transformers import GenerationConfig

    known = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])} - {None}
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
        decoder_start_token_id=model.generation_config.decoder_start_token_id,
    )
