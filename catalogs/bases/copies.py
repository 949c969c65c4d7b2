"""Whose shape a name says that nobody has written down: copies, tunings and packings keep the name of what they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol, TypeVar

# "owner/name" or "name": anything with more slashes, or a dot in front, is a path
NAME: Final = re.compile(r"(?:\w[\w.-]*/)?(\w[\w.-]*)")
SIZE: Final = re.compile(r"(?:\d+x)?\d+(?:\.\d+)?[bm]")
POINT: Final = re.compile(r"(?<=\d)_(?=\d)")  # 1_6b is 1.6b

# How weights are stored, by the word that a copy's name ends with
PACKED: Final = {
    "gptq": "gptq",
    "awq": "awq",
    "fp8": "fp8",
    "4bit": "bitsandbytes",
    "8bit": "bitsandbytes",
    "int4": "4 bits",
    "int8": "8 bits",
}
# What a name may say after its base without another shape: tuned how, stored how, which issue, how far it was made to read
TUNED: Final = re.compile(
    r"instruct|chat|it|base|pt|hf|sft|dpo|rlhf|lab|preview|deduped|thinking|reasoning|python|unsloth|dynamic"
    r"|bnb|bf16|fp16|gguf|v\d+(?:\.\d+)*|\d{4}|\d+k|" + "|".join(PACKED)
)
# Words behind a size that mean other blocks than those of what is named before them
RESHAPED: Final = re.compile(
    r"vl|vision|multimodal|omni|audio|moe|lite|mini|nano|tiny|small|medium|large|xl|width|depth|pruned|draft|eagle\d*"
    r"|upscaled|expanded|mtp|active|a\d+(?:\.\d+)?[bm]|.*moe.*|minitron.*|nemotron.*"
)


# Words in the names of bases that see images beside reading
IMAGE_WORDS: Final = re.compile(
    r"vl|vlm|vision|multimodal|llava|pixtral|paligemma\d*|idefics\d*|internvl\d*|smolvlm\d*|blip\d*|molmo\d*|fuyu|kosmos"
)


# and how names of others begin, which do not say it
IMAGE_STARTS: Final = (
    *(
        "mistral-small-3.1-",
        "mistral-small-3.2-",
        "mistral-small-4-",
        "ministral-3-",
        "mistral-large-3-",
        "magistral-small-2509",
    ),
    *("gemma-3n-", "gemma-4-", "minicpm-v-"),
)


class Named(Protocol):
    """A row with a name of its own and the ids that share its shape."""

    @property
    def name(self) -> str: ...
    @property
    def hub(self) -> tuple[str, ...]: ...


Row = TypeVar("Row")
NamedRow = TypeVar("NamedRow", bound=Named)


def _parts(reference: str) -> list[str]:
    """Of "owner/name" the name in lower case, at its hyphens; empty for what is no name."""
    found = NAME.fullmatch(reference.strip().lower())
    parts = [part for part in re.split(r"[-_]", POINT.sub(".", found[1])) if part] if found else []
    return parts[1:] if parts[:1] == ["meta"] and len(parts) > 1 else parts  # Meta-Llama-3 is Llama-3


def squashed(reference: str) -> str:
    """A name without its owner and its hyphens: llama2-7b is Llama-2-7b."""
    return "".join(_parts(reference))


def _shorn(parts: list[str]) -> Iterator[list[str]]:
    """`parts`, and as much of them as is left when words of tuning and storing are taken from the end, one after the other."""
    yield parts
    while len(parts) > 1 and TUNED.fullmatch(parts[-1]):
        parts = parts[:-1]
        yield parts


def _headed(parts: list[str]) -> Iterator[list[str]]:
    """`parts` up to a size, where nothing behind it says that the blocks are others: Mistral-7B-OpenOrca is a Mistral-7B."""
    for end in range(len(parts) - 1, 1, -1):
        if SIZE.fullmatch(parts[end]) or RESHAPED.fullmatch(parts[end]):
            return
        if SIZE.fullmatch(parts[end - 1]):
            yield parts[:end]


def by_name(rows: Iterable[NamedRow]) -> dict[str, NamedRow]:
    """Names without their hyphens -> the row that is meant; a name that only a shortened one gives must give one row alone."""
    whole: dict[str, NamedRow] = {}
    shortened: dict[str, set[int]] = {}
    kept: dict[int, NamedRow] = dict(enumerate(rows))
    for number, row in kept.items():
        for parts in map(_parts, (row.name, *row.hub)):
            for left in _shorn(parts):
                shortened.setdefault("".join(left), set()).add(number)
    for row in kept.values():
        whole |= {squashed(hub_id): row for hub_id in row.hub}
    whole |= {squashed(row.name): row for row in kept.values()}
    alone = {name: kept[next(iter(numbers))] for name, numbers in shortened.items() if len(numbers) == 1}
    return alone | whole


def by_family(rows: Iterable[NamedRow]) -> dict[str, dict[str, NamedRow]]:
    """Beginnings of names, without hyphens -> the rows that begin so, each by its own name, else by an id."""
    families: dict[str, dict[str, NamedRow]] = {}
    for row in rows:
        begun: set[str] = set()
        for name in (row.name, *row.hub):
            parts = _parts(name)
            beginnings = {"".join(parts[:end]) for end in range(1, len(parts))}
            for beginning in beginnings - begun:
                families.setdefault(beginning, {})[name] = row
            begun |= beginnings
    return families


def is_size_of(name: str, family: str) -> bool:
    """Whether a name says nothing behind its family but its size: gpt-j-6b behind gpt-j."""
    behind = squashed(name).removeprefix(squashed(family))
    return SIZE.fullmatch(behind) is not None


def copied(reference: str, known: Mapping[str, Row]) -> Row | None:
    """The row whose shape `reference` has by its name: hyphens apart, less what says how it was tuned or stored, else up to its
    size. None where no name in `known` (as `by_name` makes it) is meant.
    """
    parts = _parts(reference)
    tried = ("".join(left) for ways in (_shorn(parts), _headed(parts)) for left in ways)
    return next((known[name] for name in tried if name in known), None)


def sees(reference: str) -> bool:
    """Whether its name says that a base sees images, or it is known to."""
    if "-".join(_parts(reference)).startswith(IMAGE_STARTS):
        return True
    return any(IMAGE_WORDS.fullmatch(re.sub(r"[\d.]+$", "", part)) for part in _parts(reference))


def packed_as(reference: str) -> str | None:
    """How the weights of a copy are stored, by the end of its name: the library, or how wide; None where it says nothing."""
    parts = _parts(reference)
    last = parts[-1] if parts else ""
    return PACKED.get(last) if "gptq" not in parts[-2:] else "gptq"
