"""Traces on disk, by what they depend on: configuration, options, library releases, and the code that ran."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.written import write_beside
from remote.contract import decode

LIBRARIES: Final = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")
OUR_CODE: Final = ("planner.estimators.trace", "remote")  # an edit in any of their files makes every earlier trace worthless


INSTALLED: Final = re.compile(rf"({'|'.join(LIBRARIES)})-([^-]+)\.dist-info")  # as installers name the folder


def installed() -> dict[str, str | None]:
    """Releases of the libraries that a trace runs; None = not installed. Imports none of them.

    Read off the names of folders: importlib.metadata reads more, and loads forty-four modules for that.
    """
    found: dict[str, str | None] = dict.fromkeys(LIBRARIES)
    for folder in reversed(sys.path):  # what stands first is what an import finds
        with suppress(OSError):
            names = (INSTALLED.fullmatch(entry.name) for entry in Path(folder).iterdir())
            found |= {name[1]: name[2] for name in names if name}
    return found


@lru_cache(maxsize=1)
def _our_code() -> str:
    """A fingerprint of the files whose code a trace runs."""
    digest = hashlib.sha256()
    for package in OUR_CODE:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def key_of(config: Mapping[str, Any], **options: Any) -> str:
    """The name of a case: equal for equal configuration, options, releases and code."""
    said = (dict(config), options, installed(), _our_code())
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()[:32]


def read_cached(folder: Path, key: str, kind: type[Any]) -> Any:
    """What was kept under `key`; None if nothing was, or if it can't be read."""
    try:
        return decode((folder / f"{key}.json").read_bytes(), kind)
    except (OSError, msgspec.DecodeError):
        return None


def write_cached(folder: Path, key: str, value: Any) -> None:
    """Keep `value` under `key`: written beside, then moved, so that a reader never meets half of it.

    Where the folder takes no file nothing is kept: what was traced is an answer all the same, and is only traced again.
    """
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_beside(folder / f"{key}.json", msgspec.json.encode(value))
