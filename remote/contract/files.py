"""Names of files on the box: those beside job.json, and those of a checkpoint."""

from __future__ import annotations

import re
from typing import Final

from remote.contract.value import Count, Value

JOB_FILE: Final = "job.json"
EVENTS_FILE: Final = "events.jsonl"
OUTCOME_FILE: Final = "outcome.json"
LOG_FILE: Final = "log"
PID_FILE: Final = "pid"
RC_FILE: Final = "rc"  # the exit code, moved into place when it is whole
CHECKPOINT_DIR: Final = "checkpoints"  # a folder in it for each, named by `checkpoint_name`
SECRETS_VARIABLE: Final = "RENTUNE_SECRETS"  # a JSON file of variables for the trainer alone, which removes it
MODEL_CACHE_VARIABLE: Final = "RENTUNE_MODEL_CACHE"  # folder for converted base models; without it `cache` beside job.json
# folder for the tokens of rows, which are somebody's words: never a volume that is kept; without it as above
ROWS_CACHE_VARIABLE: Final = "RENTUNE_ROWS_CACHE"

# In a model folder; of the tokenizer at least one.
MODEL_CONFIG: Final = "config.json"
TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")  # transformers' names

# A checkpoint is a folder of three files.
WEIGHTS_FILE: Final = "trainable.safetensors"
STATE_FILE: Final = "state.pt"
PROGRESS_FILE: Final = "progress.json"
MANIFEST_FILE: Final = "sha256sums.txt"  # of a result: `sha256sum -c sha256sums.txt` checks it
CHECKPOINT_FILES: Final = (WEIGHTS_FILE, STATE_FILE, PROGRESS_FILE)
KEPT_CHECKPOINTS: Final = 2  # assumed: the newest, and the one before it, which somebody may be fetching
MAX_CHECKPOINTS: Final = (
    KEPT_CHECKPOINTS + 2
)  # derived: on a disk at once; beside these the best, and one that is being written


class Judged(Value, frozen=True, kw_only=True):
    """What a checkpoint's progress says of another checkpoint, which is needed beside it."""

    best_step: Count | None = None  # of the best held-out figures after step 0


def checkpoint_name(step: int) -> str:
    """Of a checkpoint's folder; as text they sort by step."""
    return f"step-{step:08d}"


def checkpoint_step(name: str) -> int | None:
    """The step of a checkpoint's folder; None of any other name."""
    found = re.fullmatch(r"step-([0-9]{8,16})", name)
    return int(found[1]) if found else None
