"""What can be known at home of a base before anything is rented: that it has no weights, or no template for conversations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from catalogs.bases.templates import templateless
from catalogs.user_file import MAX_CONFIG_BYTES, FileUnusable, decode_json, exists, expanded, read_text
from planner.asking.request import Request
from provision.errors import BadInput
from provision.prepare.inputs import find_base, rehearsal_words

SAYS_TEMPLATE: Final = "tokenizer_config.json"  # as transformers wrote it until 4.43; a file of its own stands beside it since
TEMPLATE_FILES: Final = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")


def foreseen(request: Request) -> Iterator[str]:
    """Sentences for whoever decides. Of a base that is none at all nothing: that is told where it is looked for."""
    if (words := rehearsed(request)) is not None:
        yield words
    yield from _unwritten(request)


def rehearsed(request: Request) -> str | None:
    """That the base has no weights of its own, where it has none, as a sentence; else None."""
    if not exists(expanded(request.model)):
        return None
    try:
        return rehearsal_words(find_base(request.model))
    except BadInput:
        return None


def lacks_own_template(model: Path) -> bool:
    """Whether this folder of a model has a tokenizer, and no chat template. Of a GGUF file nobody looks: False."""
    if not model.is_dir() or any((model / name).exists() for name in TEMPLATE_FILES):
        return False
    with suppress(FileUnusable, ValueError):
        said = decode_json(read_text(model / SAYS_TEMPLATE, max_bytes=MAX_CONFIG_BYTES))
        return isinstance(said, dict) and not said.get("chat_template")
    return False


def _unwritten(request: Request) -> Iterator[str]:
    """That a base on the hub can't write conversations, by its name. One at home is asked itself where rows are counted."""
    data = request.data
    if not data.chats or data.reading.chat_template is not None or exists(expanded(request.model)):
        return
    base = templateless(request.model)
    if base is None:
        return
    instead = "" if base.chat_version is None else f"--model {base.chat_version} has one, and "
    yield (
        f"the data are conversations, and {base.hub_id} has, by its name, no chat template: the trainer refuses them when "
        f"it begins; {instead}`chat_template: plain` under `data:` of a job file writes turns without marks"
    )
