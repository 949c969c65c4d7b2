"""What to type so that a missing package is there: a command that works where this rentune is installed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[1]


def install_command(extra: str) -> str:
    """The command that brings the packages of one of rentune's extras. Reads the installed metadata, which takes 35 ms."""
    from importlib.metadata import PackageNotFoundError, requires  # see above

    try:
        named = requires("rentune") or ()
    except PackageNotFoundError:  # run from its source, installed nowhere
        return f"make -C {shlex.quote(str(CHECKOUT))} setup-light"
    return shlex.join((*installer_here(), *requirements(extra, named)))


def installer_here() -> tuple[str, ...]:
    """What installs into the environment that this rentune runs in."""
    return installer(has_pip=find_spec("pip") is not None, checkout=CHECKOUT)


def installer(*, has_pip: bool, checkout: Path, python: str = sys.executable) -> tuple[str, ...]:
    """What installs into the environment of `python`. One that uv made has no pip; a checkout has its own uv."""
    if has_pip:
        return python, "-m", "pip", "install"
    own = checkout / ".uv" / "bin" / "uv"
    return str(own) if own.exists() else "uv", "pip", "install", "--python", python


def requirements(extra: str, named: Iterable[str]) -> tuple[str, ...]:
    """The requirements that belong to an extra, among those of a distribution's metadata: "boto3>=1.40; extra == 'aws'"."""
    parted = (requirement.partition(";") for requirement in named)
    return tuple(words.strip() for words, _, marker in parted if marker.strip().replace('"', "'") == f"extra == '{extra}'")
