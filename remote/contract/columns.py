"""The names by which rows are read, as data in the wild carry them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

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


def names_label(columns: Iterable[tuple[str, str]]) -> bool:
    """Whether one of these columns, each by the name that rows are read by and the file's, is a label."""
    return any(name in LABEL_KEYS for name, _ in columns)


KNOWN_KEYS: Final = frozenset({*PROMPT_KEYS, *CONTEXT_KEYS, *ANSWER_KEYS, *CHAT_KEYS, SYSTEM_KEY, *LABELLED_KEYS})
