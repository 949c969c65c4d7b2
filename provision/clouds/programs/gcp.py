"""Google Cloud: two firewall rules and one instance; and what of ours is still there, asked of Compute Engine by label.

Compute Engine itself ends the instance at the run's deadline, and deletes it: a limit that nothing on the machine can undo
but its own power-off, after which it is only stopped. So the timer of the user data strikes later here (PowerOff.STOPS).

The project needs its network `default`. What others allow into that network is shut out again by a rule of the run's own.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
import pulumi
import pulumi_gcp as gcp

from catalogs.catalog import disk_kind, read_rules
from catalogs.hardware import ANYWHERE
from provision.clouds.programs import Volumes
from provision.clouds.programs.accounts.gcp_api import BILLING, connect, path_of, project_of, rows
from provision.clouds.programs.accounts.gcp_quotas import GPU_QUOTAS as GPU_QUOTAS
from provision.clouds.programs.accounts.gcp_quotas import needs as needs
from provision.clouds.programs.accounts.gcp_quotas import quotas as quotas
from provision.clouds.programs.accounts.gcp_refusals import REFUSALS as REFUSALS
from provision.clouds.programs.caller import caller_address as caller_address
from provision.clouds.programs.order import (
    DEADLINE_FORMAT,
    KEPT_TAG,
    RUN_TAG,
    SSH_PORT,
    Image,
    KeptVolume,
    Order,
    PowerOff,
    instant_s,
    tagged_resource,
    written_tags,
)
from provision.clouds.programs.rest import EVERYWHERE, Api, Json, as_owned
from provision.clouds.programs.tagging import SMALL_LETTERS, escaped, shorter_than, unescaped
from provision.errors import Refused
from provision.seam import Answer, Layer, Owned, Resource

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own, of one of its modules
    gcp.compute.Instance  # noqa: B018 - loads the lazy module now: first loaded in the engine's threads it can be half made

PLUGIN: Final = "gcp"
KINDS: Final = {
    "gcp:compute/instance:Instance": "instance",
    "gcp:compute/firewall:Firewall": "firewall",
}
KEPT_DEVICE: Final = "rentune-kept"
KEPT_ENDING: Final = "-kept"  # of the name of a disk that is
# docs.cloud.google.com, "About Hyperdisk", machine series support (recalled). Of the others some take both kinds.
NO_HYPERDISK: Final = ("a2-*", "e2-*", "g2-*", "n1-*", "t2a-*", "t2d-*")
VOLUMES: Final = Volumes(
    kinds={"gcp:compute/disk:Disk": "volume", "gcp:compute/attachedDisk:AttachedDisk": "attachment"},
    device=f"/dev/disk/by-id/google-{KEPT_DEVICE}",  # docs.cloud.google.com, "Symbolic links to your disks"
    never=lambda: (
        *((type, "pd-*") for type, kind in read_rules().disk_kinds["gcp"] if kind.startswith("hyperdisk-")),
        *((type, "hyperdisk-balanced") for type in NO_HYPERDISK),
    ),
)
ADDRESS: Final = ("gcp:compute/instance:Instance", "networkInterfaces.0.accessConfigs.0.natIp")
IMAGE: Final = Image(
    owner="ubuntu-os-cloud",
    name="ubuntu-2404-lts-amd64",
    user="ubuntu",
    takes_driver=True,
    source="docs.cloud.google.com/compute/docs/images/os-details (recalled)",
    as_of=dt.date(2026, 11, 26),
)
# Driver 580 is CUDA 13.0's, in its open form: for Turing and newer.
GPU_IMAGE: Final = Image(
    owner="ubuntu-os-accelerator-images",
    name="ubuntu-accelerator-2404-amd64-with-nvidia-580",
    user="ubuntu",
    driver_branch=580,  # source=its name
    source="Google's Cluster Toolkit and users of it, who name this family (read 2026-11)",
    as_of=dt.date(2026, 11, 26),
)
WITHOUT_DRIVER: Final = IMAGE  # for a lock to come whose torch needs a newer branch than the image's name holds
GPU_TYPES: Final = re.compile(r"[ag]\d+x?-")  # the families whose types bring their GPUs: A2 to A4, G2, G4
PART_OF_A_GPU: Final = re.compile(r"g4-standard-(6|12|24)$")  # as of 2026-11; needs NVIDIA's vGPU driver
# What is included of a Hyperdisk's speed (source=docs.cloud.google.com, "About Hyperdisk Balanced", baseline performance, read
# 2026-11-27): as much as a persistent disk has. What is beyond is billed apart, and the default is beyond (recalled).
INCLUDED: Final[Mapping[str, Mapping[str, int]]] = {
    "hyperdisk-balanced": {"provisioned_iops": 3000, "provisioned_throughput": 140},
}
POWER_OFF: Final = PowerOff.STOPS  # docs.cloud.google.com, "VM instance lifecycle": TERMINATED, and its disk is billed
NETWORK: Final = "default"
FIRST, SECOND = 0, 1  # priorities: before every rule of somebody else's, which begin at 1000 by custom
KEY_BEFORE: Final = "k__"  # a label's key begins with a letter; two underscores side by side stand in no escaped text
LABEL_LENGTH: Final = 64  # shorter than; source=docs.cloud.google.com, "Labeling resources", requirements
PLAIN: Final = SMALL_LETTERS + "-"


# ── labels ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def labels_of(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags in what Google takes: small letters, digits, dashes, underscores. Raises Refused for what is too long."""
    return {_key(key): shorter_than(LABEL_LENGTH, escaped(value, PLAIN), value) for key, value in tags.items()}


