"""Where a cloud's credentials are named, and what is wrong with how they are: half a pair, a file or profile that is not there.

Whether they are good is the cloud's to say. No value is ever told, but the name of a profile and of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from catalogs.user_file import expanded, shortened
from provision.clouds.programs import CloudRow

PROFILES: Final = "AWS_PROFILE"  # which of the sections of these files, below the home folder or where a variable says
PROFILE_FILES: Final = {"AWS_SHARED_CREDENTIALS_FILE": ".aws/credentials", "AWS_CONFIG_FILE": ".aws/config"}


def named_by(row: CloudRow, environment: Mapping[str, str]) -> str | None:
    """The variable or the file that names them; None where nothing does."""
    named = next((name for name in row.credential_variables if environment.get(name)), None)
    file = row.credential_file and _home(environment) / row.credential_file
    return named or (str(file) if file and file.is_file() else None)


def flaw(row: CloudRow, environment: Mapping[str, str]) -> str | None:
    """Why those that are named can open nothing, in words; None where that can't be seen."""
    return next(_flaws(row, environment), None)


def _flaws(row: CloudRow, environment: Mapping[str, str]) -> Iterator[str]:
    profile = environment.get(PROFILES) if PROFILES in row.credential_variables else None
    if profile and profile not in _profiles(environment):
        yield f"{PROFILES} names {shortened(profile)!r}, a profile that is in neither file of AWS's"
    for first, second in row.credential_pairs.items() if profile is None else ():
        if environment.get(first) and not environment.get(second):
            yield f"{first} is set without {second}"
    for name in row.credential_paths:
        if (path := environment.get(name)) and not expanded(path).is_file():
            yield f"{name} names {shortened(path)}, which is no file here"


def _profiles(environment: Mapping[str, str]) -> frozenset[str]:
    """The names of sections; of files that can't be read none."""
    names = {"default"}
    for variable, usual in PROFILE_FILES.items():
        file = expanded(environment[variable]) if environment.get(variable) else _home(environment) / usual
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        names |= {_section(line) for line in map(str.strip, lines) if line.startswith("[")}
    return frozenset(names)


def _section(line: str) -> str:
    return line[1:].partition("]")[0].strip().removeprefix("profile ").strip().strip("\"'")


def _home(environment: Mapping[str, str]) -> Path:
    return expanded(environment.get("HOME", "~"))
