"""What a trainer says at its end, held to what a result is made of."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

import msgspec

from remote.contract import AdapterFile, Outcome

# What Transformers and peft write of a model and a tokenizer, and the trainer beside it (remote/result/save.py). Others, of the
# suffixes .bin, .pt or .pkl for some, may run code when they are loaded.
SUFFIXES: Final = frozenset(
    (".safetensors", ".json", ".txt", ".md", ".jinja", ".model", ".spm", ".codes", ".tokenizer", ".tiktoken")
)
SCRIPTS: Final = frozenset(("try.py", "bottleneck_adapters.py", "hqq_base.py"))  # the trainer's own
# Figures that are read as such: TensorBoard's files of events, and a run of W&B's that was kept offline.
REPORTS: Final = re.compile(
    r"reports/(tensorboard/events\.out\.tfevents\.\d+\.\d+|wandb(_offline)?/(?!.*\.\./)[\w./-]+\.(wandb|json|yaml|log|txt))"
)
MOST_MESSAGE: Final = 2000  # assumed: characters; it is one sentence for a person
MOST_TOLD: Final = 5  # assumed: names in a sentence


def sober(outcome: Outcome) -> Outcome:
    """It without the files that no result has, which its message then names, and with a message that can be read."""
    refused = tuple(file.path for file in outcome.adapter if not _belongs(file))
    message = outcome.message if len(outcome.message) <= MOST_MESSAGE else f"{outcome.message[:MOST_MESSAGE]} …"
    if not refused and message == outcome.message:
        return outcome
    return msgspec.structs.replace(
        outcome, message=f"{message}{_left_there(refused)}", adapter=tuple(filter(_belongs, outcome.adapter))
    )


def _belongs(file: AdapterFile) -> bool:
    return PurePosixPath(file.path).suffix in SUFFIXES or file.path in SCRIPTS or REPORTS.fullmatch(file.path) is not None


def _left_there(paths: tuple[str, ...]) -> str:
    if not paths:
        return ""
    named = ", ".join(repr(path[:60]) for path in paths[:MOST_TOLD])
    return f" Left on the box, since no result of ours has such a file: {named}{', …' * (len(paths) > MOST_TOLD)}."
