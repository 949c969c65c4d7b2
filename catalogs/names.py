"""A GPU as people write it -> the row of the table that is meant, with a warning where the word names several cards."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from catalogs.hardware import Gpu
from catalogs.read import CatalogError

_SIZE = re.compile(r"\d+(\.\d+)?\s*(g|gi?b)", re.IGNORECASE)
_NOISE = re.compile(r"[^a-z0-9]|nvidia|geforce|tesla|amd|instinct|intel|habana")
_IN_GB = re.compile(r"(\d)gi?b?$")
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


class GpuNames(msgspec.Struct, frozen=True, kw_only=True):
    """Every way to write every GPU, by its key."""

    exact: Mapping[str, Gpu]
    ambiguous: Mapping[str, GpuWord]

    def match(self, name: str, gpus: Mapping[str, Gpu]) -> GpuMatch:
        """The GPU that `name` means. Raises CatalogError with the nearest names when it means none."""
        key = self._key(name)
        if gpu := self.exact.get(key):
            return GpuMatch(gpu=gpu)
        if word := self.ambiguous.get(key):
            warning = f'"{name}" names several cards; {word.taken} is taken (also sold: {", ".join(word.also)})'
            return GpuMatch(gpu=gpus[word.taken], warning=warning)
        if _SIZE.fullmatch(name.strip()):
            options = (
                "--gpu-budget in a plan takes the size that a card is sold with, --gpu-memory-gib what a job may use of it"
            )
            raise CatalogError(f'no GPU is called "{name}"; {options}')
        raise CatalogError(f'no GPU "{name}" in the catalog; {self._hint(key)}')

    def _key(self, name: str) -> str:
        """As the table has it: where it has no such name, a memory in "80G" or "80GiB" is one in GB."""
        key = key_of(name)
        return key if key in self.exact or key in self.ambiguous else _IN_GB.sub(r"\1gb", key)

    def _hint(self, key: str) -> str:
        from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

        words = {each: gpu.name for each, gpu in self.exact.items()} | {
            each: word.word for each, word in self.ambiguous.items()
        }
        near = dict.fromkeys(words[close] for close in get_close_matches(key, words, n=MAX_NEAR, cutoff=0.5))
        if near:
            return f"nearest: {', '.join(near)}"
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
