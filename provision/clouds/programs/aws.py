"""AWS EC2: a key pair, a security group and one instance; and what of ours is still there, asked of EC2 by tag.

Layers of the deadline here: the instance is told to terminate when it shuts itself down, so the timer of the user data
ends the bill; a spot instance is a one-time request that terminates on interruption, so nothing comes back by itself.
The account needs a default VPC in the region.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import botocore.exceptions
import pulumi
import pulumi_aws as aws

from provision.clouds.programs import Volumes
from provision.clouds.programs.accounts.aws_api import NOBODY, asked, heard_by, reason_of
from provision.clouds.programs.accounts.aws_api import connect as connect
from provision.clouds.programs.accounts.aws_lists import RUNS as RUNS
from provision.clouds.programs.accounts.aws_lists import listed, rows
from provision.clouds.programs.accounts.aws_quotas import GPU_QUOTAS as GPU_QUOTAS
from provision.clouds.programs.accounts.aws_quotas import needs as needs
from provision.clouds.programs.accounts.aws_quotas import quotas as quotas
from provision.clouds.programs.accounts.aws_refusals import REFUSALS as REFUSALS
from provision.clouds.programs.caller import caller_address as caller_address  # one of the names of a cloud
from provision.clouds.programs.clocks import Heard
from provision.clouds.programs.order import (
    RUN_TAG,
    SSH_PORT,
    Image,
    KeptVolume,
    Order,
    PowerOff,
)
from provision.errors import Refused
from provision.seam import Answer, Layer, Owned, Resource

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own, of one of its modules
    aws.ebs.Volume  # noqa: B018 - as below
    aws.ec2.Instance  # noqa: B018 - loads the lazy module now: first loaded in the engine's threads it can be half made

PLUGIN: Final = "aws"
KINDS: Final = {
    "aws:ec2/instance:Instance": "instance",
    "aws:ec2/securityGroup:SecurityGroup": "security_group",
    "aws:ec2/keyPair:KeyPair": "key_pair",
}
VOLUMES: Final = Volumes(
    kinds={"aws:ebs/volume:Volume": "volume", "aws:ec2/volumeAttachment:VolumeAttachment": "attachment"},
    device="/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol* /dev/xvdf",  # on Nitro and before it (EBS's user guide)
)
DEVICE: Final = "/dev/sdf"  # the first that EC2 recommends for a further volume
ADDRESS: Final = ("aws:ec2/instance:Instance", "publicIp")
IMAGE: Final = Image(
    owner="amazon",
    name="Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04) ????????",
    user="ubuntu",
    takes_driver=True,
    driver_branch=595,  # source=those of 2026-10-06: 595.91.07; the newest image is taken, so it does not get older
    source="AWS Deep Learning AMIs Developer Guide, release notes of the base AMI (Ubuntu 22.04)",
    as_of=dt.date(2026, 11, 26),
)
# For a row above whose image has an older driver than torch needs: today's has not.
WITHOUT_DRIVER: Final = Image(
    owner="099720109477",  # Canonical's account
    name="ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*",
    user="ubuntu",
    takes_driver=True,
    source="AWS ParallelCluster's tests (pull request 6735): Canonical's account and names",
    as_of=dt.date(2026, 11, 28),
)
POWER_OFF: Final = PowerOff.ENDS_BILL  # by instance_initiated_shutdown_behavior, below
LEAST_DISK_GIB: Final = 8  # assumed, for an image that does not say: the root volume of Ubuntu's own images at EC2
ONE_TIME: Final = "one-time"  # a spot request that is over once its machine is
HOME_REGION: Final = "us-east-1"  # where the list of regions is asked for


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────────


def image_of(instance_type: str, image: Image) -> Image:
    """One for all types."""
    return image


def program(order: Order) -> Callable[[], None]:
    """The resources of one run as a closure for the Automation API; its exports are for people, we read the state."""

    def run() -> None:
        there = pulumi.ResourceOptions(provider=aws.Provider("region", region=order.region))
        key = aws.ec2.KeyPair("key", key_name=order.name, public_key=order.public_key, tags=order.tags, opts=there)
        group = _security_group(order, there)
        instance = _instance(order, key, group, there)
        if order.volume is not None:
            _attach(order, order.volume, instance, there)
        pulumi.export("host", instance.public_ip)
        pulumi.export("user", order.image.user)
        pulumi.export("host_key", order.host_key)
        pulumi.export("instance", instance.id)
        pulumi.export("security_group", group.id)
        pulumi.export("key_pair", key.id)

    return run


def _security_group(order: Order, there: pulumi.ResourceOptions) -> aws.ec2.SecurityGroup:
    v4, v6 = _by_family(order.allow_from)
    ssh: aws.ec2.SecurityGroupIngressArgsDict = {
        "protocol": "tcp",
        "from_port": SSH_PORT,
        "to_port": SSH_PORT,
        "description": "SSH",
    }
    if v4:
        ssh["cidr_blocks"] = v4
    if v6:
        ssh["ipv6_cidr_blocks"] = v6
    return aws.ec2.SecurityGroup(
        "ssh",
        name=order.name,
        description="SSH from the owner of the run only",
        ingress=[ssh],
        # The provider removes EC2's own rule; the box must reach package and model registries.
        egress=[{"protocol": "-1", "from_port": 0, "to_port": 0, "cidr_blocks": ["0.0.0.0/0"], "ipv6_cidr_blocks": ["::/0"]}],
        tags=order.tags,
        opts=there,
    )


def _by_family(cidrs: Iterable[str]) -> tuple[list[str], list[str]]:
    networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
    return [str(n) for n in networks if n.version == 4], [str(n) for n in networks if n.version == 6]


def _instance(
    order: Order, key: aws.ec2.KeyPair, group: aws.ec2.SecurityGroup, there: pulumi.ResourceOptions
) -> aws.ec2.Instance:
    image = aws.ec2.get_ami_output(
        most_recent=True,
        owners=[order.image.owner],
        filters=[{"name": "name", "values": [order.image.name]}, {"name": "architecture", "values": ["x86_64"]}],
        opts=pulumi.InvokeOptions(provider=there.provider),
    )
    spot: aws.ec2.InstanceInstanceMarketOptionsArgsDict = {
        "market_type": "spot",
        "spot_options": {
            "spot_instance_type": ONE_TIME,
            "instance_interruption_behavior": "terminate",
            "max_price": str(order.max_usd_per_hour),
        },
    }
    return aws.ec2.Instance(
        "box",
        ami=image.id,
        instance_type=order.instance_type,
        availability_zone=_zone_of(order, there),
        instance_market_options=spot if order.max_usd_per_hour is not None else None,
        key_name=key.key_name,
        vpc_security_group_ids=[group.id],
        associate_public_ip_address=True,
        instance_initiated_shutdown_behavior="terminate",
        user_data=pulumi.Output.secret(order.user_data),
        metadata_options={"http_endpoint": "enabled", "http_tokens": "required", "http_put_response_hop_limit": 1},
        root_block_device={
            "encrypted": True,
            "volume_type": "gp3",
            "volume_size": image.block_device_mappings.apply(lambda mappings: _disk_gib(order, mappings)),
            "delete_on_termination": True,
        },
        tags=order.tags,
        volume_tags=order.tags,
        # A newer image or a fresh key must never replace a box that runs; a volume that is attached keeps its own tags.
        opts=pulumi.ResourceOptions.merge(there, pulumi.ResourceOptions(ignore_changes=["ami", "userData", "volumeTags"])),
    )


def _attach(order: Order, volume: KeptVolume, instance: aws.ec2.Instance, there: pulumi.ResourceOptions) -> None:
    """The volume, made in the instance's own zone where there is none yet. The engine's destroy leaves both where they are:
    the instance's end detaches it, whoever ends it.
    """
    kept = pulumi.ResourceOptions.merge(there, pulumi.ResourceOptions(retain_on_delete=True))
    id: Any = volume.id
    if id is None:
        id = aws.ebs.Volume(
            "kept",
            availability_zone=instance.availability_zone,
            size=volume.size_gib,
            type="gp3",
            encrypted=True,
            tags=volume.tags,
            opts=kept,
        ).id
    aws.ec2.VolumeAttachment("attached", device_name=DEVICE, instance_id=instance.id, volume_id=id, opts=kept)


def _zone_of(order: Order, there: pulumi.ResourceOptions) -> str | None:
    """The volume's, where there is one; else EC2 chooses, until it has refused the type in a zone."""
    if order.volume is not None and order.volume.place is not None:
        return order.volume.place
    return _zone(order, there) if order.full_zones else None


