"""The double of the gcp plugin: firewall rules, an instance and three lookups, done over our fake Google Cloud."""

from __future__ import annotations

import os
import time
from typing import Final

from provision.clouds.programs.accounts import gcp_api
from provision.clouds.programs.rest import Api, Json
from provision.errors import ProvisionError
from tests.doubles.plugins.plugin import Double, Kind, serve
from tests.doubles.plugins.wire import Properties
from tests.doubles.world.gcp import PROJECT

VERSION: Final = "10.2.0"  # a test compares it with the installed SDK's
POLL_S: Final = 0.2
PATIENCE_S: Final = 120.0
HERE: Final = f"/projects/{PROJECT}"


def connect(configuration: Properties) -> Api:
    """Endpoint, token and project come from the environment, as with the vendor's plugin."""
    assert gcp_api.project_of(os.environ) == PROJECT
    return gcp_api.connect(os.environ)


def _await(api: Api, place: str, operation: Json) -> None:
    """As the vendor's plugin does: until the operation is over; one that failed is told with its code."""
    ends_at_s = time.monotonic() + PATIENCE_S
    while operation["status"] != "DONE" and time.monotonic() < ends_at_s:
        time.sleep(POLL_S)
        operation = api.ask("GET", f"{HERE}/{place}/operations/{operation['name']}")
    if operation["status"] != "DONE":
        raise TimeoutError(f"{operation['name']} is {operation['status']}")
    for error in operation.get("error", {}).get("errors", []):
        raise RuntimeError(f"Error waiting for it: {error['message']} ({error['code']})")


def _delete(api: Api, id: str) -> None:
    place = f"/{id}".removeprefix(f"{HERE}/").rsplit("/", 2)[0]  # global, or zones/us-central1-a
    try:
        _await(api, place, api.ask("DELETE", f"/{id}"))
    except ProvisionError as error:
        if "notFound" not in str(error):
            raise


def _named(inputs: Properties, names: tuple[str, ...]) -> Properties:
    return {name: inputs[name] for name in names if name in inputs}


# ── firewall rule ──────────────────────────────────────────────────────────────────────────────────────────────────


def _rule(inputs: Properties) -> Json:
    rule = _named(inputs, ("name", "description", "network", "direction", "priority", "sourceRanges", "targetTags"))
    for ours, theirs in (("allows", "allowed"), ("denies", "denied")):
        if ours in inputs:
            rows = [{"IPProtocol": row["protocol"], "ports": row.get("ports", [])} for row in inputs[ours]]
            rule[theirs] = rows
    return rule | {"network": f"global/networks/{inputs['network']}"}


def _create_firewall(api: Api, inputs: Properties) -> str:
    _await(api, "global", api.ask("POST", f"{HERE}/global/firewalls", _rule(inputs)))
    return f"{HERE[1:]}/global/firewalls/{inputs['name']}"


def _read_firewall(api: Api, id: str) -> Properties | None:
    found = api.find(f"/{id}")
    return found and {"name": found["name"], "selfLink": found["selfLink"]}


FIREWALL: Final = Kind(
    accepts=frozenset(
        {"name", "description", "network", "direction", "priority", "sourceRanges", "targetTags", "allows", "denies"}
    ),
    required=frozenset({"network"}),
    replaces=frozenset({"name", "network", "direction"}),
    computed=("selfLink",),
    create=_create_firewall,
    read=_read_firewall,
    update=lambda api, id, news: _await(api, "global", api.ask("PATCH", f"/{id}", _rule(news))),
    delete=_delete,
    auto_name="name",
)

SPEED: Final = ("provisionedIops", "provisionedThroughput")  # of a disk, where that can be chosen

# ── instance ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_instance(api: Api, inputs: Properties) -> str:
    zone, disk = f"zones/{inputs['zone']}", inputs["bootDisk"]
    api.ask("GET", f"{HERE}/{zone}")  # as the vendor's plugin does first (terraform-provider-google, read 2026-11)
    wanted = disk["initializeParams"]
    params = {
        "sourceImage": wanted["image"],
        "diskSizeGb": str(wanted["size"]),
        "diskType": wanted["type"],
        "labels": wanted["labels"],
        **_speed(wanted),
    }
    interfaces = [
        {"network": f"global/networks/{each['network']}", "accessConfigs": each["accessConfigs"]}
        for each in inputs["networkInterfaces"]
    ]
    body = {
        "name": inputs["name"],
        "machineType": f"{zone}/machineTypes/{inputs['machineType']}",
        "disks": [{"boot": True, "autoDelete": disk["autoDelete"], "initializeParams": params}],
        "networkInterfaces": interfaces,
        "scheduling": inputs["scheduling"],
        "shieldedInstanceConfig": inputs["shieldedInstanceConfig"],
        "metadata": {"items": [{"key": key, "value": value} for key, value in inputs["metadata"].items()]},
        "labels": inputs.get("labels", {}),
        "tags": {"items": inputs["tags"]},
    }
    _await(api, zone, api.ask("POST", f"{HERE}/{zone}/instances", body))
    return f"{HERE[1:]}/{zone}/instances/{inputs['name']}"


