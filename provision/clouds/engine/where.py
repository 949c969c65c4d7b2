"""Where the engine lies and which one it is: all that a plan asks, so nothing is imported here that takes its time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from provision.home.places import Places

VERSION: Final = "3.274.1"  # that `go.mod` requires; a test compares
PINS: Final = "cea3bf98335d"  # of the SHA-256 of `go.sum`; a test compares


def engine_root(places: Places) -> Path:
    """Where a build of these pins lies: `<cache>/pulumi/<version>-<hash of go.sum>`."""
    return places.cache / "pulumi" / f"{VERSION}-{PINS}"


def engine_binary(places: Places) -> Path:
    """The engine that we build, whether it is there or not."""
    return engine_root(places) / "bin" / "pulumi"


def release_binary(places: Places) -> Path:
    """The engine that its makers built and that was fetched, whether it is there or not."""
    return places.cache / "pulumi" / f"{VERSION}-release" / "bin" / "pulumi"


def own_engine(places: Places) -> Path | None:
    """The one of this version in our cache: our own build, else the release; None where there is neither."""
    return next((binary for binary in (engine_binary(places), release_binary(places)) if binary.exists()), None)


def plugins_folder(places: Places) -> Path:
    """Provider plugins, shared by all runs; each run's own PULUMI_HOME links here."""
    return places.cache / "pulumi" / "plugins"


def plugin_binary(places: Places, name: str, version: str) -> Path:
    """Where the engine looks for a provider plugin of exactly this version."""
    return plugins_folder(places) / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
