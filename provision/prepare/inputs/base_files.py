"""Which files of a model folder its machine reads: the others would only cost its time.

A folder that was cloned or trained in has weights in other formats beside those that are read, a repository's history, an
optimizer's moments, checkpoints. What is small travels all the same: nobody waits for it, and it may be a tokenizer's.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Final

from planner.units import MIB
from provision.errors import BadInput
from remote.contract import MODEL_CONFIG, TOKENIZER_FILES

SMALL_BYTES: Final = 32 * MIB  # assumed: seconds on a slow uplink; more than any tokenizer's file has
SAFE: Final = ".safetensors"
PICKLED: Final = "pytorch_model*.bin"  # as transformers names them
ANOTHER_FORMAT: Final = "consolidated"  # how the names begin of the same weights in their maker's own layout
PACKED: Final = ".gguf"
HINT: Final = "Take the folder that transformers saves with save_pretrained, model and tokenizer, or that its hub has."
SAVED_SAFE: Final = (
    "Only safetensors are read, as data alone: these may run code. Save the folder anew: python -c 'from transformers import "
    'AutoModelForCausalLM as M, AutoTokenizer as T; [K.from_pretrained("{0}").save_pretrained("{0}-safe") for K in (M, T)]\''
)
WORDS: Final = (".json", ".model", ".jinja", ".txt")  # as of a hub's: configuration, tokenizer, templates


def unread_of(folder: Path) -> Callable[[Path], bool]:
    """What says of a path below the folder whether nothing there is read on the machine: a file, or a folder with all in it."""
    read = weights_in(folder)

    def unread(path: Path) -> bool:
        if path.name.startswith("."):
            return True
        return path not in read and path.suffix not in WORDS and path.is_file() and path.stat().st_size > SMALL_BYTES

    return unread


def require_whole(folder: Path) -> None:
    """Raises BadInput for a folder with weights that its machine could load no model, or no tokenizer, from."""
    packed = sorted(folder.glob(f"*{PACKED}"))
    if not (folder / MODEL_CONFIG).is_file():
        raise _lacks(folder, MODEL_CONFIG)
    if not weights_in(folder) and any(folder.glob(PICKLED)):
        said = f"The model folder {folder} holds its weights as pickles ({PICKLED})."
        raise BadInput(said, hint=SAVED_SAFE.format(folder), place=("model",))
    if not weights_in(folder):
        hint = f"Name a file of it: {shlex.quote(str(packed[0]))}" if packed else HINT
        raise _lacks(folder, f"*{SAFE}, and other weights are not read from it", hint)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES) and not any(folder.glob("*.model")):
        raise _lacks(folder, f"tokenizer: none of {', '.join(TOKENIZER_FILES)}")


def _lacks(folder: Path, what: str, hint: str = HINT) -> BadInput:
    return BadInput(f"The model folder {folder} has no {what}.", hint=hint, place=("model",))


def weights_in(folder: Path) -> frozenset[Path]:
    """The files of weights that are read: safetensors, and not the same in another layout."""
    safe = frozenset(folder.glob(f"*{SAFE}"))
    usual = frozenset(each for each in safe if not each.name.startswith(ANOTHER_FORMAT))
    return usual or safe


def read_files(folder: Path) -> tuple[Path, ...]:
    """Every file below the folder that travels. Raises OSError."""
    unread = unread_of(folder)

    def travels(path: Path) -> bool:
        between = path.relative_to(folder).parts
        return not any(unread(folder.joinpath(*between[:depth])) for depth in range(1, len(between) + 1))

    return tuple(path for path in folder.rglob("*") if path.is_file() and travels(path))