def _zone(order: Order, there: pulumi.ResourceOptions) -> str:
    """The first zone of the region that has the type and has not refused it. Raises Refused where there is none."""
    offered = aws.ec2.get_instance_type_offerings(
        location_type="availability-zone",
        filters=[{"name": "instance-type", "values": [order.instance_type]}],
        opts=pulumi.InvokeOptions(provider=there.provider),
    )
    others: list[str] = sorted(set(offered.locations) - set(order.full_zones))
    if others:
        return others[0]
    raise Refused(f"{order.region} has no other zone with {order.instance_type}.", hint="Choose another region or type.")


def _disk_gib(order: Order, mappings: Iterable[Any]) -> int:
    sizes = [int(mapping.ebs["volume_size"]) for mapping in mappings if mapping.ebs and "volume_size" in mapping.ebs]
    return max(order.disk_gib, *sizes, LEAST_DISK_GIB)


# ── the cloud itself ───────────────────────────────────────────────────────────────────────────────────────────────


def account(environment: Mapping[str, str]) -> str:
    """By its number. Whoever asks needs no permission for that (docs.aws.amazon.com, "GetCallerIdentity", 2026-11)."""
    with asked("whose credentials these are"):
        return str(connect(environment.get("AWS_REGION", HOME_REGION), environment, "sts").get_caller_identity()["Account"])


