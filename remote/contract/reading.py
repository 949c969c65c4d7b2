"""How rows are read: what may be said of it, and the names by which data in the wild carry them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeVar

import msgspec

from remote.contract.value import Value

DataFormat = Literal["auto", "text", "instruction", "chat", "classification"]  # of a classification only the last
LongRows = Literal["cut", "split", "drop"]

# How classes of unlike numbers of rows are made to weigh alike: in the loss; by drawing each row as often as its class is rare;
# by showing the rows of rarer classes several times in each epoch; or by drawing rows between the embeddings of theirs, which a
# head that learns alone can be shown.
Balance = Literal["none", "class_weights", "weighted_sampling", "oversampling", "smote"]
SMOTE: Final[Balance] = "smote"
SMOTE_REFUSED: Final = (
    "balance smote draws rows between the embeddings of others, for which there is no text, so it trains a head alone"
)
HEAD_ALONE: Final = "method freeze with trainable_layers 0"


class Reading(Value, frozen=True, kw_only=True):
    """How the rows of a job's data are read, and what becomes of them: all that is said of it beside where they lie."""

    format: DataFormat = "auto"
    columns: dict[str, str] = {}  # the name that rows are read by → the file's; empty = it has those names
    max_rows: int | None = None  # only the first rows of what is learned from
    long_rows: LongRows | None = None  # what becomes of rows that are longer than a sequence; None = see `fate_of_long`
    chat_template: str | None = None  # PLAIN, or the path of one in Jinja; None = the base's own
    target_tokens: int | None = None  # of task seq2seq, the longest answer; None = as long as what is read
    packing: bool = False  # several rows in one, kept apart: see `packs`
    balance: Balance = "none"  # of classes that are not alike in number

    @property
    def template_path(self) -> str | None:
        """Where the chat template lies; None where no file holds it."""
        return None if self.chat_template == PLAIN else self.chat_template


AnyReading = TypeVar("AnyReading", bound=Reading)


def reading_of(said: Reading) -> Reading:
    """How rows are read, alone, of what says more beside it."""
    return msgspec.convert(said, Reading, from_attributes=True)


def with_template_at(reading: AnyReading, place: Callable[[str], str]) -> AnyReading:
    """How rows are read, with the chat template's path as `place` has it; what is no path stays."""
    path = reading.template_path
    return reading if path is None else msgspec.structs.replace(reading, chat_template=place(path))


PLAIN: Final = "plain"  # of a chat template: the text alone, each answer ended
NO_TEMPLATE: Final = "the base has no chat template, and the data are conversations, which are written by one"
TEMPLATE_HINT: Final = (
    "take its instruct version, name a template by chat_template: FILE, or say chat_template: plain, which marks no turns"
)


def fate_of_long(asked: LongRows | None, *, documents: bool) -> LongRows:
    """What becomes of rows that are longer than a sequence, where nothing is asked too."""
    return asked or ("split" if documents else "cut")


# Instruction and chat data: Alpaca, Dolly, TRL, OpenAI, ShareGPT.
PROMPT_KEYS: Final = ("instruction", "prompt", "question")
CONTEXT_KEYS: Final = ("input", "context")
ANSWER_KEYS: Final = ("output", "response", "completion", "answer")
CHAT_KEYS: Final = ("messages", "conversations")
SYSTEM_KEY: Final = "system"

# Labelled data: GLUE, SNLI, Quora, IMDb, AG News, TRL's reward pairs.
LABEL_KEYS: Final = ("label", "labels", "class", "category", "target")
TEXT_KEYS: Final = ("text", "sentence", "content", "review", "comment", "document")
PAIR_KEYS: Final = (
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("query", "document"),
    ("query", "passage"),
)
LABELLED_KEYS: Final = frozenset({*LABEL_KEYS, *TEXT_KEYS, *(key for pair in PAIR_KEYS for key in pair)})


def names_label(names: Iterable[str]) -> bool:
    """Whether one of these names that rows are read by is a label's."""
    return any(name in LABEL_KEYS for name in names)


KNOWN_KEYS: Final = frozenset({*PROMPT_KEYS, *CONTEXT_KEYS, *ANSWER_KEYS, *CHAT_KEYS, SYSTEM_KEY, *LABELLED_KEYS})
