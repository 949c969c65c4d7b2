"""A GPU as people write it -> the row of the table that is meant, with a warning where the word names several cards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from catalogs.hardware import Gpu
from catalogs.read import CatalogError

_SIZE = re.compile(r"\d+(\.\d+)?\s*(g|gi?b)", re.IGNORECASE)
_NOISE = re.compile(r"\((?:r|tm)\)|[^a-z0-9]|nvidia|geforce|tesla|amd|instinct|intel|habana")
_MEMORY = re.compile(r"[\s_-](\d+)\s?gi?b?(?=[\s_-])", re.IGNORECASE)
# How a key is written otherwise where the table has no such name, one after the other: pattern, and what stands for it there
_OTHERWISE: Final = tuple(
    (re.compile(pattern), meant)
    for pattern, meant in (
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
)
_SLICE = re.compile(r"(?:\bmig\b.*)?\b\dg[.\s_-](\d+)gb\b|\bmig\b", re.IGNORECASE)
_COUNTED = re.compile(r"\s*(\d{1,2})\s*[x×*]\s*(\D.*)|(.*\S)\s*[x×*]\s*(\d{1,2})\s*", re.IGNORECASE)
_OTHERS: Final = (  # makers of which nothing is known here
    (re.compile(r"tpu|v[2-7][ep]?([\s-]\d+)?$|ironwood|trillium"), "Google's TPUs"),
    (re.compile(r"ascend|^910[a-d]?|npu"), "Huawei's processors"),
    (re.compile(r"apple|^m[1-5]\b|^mps$|metal"), "Apple's chips"),
    (re.compile(r"trainium|^trn|inferentia|^inf[12]"), "Amazon's accelerators"),
    (re.compile(r"cerebras|wse|groq|sambanova|graphcore|ipu|mlu|cambricon|mtt|moore|dcu|tenstorrent"), "other makers' chips"),
)
MAX_NEAR = 5
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


class GpuNames(msgspec.Struct, frozen=True, kw_only=True):
    """Every way to write every GPU, by its key."""

    exact: Mapping[str, Gpu]
    ambiguous: Mapping[str, GpuWord]

    def match(self, name: str, gpus: Mapping[str, Gpu]) -> GpuMatch:
        """The GPU that `name` means. Raises CatalogError with the nearest names when it means none."""
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
            raise CatalogError(f'no GPU is called "{name}"; {options}')
        raise CatalogError(f'no GPU "{name}" in the catalog; {self._hint(name)}')

    def _keys(self, name: str) -> Iterator[str]:
        """As it is written, then with its memory behind, each as it is and as others write it."""
        behind = _MEMORY.sub(" ", f" {name} ") + "".join(f"{size}gb" for size in _MEMORY.findall(f" {name} "))
        for key in dict.fromkeys((key_of(name), key_of(behind))):
            yield key
            for pattern, meant in _OTHERWISE:
                key = pattern.sub(meant, key, count=1)
                yield key

    def _hint(self, name: str) -> str:
        """What to write instead of a name that means no card."""
        if found := _SLICE.search(name):
            size = f" {found[1]}" if found[1] else ""
            return f"a slice of a card has no name here: say its memory alone, --gpu-memory-gib{size}"
        if found := _COUNTED.fullmatch(name):
            return (
                f"write the card alone, {(found[2] or found[3]).strip()}, and how many with --num-gpus {found[1] or found[4]}"
            )
        word = name.strip().lower()
        if others := next((maker for pattern, maker in _OTHERS if pattern.search(word)), None):
            return f"cards of NVIDIA, AMD and Intel are known, nothing of {others}; {self._usual()}"
        return self._nearest(key_of(name))

    def _nearest(self, key: str) -> str:
        from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

        words = {each: gpu.name for each, gpu in self.exact.items()} | {
            each: word.word for each, word in self.ambiguous.items()
        }
        near = dict.fromkeys(words[close] for close in get_close_matches(key, words, n=MAX_NEAR, cutoff=0.5))
        if near:
            return f"nearest: {', '.join(near)}"
        return self._usual()

    def _usual(self) -> str:
        known = {gpu.name for gpu in self.exact.values()}
        usual = [name for name in USUAL if name in known]
        return f"it has {len(known)} of them, {', '.join(usual or sorted(known)[:MAX_NEAR])} among them"


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
