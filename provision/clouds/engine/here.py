"""The Pulumi engine of this home: where it and its plugins lie, and what each run of it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from provision.clouds.engine.stack import Stack
from provision.clouds.engine.where import plugin_binary, plugins_folder
from provision.clouds.programs import plugin_version
from provision.clouds.programs.order import resource_name
from provision.errors import MissingPart
from provision.home.places import Places, RunFolder
from provision.seam import Claim

INSTALL: Final = "rentune doctor --install"


@dataclass(frozen=True)
class EngineHere:
    """What drives one cloud from here."""

    places: Places
    binary: Path | None  # None = none is built yet
    environment: Mapping[str, str] = field(repr=False)  # with the cloud's own keys, and no other's

    def stack(self, claim: Claim, *, cloud: str, plugin: str | None, operation_s: float) -> Stack:
        """Of one run at that cloud, by its provider's plugin where it has one. Raises MissingPart where a part is missing."""
        if self.binary is None:
            raise MissingPart("The Pulumi engine is not built yet.", hint=INSTALL)
        if plugin is not None and not plugin_binary(self.places, plugin, version := plugin_version(plugin)).exists():
            raise MissingPart(f"Pulumi's plugin for {cloud}, version {version}, is missing.", hint=INSTALL)
        return Stack(
            RunFolder(claim.folder).engine,
            resource_name(claim.run_id),
            binary=self.binary,
            plugins=plugins_folder(self.places),
            environment=self.environment,
            operation_s=operation_s,
        )
