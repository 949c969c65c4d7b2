"""AWS through the real engine, a plugin double and an emulated EC2: create, find by tag, destroy, nothing left."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pulumi
import pytest
from pulumi import dynamic

from provision.account.upkeep import Spent, spent
from provision.charge.ownerless.volumes import end_volume
from provision.clouds.engine.build import OLDEST_FITTING, read_version
from provision.clouds.engine.stack import State
from provision.clouds.programs import aws
from provision.errors import Declined, MissingPart, ProvisionError, Reason, Scope
from provision.home.clocks import Clocks
from provision.home.places import RunFolder
from provision.seam import Answer
from provision.state.papers import pack, unpack
from provision.walk.edges import Edges
from tests.doubles.bench import OFFER, PUBLIC_KEY, REGION, Bench
from tests.doubles.displays import Quiet

pytestmark = pytest.mark.engine
HOUR_S = 3600.0
MEGABYTE = 2**20


def ec2(bench: Bench) -> Any:
    return aws.connect(REGION, bench.environment)


def the_instance(bench: Bench) -> dict[str, Any]:
    [reservation] = ec2(bench).describe_instances()["Reservations"]
    [instance] = reservation["Instances"]
    return dict(instance)


def kinds(resources: Any) -> list[str]:
    return sorted(resource.kind for resource in resources)


def test_the_engine_is_the_published_one(engine: Path) -> None:
    """`pulumi version` answers with a version that this project accepts."""
    version = tuple(int(part) for part in read_version(engine).split(".")[:3])
    assert OLDEST_FITTING <= version < (4,)


def test_a_zone_that_has_refused_the_type_is_not_asked_again(bench: Bench) -> None:
    """EC2 chooses; told of a full zone, the program asks EC2 which others have the type and orders in one of those."""
    launch = msgspec.structs.replace(bench.launch, full_zones=(f"{REGION}a",))
    bench.provisioner().up(OFFER, launch)
    assert the_instance(bench)["Placement"]["AvailabilityZone"] == f"{REGION}b"
    assert bench.provisioner().destroy(launch).verdict == "destroyed"


def test_up_then_found_by_tag_then_destroyed_then_nothing_left(bench: Bench) -> None:
    """The whole life of a box, and what the engine asked of the plugin for it."""
    provisioner = bench.provisioner()

    box = provisioner.up(OFFER, bench.launch)

    assert box.host == the_instance(bench)["PublicIpAddress"]
    assert (box.user, box.port, box.replace_host_key) == ("ubuntu", 22, True)
    assert kinds(box.resources) == ["instance", "key_pair", "security_group"]
    owned = provisioner.owned(bench.launch)
    assert owned.complete is Answer.YES
    assert kinds(owned.resources) == ["disk", "instance", "key_pair", "security_group"]
    assert {resource.id for resource in box.resources} <= {resource.id for resource in owned.resources}
    assert {resource.owner for resource in owned.resources} == {"ada"}
    [box_seen] = [resource for resource in owned.resources if resource.kind == "instance"]
    assert box_seen.since_s is not None
    assert abs(time.time() - box_seen.since_s) < HOUR_S, "by the cloud's own word"
    so_far = spent(box_seen, None, now_s=box_seen.since_s + HOUR_S)
    assert so_far == Spent(usd=bench.row.offer.usd_per_hour, bound="exactly"), "without a ledger"

    teardown = provisioner.destroy(bench.launch)

    assert teardown.verdict == "destroyed", teardown.message
    assert {end.gone for end in teardown.resources} == {Answer.YES}
    assert kinds(end.resource for end in teardown.resources) == ["disk", "instance", "key_pair", "security_group"]
    assert provisioner.owned().resources == ()
    calls = [call.split()[:3] for call in bench.faults.calls()]
    for verb in ("create", "delete"):
        assert sorted(kind for moment, what, kind in calls if (moment, what) == ("after", verb)) == [
            "Instance",
            "KeyPair",
            "SecurityGroup",
        ]


@pytest.mark.fault("F23", tier="engine")
def test_a_box_is_destroyed_by_its_state_from_another_home(bench: Bench, tmp_path: Path) -> None:
    """The papers that go to object storage hold all that the engine needs there: the plugin itself is told to delete."""
    bench.provisioner().up(OFFER, bench.launch)
    there = RunFolder(tmp_path / "another-home/runs" / bench.run_id)
    there.root.mkdir(parents=True)
    unpack(pack(RunFolder(bench.launch.folder)), there)

    teardown = bench.provisioner().destroy(msgspec.structs.replace(bench.launch, folder=there.root))

    assert teardown.verdict == "destroyed", teardown.message
    deleted = sorted(call.split()[2] for call in bench.faults.calls() if call.split()[:2] == ["after", "delete"])
    assert deleted == ["Instance", "KeyPair", "SecurityGroup"]


def test_what_ec2_was_asked_for(bench: Bench) -> None:
    """Terminates when it shuts itself down; encrypted disk of the planned size; metadata v2 only; SSH from one address."""
    bench.provisioner().up(OFFER, bench.launch)

    instance = the_instance(bench)
    attribute = ec2(bench).describe_instance_attribute(
        InstanceId=instance["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )
    assert attribute["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    assert instance["InstanceType"] == OFFER.instance_type
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    [volume] = ec2(bench).describe_volumes(Filters=[{"Name": "tag:rentune-run", "Values": [bench.run_id]}])["Volumes"]
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (60, "gp3", True)
    [group] = ec2(bench).describe_security_groups(GroupIds=[instance["SecurityGroups"][0]["GroupId"]])["SecurityGroups"]
    [rule] = group["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
    assert [entry["CidrIp"] for entry in rule["IpRanges"]] == ["203.0.113.7/32"]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags.keys() == {"team"} | {
        f"rentune-{name}" for name in ("run", "owner", "installation", "deadline", "usd-per-hour")
    }


def test_a_moved_caller_is_let_in_and_the_old_address_is_not(bench: Bench) -> None:
    """One rule before and after, whoever asks how often; the box is still destroyed by state and tag."""
    provisioner = bench.provisioner()
    provisioner.up(OFFER, bench.launch)
    here = "198.51.100.9/32"
    for _ in range(2):
        aws.admit(REGION, bench.run_id, (here,), bench.environment)

    [group] = ec2(bench).describe_security_groups(Filters=[{"Name": "tag:rentune-run", "Values": [bench.run_id]}])[
        "SecurityGroups"
    ]
    [rule] = group["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"], [entry["CidrIp"] for entry in rule["IpRanges"]]) == (22, 22, [here])
    assert provisioner.destroy(bench.launch).verdict == "destroyed"


def test_a_spot_box_is_a_one_time_request_at_the_planned_price(bench: Bench) -> None:
    """EC2 marks the instance as spot."""
    bench.provisioner().up(msgspec.structs.replace(OFFER, purchase="spot"), bench.launch)

    assert the_instance(bench)["InstanceLifecycle"] == "spot"


def test_no_secret_lies_in_the_state_or_the_logs(bench: Bench) -> None:
    """The one-time host key reaches the machine, and no file of the engine holds it, the passphrase or an account key."""
    bench.provisioner().up(OFFER, bench.launch)

    sent = ec2(bench).describe_instance_attribute(InstanceId=the_instance(bench)["InstanceId"], Attribute="userData")
    user_data = base64.b64decode(sent["UserData"]["Value"]).decode()
    private = user_data.partition("BEGIN OPENSSH PRIVATE KEY-----\\n")[2][:60]
    assert len(private) == 60
    folder = RunFolder(bench.launch.folder).engine
    secrets = [private, (folder / "passphrase").read_text(), bench.environment["AWS_SECRET_ACCESS_KEY"]]
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "passphrase"]
    assert PUBLIC_KEY in "".join(file.read_text("utf-8", "replace") for file in files)
    assert [file for file in files for secret in secrets if secret in file.read_text("utf-8", "replace")] == []
    assert {file.stat().st_mode & 0o077 for file in (folder / "log").iterdir() if file.suffix in (".out", ".err")} == {0}


def test_a_volume_that_is_kept_outlives_its_box_and_serves_the_next_one(bench: Bench) -> None:
    """Found by tag from any computer, mounted again by another run's box in its zone, and ended when that is asked for."""
    launch = msgspec.structs.replace(bench.launch, volume_name="models", volume_gib=60)
    provisioner = bench.provisioner()
    first = provisioner.up(OFFER, launch)
    assert first.cache == "/mnt/rentune/cache"
    assert {resource.kind for resource in first.resources} == set(aws.KINDS.values())

    teardown = provisioner.destroy(launch)

    [kept] = teardown.kept
    assert (teardown.verdict, kept.kind, kept.size_gib, kept.run_id) == ("destroyed", "volume", 60, launch.run_id)
    assert f"but volume {kept.id}, which is kept as asked" in teardown.message
    assert kept.id not in {each.resource.id for each in teardown.resources}
    seen = provisioner.owned()
    assert (seen.nothing, [each.id for each in seen.kept]) == (True, [kept.id])

    other = msgspec.structs.replace(bench, run_id="r2")
    second = msgspec.structs.replace(other.launch, volume_name="models", volume_gib=60)
    provisioner.up(OFFER, second)
    [volume] = [each for each in ec2(bench).describe_volumes()["Volumes"] if each["VolumeId"] == kept.id]
    [machine] = ec2(bench).describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])["Reservations"]
    assert [each["InstanceId"] for each in volume["Attachments"]] == [machine["Instances"][0]["InstanceId"]]
    assert machine["Instances"][0]["Placement"]["AvailabilityZone"] == volume["AvailabilityZone"]
    told = ec2(bench).describe_instance_attribute(InstanceId=machine["Instances"][0]["InstanceId"], Attribute="userData")
    script = base64.b64decode(told["UserData"]["Value"]).decode()
    assert "mount" in script
    assert "mkfs" not in script  # what is kept is never formatted
    assert provisioner.destroy(second).verdict == "destroyed"
    end = end_volume(
        "aws", kept, Edges(bench.places, Quiet(), environment=bench.environment, clocks=Clocks(sleep=lambda _s: None))
    )
    assert (end.verdict, [each.gone for each in end.resources]) == ("destroyed", [Answer.YES])
    assert ec2(bench).describe_volumes()["Volumes"] == []


