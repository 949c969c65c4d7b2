"""The EC2 program under Pulumi's own mocks, with the real `pulumi_aws`; and the orders that it is given."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import botocore.session
import msgspec
import pulumi
import pulumi.runtime
import pytest
from pulumi.runtime import mocks
from pulumi_aws import ebs, ec2

from planner.estimators.calibration import ORDERED_DISK_BYTES_PER_S
from planner.units import MIB
from provision.clouds.programs import CLOUDS, aws, load_cloud, plugin_version
from provision.clouds.programs.order import KeptVolume, Order, checked_cidrs, instant_s, run_tags, tagged_resource
from provision.errors import BadInput
from tests.doubles.bench import OFFER
from tests.doubles.plugins.aws import AWS, VERSION
from tests.doubles.plugins.wire import SIGNATURE
from tests.provision.orders import LAUNCH, ORDER
from tests.provision.sdk import left_as_it_is, require_likeness

SDK_CLASSES = {
    "aws:ec2/keyPair:KeyPair": (ec2.KeyPair, ec2.KeyPairArgs),
    "aws:ec2/securityGroup:SecurityGroup": (ec2.SecurityGroup, ec2.SecurityGroupArgs),
    "aws:ec2/instance:Instance": (ec2.Instance, ec2.InstanceArgs),
    "aws:ebs/volume:Volume": (ebs.Volume, ebs.VolumeArgs),
    "aws:ec2/volumeAttachment:VolumeAttachment": (ec2.VolumeAttachment, ec2.VolumeAttachmentArgs),
}
WITH_VOLUME = msgspec.structs.replace(ORDER, volume=KeptVolume(tags={"rentune-kept": "models"}, size_gib=40))


class Recorder(pulumi.runtime.Mocks):  # type: ignore[misc] # pulumi's types are not followed
    """Takes down what the program asks for; its image is larger than the order's disk."""

    def __init__(self, image_gib: int) -> None:
        self.image_gib = image_gib
        self.inputs: dict[str, dict[str, Any]] = {}
        self.lookups: list[dict[str, Any]] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.typ] = args.inputs
        return f"{args.name}-id", {"availabilityZone": "eu-central-1b", **args.inputs, "publicIp": "198.51.100.4"}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        self.lookups.append(args.args)
        if args.token.endswith("getInstanceTypeOfferings"):
            return {"locations": ["eu-central-1c", "eu-central-1b"]}
        disk = {"deviceName": "/dev/sda1", "noDevice": "", "virtualName": "", "ebs": {"volume_size": str(self.image_gib)}}
        return {"id": "ami-1", "blockDeviceMappings": [disk]}


def run(order: Order, *, image_gib: int = 50) -> Recorder:
    recorder = Recorder(image_gib)
    pulumi.runtime.set_mocks(recorder, preview=False)
    pulumi.runtime.test(aws.program(order))()
    return recorder


def test_ec2_chooses_the_zone_until_one_has_refused_the_type() -> None:
    """Then it is the first other one that has the type; where there is none, one sentence."""
    assert "availabilityZone" not in run(ORDER).inputs["aws:ec2/instance:Instance"]
    recorder = run(msgspec.structs.replace(ORDER, full_zones=("eu-central-1a", "eu-central-1b")))
    assert recorder.inputs["aws:ec2/instance:Instance"]["availabilityZone"] == "eu-central-1c"
    with pytest.raises(Exception, match=r"eu-central-1 has no other zone with g5\.xlarge\."):
        run(msgspec.structs.replace(ORDER, full_zones=("eu-central-1b", "eu-central-1c")))


def test_the_instance_is_private_encrypted_and_ends_itself() -> None:
    """What bounds cost and exposure is in the inputs that reach the provider."""
    instance = run(ORDER).inputs["aws:ec2/instance:Instance"]
    assert instance["instanceInitiatedShutdownBehavior"] == "terminate"
    assert instance["metadataOptions"] == {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1}
    assert instance["rootBlockDevice"] == {
        "encrypted": True,
        "volumeType": "gp3",
        "volumeSize": 100,
        "deleteOnTermination": True,
    }  # without more throughput than its base, which a plan reckons with
    assert ORDERED_DISK_BYTES_PER_S["aws"].p50 == pytest.approx(125 * MIB, rel=0.01)
    assert instance["tags"] == instance["volumeTags"] == ORDER.tags
    assert instance["keyName"] == ORDER.name
    assert instance["vpcSecurityGroupIds"] == ["ssh-id"]
    assert "instanceMarketOptions" not in instance


