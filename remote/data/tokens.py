"""Rows → token ids and labels. A conversation is rendered by the model's chat template and learned on its answers only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from remote.data.rows import Conversation, Document, Message, Row
from remote.ends import first_line

IGNORED: Final = -100  # the label that torch's cross-entropy leaves out (its default ignore_index)
MARK_TOKENS: Final = 3  # assumed: after the token that ends a turn templates write a line's end, which is one or two
ROWS_PER_CALL: Final = 512  # the tokenizer works on a batch in parallel; assumed, far from critical

# For models that bring no chat template: text as it is, an answer ends with the end-of-sequence token.
PLAIN_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}"
    "{% endfor %}"
)

Ids = npt.NDArray[np.int32]
Span = tuple[int, int]  # characters [start, end) of a rendered conversation


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training sequence. `num_targets` counts the labels that the shifted loss sees."""

    ids: Ids  # [tokens]
    labels: Ids  # [tokens], IGNORED where nothing is learned
    num_targets: int

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    def shortened(self, num_tokens: int) -> Example:
        """The first `num_tokens` tokens of it."""
        return _example(self.ids[:num_tokens], self.labels[:num_tokens])


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """All sequences of a data set, and what became of the rows on the way."""

    examples: tuple[Example, ...]
    truncated: int  # rows cut at seq_len, and learned from
    dropped: tuple[int, ...]  # the places of rows of which nothing to learn was left
    longest_tokens: int  # before cutting


class UntokenizableRow(Exception):
    """The chat template or the tokenizer can't take this row; the message says why."""


def encode_rows(rows: Sequence[Row], tokenizer: Any, seq_len: int) -> Encoded:
    """Tokenize rows. Conversations longer than `seq_len` are cut at the end, documents are split into pieces of it."""
    examples: list[Example] = []
    truncated = longest_tokens = 0
    dropped: list[int] = []
    for place, (row, (ids, labels)) in enumerate(zip(rows, tokenized(rows, tokenizer), strict=True)):
        longest_tokens = max(longest_tokens, len(ids))
        cut = len(ids) > seq_len
        width = len(ids) if cut and isinstance(row, Document) else seq_len
        pieces = [_example(ids[at : at + seq_len], labels[at : at + seq_len]) for at in range(0, min(len(ids), width), seq_len)]
        kept = [piece for piece in pieces if piece.num_targets]
        truncated += bool(kept) and cut and isinstance(row, Conversation)
        dropped += () if kept else (place,)
        examples += kept
    return Encoded(examples=tuple(examples), truncated=truncated, dropped=tuple(dropped), longest_tokens=longest_tokens)


def _example(ids: Ids, labels: Ids) -> Example:
    return Example(ids=ids, labels=labels, num_targets=int((labels[1:] != IGNORED).sum()))


def first_target(labels: Ids) -> int | None:
    """How many tokens a sequence must have, counted from its start, to teach one; None where there is nothing to learn."""
    targets = np.flatnonzero(labels[1:] != IGNORED)
    return int(targets[0]) + 2 if targets.size else None


def begins_twice(ids: Ids, tokenizer: Any) -> bool:
    """Whether two beginning-of-sequence tokens stand first: a template wrote one, and the text or the tokenizer the other."""
    start = tokenizer.bos_token_id
    return start is not None and len(ids) > 1 and ids[0] == ids[1] == start


def unended(ids: Ids, labels: Ids, tokenizer: Any) -> bool:
    """Whether an answer has no special token among its last `MARK_TOKENS`: a model that learns it does not learn to stop."""
    learned = np.append(labels != IGNORED, False)
    if np.count_nonzero(learned[1:] < learned[:-1]) <= 1:
        return False  # a last one is ended in any case: see `labelled`
    ends = np.flatnonzero(learned[:-1] & ~learned[1:])
    special = np.isin(ids, tokenizer.all_special_ids) & learned[:-1]
    return any(not special[max(0, end + 1 - MARK_TOKENS) : end + 1].any() for end in ends)


