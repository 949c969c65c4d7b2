"""The Google Cloud program under Pulumi's own mocks, with the real `pulumi_gcp`."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from typing import Any

import msgspec
import pulumi
import pulumi.runtime
import pulumi_gcp as gcp_sdk
import pytest
from pulumi.runtime import mocks

from planner.estimators.calibration import ORDERED_DISK_BYTES_PER_S
from planner.units import MIB
from provision.clouds.programs import gcp, plugin_version
from provision.clouds.programs.accounts import gcp_api
from provision.clouds.programs.order import KeptVolume, run_tags
from provision.errors import Refused
from tests.doubles.clouds import CLOUDS
from tests.doubles.plugins.gcp import GCP, VERSION
from tests.provision.orders import DEADLINE_AT_S, LAUNCH, ORDER
from tests.provision.sdk import left_as_it_is, require_likeness

INSTANCE = "gcp:compute/instance:Instance"
FIREWALL = "gcp:compute/firewall:Firewall"
DISK = "gcp:compute/disk:Disk"
ATTACHED = "gcp:compute/attachedDisk:AttachedDisk"
SDK_CLASSES: dict[str, tuple[Any, Any]] = {
    INSTANCE: (gcp_sdk.compute.Instance, gcp_sdk.compute.InstanceArgs),
    FIREWALL: (gcp_sdk.compute.Firewall, gcp_sdk.compute.FirewallArgs),
    DISK: (gcp_sdk.compute.Disk, gcp_sdk.compute.DiskArgs),
    ATTACHED: (gcp_sdk.compute.AttachedDisk, gcp_sdk.compute.AttachedDiskArgs),
}
FRESH = KeptVolume(tags={"rentune-run": "r1", "rentune-kept": "models"}, size_gib=40)
GOOGLES = msgspec.structs.replace(ORDER, region="us-central1", instance_type="g2-standard-4", image=gcp.IMAGE)
ON_CPU = msgspec.structs.replace(GOOGLES, instance_type="e2-standard-4")


class Recorder(pulumi.runtime.Mocks):  # type: ignore[misc] # pulumi's types are not followed
    """Takes down what the program asks for. Of three zones the second and the third have every type; images take 20 GB."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, Any]] = {}
        self.types: set[str] = set()

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.name] = args.inputs
        self.types.add(args.typ)
        interfaces = {"networkInterfaces": [{"accessConfigs": [{"natIp": "198.51.100.4"}]}]}
        return args.name, args.inputs | (interfaces if args.typ == INSTANCE else {})

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        names = [f"us-central1-{letter}" for letter in "abc"]
        there = args.args.get("zone") in names[1:] and "none-such" not in args.args["filter"]
        image = {"selfLink": f"{args.args.get('project')}/{args.args.get('family')}", "diskSizeGb": 20}
        answers: dict[str, dict[str, Any]] = {
            "gcp:compute/getZones:getZones": {"names": names},
            "gcp:compute/getMachineTypes:getMachineTypes": {"machineTypes": [{"name": "it"}] if there else []},
            "gcp:compute/getImage:getImage": image,
        }
        return answers[args.token]


def recorded(order: Any = GOOGLES, **changes: Any) -> Recorder:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, preview=False)
    pulumi.runtime.test(gcp.program(msgspec.structs.replace(order, **changes)))()
    return recorder


def box(order: Any = GOOGLES, **changes: Any) -> dict[str, Any]:
    return recorded(order, **changes).inputs["box"]


def test_compute_engine_itself_deletes_the_instance_at_the_deadline() -> None:
    """To the second, whatever becomes of us and of the machine; and nobody starts it again."""
    scheduling = box()["scheduling"]
    assert dt.datetime.fromisoformat(scheduling["terminationTime"]).timestamp() == DEADLINE_AT_S
    assert (scheduling["instanceTerminationAction"], scheduling["automaticRestart"]) == ("DELETE", False)


def test_a_spot_machine_is_deleted_when_it_is_taken_and_at_the_deadline_as_any_other() -> None:
    scheduling = box(max_usd_per_hour=Decimal("0.3"))["scheduling"]
    assert scheduling["terminationTime"] == box()["scheduling"]["terminationTime"]
    assert (scheduling["provisioningModel"], scheduling["preemptible"]) == ("SPOT", True)
    assert (scheduling["instanceTerminationAction"], scheduling["automaticRestart"]) == ("DELETE", False)
    assert (box()["scheduling"]["provisioningModel"], box()["scheduling"]["preemptible"]) == ("STANDARD", False)


