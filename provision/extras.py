"""What to type so that a missing package is there: a command that works where this rentune is installed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

EXTRA: Final = re.compile(r"""extra == ["'](.+)["']""")
NAME: Final = re.compile(r"[^A-Za-z0-9.-]")  # what ends a distribution's name in a requirement
CHECKOUT: Final = Path(__file__).parent.parent


def install_command(extra: str) -> str:
    """The command that brings the packages of one of rentune's extras."""
    words = requirements(extra, own_requirements())
    if not words:  # run from its source, installed nowhere
        return f"make -C {shlex.quote(str(CHECKOUT))} setup-light"
    return shlex.join((*installer_here(), *words))


def own_requirements() -> tuple[str, ...]:
    """Those in the installed metadata, which takes 35 ms to read; none where rentune runs from its source."""
    from importlib.metadata import PackageNotFoundError, requires  # see above

    try:
        return tuple(requires("rentune") or ())
    except PackageNotFoundError:
        return ()


def installer_here() -> tuple[str, ...]:
    """What installs into the environment that this rentune runs in."""
    # setuptools' finder takes any question about pip for an installation, and then `import setuptools` fails for good
    return installer(has_pip=PathFinder.find_spec("pip") is not None, checkout=CHECKOUT)


def installer(*, has_pip: bool, checkout: Path, python: str = sys.executable) -> tuple[str, ...]:
    """What installs into the environment of `python`. One that uv made has no pip; a checkout has its own uv."""
    if has_pip:
        return python, "-m", "pip", "install"
    own = checkout / ".uv" / "bin" / "uv"
    return str(own) if own.exists() else "uv", "pip", "install", "--python", python


def requirements(extra: str, named: Iterable[str]) -> tuple[str, ...]:
    """The requirements that belong to an extra, among those of a distribution's metadata: "boto3>=1.40; extra == 'aws'"."""
    return by_extra(named).get(extra, ())


def extra_with(package: str, named: Iterable[str]) -> str | None:
    """The smallest extra that brings a package, by the import name of one of its modules; None where none does."""
    wanted = package.partition(".")[0].replace("_", "-")
    extras = by_extra(named)
    bringing = [extra for extra, words in extras.items() if any(NAME.split(each)[0] == wanted for each in words)]
    return min(bringing, key=lambda extra: len(extras[extra]), default=None)


def by_extra(named: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Requirements by the extra that wants them."""
    found: dict[str, tuple[str, ...]] = {}
    for requirement in named:
        words, _, marker = requirement.partition(";")
        if extra := EXTRA.fullmatch(marker.strip()):
            found[extra[1]] = (*found.get(extra[1], ()), words.strip())
    return found
