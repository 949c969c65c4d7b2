"""Rows → token ids and labels. A conversation is rendered by the model's chat template and learned on its answers only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from remote.contract import PLAIN, LongRows, fate_of_long
from remote.data.rows import Conversation, Document, Message, Written, exchanges_of
from remote.ends import bad_job, first_line

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One training sequence. `num_targets` counts the labels that the shifted loss sees."""

    ids: Ids  # [tokens]
    labels: Ids  # [tokens], IGNORED where nothing is learned; of a classification [1], the class
    num_targets: int
    types: Ids | None = None  # [tokens]: which text of a pair, where the tokenizer tells
    apart: bool = False  # whether the labels are a text of their own, which a decoder writes
    positions: Ids | None = None  # [tokens]: from 0 on in each of several sequences; None = one sequence
    embedded: npt.NDArray[np.float32] | None = None  # [features]: what a frozen base gives for it, in place of its tokens

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    def shortened(self, num_tokens: int) -> Example:
        """The first `num_tokens` tokens of it."""
        if self.apart:
            labels = self.labels[:num_tokens]
            return replace(self, ids=self.ids[:num_tokens], labels=labels, num_targets=len(labels))
        if len(self.labels) != len(self.ids):
            types = None if self.types is None else self.types[:num_tokens]
            return Example(ids=self.ids[:num_tokens], labels=self.labels, num_targets=1, types=types)
        positions = None if self.positions is None else self.positions[:num_tokens]
        return replace(_example(self.ids[:num_tokens], self.labels[:num_tokens]), positions=positions)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """All sequences of a data set, and what became of the rows on the way."""

    examples: tuple[Example, ...]
    truncated: int  # rows cut at seq_len, and learned from
    split: int  # rows that became several sequences
    dropped: tuple[int, ...]  # the places of rows of which nothing to learn was left, or that were too long
    too_long: int  # of the latter
    longest_tokens: int  # before cutting


class UntokenizableRow(Exception):
    """The chat template or the tokenizer can't take the row at `place` of those that were given; the message says why."""

    def __init__(self, why: str, *, place: int = 0) -> None:
        super().__init__(why)
        self.place = place


class _Whole(NamedTuple):
    """A row before anything is done about its length."""

    row: Written
    ids: Ids
    labels: Ids


class _Laid(NamedTuple):
    """What a row becomes that is longer than a sequence, and whether some of it is lost."""

    pieces: tuple[tuple[Ids, Ids], ...]  # (ids, labels)
    cut: bool


def encode_rows(
    rows: Sequence[Written],
    tokenizer: Any,
    seq_len: int,
    *,
    long_rows: LongRows | None = None,
    pairs: Iterable[tuple[Ids, Ids]] | None = None,
) -> Encoded:
    """Tokenize rows, or take the `pairs` that `tokenized` has made of them. What is longer than `seq_len` is cut, split or
    dropped: see `fate_of_long`.
    """
    examples: list[Example] = []
    truncated = split = too_long = longest_tokens = 0
    dropped: list[int] = []
    for place, (row, (ids, labels)) in enumerate(zip(rows, pairs or tokenized(rows, tokenizer), strict=True)):
        longest_tokens = max(longest_tokens, len(ids))
        laid = _Laid(((ids, labels),), cut=False)
        if len(ids) > seq_len:
            fate = fate_of_long(long_rows, documents=isinstance(row, Document))
            laid = _FATES[fate](_Whole(row, ids, labels), tokenizer, seq_len)
            too_long += not laid.pieces
        kept = [example for piece in laid.pieces if (example := _example(*piece)).num_targets]
        truncated += bool(kept) and laid.cut
        split += len(kept) > 1
        dropped += () if kept else (place,)
        examples += kept
    return Encoded(
        examples=tuple(examples),
        truncated=truncated,
        split=split,
        dropped=tuple(dropped),
        too_long=too_long,
        longest_tokens=longest_tokens,
    )


