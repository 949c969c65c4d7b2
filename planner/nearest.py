"""What was probably meant by a word that is none of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

# What people say, and the words of ours that it means, the first that is known where it is said. Their spelling is no
# neighbour of ours.
SAID_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "int4": ("nf4",), "4bit": ("nf4",), "4-bit": ("nf4",), "8bit": ("int8",), "8-bit": ("int8",),
    "adamw": ("adamw_torch_fused",), "adam": ("adamw_torch_fused",), "lr": ("learning_rate",),
    "batch_size": ("micro_batch_size",), "max_length": ("seq_len",), "max_seq_length": ("seq_len",),
    "r": ("rank",), "lora_alpha": ("alpha",), "lora_dropout": ("dropout",),
}  # fmt: skip


def nearest(word: str, words: Iterable[str]) -> str | None:
    """What was probably meant, whatever its case, or all there is."""
    words = tuple(words)
    meant = near(word, words)
    return f'did you mean "{meant}"?' if meant is not None else one_of(words)


def near(word: str, words: Iterable[str]) -> str | None:
    """The one of these words that was probably meant, whatever its case; None where none is near."""
    from difflib import get_close_matches  # only when something is wrong: it costs start-up time

    words = tuple(words)
    by_key = {each.lower(): each for each in reversed(words)}
    meant = [each for each in SAID_FOR.get(word.lower(), ()) if each in words]
    close = meant or [by_key[each] for each in get_close_matches(word.lower(), by_key, n=1, cutoff=0.6)]
    return close[0] if close else None


def one_of(words: tuple[str, ...]) -> str | None:
    """All there is; None where that is nothing."""
    return f"one of {', '.join(words)}" if words else None
