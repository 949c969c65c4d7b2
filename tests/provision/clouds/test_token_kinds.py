"""Where a vendor knows no finer words than "read" and "write": what a token that may only look is good for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from provision.clouds.programs import CLOUDS, hetzner, load_cloud
from provision.clouds.programs.accounts import runpod_api
from provision.clouds.programs.accounts.refusals import read_refusal
from provision.clouds.programs.order import run_tags
from provision.errors import ProvisionError, Reason
from tests.doubles.bench import PUBLIC_KEY
from tests.doubles.clouds import CLOUDS as DOUBLES
from tests.doubles.emulator import Emulator, started
from tests.doubles.world.app import READ, WRITE
from tests.provision.clouds.programs.test_refusals import unread
from tests.provision.clouds.test_world_clouds import rent_at_hetzner
from tests.provision.orders import LAUNCH

PERMISSIONS: Final = Path(__file__).parents[3] / "docs" / "permissions"


def make_at_hetzner(at: Emulator) -> None:
    rent_at_hetzner(hetzner.connect(at.environment), run_tags(DOUBLES["hetzner"].offer, LAUNCH, "a1b2"), PUBLIC_KEY)


def make_at_runpod(at: Emulator) -> None:
    tags = {"RENTUNE_TAGS": json.dumps(run_tags(DOUBLES["runpod"].offer, LAUNCH, "a1b2"))}
    pod = {"name": "rentune-r1", "image": "x", "gpu": {"id": "NVIDIA L4"}, "cloud": "SECURE", "disk": 20, "env": tags}
    runpod_api.connect(at.environment).ask("POST", "/pods", pod)


MAKE: Final[dict[str, Callable[[Emulator], None]]] = {"hetzner": make_at_hetzner, "runpod": make_at_runpod}


@pytest.fixture(params=MAKE)
def at(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with started(request.param) as emulator:
        yield emulator


def test_one_that_may_only_look_finds_what_is_ours_and_makes_nothing(at: Emulator) -> None:
    """So whoever watches a shared account needs no more; and a run says what it lacks before anything is made."""
    at.control.set(scopes=[READ])
    cloud = load_cloud(at.cloud)
    assert cloud.owned("*", None, at.environment).nothing
    with pytest.raises(ProvisionError, match="declined POST") as caught:
        MAKE[at.cloud](at)
    refused = read_refusal(cloud.REFUSALS, unread(str(caught.value)), cloud=at.cloud)
    assert refused.reason in (Reason.PERMISSION, Reason.CREDENTIALS)
    assert at.control.standing() == []


def test_one_that_may_write_does_it_all(at: Emulator) -> None:
    at.control.set(scopes=[READ, WRITE])
    MAKE[at.cloud](at)
    cloud = load_cloud(at.cloud)
    for resource in cloud.owned("*", None, at.environment).resources:
        cloud.destroy_stray(resource, at.environment)
    assert cloud.owned("*", None, at.environment).nothing


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_cloud_has_a_page_or_a_file_that_says_what_its_account_must_allow(cloud: str) -> None:
    assert sorted(PERMISSIONS.glob(f"{cloud}.*")) != []