def _cut(whole: _Whole, _tokenizer: Any, seq_len: int) -> _Laid:
    return _Laid(((whole.ids[:seq_len], whole.labels[:seq_len]),), cut=True)


def _dropped(_whole: _Whole, _tokenizer: Any, _seq_len: int) -> _Laid:
    return _Laid((), cut=False)


def _split(whole: _Whole, tokenizer: Any, seq_len: int) -> _Laid:
    """A document into pieces of `seq_len`; a conversation between its turns, each piece under the same system prompt."""
    if isinstance(whole.row, Document):
        starts = range(0, len(whole.ids), seq_len)
        return _Laid(tuple((whole.ids[at : at + seq_len], whole.labels[at : at + seq_len]) for at in starts), cut=False)
    pieces = tuple(_between_turns(whole.row, tokenizer, seq_len))
    return _Laid(
        tuple((ids[:seq_len], labels[:seq_len]) for ids, labels in pieces),
        cut=any(len(ids) > seq_len for ids, _ in pieces),
    )


_FATES: Final[Mapping[LongRows, Callable[[_Whole, Any, int], _Laid]]] = {"cut": _cut, "split": _split, "drop": _dropped}


def _between_turns(row: Conversation, tokenizer: Any, seq_len: int) -> Iterator[tuple[Ids, Ids]]:
    """As many exchanges as fit in each piece, one at least. What follows the last answer teaches nothing and is left out."""
    system, exchanges = exchanges_of(row)
    first = 0
    while first < len(exchanges):
        piece, end = _of_turns(system, exchanges[first : first + 1], tokenizer), first + 1
        while end < len(exchanges):
            longer = _of_turns(system, exchanges[first : end + 1], tokenizer)
            if len(longer[0]) > seq_len:
                break
            piece, end = longer, end + 1
        yield piece
        first = end


def _of_turns(system: Sequence[Message], exchanges: Sequence[Sequence[Message]], tokenizer: Any) -> tuple[Ids, Ids]:
    (found,) = tokenized([Conversation(messages=(*system, *(turn for each in exchanges for turn in each)))], tokenizer)
    return found


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


def tokenized(rows: Sequence[Written], tokenizer: Any) -> Iterator[tuple[Ids, Ids]]:
    """(ids, labels) of each row, uncut. Raises `UntokenizableRow`."""
    for start in range(0, len(rows), ROWS_PER_CALL):
        chunk = rows[start : start + ROWS_PER_CALL]
        rendered = [rendered_row(row, tokenizer, place) for place, row in enumerate(chunk, start=start)]
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


def rendered_row(row: Written, tokenizer: Any, place: int) -> tuple[str, tuple[Span, ...]]:
    """The text that the model sees and the spans of it that are learned."""
    if isinstance(row, Document):
        text = first_token(tokenizer) + row.text
        return text, ((0, len(text)),)
    try:
        return rendered_conversation(row.messages, tokenizer)
    except UntokenizableRow as error:
        raise UntokenizableRow(str(error), place=place) from error
    except Exception as error:
        raise UntokenizableRow(f"the model's chat template refuses it ({first_line(error)})", place=place) from error


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


def ready(tokenizer: Any, *, writes: bool = True, template: str | None = None) -> bool:
    """Give a tokenizer what training needs: padding and, for a model that `writes`, a chat template: the one in the file that
    `template` names, a plain one where it says so, else its own. Returns whether it has one that somebody chose: a bare
    tokenizer gets the plain one all the same.
    """
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token or tokenizer.unk_token
    if not writes or (template is None and tokenizer.chat_template):
        return True
    if template not in (None, PLAIN):
        tokenizer.chat_template = _template_in(Path(template))
        return True
    opening = "{{ bos_token }}" if first_token(tokenizer) else ""
    tokenizer.chat_template = opening + PLAIN_TEMPLATE
    return template == PLAIN


def _template_in(file: Path) -> str:
    """Raises `Ended` (bad job) for a file that can't be read; what is no template refuses the first row."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise bad_job(f"the chat template {file.name} can't be read: {first_line(error)}") from error