def test_only_a_machine_without_gpus_can_be_moved_while_it_runs() -> None:
    """Google takes nothing else for either."""
    assert box()["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert box(ON_CPU)["scheduling"]["onHostMaintenance"] == "MIGRATE"
    assert box(ON_CPU, max_usd_per_hour=Decimal("0.01"))["scheduling"]["onHostMaintenance"] == "TERMINATE"


def test_it_is_placed_in_the_first_zone_that_has_its_type() -> None:
    assert (box()["zone"], box()["machineType"]) == ("us-central1-b", "g2-standard-4")


def test_a_zone_that_has_refused_the_type_is_left_out() -> None:
    assert box(full_zones=("us-central1-b",))["zone"] == "us-central1-c"
    with pytest.raises(Exception, match=r"us-central1 has no zone with g2-standard-4\."):
        recorded(full_zones=("us-central1-b", "us-central1-c"))


def test_a_region_without_the_type_is_one_sentence() -> None:
    with pytest.raises(Exception, match=r"us-central1 has no zone with none-such\."):
        recorded(instance_type="none-such")


def test_what_others_let_into_the_network_is_shut_out_but_for_ssh_from_the_given_networks() -> None:
    """The network `default` comes with SSH open to everybody. Of version 4 alone: it has no other addresses."""
    made = recorded().inputs
    ssh, shut = made["ssh"], made["shut"]
    assert (ssh["allows"], ssh["sourceRanges"]) == ([{"protocol": "tcp", "ports": ["22"]}], ["203.0.113.7/32"])
    assert (shut["denies"], shut["sourceRanges"]) == ([{"protocol": "all"}], ["0.0.0.0/0"])
    assert ssh["priority"] < shut["priority"] < 1000
    assert ssh["targetTags"] == shut["targetTags"] == made["box"]["tags"] == ["rentune-r1"]
    assert {rule["direction"] for rule in (ssh, shut)} == {"INGRESS"}


def test_networks_of_version_6_alone_are_refused_before_anything_is_made() -> None:
    with pytest.raises(Refused, match="IPv4 only"):
        gcp.program(msgspec.structs.replace(GOOGLES, allow_from=("2001:db8::7/128",)))


def test_a_disk_of_the_planned_size_never_smaller_than_the_image_and_gone_with_the_machine() -> None:
    disk = box()["bootDisk"]
    assert (disk["autoDelete"], disk["initializeParams"]["size"]) == (True, 100)
    assert box(disk_gib=0)["bootDisk"]["initializeParams"]["size"] == 20
    assert disk["initializeParams"]["labels"] == box()["labels"]


@pytest.mark.parametrize(
    ("instance_type", "disk", "image"),
    [
        ("e2-standard-4", "pd-balanced", gcp.IMAGE),
        ("n4-standard-8", "hyperdisk-balanced", gcp.IMAGE),
        ("g2-standard-96", "pd-balanced", gcp.GPU_IMAGE),
        ("a2-ultragpu-1g", "pd-balanced", gcp.GPU_IMAGE),
        ("a3-highgpu-8g", "pd-balanced", gcp.GPU_IMAGE),
        ("g4-standard-48", "hyperdisk-balanced", gcp.GPU_IMAGE),
    ],
)
def test_the_image_has_a_driver_where_there_are_gpus_and_the_disk_is_of_a_kind_that_the_family_takes(
    instance_type: str, disk: str, image: Any
) -> None:
    chosen = gcp.image_of(instance_type, gcp.IMAGE)
    params = box(instance_type=instance_type, image=chosen)["bootDisk"]["initializeParams"]
    assert (params["type"], params["image"]) == (disk, f"{image.owner}/{image.name}")


@pytest.mark.parametrize(
    ("instance_type", "speed"),
    [("g4-standard-48", {"provisionedIops": 3000, "provisionedThroughput": 140}), ("e2-standard-4", {})],
)
def test_a_disk_is_ordered_no_faster_than_what_its_price_by_the_gib_has_in_it(
    instance_type: str, speed: dict[str, int]
) -> None:
    """Google's own default is faster, and what is beyond is billed apart: no plan would know of it."""
    made = recorded(instance_type=instance_type, volume=FRESH).inputs
    for disk in (made["box"]["bootDisk"]["initializeParams"], made["kept"]):
        assert {key: value for key, value in disk.items() if key.startswith("provisioned")} == speed


def test_a_plan_reads_from_it_as_fast_as_it_is_ordered() -> None:
    planned = ORDERED_DISK_BYTES_PER_S["gcp"].p50
    assert planned == pytest.approx(gcp.INCLUDED["hyperdisk-balanced"]["provisioned_throughput"] * MIB, rel=0.01)


def test_a_part_of_a_gpu_is_refused() -> None:
    """It needs a driver of its own."""
    with pytest.raises(Refused, match="part of a GPU"):
        gcp.program(msgspec.structs.replace(GOOGLES, instance_type="g4-standard-12"))


def test_no_credential_is_on_the_machine_and_nobody_elses_key_opens_it() -> None:
    """No service account; no keys of the project, no login by the organisation, no console to type on."""
    instance = box()
    assert "serviceAccount" not in instance
    assert {key: value for key, value in instance["metadata"]["value"].items() if key != "user-data"} == {
        "block-project-ssh-keys": "TRUE",
        "enable-oslogin": "FALSE",
        "serial-port-enable": "FALSE",
    }
    assert instance["shieldedInstanceConfig"]["enableVtpm"]


def test_user_data_is_a_secret() -> None:
    """The whole of the metadata is one, then."""
    assert box()["metadata"]["value"]["user-data"] == GOOGLES.user_data


def test_everything_carries_the_tags_and_they_can_be_read_back() -> None:
    """In labels with what Google takes in one, and in the description of a rule, which has no labels."""
    tags = run_tags(CLOUDS["gcp"].offer, LAUNCH, "a1b2") | {"Für": "Größe: 7 %", "-": "", "a_b": "_x-", "7": "Ada@home"}
    made = recorded(tags=tags).inputs
    for key, value in made["box"]["labels"].items():
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key)
        assert re.fullmatch(r"[a-z0-9_-]{0,63}", value)
    assert gcp.from_labels(made["box"]["labels"]) == tags
    assert gcp.from_description(made["ssh"]["description"]) == gcp.from_description(made["shut"]["description"]) == tags
    assert all(gcp.from_description(text) == {} for text in ("", "of the house", "[1]", json.dumps({"team": "nlp"})))