def test_what_the_cloud_declines_is_one_sentence_and_leaves_nothing(bench: Bench) -> None:
    """A wrong instance type: the cloud's own reason, no traceback, and what was made before it is ended."""
    provisioner = bench.provisioner()

    with pytest.raises(Declined, match=r"InvalidInstanceType.*By then aws listed .*security_group") as caught:
        provisioner.up(msgspec.structs.replace(OFFER, instance_type="p9.huge"), bench.launch)

    assert "Traceback" not in str(caught.value)
    assert (caught.value.reason, caught.value.scope) == (Reason.UNKNOWN, Scope.OFFER)
    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().resources == ()


@pytest.mark.fault("F4", tier="engine")
def test_a_box_that_was_created_though_the_provider_reported_an_error(bench: Bench) -> None:
    """The state knows nothing of it; the tag finds it, the error names it, `up` buys no second one, `destroy` ends it."""
    bench.faults.plant("create", "after", "Instance", "error the service is not available", once=True)
    provisioner = bench.provisioner()

    with pytest.raises(ProvisionError, match=r"service is not available.*By then aws listed instance i-"):
        provisioner.up(OFFER, bench.launch)
    with pytest.raises(ProvisionError, match="already has instance"):
        provisioner.up(OFFER, bench.launch)

    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().resources == ()


