"""A base packed in 4 bits on this machine's disk, by the trainer's own code in a process of its own. Nothing is rented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.bases.copies import packed_as
from planner.nearest import near
from provision.errors import BadInput, MissingPart, Refused, TrainingFailed
from provision.home.interrupt import interruptible
from provision.redact import without_secrets
from remote.contract import Dtype, PackedFile, Quant

NEEDED: Final = ("torch", "transformers", "bitsandbytes", "safetensors")


class Packing(msgspec.Struct, frozen=True, kw_only=True):
    """What is packed, where to, and in which way."""

    base: str
    into: Path
    quant: Quant
    double_quant: bool
    dtype: Dtype


class _Line(msgspec.Struct, frozen=True):
    error: str | None = None
    packed: str | None = None


def require_base(base: str) -> None:
    """Raises BadInput, with what to type instead, for a file, and for a path where nothing is."""
    path = Path(base)
    if path.is_file() and path.suffix == ".gguf":
        raise BadInput(f"{base} is a GGUF file, which is packed already.", hint=f"train from it as it is: --model {base}")
    if path.is_file():
        raise BadInput(f"{base} is a file, and what is packed is a model folder or a hub id.", hint=f"perhaps {path.parent}")
    if path.is_dir() and not (path / "config.json").is_file():
        raise BadInput(
            f"{base} holds no config.json, so it is no model folder.", hint="name the folder that transformers saved"
        )
    if path.is_dir():
        return
    if _HUB_ID.fullmatch(base) is not None:
        if (stored := packed_as(base)) is not None:
            hint = f"name the base that it was made from, or train it as it is: --model {base}"
            raise BadInput(f"{base} is packed already, as its name says ({stored}).", hint=hint)
        return
    beside = (each.name for each in path.parent.iterdir() if each.is_dir()) if path.parent.is_dir() else ()
    meant = near(path.name, beside)
    hint = f"did you mean {path.parent / meant}?" if meant is not None else "a model folder, or a hub id as OWNER/NAME"
    raise BadInput(f"There is no folder {base}.", hint=hint)


_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # OWNER/NAME, where no folder lies


def quantize_here(asked: Packing, tell: Callable[[PackedFile], object]) -> tuple[PackedFile, ...]:
    """Pack, and tell after each file. Raises BadInput for what is no base, MissingPart without the libraries, Refused for what
    can't be packed so.
    """
    require_base(asked.base)
    if absent := [name for name in NEEDED if find_spec(name) is None]:
        raise MissingPart(f"Packing a base needs {', '.join(absent)}.", hint="make setup-box in the checkout")
    words = [sys.executable, "-P", "-m", "remote", "quantize", asked.base, "--into", str(asked.into)]
    words += ["--quant", asked.quant, "--dtype", asked.dtype, *(() if asked.double_quant else ("--single-quant",))]
    shards: list[PackedFile] = []
    last = _Line()
    own = without_secrets(os.environ)
    with interruptible(), subprocess.Popen(words, env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as packing:
        for line in packing.stdout or ():
            said = msgspec.json.decode(line, type=dict[str, Any])
            if "number" in said:
                shards.append(msgspec.convert(said, PackedFile))
                tell(shards[-1])
            else:
                last = msgspec.convert(said, _Line)
    if last.error is not None:
        raise Refused(f"{asked.base} is not packed: {last.error}.", hint="Mend that, or train it as it is: --quant none.")
    if packing.returncode or last.packed is None:
        hint = "type the same once more: it goes on with the file that it was at"
        raise TrainingFailed(f"Packing {asked.base} broke off with exit code {packing.returncode}.", hint=hint)
    return tuple(shards)