def regions(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Every region that is enabled for this account."""
    with asked("the list of regions"):
        answer = connect(environment.get("AWS_REGION", HOME_REGION), environment).describe_regions()
    return tuple(sorted(region["RegionName"] for region in answer["Regions"]))


def owned(region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
    """Instances, their disks, security groups and key pairs with our tag that are not gone yet, and kept volumes. A spot
    request carries no tag, and being made once is over with its instance.
    """
    has_tag = {"Name": "tag-key", "Values": [RUN_TAG]} if tag is None else {"Name": f"tag:{RUN_TAG}", "Values": [tag]}
    heard = Heard()
    try:
        ec2 = connect(region, environment)
        heard = heard_by(ec2)
        found, kept = listed(ec2, region, has_tag)
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        message, has_asked = f"{region}: {reason_of(error)}", not isinstance(error, NOBODY)
        return Owned(resources=(), complete=Answer.UNKNOWN, message=message, ahead_s=heard.ahead_s, asked=has_asked)
    return Owned(resources=found, complete=Answer.YES, kept=kept, ahead_s=heard.ahead_s)


_ENDS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "instance": lambda ec2, id: ec2.terminate_instances(InstanceIds=[id]),
    **dict.fromkeys(("volume", "disk"), lambda ec2, id: ec2.delete_volume(VolumeId=id)),
    "security_group": lambda ec2, id: ec2.delete_security_group(GroupId=id),
    "key_pair": lambda ec2, id: ec2.delete_key_pair(KeyName=id),
}


def destroy_stray(resource: Resource, environment: Mapping[str, str]) -> None:
    """Terminate or delete one resource."""
    with asked(f"the end of {resource.kind} {resource.id}"):
        try:
            _ENDS[resource.kind](connect(resource.region, environment), resource.id)
        except botocore.exceptions.ClientError as error:
            if "NotFound" not in error.response["Error"].get("Code", ""):
                raise


def admit(region: str, run_id: str, cidrs: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """The new rule first, then the old ones away: nobody who is still let in is shut out in between."""
    with asked(f"SSH from {', '.join(cidrs)}"):
        ec2 = connect(region, environment)
        mine = {"Name": f"tag:{RUN_TAG}", "Values": [run_id]}
        for group in rows(ec2, "describe_security_groups", "SecurityGroups", mine):
            there = _admitted(rule for rule in group["IpPermissions"] if rule.get("FromPort") == SSH_PORT)
            if new := set(cidrs) - there:
                ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[_ssh_from(new)])
            if old := there - set(cidrs):
                ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=[_ssh_from(old)])


def _admitted(permissions: Iterable[dict[str, Any]]) -> set[str]:
    v4 = {row["CidrIp"] for permission in permissions for row in permission.get("IpRanges", [])}
    return v4 | {row["CidrIpv6"] for permission in permissions for row in permission.get("Ipv6Ranges", [])}


def _ssh_from(cidrs: Iterable[str]) -> dict[str, Any]:
    v4, v6 = _by_family(sorted(cidrs))
    ranges = {"IpRanges": [{"CidrIp": cidr} for cidr in v4], "Ipv6Ranges": [{"CidrIpv6": cidr} for cidr in v6]}
    return {"IpProtocol": "tcp", "FromPort": SSH_PORT, "ToPort": SSH_PORT} | {
        name: rows for name, rows in ranges.items() if rows
    }


def console(instance: Resource, environment: Mapping[str, str]) -> str:
    """EC2's console output; the empty string until the machine has written some."""
    with asked(f"the console of {instance.id}"):
        answer = connect(instance.region, environment).get_console_output(InstanceId=instance.id)
    return str(answer.get("Output", ""))


def guards(instance: Resource, environment: Mapping[str, str]) -> tuple[Layer, ...]:
    """What becomes of it when it switches itself off; of a spot machine, whether its request may make another."""
    with asked(f"a look at {instance.id}"):
        ec2 = connect(instance.region, environment)
        attribute = "instanceInitiatedShutdownBehavior"
        answer = ec2.describe_instance_attribute(InstanceId=instance.id, Attribute=attribute)
        of_it = {"Name": "instance-id", "Values": [instance.id]}
        requests = rows(ec2, "describe_spot_instance_requests", "SpotInstanceRequests", of_it)
    behaviour = answer["InstanceInitiatedShutdownBehavior"]["Value"]
    return (
        _guard("shutdown behaviour", f"a power-off from inside: {behaviour}", there=behaviour == "terminate"),
        *(
            _guard("spot request", f"{row['Type']}, so {_AFTER[row['Type']]}", there=row["Type"] == ONE_TIME)
            for row in requests
        ),
    )


_AFTER: Final = {ONE_TIME: "no machine follows one that is taken back", "persistent": "another machine follows"}


def _guard(name: str, says: str, *, there: bool) -> Layer:
    return Layer(place="provider", name=name, there=Answer.YES if there else Answer.NO, says=says)
