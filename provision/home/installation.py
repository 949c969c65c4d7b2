"""Whose a resource is: one random id per state folder, on every resource that is rented from it, and its user's name."""

from __future__ import annotations

import getpass
import os
import re
import secrets
from pathlib import Path
from typing import Final

from provision.errors import Refused
from provision.home.places import Places

ID: Final = re.compile(r"[0-9a-f]{16}")


def owner() -> str:
    """What this user is called: by the environment, else by the system; by the number alone where neither knows, as in a
    container that was started as a user which its image lacks.
    """
    return user_name() or f"uid-{os.geteuid()}"


def user_name() -> str | None:
    """The user's name; None where nobody knows one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        return None


def installation_id(places: Places) -> str:
    """The id of this state folder, made at its first use. Raises Refused when the file holds something else."""
    file = _file(places)
    if not file.exists():
        _make(file)
    return _read(file)


def known_installation(places: Places) -> str | None:
    """The id of this state folder; None where nothing was rented from it yet: looking makes nothing."""
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
