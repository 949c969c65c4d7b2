"""Which releases are installed: of ours, and of what rents and connects."""

from __future__ import annotations

DISTRIBUTIONS = ("rentune", "paramiko", "pulumi", "pulumi-aws")  # an old stack needs the SDK that made it


def installed_versions(names: tuple[str, ...] = DISTRIBUTIONS) -> dict[str, str]:
    """Versions by distribution; what is not installed is not named."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
