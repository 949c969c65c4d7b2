"""Which releases are installed: of ours, and of what rents and connects."""

from __future__ import annotations

from provision import __version__

RENTUNE = {"rentune": __version__}
FOREIGN = ("paramiko", "pulumi", "pulumi-aws")  # an old stack needs the SDK that made it


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