def test_a_tag_too_long_for_a_label_is_refused_before_anything_is_made() -> None:
    with pytest.raises(Refused, match="too long for a tag"):
        gcp.program(msgspec.structs.replace(GOOGLES, tags={"note": "x" * 64}))


def test_an_offer_without_a_region_is_refused() -> None:
    """Google's prices differ by region."""
    with pytest.raises(Refused, match="names no region"):
        gcp.program(msgspec.structs.replace(GOOGLES, region="*"))


def test_a_volume_that_is_kept_is_made_in_the_instance_s_zone_and_one_that_is_there_draws_the_instance_to_it() -> None:
    """Of the kind of disk that the machine takes, under a name beside that of its boot disk."""
    made = recorded(volume=FRESH).inputs
    assert made["kept"] == {
        "name": "rentune-r1-kept",
        "zone": "us-central1-b",
        "size": 40,
        "type": "pd-balanced",
        "labels": FRESH.tags,
    }
    attached = {"disk": "kept", "instance": "box", "zone": "us-central1-b", "deviceName": "rentune-kept"}
    assert made["attached"] == attached
    there = KeptVolume(tags={}, size_gib=40, id="projects/p/zones/us-central1-c/disks/d", place="us-central1-c")
    again = recorded(volume=there).inputs
    assert again["box"]["zone"] == again["attached"]["zone"] == "us-central1-c"
    assert again["attached"]["disk"] == there.id
    assert "kept" not in again
    assert recorded(volume=FRESH, instance_type="n4-standard-8").inputs["kept"]["type"] == "hyperdisk-balanced"


@pytest.mark.parametrize(
    ("instance_type", "sold_as", "joins"),
    [
        ("n4-standard-8", "pd-balanced", False),
        ("n4-standard-8", "hyperdisk-balanced", True),
        ("g2-standard-4", "hyperdisk-balanced", False),
        ("g2-standard-4", "pd-ssd", True),
        ("a3-highgpu-8g", "hyperdisk-balanced", True),  # takes both
        ("n4-standard-8", None, True),  # not known: Google says
    ],
)
def test_a_kept_disk_of_a_kind_that_the_machine_never_takes_is_known_before(
    instance_type: str, sold_as: str | None, joins: bool
) -> None:
    assert gcp.VOLUMES.joins(instance_type, sold_as) is joins


def test_every_kind_that_the_program_makes_is_known_to_the_listing() -> None:
    """Else a pending create of it could not be found again."""
    assert recorded().types == set(gcp.KINDS)
    assert recorded(volume=FRESH).types == set(gcp.KINDS) | set(gcp.VOLUMES.kinds) == set(GCP.kinds)
    assert set(gcp.KINDS.values()) <= set(gcp_api.LISTS)
    assert gcp.ADDRESS[0] in gcp.KINDS


@pytest.mark.parametrize("type", SDK_CLASSES)
def test_the_double_knows_the_properties_that_the_sdk_knows(type: str) -> None:
    """What it accepts exists, what the SDK requires it requires, and what the program sends it acts on."""
    kind = GCP.kinds[type]
    require_likeness(kind, *SDK_CLASSES[type])
    made = recorded(volume=FRESH).inputs
    for name in {INSTANCE: ["box"], FIREWALL: ["ssh", "shut"], DISK: ["kept"], ATTACHED: ["attached"]}[type]:
        assert set(made[name]) <= kind.accepts


def test_the_double_has_the_version_of_the_installed_sdk() -> None:
    """The engine binds a plugin to exactly that version."""
    assert plugin_version(gcp.PLUGIN) == VERSION


def test_neither_a_newer_image_nor_a_fresh_key_replaces_a_box_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second create, after a controller died in its first, looks its image up and makes its one-time host key anew."""
    assert left_as_it_is(lambda: recorded(GOOGLES), monkeypatch) == {
        "gcp:compute/instance:Instance": {"attachedDisks", "bootDisk", "metadata", "zone"}
    }
