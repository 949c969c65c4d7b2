"""Whose a resource is: one random id per state folder, on every resource that is rented from it."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from provision.errors import Refused
from provision.home.places import Places

ID: Final = re.compile(r"[0-9a-f]{16}")


def installation_id(places: Places) -> str:
    """The id of this state folder, made at its first use. Raises Refused when the file holds something else."""
    file = _file(places)
    if not file.exists():
        _make(file)
    return _read(file)


def known_installation(places: Places) -> str | None:
    """The same, and None where nothing was rented from yet: looking makes nothing."""
    file = _file(places)
    return _read(file) if file.exists() else None


def _file(places: Places) -> Path:
    return places.home / "installation"


def _read(file: Path) -> str:
    text = file.read_text(errors="replace").strip()
    if not ID.fullmatch(text):
        raise Refused(
            f"{file} should hold 16 hexadecimal digits.", hint="Remove the file; rented boxes end at their deadlines."
        )
    return text


def _make(file: Path) -> None:
    """Whole or not at all, and the first of two that make it at one moment wins."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    draft.write_text(secrets.token_hex(8) + "\n")
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