def _key(text: str) -> str:
    written = escaped(text, PLAIN)
    return shorter_than(LABEL_LENGTH, written if re.match("[a-z]", written) else KEY_BEFORE + written, text)


def from_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """What `labels_of` was given."""
    return {unescaped(key.removeprefix(KEY_BEFORE)): unescaped(value) for key, value in labels.items()}


def from_description(text: object) -> dict[str, str]:
    """The tags of a firewall rule, which has no labels; empty where somebody else wrote the text, or nobody any."""
    tags = written_tags(text)
    return tags if RUN_TAG in tags else {}


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────────


def program(order: Order) -> Callable[[], None]:
    """The resources of one run as a closure for the Automation API; its exports are for people, we read the state.

    Raises Refused for tags that no label can hold, for an offer without a region, for a part of a GPU, and where only
    addresses of version 6 may come in.
    """
    if order.region == ANYWHERE:
        raise Refused("The offer names no region of Google Cloud's.", hint="Choose one with --region.")
    if PART_OF_A_GPU.match(order.instance_type):
        raise Refused(
            f"{order.instance_type} has a part of a GPU, which the image has no driver for.",
            hint="Choose a machine with a whole one: `rentune catalog list --provider gcp` lists them.",
        )
    labels, admitted = labels_of(order.tags), version_4(order.allow_from)

    def run() -> None:
        zone, image = _zone_with(order), _image(order)
        shut = _firewall("shut", f"{order.name}-shut", order, SECOND, denies=[{"protocol": "all"}])
        ssh = [{"protocol": "tcp", "ports": [str(SSH_PORT)]}]
        firewall = _firewall("ssh", order.name, order, FIRST, admitted, allows=ssh)
        instance = _instance(order, zone, image, labels, [shut, firewall])
        if order.volume is not None:
            _attach(order, order.volume, zone, instance)
        address = instance.network_interfaces[0].access_configs[0].nat_ip
        pulumi.export("host", address)
        pulumi.export("user", order.image.user)
        pulumi.export("host_key", order.host_key)
        pulumi.export("instance", instance.id)
        pulumi.export("firewall", firewall.id)

    return run


def version_4(cidrs: Iterable[str]) -> list[str]:
    """Those that can reach the network, which has no addresses of version 6. Raises Refused where none can."""
    admitted = [cidr for cidr in cidrs if ipaddress.ip_network(cidr).version == 4]
    if not admitted:
        raise Refused("A box at Google Cloud is reached by IPv4 only.", hint="Give your own with --allow-from ADDRESS/32.")
    return admitted


def _zone_with(order: Order) -> str:
    """The volume's, where there is one; else the first zone of the region that has the type and has not refused it. Whether
    one is free shows only the create.
    """
    if order.volume is not None and order.volume.place is not None:
        return order.volume.place
    zones = gcp.compute.get_zones(region=order.region, status="UP").names
    for zone in (zone for zone in zones if zone not in order.full_zones):
        if gcp.compute.get_machine_types(zone=zone, filter=f'name = "{order.instance_type}"').machine_types:
            return str(zone)
    raise Refused(f"{order.region} has no zone with {order.instance_type}.", hint="Choose another region or type.")


def _image(order: Order) -> Any:
    return gcp.compute.get_image(project=order.image.owner, family=order.image.name)


def image_of(instance_type: str, image: Image) -> Image:
    """The image with the driver, for a type with GPUs; for the others, the given one."""
    return GPU_IMAGE if GPU_TYPES.match(instance_type) else image


def _firewall(
    name: str, called: str, order: Order, priority: int, sources: Iterable[str] = ("0.0.0.0/0",), **rules: Any
) -> gcp.compute.Firewall:
    """What comes in, to what carries the run's network tag. Everything may go out."""
    return gcp.compute.Firewall(
        name,
        name=called,
        description=json.dumps(order.tags),
        network=NETWORK,
        direction="INGRESS",
        priority=priority,
        source_ranges=list(sources),
        target_tags=[order.name],
        **rules,
    )


