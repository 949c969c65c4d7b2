"""A GPU as people write it -> the row of the table that is meant, with a warning where the word names several cards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from catalogs.hardware import Gpu
from catalogs.read import CatalogError

_SIZE = re.compile(r"\d+(\.\d+)?\s*(g|gi?b)", re.IGNORECASE)
_NOISE = re.compile(r"\((?:r|tm)\)|[^a-z0-9]|nvidia|geforce|tesla|amd|instinct|intel|habana")
_MEMORY = re.compile(r"[\s_-](\d+)\s?gi?b?(?=[\s_-])", re.IGNORECASE)
# How a key is written otherwise where the table has no such name, one after the other: pattern, and what stands for it there.
# Compiled when it is first looked for: few commands do, and it costs start-up time
_OTHERWISE: Final = (
    (r"(\d)gi?b?$", r"\1gb"),
    (r"hbm[23]e?|gddr[567]x?|lpddr5x?", ""),  # what its memory is made of
    (r"laptopgpu|mobile|notebook", "laptop"),
    (r"gpu$|^gpu", ""),
    (r"generation|edition|tensorcore|superchip|graphics$|oam$|mega(?=80gb)", ""),
    (r"^((?:rtx)?\d{4}(?:ti)?)m(?=\d+gb|$)", r"\1laptop"),
    (r"^(?=[2-5]0[5-9]0)", "rtx"),  # 4070 Super
    (r"^(?=(?:10[6-8]0|16[56]0))", "gtx"),
    (r"^quadro(?=rtxa|a\d)", ""),
    (r"^rtx(?=a40$|l4$|l40s?$|t4$|a10g?$)", ""),
    (r"^a(?=[24-6][05]00ada)", "rtx"),
    (r"^(?:rtx)?ada(?=\d000$)(\d*)", r"rtx\1ada"),
    (r"sxm[2-6]?", "sxm"),
    (r"sxm", "sxm4"),
    (r"sxm4", "sxm5"),
    (r"sxm5", "sxm2"),
)
_SLICE = re.compile(r"(?:\bmig\b.*)?\b\dg[.\s_-](\d+)gb\b|\bmig\b", re.IGNORECASE)
_COUNTED = re.compile(r"\s*([0-9]{1,9})\s*[x×*]\s*(.+)|(.*\S)\s+[x×*]([0-9]{1,9})\s*", re.IGNORECASE)  # 8xA100; A100 x8
_WORD = re.compile(r"[^\W_]+")
# Makers of which nothing is known here, by whole words of a name in lower case, one blank between two: pattern, and what they
# make. A part of a word, or what ends the name of a machine ("_v4", ".metal"), is none of theirs.
_OTHERS: Final = (
    (r"\b(?:high)?tpus?(?:v\d\w*)?\b|^v[2-7][ep]?(?: \d+)?$|\b(?:ironwood|trillium)\b", "Google's TPUs"),
    (r"\bascend(?:910[a-d]?)?\b|^910[a-d]?$|\bnpus?\b", "Huawei's processors"),
    (r"\bapple\b|^m[1-5](?: (?:pro|max|ultra))?$|^(?:mps|metal)$", "Apple's chips"),
    (r"\b(?:trainium|inferentia)\d?\b|^(?:trn|inf)[1-3]n?\b", "Amazon's accelerators"),
    (
        r"\b(?:cerebras|wse\d?|groq(?:chip\d?)?|sambanova|graphcore|ipus?|mlu\d*|cambricon|mtt|moore|dcu|tenstorrent)\b",
        "other makers' chips",
    ),
)
MAX_NEAR = 5  # assumed: more names than these are no help to whoever mistyped one
NEAR: Final = 0.5  # assumed: of two names' letters, as difflib counts them
SLIP: Final = 0.85  # assumed: the same where one is a slip of the pen for the other, whoever else has such a name
USUAL = ("T4", "L4", "RTX 3090", "RTX 4090", "L40S", "A100-SXM4-80GB", "H100 SXM5", "H200 SXM")  # one of each kind, by memory


class GpuWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word that names several cards: the one that is taken (the least memory, then the most common), and the others."""

    word: str
    taken: str
    also: tuple[str, ...]


class GpuMatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a name means. `warning` says in one sentence what was assumed; None if nothing was."""

    gpu: Gpu
    warning: str | None = None
    also: tuple[str, ...] = ()  # the other cards of the name


class Instead(Enum):
    """What a refused name is answered with."""

    NEAREST = "the names that are nearest"
    USUAL = "some of the names that there are, for none is near"
    OTHERWISE = "how what was meant is said, or that nothing is known of it"


class GpuUnknown(CatalogError):
    """A name that means no card. `instead`: what the hint tells."""

    def __init__(self, message: str, *, hint: str, instead: Instead) -> None:
        super().__init__(message, hint=hint)
        self.instead = instead

    @property
    def in_one(self) -> str:
        """Both, for what has room for one sentence."""
        return f"{self.message}; {self.hint}"


class Counted(NamedTuple):
    """So many of something, as "8xA100" says it."""

    number: int
    what: str


def counted(text: str) -> Counted | None:
    """The number and the word of "8xA100", "2 × 24GB" or "A100 x8"; None for a text without a number of things."""
    if (found := _COUNTED.fullmatch(text)) is None:
        return None
    return Counted(int(found[1] or found[4]), (found[2] or found[3]).strip())


class GpuNames(msgspec.Struct, frozen=True, kw_only=True):
    """Every way to write every GPU, by its key."""

    exact: Mapping[str, Gpu]
    ambiguous: Mapping[str, GpuWord]

    def match(self, name: str, gpus: Mapping[str, Gpu]) -> GpuMatch:
        """The GPU that `name` means. Raises GpuUnknown with the nearest names when it means none."""
        for key in self._keys(name):
            if gpu := self.exact.get(key):
                return GpuMatch(gpu=gpu)
            if word := self.ambiguous.get(key):
                warning = f'"{name}" names several cards; {word.taken} is taken (also sold: {", ".join(word.also)})'
                return GpuMatch(gpu=gpus[word.taken], warning=warning, also=word.also)
        if _SIZE.fullmatch(name.strip()):
            options = (
                "--gpu-budget in a plan takes the size that a card is sold with, --gpu-memory-gib what a job may use of it"
            )
            raise GpuUnknown(f'no GPU is called "{name}"', hint=options, instead=Instead.OTHERWISE)
        instead, hint = self._hint(name)
        raise GpuUnknown(f'no GPU "{name}" in the catalog', hint=hint, instead=instead)

    def _keys(self, name: str) -> Iterator[str]:
        """As it is written, then with its memory behind, each as it is and as others write it."""
        behind = _MEMORY.sub(" ", f" {name} ") + "".join(f"{size}gb" for size in _MEMORY.findall(f" {name} "))
        for key in dict.fromkeys((key_of(name), key_of(behind))):
            yield key
            for pattern, meant in _OTHERWISE:
                key = re.sub(pattern, meant, key, count=1)
                yield key

    def _hint(self, name: str) -> tuple[Instead, str]:
        """What to write instead of a name that means no card."""
        if found := _SLICE.search(name):
            size = f" {found[1]}" if found[1] else ""
            return Instead.OTHERWISE, f"a slice of a card has no name here: say its memory alone, --gpu-memory-gib{size}"
        if several := counted(name):
            return Instead.OTHERWISE, f"write the card alone, {several.what}, and how many with --num-gpus {several.number}"
        if near := [*self._within(name), *self._near(key_of(name), cutoff=SLIP)]:
            return Instead.NEAREST, _nearest_words([*near, *self._near(key_of(name), cutoff=NEAR)])
        said = " ".join(_WORD.findall(name.lower()))
        if others := next((made for pattern, made in _OTHERS if re.search(pattern, said)), None):
            return Instead.OTHERWISE, f"cards of NVIDIA, AMD and Intel are known, nothing of {others}; {self._usual()}"
        if near := self._near(key_of(name), cutoff=NEAR):
            return Instead.NEAREST, _nearest_words(near)
        return Instead.USUAL, self._usual()

    def _words(self) -> dict[str, str]:
        """Every name as it is shown, by its key."""
        return {key: gpu.name for key, gpu in self.exact.items()} | {key: word.word for key, word in self.ambiguous.items()}

    def _within(self, name: str) -> list[str]:
        """The cards that the name of a machine holds: the H100 of Standard_ND96isr_H100_v5."""
        words = self._words()
        return [words[key] for key in map(key_of, _WORD.findall(name)) if key in words]

    def _near(self, key: str, *, cutoff: float) -> list[str]:
        from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

        words = self._words()
        return [words[close] for close in get_close_matches(key, words, n=MAX_NEAR, cutoff=cutoff)]

    def _usual(self) -> str:
        known = {gpu.name for gpu in self.exact.values()}
        usual = [name for name in USUAL if name in known]
        return f"it has {len(known)} of them, {', '.join(usual or sorted(known)[:MAX_NEAR])} among them"


def _nearest_words(names: list[str]) -> str:
    return f"nearest: {', '.join(list(dict.fromkeys(names))[:MAX_NEAR])}"


def key_of(name: str) -> str:
    """What makes a name that name: letters and digits without the maker's brands. "NVIDIA A100-SXM4-80GB": a100sxm480gb."""
    return _NOISE.sub("", name.lower())


def index_names(gpus: Mapping[str, Gpu], ambiguous: Mapping[str, GpuWord]) -> GpuNames:
    """Names, aliases, and both followed by the card's memory ("RTX 4090 24GB"). Raises CatalogError for a name of two cards."""
    exact: dict[str, Gpu] = {}
    for gpu in gpus.values():
        for name in (gpu.name, *gpu.aliases):
            if exact.setdefault(key_of(name), gpu) is not gpu:
                raise CatalogError(
                    f'"{name}" names both {exact[key_of(name)].name} and {gpu.name}', file="gpus.csv", field="aliases"
                )
    for key, gpu in list(exact.items()):
        with_memory = f"{key}{gpu.memory_gib:g}gb"
        if with_memory not in ambiguous:
            exact.setdefault(with_memory, gpu)
    return GpuNames(exact=exact, ambiguous=ambiguous)