def test_a_box_that_was_created_but_is_not_well(bench: Bench) -> None:
    """The engine keeps its id; `up` fails all the same, and `destroy` ends the box."""
    bench.faults.plant("create", "after", "Instance", "init it never came up", once=True)
    provisioner = bench.provisioner()

    with pytest.raises(ProvisionError, match=r"it never came up.*By then aws listed instance"):
        provisioner.up(OFFER, bench.launch)

    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().resources == ()


@pytest.mark.fault("F21", tier="engine")
def test_a_delete_that_the_plugin_refuses_is_done_by_tag(bench: Bench) -> None:
    """The state's destroy fails, the second look by tag ends what it left."""
    provisioner = bench.provisioner()
    provisioner.up(OFFER, bench.launch)
    bench.faults.plant("delete", "before", "SecurityGroup", "error DependencyViolation")

    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert bench.listed().resources == ()


@pytest.mark.fault("F23", tier="engine")
def test_a_lost_run_folder_is_no_lost_box(bench: Bench) -> None:
    """Neither state nor ledger: the tag alone is enough, from any computer."""
    bench.provisioner().up(OFFER, bench.launch)
    elsewhere = msgspec.structs.replace(bench.launch, folder=bench.launch.folder.parent / "elsewhere")

    assert bench.provisioner().destroy(elsewhere).verdict == "destroyed"
    assert bench.listed().resources == ()