def _instance(
    order: Order, zone: str, image: Any, labels: dict[str, str], firewalls: list[gcp.compute.Firewall]
) -> gcp.compute.Instance:
    disk: dict[str, Any] = {
        "image": image.self_link,
        "size": max(order.disk_gib, image.disk_size_gb),
        "labels": labels,
        **_disk(order),
    }
    return gcp.compute.Instance(
        "box",
        name=order.name,
        zone=zone,
        machine_type=order.instance_type,
        boot_disk={"auto_delete": True, "initialize_params": disk},  # Google encrypts every disk
        network_interfaces=[{"network": NETWORK, "access_configs": [{"network_tier": "PREMIUM"}]}],
        scheduling=_scheduling(order),
        # Without Secure Boot, which loads no module that is not signed: whether the image's driver is, has not been seen.
        shielded_instance_config={"enable_vtpm": True, "enable_integrity_monitoring": True, "enable_secure_boot": False},
        metadata={
            "user-data": pulumi.Output.secret(order.user_data),
            "block-project-ssh-keys": "TRUE",
            "enable-oslogin": "FALSE",  # it would admit whom the organisation admits
            "serial-port-enable": "FALSE",
        },
        labels=labels,
        tags=[order.name],
        # No service account: none is named, so none is there. The rules stand before what they protect; a newer image or a
        # fresh key must never replace a box that runs.
        opts=pulumi.ResourceOptions(depends_on=firewalls, ignore_changes=["attachedDisks", "bootDisk", "metadata", "zone"]),
    )


def _disk(order: Order) -> dict[str, Any]:
    """The kind that the machine takes, no faster than what its price by the GiB has in it."""
    kind = disk_kind(read_rules().disk_kinds, "gcp", order.instance_type)
    return {"type": kind, **INCLUDED.get(kind or "", {})}


def _attach(order: Order, volume: KeptVolume, zone: str, instance: gcp.compute.Instance) -> None:
    """The volume, made in the instance's zone if there is none yet. The engine leaves both; an instance's end detaches it."""
    kept, id = pulumi.ResourceOptions(retain_on_delete=True), volume.id
    if id is None:
        id = gcp.compute.Disk(
            "kept",
            name=f"{order.name}{KEPT_ENDING}",  # the boot disk has the instance's name
            zone=zone,
            size=volume.size_gib,
            **_disk(order),
            labels=labels_of(volume.tags),
            opts=pulumi.ResourceOptions(retain_on_delete=True, depends_on=[instance]),  # no machine, no volume that bills
        ).id
    gcp.compute.AttachedDisk("attached", disk=id, instance=instance.id, zone=zone, device_name=KEPT_DEVICE, opts=kept)


def _scheduling(order: Order) -> Any:
    """Deleted at the deadline, started again by nobody. With GPUs, or at a spot price, it can't be moved while it runs."""
    spot = order.max_usd_per_hour is not None
    moves = not spot and not GPU_TYPES.match(order.instance_type)
    return {
        "provisioning_model": "SPOT" if spot else "STANDARD",
        "preemptible": spot,
        "automatic_restart": False,
        "on_host_maintenance": "MIGRATE" if moves else "TERMINATE",
        "termination_time": dt.datetime.fromtimestamp(math.floor(order.deadline_at_s), dt.UTC).strftime(DEADLINE_FORMAT),
        "instance_termination_action": "DELETE",
    }


# ── the cloud itself ───────────────────────────────────────────────────────────────────────────────────────────────


def account(environment: Mapping[str, str]) -> str:
    """The project, which is named and not asked for: whoever may look into it sees the same there."""
    return project_of(environment)


def regions(environment: Mapping[str, str]) -> tuple[str, ...]:
    """One: an aggregated list shows every zone of the project."""
    return EVERYWHERE


