"""Which bases of the registry have no chat template, by which conversations are written, as far as their names tell."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from catalogs.bases.models import hub_id_of, row_of

# Parts of a hub id that tell what a model was made of a base, and those that mean the base. assumed: owners name alike
SPEAKS: Final = frozenset({"instruct", "chat", "it"})
BASE: Final = frozenset({"base", "pt", "hf"})
# Whose bases bring the template of their chat versions: recalled, of tokenizer_config.json on the hub, as of 2026-11.
BRING_ONE: Final = ("qwen/qwen1.5", "qwen/qwen2", "qwen/qwen3", "unsloth/qwen2", "smollm3", "huggingfacetb/smollm3")
# Types whose models are older than chat templates, which transformers has since 4.34 (2023-10): recalled, likewise.
OLDER: Final = frozenset({"gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "opt", "bloom", "mpt"})


class Templateless(NamedTuple):
    """A base without a chat template, and the version of it that has one, where the registry has such a version."""

    hub_id: str
    chat_version: str | None


def templateless(reference: str) -> Templateless | None:
    """The base on the hub that a name or a hub id means, where it has no chat template by all that is known here.

    None where it has one, or where nobody knows: what stands under no name of the registry, too.
    """
    hub_id, meant = hub_id_of(reference), row_of(reference)
    if hub_id is None or meant is None or hub_id.lower().startswith(BRING_ONE) or _parts(hub_id) & SPEAKS:
        return None
    row = meant.row
    versions = [other for other in row.hub if _is_spoken_version(other, hub_id)]
    chat_version = next((other for other in versions if _owner(other) == _owner(hub_id)), next(iter(versions), None))
    if chat_version is None and row.config.get("model_type") not in OLDER:
        return None  # of one name alone nobody can tell: phi-4 speaks, phi-2 does not
    return Templateless(hub_id, chat_version)


def _is_spoken_version(other: str, hub_id: str) -> bool:
    """Whether the names differ by nothing but what tells a chat version from a base."""
    theirs, ours = _parts(other), _parts(hub_id)
    return bool(theirs & SPEAKS) and theirs - SPEAKS - BASE == ours - SPEAKS - BASE


def _parts(hub_id: str) -> frozenset[str]:
    """Of the name, in lower case."""
    return frozenset(re.split(r"[-_]", hub_id.lower().rpartition("/")[2]))


def _owner(hub_id: str) -> str:
    return hub_id.partition("/")[0]
