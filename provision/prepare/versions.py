"""Which releases are installed: of ours, and of what rents and connects."""

from __future__ import annotations

from provision import __version__
from provision.clouds.programs import CLOUDS

RENTUNE = {"rentune": __version__}
OF_CLOUDS = tuple(package.replace("_", "-") for row in CLOUDS.values() for package in row.packages)
FOREIGN = ("paramiko", "pulumi", *OF_CLOUDS)  # an old stack needs the SDK that made it


def installed_versions() -> dict[str, str]:
    """Versions by distribution; what is not installed is not named. Asks the installed metadata, which costs 30 ms."""
    from importlib.metadata import PackageNotFoundError, version

    found = dict(RENTUNE)
    for name in FOREIGN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