def test_a_volume_that_is_kept_is_made_beside_the_instance_in_its_zone_and_outlives_it() -> None:
    """The machine's own disk goes with it. That a destroy leaves the volume shows tests/provision/engine/test_aws_engine.py."""
    made = run(WITH_VOLUME)
    assert made.inputs["aws:ec2/instance:Instance"]["rootBlockDevice"]["deleteOnTermination"] is True
    assert made.inputs["aws:ebs/volume:Volume"] == {
        "availabilityZone": "eu-central-1b",
        "encrypted": True,
        "size": 40,
        "type": "gp3",
        "tags": {"rentune-kept": "models"},
    }
    assert made.inputs["aws:ec2/volumeAttachment:VolumeAttachment"] == {
        "deviceName": "/dev/sdf",
        "instanceId": "box-id",
        "volumeId": "kept-id",
    }


def test_a_volume_that_is_there_is_attached_to_an_instance_in_its_zone() -> None:
    """Whatever zone would be chosen otherwise; a further one is not made."""
    there = KeptVolume(tags={}, size_gib=40, id="vol-7", place="eu-central-1c")
    again = run(msgspec.structs.replace(ORDER, volume=there, full_zones=("eu-central-1a",))).inputs
    assert again["aws:ec2/instance:Instance"]["availabilityZone"] == "eu-central-1c"
    assert again["aws:ec2/volumeAttachment:VolumeAttachment"]["volumeId"] == "vol-7"
    assert "aws:ebs/volume:Volume" not in again


def test_user_data_is_a_secret() -> None:
    """The engine encrypts in its state what the program marks."""
    assert run(ORDER).inputs["aws:ec2/instance:Instance"]["userData"] == {
        SIGNATURE: "1b47061264138c4ac30d75fd1eb44270",
        "value": ORDER.user_data,
    }


def test_a_disk_is_never_smaller_than_its_image() -> None:
    """EC2 would refuse it after everything else was made."""
    device = run(ORDER, image_gib=120).inputs["aws:ec2/instance:Instance"]["rootBlockDevice"]
    assert device["volumeSize"] == 120


def test_spot_is_one_time_terminates_and_bids_the_planned_price() -> None:
    """A persistent request would start a new box after the old one is gone."""
    order = msgspec.structs.replace(ORDER, max_usd_per_hour=Decimal("0.4567"))
    assert run(order).inputs["aws:ec2/instance:Instance"]["instanceMarketOptions"] == {
        "marketType": "spot",
        "spotOptions": {
            "spotInstanceType": "one-time",
            "instanceInterruptionBehavior": "terminate",
            "maxPrice": "0.4567",
        },
    }


def test_no_date_ends_a_request_that_is_made_once() -> None:
    """EC2's own description: a date is for persistent requests, whose machines may not be terminated but come again. Should it
    ever take one for ours, the order can have it, and this says so.
    """
    said = botocore.session.get_session().get_service_model("ec2").shape_for("SpotMarketOptions").members
    assert "For a one-time request, <code>ValidUntil</code> is not supported." in said["ValidUntil"].documentation
    assert "only supported when the instance interruption behavior is either <code>hibernate</code> or <code>stop</code>" in (
        said["SpotInstanceType"].documentation
    )
    assert "ValidUntil" in CLOUDS["aws"].spot_until


def test_only_ssh_and_only_from_the_given_networks() -> None:
    """One rule in; everything out."""
    group = run(ORDER).inputs["aws:ec2/securityGroup:SecurityGroup"]
    [rule] = group["ingress"]
    assert (rule["protocol"], rule["fromPort"], rule["toPort"]) == ("tcp", 22, 22)
    assert (rule["cidrBlocks"], rule["ipv6CidrBlocks"]) == (["203.0.113.7/32"], ["2001:db8::7/128"])
    assert group["egress"][0]["protocol"] == "-1"


def test_descriptions_have_only_characters_that_ec2_takes() -> None:
    """EC2 refuses an apostrophe; no emulator tells."""
    group = run(ORDER).inputs["aws:ec2/securityGroup:SecurityGroup"]
    for text in (group["description"], group["name"], group["ingress"][0]["description"]):
        assert re.fullmatch(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}", text)