@pytest.mark.fault("F7", tier="engine")
def test_a_megabyte_of_output_is_kept_whole(bench: Bench) -> None:
    """The engine says more than any pipe holds, and nothing waits for a reader."""
    sentences = [f"{number:03} {'x' * 16_000} end" for number in range(64)]

    def program() -> None:
        for sentence in sentences:
            pulumi.log.info(sentence)

    bench.provisioner()._stack(bench.launch).up(program)

    log = RunFolder(bench.launch.folder).engine / "log"
    said = "".join(file.read_text() for file in log.glob("*.out"))
    assert [sentence[:3] for sentence in sentences if sentence not in said] == []


class Loud(dynamic.ResourceProvider):  # type: ignore[misc] # pulumi's types are not followed
    """A provider whose words go past the engine's own: what a provider of Python's prints on stderr is passed on as it is."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        os.write(2, b"before \xff\xfe bad\n" + b"m" * MEGABYTE + b"\nafter\n")
        return dynamic.CreateResult("loud-1", {})


class Thing(dynamic.Resource, name="Thing"):  # type: ignore[misc, call-arg] # the same
    """What a loud provider makes."""


@pytest.mark.fault("F7", tier="engine")
def test_bytes_that_are_no_utf8_and_a_line_of_a_megabyte_lose_nothing(bench: Bench) -> None:
    """Through the engine, from a provider's stderr: the log has them as they were, and the state what was made."""

    def program() -> None:
        Thing(Loud(), "loud", {}, None)

    stack = bench.provisioner()._stack(bench.launch)
    stack.up(program)

    [said] = [file.read_bytes() for file in (RunFolder(bench.launch.folder).engine / "log").glob("*-up.out")]
    assert b"before \xff\xfe bad" in said
    assert b"m" * MEGABYTE in said
    assert b"after" in said
    assert [resource.id for resource in stack.state().resources] == ["loud-1"]


def test_destroy_twice_and_destroy_without_up(bench: Bench) -> None:
    """Both are fine and say so."""
    provisioner = bench.provisioner()
    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    provisioner.up(OFFER, bench.launch)
    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert not (RunFolder(bench.launch.folder).engine / "state").exists()


def test_a_cloud_that_cannot_be_asked_is_unknown_not_empty(bench: Bench) -> None:
    """No answer: the teardown says unknown and what to type, the listing says unknown, and `up` buys nothing."""
    bench.provisioner().up(OFFER, bench.launch)
    blind = bench.provisioner(teardown_s=0.0, AWS_ENDPOINT_URL="http://127.0.0.1:9")

    assert blind.owned().complete is Answer.UNKNOWN
    teardown = blind.destroy(bench.launch)

    assert (teardown.verdict, teardown.command) == ("unknown", "rentune down r1")
    assert {end.gone for end in teardown.resources} == {Answer.UNKNOWN}
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"


def test_without_the_plugin_nothing_is_begun(bench: Bench) -> None:
    """A missing plugin is found before the cloud is called."""
    provisioner = bench.provisioner()
    for plugin in (bench.places.cache / "pulumi" / "plugins").rglob("pulumi-resource-aws"):
        plugin.unlink()

    with pytest.raises(MissingPart, match=r"plugin for aws, version 7\.51\.1"):
        provisioner.up(OFFER, bench.launch)
    assert bench.faults.calls() == []


def test_a_second_box_for_the_same_run_is_refused_and_the_first_lives_on(bench: Bench) -> None:
    """Nothing is created, not even when the cloud's list lags and only the state knows."""
    provisioner = bench.provisioner()
    provisioner.up(OFFER, bench.launch)
    before = bench.listed().resources

    with pytest.raises(ProvisionError, match="already has instance i-"):
        provisioner.up(OFFER, bench.launch)
    with pytest.raises(ProvisionError, match="something that the state has and the cloud does not list"):
        provisioner.up(msgspec.structs.replace(OFFER, region="us-east-1"), bench.launch)
    assert bench.listed().resources == before


def test_the_state_names_everything_the_program_makes(bench: Bench) -> None:
    """Nothing else, and nothing unfinished."""
    provisioner = bench.provisioner()
    provisioner.up(OFFER, bench.launch)

    state: State = provisioner._stack(bench.launch).state()

    assert {resource.type for resource in state.resources} == set(aws.KINDS)
    assert state.pending == ()
