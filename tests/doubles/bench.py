"""One test's workbench: the real engine, the double's plugin, an emulated cloud, and folders of the test's own."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from catalogs.hardware import Offer
from provision.clouds.engine.here import EngineHere
from provision.clouds.engine.where import plugin_binary
from provision.clouds.patience import Patience
from provision.clouds.programs import CLOUDS, load_cloud
from provision.clouds.provisioner import PulumiProvisioner
from provision.errors import ProvisionError
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.redact import without_secrets
from provision.seam import Box, Launch, Owned
from tests.doubles.clouds import CLOUDS as DOUBLES
from tests.doubles.clouds import Row
from tests.doubles.emulator import Emulator
from tests.doubles.faults import Faults
from tests.doubles.plugins.plugin import FAULTS_VARIABLE
from tests.doubles.world.control import Control

ROOT: Final = Path(__file__).parents[2]
PUBLIC_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJyNH0SLh7ZyzuaaNrF1Wn2Z3IqGzSPyvPgUHCwVvdYG test"
OFFER: Final = DOUBLES["aws"].offer
REGION: Final = OFFER.region


class WithTheStack(PulumiProvisioner):
    """Rents with an image that has the training stack already: nothing is installed, and nothing downloaded."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        return msgspec.structs.replace(super().up(offer, launch), python=sys.executable)


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """Plain values, so that a second process can be given the same bench as JSON."""

    folder: str
    engine: str
    url: str  # of the emulated cloud
    cloud: str = "aws"
    run_id: str = "r1"

    @property
    def row(self) -> Row:
        return DOUBLES[self.cloud]

    @property
    def faults(self) -> Faults:
        return Faults(Path(self.folder) / "faults")

    @property
    def errors(self) -> Path:
        return Path(self.folder) / "controller.err"

    @property
    def places(self) -> Places:
        return Places(home=Path(self.folder) / "home", cache=Path(self.folder) / "cache")

    @property
    def launch(self) -> Launch:
        return Launch(
            run_id=self.run_id,
            owner="ada",
            folder=self.places.run(self.run_id).root,
            public_key=PUBLIC_KEY,
            deadline_at_s=time.time() + 3600,
            tags={"team": "nlp"},
            allow_from=self.row.allow_from,
            disk_gib=60,
            account=account_at(self.cloud, self.url),
        )

    @property
    def environment(self) -> dict[str, str]:
        return {**self.row.variables(self.url), **_plain_environment(), FAULTS_VARIABLE: str(self.faults.folder)}

    def provisioner(
        self, made: type[PulumiProvisioner] = PulumiProvisioner, *, teardown_s: float = 30.0, **variables: str
    ) -> PulumiProvisioner:
        """As a person has it, but for the image, the grace and the places."""
        return made(
            self.cloud,
            load_cloud(self.cloud),
            EngineHere(
                self.places,
                Path(self.engine),
                without_secrets(self.environment | variables, but=CLOUDS[self.cloud].secret_variables),
            ),
            image=self.row.image,
            regions=self.row.regions,
            patience=Patience(
                clocks=Clocks(sleep=lambda duration_s: time.sleep(min(duration_s, 0.1))), grace_s=0.0, teardown_s=teardown_s
            ),
        )

    @property
    def control(self) -> Control:
        """A hand on our own fake cloud."""
        return Control(self.url)

    def listed(self) -> Owned:
        """What the emulated cloud itself has with this run's tag."""
        return load_cloud(self.cloud).owned(self.row.offer.region, self.run_id, self.environment)


@cache
def account_at(cloud: str, url: str) -> str | None:
    """Whose account an emulated cloud says it is: what the walk writes down before an order.

    None where it knows other credentials alone.
    """
    with suppress(ProvisionError):
        return load_cloud(cloud).account({**DOUBLES[cloud].variables(url), **_plain_environment()})
    return None


def _plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def set_up(folder: Path, engine: Path, emulator: Emulator) -> Bench:
    """Lay out the folders and put the double where the engine looks for the vendor's plugin of exactly this version."""
    bench = Bench(folder=str(folder), engine=str(engine), url=emulator.url, cloud=emulator.cloud)
    bench.faults.folder.mkdir(parents=True)
    if (double := bench.row.double) is None:
        return bench
    plugin = plugin_binary(bench.places, double.name, double.version)
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -W ignore -m {bench.row.module} "$@"\n')
    plugin.chmod(0o755)
    return bench


def drive(bench_json: str, deed: str) -> None:
    """What the controller in a process of its own does; a test kills it."""
    bench = msgspec.json.decode(bench_json, type=Bench)
    provisioner = bench.provisioner()
    if deed == "up":
        provisioner.up(bench.row.offer, bench.launch)
    else:
        provisioner.destroy(bench.launch)


if __name__ == "__main__":
    drive(sys.argv[1], sys.argv[2])