def tokenized(rows: Sequence[Row], tokenizer: Any) -> Iterator[tuple[Ids, Ids]]:
    """(ids, labels) of each row, uncut. Raises `UntokenizableRow`."""
    for start in range(0, len(rows), ROWS_PER_CALL):
        chunk = rows[start : start + ROWS_PER_CALL]
        rendered = [rendered_row(row, tokenizer, number) for number, row in enumerate(chunk, start=start + 1)]
        texts = [text for text, _ in rendered]
        encoding = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
        for (_, spans), ids, offsets in zip(rendered, encoding["input_ids"], encoding["offset_mapping"], strict=True):
            yield labelled(ids, offsets, spans, tokenizer.eos_token_id)


def labelled(ids: Sequence[int], offsets: Iterable[Span], spans: Sequence[Span], eos_token_id: int) -> tuple[Ids, Ids]:
    """Labels for the tokens that touch a learned span; the sequence ends with the end-of-sequence token, learned too."""
    learned = np.zeros(len(ids), dtype=bool)
    starts_ends = np.asarray(list(offsets), dtype=np.int64).reshape(-1, 2)
    for start, end in spans:
        learned |= (starts_ends[:, 1] > start) & (starts_ends[:, 0] < end)
    array = np.asarray(ids, dtype=np.int32)
    if learned.any() and not (learned & (array == eos_token_id))[np.flatnonzero(learned)[-1]]:
        array, learned = np.append(array, np.int32(eos_token_id)), np.append(learned, True)
    return array, np.where(learned, array, np.int32(IGNORED))


def rendered_row(row: Row, tokenizer: Any, number: int) -> tuple[str, tuple[Span, ...]]:
    """The text that the model sees and the spans of it that are learned."""
    if isinstance(row, Document):
        text = first_token(tokenizer) + row.text
        return text, ((0, len(text)),)
    try:
        return rendered_conversation(row.messages, tokenizer)
    except UntokenizableRow as error:
        raise UntokenizableRow(f"row {number}: {error}") from error
    except Exception as error:
        raise UntokenizableRow(f"row {number}: the model's chat template refuses it ({first_line(error)})") from error


def rendered_conversation(messages: Sequence[Message], tokenizer: Any) -> tuple[str, tuple[Span, ...]]:
    """Render a conversation; each learned span runs from the assistant's header to the end of its answer (EOS included)."""
    text = rendered_messages(messages, tokenizer)
    spans: list[Span] = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = rendered_messages(messages[:index], tokenizer, answer_next=True) if index else ""
        if not text.startswith(before):
            raise UntokenizableRow("the chat template does not put this answer after its question")
        spans.append((len(before), _end_of_answer(text, len(before), messages, index, tokenizer)))
    return text, tuple(spans)


def _end_of_answer(text: str, start: int, messages: Sequence[Message], index: int, tokenizer: Any) -> int:
    """Where the answer at `index` ends: after its EOS token when the template writes one, else after its last character."""
    last = index == len(messages) - 1
    upto = text if last else rendered_messages(messages[: index + 1], tokenizer)
    if text.startswith(upto):
        end = len(upto)
    else:  # templates that drop the reasoning of earlier turns
        content = messages[index].content.strip()
        end = text.find(content, start) + len(content)
        end += len(tokenizer.eos_token) if text.startswith(tokenizer.eos_token, end) else 0
    eos_at = text.rfind(tokenizer.eos_token, start, end)
    return eos_at + len(tokenizer.eos_token) if eos_at >= 0 else end


def rendered_messages(messages: Sequence[Message], tokenizer: Any, *, answer_next: bool = False) -> str:
    """Messages as the model's chat template writes them; `answer_next` opens the assistant's turn."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_next))


def first_token(tokenizer: Any) -> str:
    """The token that this tokenizer puts before every text, as text; mostly none."""
    ids = tokenizer("").input_ids
    return str(tokenizer.bos_token) if tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id] else ""


def ready(tokenizer: Any) -> bool:
    """Give a bare tokenizer what training needs (padding, a plain chat template). Returns whether it had a template."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template:
        return True
    opening = "{{ bos_token }}" if first_token(tokenizer) else ""
    tokenizer.chat_template = opening + PLAIN_TEMPLATE
    return False