def test_the_image_is_the_newest_of_its_owner_for_this_processor() -> None:
    [lookup] = run(ORDER).lookups
    assert lookup["owners"] == ["amazon"]
    assert lookup["mostRecent"] is True
    assert {"name": "name", "values": ["base *"]} in lookup["filters"]
    assert {"name": "architecture", "values": ["x86_64"]} in lookup["filters"]


def test_a_misspelt_or_missing_argument_is_a_type_error() -> None:
    """The real SDK stands behind the mocks, so a typo can't pass as it would with a made-up module."""
    pulumi.runtime.set_mocks(Recorder(8), preview=False)
    with pytest.raises(TypeError, match="instance_typ"):
        ec2.Instance("box", instance_typ="g5.xlarge")
    with pytest.raises(TypeError, match="public_key"):
        ec2.KeyPair("key", key_name="r1")


def test_every_kind_that_the_program_makes_is_known_to_the_listing() -> None:
    """Else a pending create of it could not be found again."""
    made = set(run(ORDER).inputs) - {"pulumi:providers:aws"}
    assert made == set(aws.KINDS)
    assert set(run(WITH_VOLUME).inputs) - made - {"pulumi:providers:aws"} == set(aws.VOLUMES.kinds)
    assert set(AWS.kinds) == made | set(aws.VOLUMES.kinds)
    assert aws.ADDRESS[0] in made


# ── the double against the SDK ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("type", SDK_CLASSES)
def test_the_double_knows_the_properties_that_the_sdk_knows(type: str) -> None:
    """What it accepts exists, what the SDK requires it requires, and what the program sends it acts on."""
    kind = AWS.kinds[type]
    require_likeness(kind, *SDK_CLASSES[type])
    assert set(run(msgspec.structs.replace(WITH_VOLUME, max_usd_per_hour=Decimal(1))).inputs[type]) <= kind.accepts


def test_the_double_has_the_version_of_the_installed_sdk() -> None:
    """The engine binds a plugin to exactly that version."""
    assert plugin_version(aws.PLUGIN) == VERSION


# ── orders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_address_is_a_network_of_one() -> None:
    assert checked_cidrs(("203.0.113.7", "10.1.2.3/8", " 2001:db8::7 ")) == ("203.0.113.7/32", "10.0.0.0/8", "2001:db8::7/128")


def test_tags_alone_tell_run_owner_deadline_and_price() -> None:
    assert run_tags(OFFER, LAUNCH, "a1b2") == {
        "team": "nlp",
        "rentune-run": "r1",
        "rentune-owner": "ada",
        "rentune-installation": "a1b2",
        "rentune-deadline": "2026-11-25T14:00:00Z",
        "rentune-usd-per-hour": "1.006",
    }


def test_the_tags_can_be_read_back() -> None:
    """What a list shows says whose it is and until when; a deadline that somebody's hand spoilt is none."""
    tags = run_tags(OFFER, LAUNCH, "a1b2")
    seen = tagged_resource("instance", "i-1", "here", tags, bills=True)
    assert (seen.run_id, seen.owner, seen.installation, seen.deadline_at_s) == ("r1", "ada", "a1b2", LAUNCH.deadline_at_s // 1)
    assert tagged_resource("instance", "i-1", "here", tags | {"rentune-deadline": "soon"}, bills=True).deadline_at_s is None


@pytest.mark.parametrize("written", ["2026-11-26T10:00:00", "2026-11-26 10:00:00Z", "2026-11-26T12:00:00+02:00"])
def test_a_moment_without_a_zone_is_in_utc(written: str) -> None:
    """As every cloud means it, whatever the time is here."""
    assert instant_s(written) == 1795687200.0
    assert instant_s("yesterday") is None


def test_every_cloud_has_a_module() -> None:
    """And an unknown one is named, with those that exist."""
    for name in CLOUDS:
        assert load_cloud(name).KINDS
    with pytest.raises(BadInput, match="no cloud 'azure'"):
        load_cloud("azure")


def test_neither_a_newer_image_nor_a_fresh_key_replaces_a_box_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second create, after a controller died in its first, looks its image up and makes its one-time host key anew."""
    assert left_as_it_is(lambda: run(WITH_VOLUME), monkeypatch) == {
        "aws:ec2/instance:Instance": {"ami", "userData", "volumeTags"}
    }
