"""Several documents in one row, kept apart: who is packed with whom, and which bases can keep them apart. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

PACK_TOKENS: Final = 1_024  # assumed: rows of packed texts are at least so long where nothing is said, as TRL 1.10 has it

# Families (transformers' model_type) that read where a document begins from positions that begin again: neither does a token
# look into the document before, nor is it counted on from there. measured: on transformers 5.24 a document behind another has
# the logits that it has alone (2026-11-27). Of the others ALiBi (BLOOM, MPT) knows no positions, OPT and GPT-OSS learn from
# them of no document, and the state of a Mamba goes on.
APART: Final = frozenset(
    {
        *("llama", "mistral", "qwen2", "qwen3", "olmo2", "smollm3", "granite", "gemma", "gemma2", "gemma3_text", "phi3"),
        *("stablelm", "starcoder2", "phi", "gptj", "falcon", "deepseek_v3", "llama4_text", "qwen2_moe", "mixtral", "qwen3_moe"),
        *("granitemoe", "granitemoeshared", "phimoe", "gpt2", "gpt_bigcode", "gpt_neox"),
    }
)


def keeps_apart(config: Mapping[str, Any]) -> bool:
    """Whether a base of this config keeps the documents of a row apart."""
    return config.get("model_type") in APART and not config.get("alibi", False)


UNPACKED: Final = "a {} does not keep the documents of a row apart; leave data.packing out, or name a base of another type"


def packs(lengths: Mapping[int, int], room: int) -> Counter[tuple[int, ...]]:
    """How sequences of these lengths (length → how many) fill rows of `room` tokens: the lengths in a row → how many rows.

    Best fit, longest first (as TRL's "bfd"): each goes where it leaves the least room. No sequence is longer than `room`.
    """
    rows: dict[int, Counter[tuple[int, ...]]] = {}  # tokens left → the lengths in a row, and how many such rows
    ascending: list[int] = []  # tokens left

    def put(row: tuple[int, ...], number: int, left: int) -> None:
        if left not in rows:
            rows[left] = Counter()
            insort(ascending, left)
        rows[left][row] += number

    def take(length: int, waiting: int) -> tuple[tuple[int, ...], int, int]:
        """Rows with the least room that is enough, or empty ones: their lengths, how many there are, what each has left."""
        at = bisect_left(ascending, length)
        if at == len(ascending):
            return (), waiting, room
        left = ascending[at]
        row, number = rows[left].popitem()
        if not rows[left]:
            del rows[left], ascending[at]
        return row, number, left

    for length in sorted(lengths, reverse=True):
        waiting = lengths[length]
        while waiting:
            row, number, left = take(length, waiting)
            each = left // length  # so many go into a row before another has less room left
            full = min(number, waiting // each)
            rest = waiting - full * each if full < number else 0
            waiting -= full * each + rest
            if full:
                put(row + (length,) * each, full, left - each * length)
            if rest:
                put(row + (length,) * rest, 1, left - rest * length)
            if row and number > full + bool(rest):
                put(row, number - full - bool(rest), left)
    found: Counter[tuple[int, ...]] = Counter()
    for alike in rows.values():
        found.update(alike)
    return found


def packed(lengths: Sequence[int], room: int) -> list[list[int]]:
    """The places of sequences of these lengths, row by row, as `packs` fills them."""
    by_length: dict[int, deque[int]] = {}
    for place, length in enumerate(lengths):
        by_length.setdefault(length, deque()).append(place)
    filled = packs({length: len(places) for length, places in by_length.items()}, room)
    return [[by_length[length].popleft() for length in row] for row, number in filled.items() for _ in range(number)]
