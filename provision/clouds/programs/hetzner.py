"""Hetzner Cloud: an SSH key, a firewall and one server; and what of ours is still there, asked of its API by label.

A server that is switched off is billed as before, so here the timer of the user data ends the work and not the bill: only a
delete does. There are no GPUs, and no spot market. The disk is the server type's own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import pulumi
import pulumi_hcloud as hcloud

from catalogs.hardware import ANYWHERE, Offer
from planner.units import GB
from provision.clouds.programs import Volumes
from provision.clouds.programs.accounts.marks import mark_of
from provision.clouds.programs.accounts.quotas import Quota
from provision.clouds.programs.accounts.refusals import Refusal
from provision.clouds.programs.caller import caller_address as caller_address
from provision.clouds.programs.order import (
    KEPT_TAG,
    RUN_TAG,
    SSH_PORT,
    TOO_LITTLE_RAM,
    Image,
    KeptVolume,
    Order,
    PowerOff,
    require_disk,
    require_no_spot,
    require_ram,
    tagged_resource,
)
from provision.clouds.programs.rest import EVERYWHERE, Api, Json, as_owned, token_of
from provision.clouds.programs.tagging import from_label, label
from provision.errors import Reason, Scope
from provision.seam import MACHINE, VOLUME, Answer, Layer, Owned, Resource

PLUGIN: Final = "hcloud"
KINDS: Final = {
    "hcloud:index/server:Server": "instance",
    "hcloud:index/firewall:Firewall": "firewall",
    "hcloud:index/sshKey:SshKey": "key_pair",
}
VOLUMES: Final = Volumes(
    kinds={"hcloud:index/volume:Volume": "volume", "hcloud:index/volumeAttachment:VolumeAttachment": "attachment"},
    device="/dev/disk/by-id/scsi-0HC_Volume_*",  # docs.hetzner.cloud, Volumes: linux_device
)
ADDRESS: Final = ("hcloud:index/server:Server", "ipv4Address")
IMAGE: Final = Image(
    owner="hetzner",
    name="ubuntu-24.04",
    user="ubuntu",
    source="the system images that the API lists (docs.hetzner.cloud); no driver, for there are no GPUs",
    as_of=dt.date(2026, 11, 26),
)
WITHOUT_DRIVER: Final[Image | None] = None  # there are no GPUs
GPU_QUOTAS: Final[tuple[str, ...]] = ()
POWER_OFF: Final = PowerOff.KEEPS_BILLING  # docs.hetzner.com, billing FAQ: until a server is deleted
# Error codes of the API (docs.hetzner.cloud, "Errors", 2026-11), which the provider repeats. Limits are a project's.
REFUSALS: Final = (
    TOO_LITTLE_RAM,
    Refusal(
        "resource_unavailable|placement_error|unsupported location",
        Reason.CAPACITY,
        Scope.OFFER,
        "no machine of this type is free there",
    ),
    Refusal("resource_limit_exceeded|limit reached", Reason.QUOTA, Scope.CLOUD, "the project may have no more machines"),
    Refusal("unauthorized|unable to authenticate", Reason.CREDENTIALS, Scope.CLOUD, "the token is not valid"),
    Refusal("forbidden|token_readonly", Reason.PERMISSION, Scope.CLOUD, "the token may not do what a run needs"),
)
ENDPOINT: Final = "https://api.hetzner.cloud/v1"
BILLING: Final = frozenset({"instance", "volume"})

# Resource.kind -> the list of it: path, and name of its rows. What bills is ended first.
LISTS: Final = {
    "instance": ("/servers", "servers"),
    "firewall": ("/firewalls", "firewalls"),
    "key_pair": ("/ssh_keys", "ssh_keys"),
    "volume": ("/volumes", "volumes"),
}


# Status of a server (docs.hetzner.cloud, "Get a server", 2026-11) -> whether it has power; one that is not here tells nothing.
RUNS: Final = {
    **dict.fromkeys(("initializing", "starting", "running", "stopping", "rebuilding", "migrating", "deleting"), Answer.YES),
    "off": Answer.NO,
}


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────────


def image_of(instance_type: str, image: Image) -> Image:
    """One for all types."""
    return image


def program(order: Order) -> Callable[[], None]:
    """The resources of one run as a closure for the Automation API; its exports are for people, we read the state.

    Raises Refused for a tag that no label can hold, and for a spot price.
    """
    require_no_spot("Hetzner", order)
    labels = {label(key): label(value) for key, value in order.tags.items()}

    def run() -> None:
        type = hcloud.get_server_type(name=order.instance_type)
        require_disk(order, type.disk * GB)
        require_ram(order, int(type.memory * GB))
        key = hcloud.SshKey("key", name=order.name, public_key=order.public_key, labels=labels)
        firewall = hcloud.Firewall("ssh", name=order.name, labels=labels, rules=[_ssh_from(order.allow_from)])
        server = _server(order, key, firewall, labels)
        if order.volume is not None:
            _attach(order, order.volume, server)
        pulumi.export("host", server.ipv4_address)
        pulumi.export("user", order.image.user)
        pulumi.export("host_key", order.host_key)
        pulumi.export("instance", server.id)
        pulumi.export("firewall", firewall.id)
        pulumi.export("key_pair", key.id)

    return run


def _server(order: Order, key: hcloud.SshKey, firewall: hcloud.Firewall, labels: dict[str, str]) -> hcloud.Server:
    return hcloud.Server(
        "box",
        name=order.name,
        server_type=order.instance_type,
        image=order.image.name,
        location=_location(order),
        ssh_keys=[key.id],  # without one a password is made, and sent by mail
        firewall_ids=[firewall.id.apply(int)],
        user_data=pulumi.Output.secret(order.user_data),
        labels=labels,
        # A newer image or a fresh key must never replace a box that runs.
        opts=pulumi.ResourceOptions(ignore_changes=["image", "sshKeys", "userData"]),
    )


def _location(order: Order) -> str | None:
    """The volume's, where there is one; None: Hetzner chooses."""
    if order.volume is not None and order.volume.place is not None:
        return order.volume.place
    return None if order.region == ANYWHERE else order.region