def _read_instance(api: Api, id: str) -> Properties | None:
    """And its disk, as the vendor's plugin reads it."""
    found = api.find(f"/{id}")
    if found is None:
        return None
    api.ask("GET", f"/{id.replace('/instances/', '/disks/')}")
    return {
        "name": found["name"],
        "instanceId": found["id"],
        "currentStatus": found["status"],
        "networkInterfaces": [
            {"network": "default", "accessConfigs": [{"natIp": each["natIP"]} for each in interface["accessConfigs"]]}
            for interface in found["networkInterfaces"]
        ],
    }


def _unchanged(api: Api, id: str, news: Properties) -> None:
    raise NotImplementedError("what may change of it needs a new one")


INSTANCE: Final = Kind(
    accepts=frozenset(
        {"name", "zone", "machineType", "bootDisk", "networkInterfaces", "scheduling", "shieldedInstanceConfig"}
        | {"metadata", "labels", "tags"}
    ),
    required=frozenset({"bootDisk", "machineType", "networkInterfaces"}),
    replaces=frozenset({"name", "zone", "bootDisk", "machineType"}),
    computed=("instanceId", "currentStatus"),
    create=_create_instance,
    read=_read_instance,
    update=_unchanged,
    delete=_delete,
    auto_name="name",
)

# ── disk ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _speed(inputs: Properties) -> Properties:
    return {key: str(int(inputs[key])) for key in SPEED if key in inputs}


def _create_disk(api: Api, inputs: Properties) -> str:
    zone = f"zones/{inputs['zone']}"
    body = {"name": inputs["name"], "sizeGb": str(int(inputs["size"])), "labels": inputs.get("labels", {}), **_speed(inputs)}
    _await(api, zone, api.ask("POST", f"{HERE}/{zone}/disks", body | {"type": f"{zone}/diskTypes/{inputs['type']}"}))
    return f"{HERE[1:]}/{zone}/disks/{inputs['name']}"


def _read_disk(api: Api, id: str) -> Properties | None:
    found = api.find(f"/{id}")
    return found and {"name": found["name"], "selfLink": found["selfLink"]}


DISK: Final = Kind(
    accepts=frozenset({"name", "zone", "size", "type", "labels", *SPEED}),
    required=frozenset(),
    replaces=frozenset({"name", "zone", "type"}),
    computed=("selfLink",),
    create=_create_disk,
    read=_read_disk,
    update=_unchanged,
    delete=_delete,
    auto_name="name",
)


def _attach(api: Api, inputs: Properties) -> str:
    """Named as the vendor's plugin names it: by the instance, and the disk behind it."""
    zone, name = f"zones/{inputs['zone']}", str(inputs["instance"]).rpartition("/")[2]
    body = {"source": inputs["disk"], "deviceName": inputs["deviceName"]}
    _await(api, zone, api.ask("POST", f"{HERE}/{zone}/instances/{name}/attachDisk", body))
    return f"{HERE[1:]}/{zone}/instances/{name}/{str(inputs['disk']).rpartition('/')[2]}"


ATTACHED_DISK: Final = Kind(
    accepts=frozenset({"disk", "instance", "zone", "deviceName"}),
    required=frozenset({"disk", "instance"}),
    replaces=frozenset({"disk", "instance", "zone", "deviceName"}),
    computed=(),
    create=_attach,
    read=lambda api, id: {} if api.find(f"/{id.rpartition('/')[0]}") else None,
    update=_unchanged,
    delete=lambda api, id: None,
)

# ── lookups ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _get_zones(api: Api, args: Properties) -> Properties:
    rows = api.ask("GET", f"{HERE}/zones")["items"]
    names = [row["name"] for row in rows if row["region"].endswith(f"/{args['region']}") and row["status"] == args["status"]]
    return args | {"id": "zones", "project": PROJECT, "names": sorted(names)}


def _get_machine_types(api: Api, args: Properties) -> Properties:
    rows = api.ask("GET", f"{HERE}/zones/{args['zone']}/machineTypes", filter=args["filter"]).get("items", [])
    return args | {"id": "types", "machineTypes": [{"name": row["name"]} for row in rows]}


def _get_image(api: Api, args: Properties) -> Properties:
    found = api.ask("GET", f"/projects/{args['project']}/global/images/family/{args['family']}")
    return args | {
        "id": found["name"],
        "name": found["name"],
        "selfLink": found["selfLink"],
        "diskSizeGb": int(found["diskSizeGb"]),
    }


GCP: Final = Double(
    name="gcp",
    version=VERSION,
    kinds={
        "gcp:compute/firewall:Firewall": FIREWALL,
        "gcp:compute/instance:Instance": INSTANCE,
        "gcp:compute/disk:Disk": DISK,
        "gcp:compute/attachedDisk:AttachedDisk": ATTACHED_DISK,
    },
    lookups={
        "gcp:compute/getZones:getZones": _get_zones,
        "gcp:compute/getMachineTypes:getMachineTypes": _get_machine_types,
        "gcp:compute/getImage:getImage": _get_image,
    },
    connect=connect,
)

if __name__ == "__main__":
    serve(GCP)
