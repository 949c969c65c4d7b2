"""One test's workbench: the real engine, the double's plugin, an emulated cloud, and folders of the test's own."""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from catalogs.hardware import Offer
from provision.clouds.engine.where import plugin_binary
from provision.clouds.programs import load_cloud
from provision.clouds.programs.order import Image
from provision.clouds.provisioner import PulumiProvisioner
from provision.places import Places
from provision.provisioner import Launch, Owned
from tests.doubles.aws import VERSION
from tests.doubles.faults import Faults
from tests.doubles.plugin import FAULTS_VARIABLE

ROOT: Final = Path(__file__).parents[2]
REGION: Final = "eu-central-1"
IMAGE: Final = Image(owner="898082745236", name="Ubuntu CUDA9 DLAMI*", user="ubuntu")  # one that moto has
PUBLIC_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJyNH0SLh7ZyzuaaNrF1Wn2Z3IqGzSPyvPgUHCwVvdYG test"
OFFER: Final = Offer(
    provider="aws",
    region=REGION,
    instance_type="g5.xlarge",
    purchase="on_demand",
    gpu="A10G",
    num_gpus=Decimal(1),
    usd_per_hour=Decimal("1.006"),
    observed_on=dt.date(2026, 11, 1),
    source="made up for the test",
)


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """Plain values, so that a second process can be given the same bench as JSON."""

    folder: str
    engine: str
    emulator: dict[str, str]
    run_id: str = "r1"

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
            allow_from=("203.0.113.7/32",),
            disk_gib=60,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {**self.emulator, **_plain_environment(), FAULTS_VARIABLE: str(self.faults.folder)}

    def provisioner(
        self, made: type[PulumiProvisioner] = PulumiProvisioner, *, teardown_s: float = 30.0, **variables: str
    ) -> PulumiProvisioner:
        """As a person has it, but for the image, the grace and the places."""
        return made(
            "aws",
            load_cloud("aws"),
            places=self.places,
            engine=Path(self.engine),
            environment=self.environment | variables,
            image=IMAGE,
            regions=(REGION, "us-east-1"),
            sleep=lambda duration_s: time.sleep(min(duration_s, 0.1)),
            grace_s=0.0,
            teardown_s=teardown_s,
        )

    def listed(self) -> Owned:
        """What the emulated cloud itself has with this run's tag."""
        return load_cloud("aws").owned(REGION, self.run_id, self.environment)


def _plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def set_up(folder: Path, engine: Path, emulator: Mapping[str, str]) -> Bench:
    """Lay out the folders and put the double where the engine looks for the vendor's plugin of exactly this version."""
    bench = Bench(folder=str(folder), engine=str(engine), emulator=dict(emulator))
    bench.faults.folder.mkdir(parents=True)
    plugin = plugin_binary(bench.places, "aws", VERSION)
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{sys.executable}" -W ignore -m tests.doubles.aws "$@"\n')
    plugin.chmod(0o755)
    return bench


def drive(bench_json: str, deed: str) -> None:
    """What the controller in a process of its own does; a test kills it."""
    bench = msgspec.json.decode(bench_json, type=Bench)
    provisioner = bench.provisioner()
    if deed == "up":
        provisioner.up(OFFER, bench.launch)
    else:
        provisioner.destroy(bench.launch)


if __name__ == "__main__":
    drive(sys.argv[1], sys.argv[2])
