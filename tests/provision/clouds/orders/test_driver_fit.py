"""An image whose driver fits neither torch nor the card is refused before anything is paid for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from provision.clouds.boot import driver_unit
from provision.clouds.boot.driver_unit import BRANCHES
from provision.clouds.orders.images import fitted, misfit, trains_on
from provision.clouds.programs import CLOUDS, load_cloud, runpod
from provision.clouds.programs.order import Image
from provision.errors import Declined, Reason, Scope
from provision.seam import Launch
from remote.machine.drivers import LEAST_CAPABILITY, LEAST_FOR_CUDA, TORCH_CUDA, least_driver
from tests.doubles.clouds import CLOUDS as DOUBLES
from tests.provision.clouds.test_cloud import OFFER, Sky, provisioner

GPUS = read_catalog().gpus
OFFERS = [offer for offer in read_catalog().offers if offer.gpu and GPUS[offer.gpu].vendor == "nvidia"]
UNSTATED = {"digitalocean"}  # its pages do not say which branch its images have


def with_card(gpu: str) -> Offer:
    return msgspec.structs.replace(DOUBLES["aws"].offer, gpu=gpu)


def image(driver: int | None) -> Image:
    return Image(owner="us", name="with-a-driver", user="ubuntu", driver_branch=driver)


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
        assert (chosen.driver_branch is None) == (cloud in UNSTATED), offer.key
        assert chosen.source
        assert isinstance(chosen.as_of, dt.date)


def test_a_host_of_runpods_has_the_driver_of_torchs_cuda() -> None:
    """There the driver is the host's, so the order asks for it: the first CUDA of torch's major version."""
    assert runpod.IMAGE.driver_branch == least_driver()
    assert runpod.MIN_CUDA == "13.0"


PLAIN = Image(owner="us", name="plain", user="ubuntu", takes_driver=True)


@pytest.mark.parametrize(
    ("own", "plain", "gpu", "chosen", "branch"),
    [
        (image(595), PLAIN, "L4", "with-a-driver", None),
        (image(535), PLAIN, "L4", "plain", 580),
        (image(570), PLAIN, "B300", "plain", 580),
        (PLAIN, None, "L4", "plain", 580),
        (image(None), PLAIN, "L4", "with-a-driver", None),
        (PLAIN, None, "MI300X", "plain", None),
    ],
    ids=["its own fits", "too old", "too old for the card", "states none", "is no Ubuntu", "another maker's"],
)
def test_where_no_image_has_a_driver_that_fits_a_plain_one_gets_it_at_its_first_boot(
    own: Image, plain: Image | None, gpu: str, chosen: str, branch: int | None
) -> None:
    """An image of its own that fits comes first; one that states none is kept, and its first boot looks."""
    sky = Sky()
    sky.WITHOUT_DRIVER = plain
    fit = fitted(sky, with_card(gpu), own, GPUS)
    assert (fit.image.name, fit.misfit) == (chosen, None)
    assert (fit.driver_order.branch.number if fit.driver_order else None) == branch


@pytest.mark.parametrize("cloud", [name for name in CLOUDS if load_cloud(name).WITHOUT_DRIVER is not None])
def test_a_torch_that_needs_a_newer_driver_wakes_a_clouds_plain_image(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Today's rows all fit. It takes a lock whose CUDA needs more than the image of the type has, and Ubuntu's archive one that
    does.
    """
    program = load_cloud(cloud)
    offer = next(each for each in OFFERS if each.provider == cloud and trains_on(GPUS[str(each.gpu)]))
    own = program.image_of(offer.instance_type, program.IMAGE)
    assert fitted(program, offer, program.IMAGE, GPUS).image == own
    needed = int(str(own.driver_branch)) + 1
    monkeypatch.setitem(LEAST_FOR_CUDA, TORCH_CUDA[0], needed)
    newer = msgspec.structs.replace(BRANCHES[-1], number=needed)
    monkeypatch.setattr(driver_unit, "BRANCHES", (*BRANCHES, newer))
    fit = fitted(program, offer, program.IMAGE, GPUS)
    assert fit.image == program.WITHOUT_DRIVER != own
    assert fit.driver_order is not None
    assert fit.driver_order.branch.number >= needed


def test_a_card_that_torch_has_no_code_for_gets_no_driver_either() -> None:
    sky = Sky()
    sky.WITHOUT_DRIVER = PLAIN
    fit = fitted(sky, with_card("V100-SXM2-16GB"), image(580), GPUS)
    assert fit.driver_order is None
    assert "has no code for" in str(fit.misfit)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_plan_knows_where_a_first_boot_may_have_to_put_one_in(cloud: str) -> None:
    """It counts the minutes there, and nowhere else: a row for the cloud, held against its images."""
    program = load_cloud(cloud)
    offers = [each for each in OFFERS if each.provider == cloud and trains_on(GPUS[str(each.gpu)])]
    puts_in = {fitted(program, each, program.IMAGE, GPUS).driver_order is not None for each in offers}
    assert puts_in <= {CLOUDS[cloud].may_install_driver}
    assert (cloud in UNSTATED) == CLOUDS[cloud].may_install_driver
    assert program.WITHOUT_DRIVER is None or (
        program.WITHOUT_DRIVER.takes_driver and program.WITHOUT_DRIVER.driver_branch is None
    )


def test_the_order_has_the_plain_image_and_its_boot_the_driver(tmp_path: Path) -> None:
    """And the box says that it is waited for."""
    launch = Launch(run_id="r1", owner="ada", folder=tmp_path / "run", public_key="ssh-ed25519 A", deadline_at_s=9000.0)
    sky = Sky()
    sky.WITHOUT_DRIVER = PLAIN
    seller = provisioner(sky, tmp_path)
    for driver, named, is_put_in in ((535, "plain", True), (580, "with-a-driver", False)):
        seller.image = image(driver)
        order = seller.ordering.order(msgspec.structs.replace(OFFER, gpu="L4"), launch)
        assert (order.image.name, order.installs_driver) == (named, is_put_in)
        assert ("nvidia-headless-no-dkms-" in order.user_data) == is_put_in


def test_nothing_is_bought_that_does_not_fit(tmp_path: Path) -> None:
    """Not even an engine is needed to say so; the next offer may be of another type."""
    launch = Launch(run_id="r1", owner="ada", folder=tmp_path / "run", public_key="ssh-ed25519 A", deadline_at_s=9000.0)
    sky = provisioner(Sky(), tmp_path)
    sky.image = image(535)
    with pytest.raises(Declined, match="is not bought: the image 'with-a-driver' does not fit its L4") as caught:
        sky.up(msgspec.structs.replace(OFFER, gpu="L4"), launch)
    assert (caught.value.reason, caught.value.scope) == (Reason.HOST, Scope.INSTANCE_TYPE)
