"""What EC2 lists of ours in one region, page by page: machines, their disks, groups and keys, and the volumes that are kept."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from provision.clouds.programs.order import KEPT_TAG, instant_s, tagged_resource
from provision.seam import VOLUME, Answer, Resource

LIVE_STATES: Final = ["pending", "running", "stopping", "stopped", "shutting-down"]


def listed(ec2: Any, region: str, has_tag: dict[str, Any]) -> tuple[tuple[Resource, ...], tuple[Resource, ...]]:
    """What a box is made of, and what its user keeps. Raises what boto3 does."""
    disks = _volume_rows(ec2, has_tag)
    kept, volumes = volumes_of(disks, region)
    machines = _instances(ec2, region, has_tag, {disk["VolumeId"]: _off_gib(disk) for disk in disks})
    others = (resource for look in _LOOKS for resource in look(ec2, region, has_tag))
    return (*machines, *others, *volumes), kept


def _instances(ec2: Any, region: str, has_tag: dict[str, Any], off_gib: dict[str, int]) -> list[Resource]:
    """`off_gib`: by volume, what of it a machine's own bill has while it is off."""
    live = {"Name": "instance-state-name", "Values": LIVE_STATES}
    return [
        msgspec.structs.replace(resource_of("instance", row["InstanceId"], region, row), **_stands(row, off_gib))
        for reservation in rows(ec2, "describe_instances", "Reservations", has_tag, live)
        for row in reservation["Instances"]
    ]


def rows(ec2: Any, asked_for: str, name: str, *filters: dict[str, Any]) -> list[dict[str, Any]]:
    """Of all the pages of a list."""
    pages = ec2.get_paginator(asked_for).paginate(Filters=list(filters))
    return [row for page in pages for row in page[name]]


# State of an instance (docs.aws.amazon.com, "Instance lifecycle", 2026-11) -> whether it has power.
RUNS: Final = {
    **dict.fromkeys(("pending", "running", "stopping", "shutting-down"), Answer.YES),
    "stopped": Answer.NO,
}
# As in "User initiated (2026-11-26 10:00:00 GMT)".
STOPPED_AT: Final = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


def _stands(row: dict[str, Any], off_gib: dict[str, int]) -> dict[str, Any]:
    runs = RUNS.get(row["State"]["Name"], Answer.UNKNOWN)
    disks = [disk["Ebs"]["VolumeId"] for disk in row.get("BlockDeviceMappings", ()) if "Ebs" in disk]
    stopped = STOPPED_AT.search(row.get("StateTransitionReason", "")) if runs is Answer.NO else None
    return {
        "runs": runs,
        "off_since_s": instant_s(f"{stopped[1]}+00:00") if stopped else None,
        "off_gib": sum(off_gib[id] for id in disks) if disks and off_gib.keys() >= set(disks) else None,
    }


def _off_gib(disk: dict[str, Any]) -> int:
    """Of a disk that its machine's bill has; one that is kept has a bill of its own."""
    return 0 if any(tag["Key"] == KEPT_TAG for tag in disk.get("Tags", ())) else int(disk["Size"])


def _volume_rows(ec2: Any, has_tag: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in rows(ec2, "describe_volumes", "Volumes", has_tag) if row["State"] != "deleting"]


def volumes_of(disks: list[dict[str, Any]], region: str) -> tuple[tuple[Resource, ...], tuple[Resource, ...]]:
    """Volumes, which are to outlive their machine, and machines' own disks: EC2 has one word for both, and we two."""
    kept: dict[bool, list[Resource]] = {True: [], False: []}
    for row in disks:
        found = resource_of("disk", row["VolumeId"], region, row)
        is_kept = found.name is not None
        stands = {
            "size_gib": row["Size"],
            "sold_as": row.get("VolumeType"),
            "zone": row["AvailabilityZone"],
            "in_use": row["State"] == "in-use",
        }
        kept[is_kept].append(msgspec.structs.replace(found, kind=VOLUME if is_kept else found.kind, **stands))
    return tuple(kept[True]), tuple(kept[False])


def _security_groups(ec2: Any, region: str, has_tag: dict[str, Any]) -> list[Resource]:
    groups = rows(ec2, "describe_security_groups", "SecurityGroups", has_tag)
    return [resource_of("security_group", row["GroupId"], region, row, bills=False) for row in groups]


def _key_pairs(ec2: Any, region: str, has_tag: dict[str, Any]) -> list[Resource]:
    keys = ec2.describe_key_pairs(Filters=[has_tag])["KeyPairs"]  # EC2 has no pages of them
    return [resource_of("key_pair", row["KeyName"], region, row, bills=False) for row in keys]


_LOOKS: Final = (_security_groups, _key_pairs)


def resource_of(kind: str, id: str, region: str, row: dict[str, Any], *, bills: bool = True) -> Resource:
    """By its tags."""
    tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags", [])}
    return tagged_resource(kind, id, region, tags, bills=bills, made_at=str(row.get("LaunchTime") or row.get("CreateTime", "")))
