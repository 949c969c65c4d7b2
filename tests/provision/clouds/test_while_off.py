"""A machine that is switched off, at each cloud: its program sees that it is, and what we say it costs on is what it costs.

Asked over HTTP, of our own fake cloud, which keeps the bill; of moto for AWS, which keeps none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final

import pytest

from catalogs.catalog import read_rules
from provision.account.upkeep import Spent, spent, upkeep
from provision.clouds.programs import CLOUDS, aws, load_cloud
from provision.clouds.programs.accounts import runpod_api
from provision.clouds.programs.order import RUN_TAG, run_tags
from provision.seam import Answer, Resource
from tests.doubles.clouds import CLOUDS as DOUBLES
from tests.doubles.emulator import Emulator, started
from tests.provision.clouds.test_world_clouds import rent
from tests.provision.orders import LAUNCH

HOUR_S: Final = 3600.0


def rent_at_aws(at: Emulator) -> str:
    offer = DOUBLES["aws"].offer
    ec2 = aws.connect(offer.region, at.environment)
    tags = [{"Key": key, "Value": value} for key, value in run_tags(offer, LAUNCH, "a1b2").items()]
    [image] = ec2.describe_images(Filters=[{"Name": "name", "Values": [str(at.row.image and at.row.image.name)]}])["Images"][:1]
    disk = {"DeviceName": image["RootDeviceName"], "Ebs": {"VolumeSize": 100}}
    [made] = ec2.run_instances(
        ImageId=image["ImageId"],
        InstanceType=offer.instance_type,
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=[disk],
        TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    )["Instances"]
    return str(made["InstanceId"])


def rent_at_runpod(at: Emulator) -> str:
    tags = {"RENTUNE_TAGS": json.dumps(run_tags(DOUBLES["runpod"].offer, LAUNCH, "a1b2"))}
    gpu = {"id": "NVIDIA GeForce RTX 4090"}
    pod = {"name": f"rentune-{LAUNCH.run_id}", "image": "x", "gpu": gpu, "cloud": "SECURE", "disk": 20, "env": tags}
    return str(runpod_api.connect(at.environment).ask("POST", "/pods", pod)["id"])


def stop_at_aws(at: Emulator, id: str) -> None:
    aws.connect(DOUBLES["aws"].offer.region, at.environment).stop_instances(InstanceIds=[id])


def stop_at_runpod(at: Emulator, id: str) -> None:
    runpod_api.connect(at.environment).ask("POST", f"{runpod_api.path_of(id)}/action", {"action": "stop"})


RENT: Final[dict[str, Callable[[Emulator], str]]] = {"aws": rent_at_aws, "runpod": rent_at_runpod}
# Where a power-off from inside takes the machine away, or is none: as a person does it, at the cloud's own console.
STOP: Final[dict[str, Callable[[Emulator, str], None]]] = {"aws": stop_at_aws, "runpod": stop_at_runpod}


KINDS: Final = {"gcp": "pd-standard"}  # of disk, where whoever orders says nothing; of a cloud that tells it of a machine's own


@pytest.fixture(params=CLOUDS)
def at(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with started(request.param) as emulator:
        yield emulator


def rented(at: Emulator) -> str:
    return RENT[at.cloud](at) if at.cloud in RENT else str(rent(at))


def switch_off(at: Emulator, id: str) -> None:
    if at.cloud in STOP:
        STOP[at.cloud](at, id)
    else:
        at.control.power_off(int(id))


def the_machine(at: Emulator) -> Resource:
    owned = load_cloud(at.cloud).owned(at.row.offer.region, LAUNCH.run_id, at.environment)
    assert owned.complete is Answer.YES, owned.message
    [machine] = [each for each in owned.resources if each.kind == "instance"]
    return machine


def test_it_is_seen_to_be_off_and_costs_what_is_said(at: Emulator) -> None:
    """By the hour from then on, against the fake's own bill; so far as exactly as the cloud tells since when."""
    rule = read_rules().billing[at.cloud]
    id = rented(at)
    running = the_machine(at)
    assert running.runs is Answer.YES
    assert upkeep(running, rule).usd_per_hour == at.row.offer.usd_per_hour
    if at.cloud != "aws":
        at.control.advance(HOUR_S)
    switch_off(at, id)
    off = the_machine(at)
    assert (off.runs, off.bills) == (Answer.NO, True)
    assert off.sold_as == KINDS.get(at.cloud)
    costs = upkeep(off, rule)
    assert (costs.bound, costs.usd_per_hour is not None) == ("exactly", True)
    if at.cloud == "aws":  # moto has neither a bill nor a hand on its clock
        assert round(costs.usd_per_month or 0, 6) == 100 * Decimal("0.08")
        assert off.off_since_s == pytest.approx(time.time(), abs=60.0)
        return
    before_usd = at.control.bill_usd()
    at.control.advance(HOUR_S)
    assert float(at.control.bill_usd() - before_usd) == pytest.approx(float(costs.usd_per_hour or 0), rel=0.01)
    so_far = spent(off, rule, now_s=time.time() + 2 * HOUR_S)
    assert so_far is not None
    assert float(so_far.usd) >= float(at.control.bill_usd()) * 0.99
    assert (so_far.bound == "exactly") is (float(so_far.usd) == pytest.approx(float(at.control.bill_usd()), rel=0.01))


# What a cloud's API says of a machine, and what that is to us where it is neither on nor off.
UNTOLD: Final = {
    "aws": "a state of tomorrow",
    "hetzner": "unknown",
    "digitalocean": "archive",
    "gcp": "SUSPENDED",
    "runpod": "ERROR",
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_word_that_tells_neither_is_unknown(cloud: str) -> None:
    """So its dollars are called a bound."""
    words = load_cloud(cloud).RUNS
    assert UNTOLD[cloud] not in words
    assert set(words.values()) == {Answer.YES, Answer.NO}
    box = Resource(kind="instance", id="i", usd_per_hour=Decimal(1), since_s=0.0)
    assert spent(box, read_rules().billing[cloud], now_s=HOUR_S) == Spent(usd=Decimal(1), bound="at most")


def test_a_volume_that_is_kept_is_not_on_its_machines_bill() -> None:
    """It has one of its own, whether the machine runs or not."""
    with started("aws") as at:
        offer = at.row.offer
        id = rented(at)
        ec2 = aws.connect(offer.region, at.environment)
        zone = ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"][0]["Placement"]["AvailabilityZone"]
        tags = [{"Key": RUN_TAG, "Value": LAUNCH.run_id}, {"Key": "rentune-kept", "Value": "models"}]
        volume = ec2.create_volume(
            AvailabilityZone=zone, Size=500, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
        )["VolumeId"]
        ec2.attach_volume(InstanceId=id, VolumeId=volume, Device="/dev/sdf")
        switch_off(at, id)
        assert the_machine(at).off_gib == 100
        [kept] = aws.owned(offer.region, LAUNCH.run_id, at.environment).kept
        assert (kept.size_gib, kept.in_use) == (500, True)
