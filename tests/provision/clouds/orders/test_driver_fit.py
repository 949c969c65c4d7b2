"""An image whose driver fits neither torch nor the card is refused before anything is paid for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from provision.clouds.orders.drivers import misfit
from provision.clouds.programs import CLOUDS, load_cloud, runpod
from provision.clouds.programs.order import Image
from provision.errors import Declined, Reason, Scope
from provision.seam import Launch
from remote.machine.drivers import LEAST_CAPABILITY, least_driver
from tests.doubles.clouds import CLOUDS as DOUBLES
from tests.provision.clouds.test_cloud import OFFER, Sky, provisioner

GPUS = read_catalog().gpus
OFFERS = [offer for offer in read_catalog().offers if offer.gpu and GPUS[offer.gpu].vendor == "nvidia"]
UNSTATED = {"digitalocean"}  # its pages do not say which branch its images have


def with_card(gpu: str) -> Offer:
    return msgspec.structs.replace(DOUBLES["aws"].offer, gpu=gpu)


def image(driver: int | None) -> Image:
    return Image(owner="us", name="with-a-driver", user="ubuntu", driver=driver)


@pytest.mark.parametrize(
    ("gpu", "driver", "why"),
    [
        ("L4", 535, "its NVIDIA driver 535 is too old: torch's CUDA 13.2 needs 580 or newer"),
        ("RTX 5090", 570, "its NVIDIA driver 570 is too old"),
        ("V100-SXM2-16GB", 580, "nothing can be trained on its V100-SXM2-16GB: the trainer's torch has no code for"),
        ("L4", 580, None),
        ("B300", 595, None),
        ("L4", None, None),
        ("MI300X", 580, None),
    ],
    ids=["torch", "card and torch", "no code", "fits", "newer", "not stated", "another maker's"],
)
def test_what_does_not_fit(gpu: str, driver: int | None, why: str | None) -> None:
    """By card, driver and the CUDA of torch; what is not stated stands in nobody's way."""
    said = misfit(with_card(gpu), image(driver), GPUS)
    assert (said or "").find(why or "") >= 0
    assert (said is None) == (why is None)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_card_on_offer_that_torch_runs_on_gets_an_image_with_its_driver(cloud: str) -> None:
    """As far as the vendor states the driver, with source and date."""
    program = load_cloud(cloud)
    for offer in (offer for offer in OFFERS if offer.provider == cloud):
        chosen = program.image_of(offer.instance_type, program.IMAGE)
        card = GPUS[str(offer.gpu)]
        assert card.compute_capability
        assert (misfit(offer, chosen, GPUS) is None) == (card.compute_capability >= LEAST_CAPABILITY), offer.key
        assert (chosen.driver is None) == (cloud in UNSTATED), offer.key
        assert chosen.source
        assert isinstance(chosen.as_of, dt.date)


def test_a_host_of_runpods_has_the_driver_of_torchs_cuda() -> None:
    """There the driver is the host's, so the order asks for it: the first CUDA of torch's major version."""
    assert runpod.IMAGE.driver == least_driver()
    assert runpod.MIN_CUDA == "13.0"


def test_nothing_is_bought_that_does_not_fit(tmp_path: Path) -> None:
    """Not even an engine is needed to say so; the next offer may be of another type."""
    launch = Launch(run_id="r1", owner="ada", folder=tmp_path / "run", public_key="ssh-ed25519 A", deadline_at_s=9000.0)
    sky = provisioner(Sky(), tmp_path)
    sky.image = image(535)
    with pytest.raises(Declined, match="is not bought: the image 'with-a-driver' does not fit its L4") as caught:
        sky.up(msgspec.structs.replace(OFFER, gpu="L4"), launch)
    assert (caught.value.reason, caught.value.scope) == (Reason.HOST, Scope.INSTANCE_TYPE)