def owned(region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
    """Instances, disks that none of them uses, firewall rules, and kept volumes of the whole project that are ours."""
    return as_owned(lambda: connect(environment), lambda api: _listed(api, environment, tag))


def _listed(api: Api, environment: Mapping[str, str], run_id: str | None) -> Iterable[Resource]:
    selector = f"labels.{RUN_TAG}:*" if run_id is None else f"labels.{RUN_TAG}={escaped(run_id, PLAIN)}"
    machines, disks = (list(rows(api, environment, kind, filter=selector)) for kind in ("instance", "disk"))
    for row in machines:
        yield _instance_of(row, [disk for disk in disks if row["selfLink"] in disk.get("users", ())])
    for row in disks:
        tags = _kept_by_name(row) | from_labels(row["labels"])
        if KEPT_TAG in tags:
            yield _volume(row, tags)
        elif not row.get("users"):  # a disk that an instance uses ends with it
            yield _disk_of(row, tags)
    for row in rows(api, environment, "firewall"):
        tags = from_description(row.get("description"))
        if tags and run_id in (None, tags[RUN_TAG]):
            yield _resource("firewall", row, tags)


def _kept_by_name(row: Mapping[str, Any]) -> dict[str, str]:
    """That a disk is kept, also where somebody took the label away that says so."""
    return {KEPT_TAG: row["name"]} if row["name"].endswith(KEPT_ENDING) else {}


def _resource(kind: str, row: Mapping[str, Any], tags: Mapping[str, str]) -> Resource:
    """By the path that Pulumi's id is, too."""
    region = row.get("zone", "").rpartition("/")[2].rpartition("-")[0]
    id, made_at = path_of(row).removeprefix("/"), row.get("creationTimestamp")
    return tagged_resource(kind, id, region, tags, bills=kind in BILLING, made_at=made_at)


# Status of an instance (docs.cloud.google.com, "VM instance lifecycle", 2026-11) -> whether it has power. Of one that is
# suspended more than its disk is billed, so nothing is said.
RUNS: Final = {
    **dict.fromkeys(("PROVISIONING", "STAGING", "RUNNING", "STOPPING", "REPAIRING"), Answer.YES),
    "TERMINATED": Answer.NO,
}


def _instance_of(row: Mapping[str, Any], disks: list[Json]) -> Resource:
    """With the disks that it uses, as far as they are its own: one that is kept has a bill of its own."""
    runs = RUNS.get(row["status"], Answer.UNKNOWN)
    own = [disk for disk in disks if KEPT_TAG not in _kept_by_name(disk) | from_labels(disk["labels"])]
    return msgspec.structs.replace(
        _resource("instance", row, from_labels(row["labels"])),
        runs=runs,
        off_since_s=instant_s(row.get("lastStopTimestamp") or "") if runs is Answer.NO else None,
        off_gib=sum(int(disk["sizeGb"]) for disk in own) if own else None,
        sold_as=_sold_as(own[0]) if own else None,  # we order one
    )


def _volume(row: Mapping[str, Any], tags: Mapping[str, str]) -> Resource:
    zone = row.get("zone", "").rpartition("/")[2]
    return msgspec.structs.replace(_disk_of(row, tags), kind="volume", zone=zone, in_use=bool(row.get("users")))


def _disk_of(row: Mapping[str, Any], tags: Mapping[str, str]) -> Resource:
    """Google's GB are 2^30 bytes."""
    return msgspec.structs.replace(_resource("disk", row, tags), size_gib=int(row["sizeGb"]), sold_as=_sold_as(row))


def _sold_as(disk: Mapping[str, Any]) -> str | None:
    return disk.get("type", "").rpartition("/")[2] or None


def destroy_stray(resource: Resource, environment: Mapping[str, str]) -> None:
    """Delete one resource, whatever it is doing."""
    connect(environment).delete(f"/{resource.id}")


def admit(region: str, run_id: str, cidrs: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """The rule is replaced in one step, so nobody who is still let in is shut out in between."""
    api = connect(environment)
    for row in rows(api, environment, "firewall"):
        if from_description(row.get("description")).get(RUN_TAG) == run_id and "allowed" in row:
            api.ask("PATCH", path_of(row), {"sourceRanges": version_4(cidrs)})


def console(instance: Resource, environment: Mapping[str, str]) -> str:
    """What the machine wrote to its first serial port; the empty string until it has written some."""
    return str(connect(environment).ask("GET", f"/{instance.id}/serialPort", None, port="1").get("contents", ""))


def guards(instance: Resource, environment: Mapping[str, str]) -> tuple[Layer, ...]:
    """The moment at which Compute Engine deletes it."""
    return (limit_of(connect(environment).ask("GET", f"/{instance.id}", None).get("scheduling", {})),)


def limit_of(scheduling: Mapping[str, Any]) -> Layer:
    """One that only stops a machine ends no bill."""
    action, until = scheduling.get("instanceTerminationAction"), scheduling.get("terminationTime")
    strikes_at_s = instant_s(str(until or "")) if action == "DELETE" else None
    there = strikes_at_s is not None
    return Layer(
        place="provider",
        name="termination time",
        there=Answer.YES if there else Answer.NO,
        says="Compute Engine deletes it" if there else f"at {until or 'no moment'} Compute Engine does: {action or 'nothing'}",
        strikes_at_s=strikes_at_s,
    )