def _attach(order: Order, volume: KeptVolume, server: hcloud.Server) -> None:
    """The volume, made where the server is, if there is none yet. The engine leaves both; a server's end detaches it."""
    kept = pulumi.ResourceOptions(retain_on_delete=True)
    id: Any = volume.id
    if id is None:
        labels = {label(key): label(value) for key, value in volume.tags.items()}
        made = hcloud.Volume("kept", name=order.name, size=volume.size_gib, location=server.location, labels=labels, opts=kept)
        id = made.id.apply(int)
    else:
        id = int(id)
    hcloud.VolumeAttachment("attached", server_id=server.id.apply(int), volume_id=id, automount=False, opts=kept)


def _ssh_from(cidrs: tuple[str, ...]) -> Any:
    """Without a rule for what goes out, everything may."""
    return {"direction": "in", "protocol": "tcp", "port": str(SSH_PORT), "source_ips": list(cidrs), "description": "SSH"}


# ── the cloud itself ───────────────────────────────────────────────────────────────────────────────────────────────


def connect(environment: Mapping[str, str]) -> Api:
    """The project that the token belongs to. Raises ProvisionError without one."""
    return Api(
        cloud="Hetzner",
        url=environment.get("HCLOUD_ENDPOINT", ENDPOINT),
        token=token_of("Hetzner", environment, ("HCLOUD_TOKEN",)),
        next_page=lambda answer: answer["meta"]["pagination"]["next_page"] is not None,
        reason=lambda answer: f"{answer['error']['code']}: {answer['error']['message']}",
        total=lambda answer: answer["meta"]["pagination"]["total_entries"],
    )


def needs(offer: Offer) -> dict[str, float]:
    """Nothing: the API publishes no limit (docs.hetzner.cloud, 2026-11)."""
    return {}


def quotas(region: str, names: Iterable[str], environment: Mapping[str, str]) -> tuple[Quota, ...]:
    """None."""
    return ()


def account(environment: Mapping[str, str]) -> str:
    """By the token, which is good in one project: no call tells which that is (docs.hetzner.cloud, 2026-11)."""
    return mark_of(connect(environment).token)


def regions(environment: Mapping[str, str]) -> tuple[str, ...]:
    """One: a project has no regions, and a look at it sees every location."""
    return EVERYWHERE


def owned(region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
    """Servers, firewalls and keys of the whole project with our label, and kept volumes."""
    return as_owned(lambda: connect(environment), lambda api: _listed(api, tag))


def _listed(api: Api, tag: str | None) -> Iterator[Resource]:
    selector = RUN_TAG if tag is None else f"{RUN_TAG}=={label(tag)}"
    for kind, (path, name) in LISTS.items():
        for row in api.rows(path, name, label_selector=selector):
            yield _resource(kind, row)


def _resource(kind: str, row: Json) -> Resource:
    tags = {from_label(key): from_label(value) for key, value in row["labels"].items()}
    region = (row.get("location") or {}).get("name", "")
    kept = {KEPT_TAG: row["name"]} if kind == VOLUME else {}  # whatever became of its label: no other volume is made
    found = tagged_resource(kind, str(row["id"]), region, kept | tags, bills=kind in BILLING, made_at=row.get("created"))
    if kind == MACHINE:
        return msgspec.structs.replace(found, runs=RUNS.get(row["status"], Answer.UNKNOWN))
    if kind == VOLUME:
        return msgspec.structs.replace(found, size_gib=row["size"], in_use=row["server"] is not None)
    return found


def destroy_stray(resource: Resource, environment: Mapping[str, str]) -> None:
    """Delete one resource, whatever it is doing."""
    connect(environment).delete(f"{LISTS[resource.kind][0]}/{resource.id}")


def admit(region: str, run_id: str, cidrs: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """The rule is replaced in one step, so nobody who is still let in is shut out in between."""
    api = connect(environment)
    for firewall in api.rows("/firewalls", "firewalls", label_selector=f"{RUN_TAG}=={label(run_id)}"):
        api.ask("POST", f"/firewalls/{firewall['id']}/actions/set_rules", {"rules": [_ssh_from(cidrs)]})


def console(instance: Resource, environment: Mapping[str, str]) -> str:
    """Nothing: the API shows a console to a browser only."""
    return ""


def guards(instance: Resource, environment: Mapping[str, str]) -> tuple[Layer, ...]:
    """None: Hetzner ends no server by itself."""
    return ()
