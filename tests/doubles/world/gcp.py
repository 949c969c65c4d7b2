"""The world in the words of Google's Compute Engine API v1, as published (docs.cloud.google.com/compute, read 2026-11).

Imitated is what our program, our double of the plugin and our teardown ask for; anything else is `notFound`. A create that
finds no capacity is taken, and its operation fails, as Google's does. An instance with a limit of its run is deleted by it
while it runs, and not when it has switched itself off: of a stopped one the disk alone is billed. Firewall rules are kept, and
not enforced; prices are made up.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from provision.clouds.programs.order import PowerOff
from tests.doubles.world.app import Asked, Dialect, Json, Reply
from tests.doubles.world.core import MACHINE, Declined, Reason, Thing, World
from tests.doubles.world.gcp_permissions import needed

DISK: Final = "disk"
FIREWALL: Final = "firewall"
PROJECT: Final = "of-the-test"
LINK: Final = "https://www.googleapis.com/compute/v1"
LACKS: Final = re.compile(r"(compute\.[\w.]+) is missing")
PER_PAGE: Final = 20  # "a page may hold fewer than maxResults"
USER_DATA_BYTES: Final = 256 * 1024
DESCRIPTION_CHARS: Final = 2048
SHORTEST_S, LONGEST_S = 30, 120 * 24 * 3600  # of a limit
LABEL_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE: Final = re.compile(r"[a-z0-9_-]{0,63}")
NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
TERM: Final = re.compile(r"labels\.(?P<key>[a-z0-9_-]+)(?P<how>:\*|=)(?P<value>[a-z0-9_-]*)")
ZONES: Final = ("us-central1-a", "us-central1-b", "us-central1-c", "europe-west4-a")
IMAGES: Final = {
    ("ubuntu-os-cloud", "ubuntu-2404-lts-amd64"): 10,  # GB
    ("ubuntu-os-accelerator-images", "ubuntu-accelerator-2404-amd64-with-nvidia-580"): 20,
}


class Type(NamedTuple):
    """A row of the price list."""

    zones: tuple[str, ...]
    moves: bool  # whether a host may be emptied while it runs
    usd_per_hour: Decimal
    disks: str = "pd-*"  # pattern of the kinds that it takes


TYPES: Final = {
    "e2-standard-4": Type(ZONES, moves=True, usd_per_hour=Decimal("0.134")),
    "g2-standard-4": Type(ZONES[1:], moves=False, usd_per_hour=Decimal("0.70")),
    "n4-standard-4": Type(ZONES, moves=True, usd_per_hour=Decimal("0.19"), disks="hyperdisk-*"),
}
DISK_USD_PER_GB_HOUR: Final = Decimal("0.1") / 730
MADE_UP_LIMIT: Final = 8
EXHAUSTED: Final = "ZONE_RESOURCE_POOL_EXHAUSTED"
NO_ROOM: Final = "does not have enough resources available to fulfill the request."

# Reason -> status, reason and text; those of quota and permission as seen in public reports.
SAYS: Final[dict[Reason, tuple[int, str, str]]] = {
    Reason.ABSENT: (404, "notFound", ""),
    Reason.BROKEN: (503, "backendError", "Internal error. Please try again or contact Google Support."),
    Reason.IN_USE: (400, "resourceInUseByAnotherResource", "The resource is already being used"),
    Reason.INVALID: (400, "invalid", ""),
    Reason.LOCKED: (400, "resourceNotReady", "The resource is not ready"),
    Reason.NO_CAPACITY: (503, EXHAUSTED, NO_ROOM),  # of an order the operation says it
    Reason.QUOTA: (403, "quotaExceeded", "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally."),
    Reason.TAKEN: (409, "alreadyExists", ""),
    Reason.THROTTLED: (429, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries'"),
    Reason.NOT_ALLOWED: (403, "forbidden", ""),
    Reason.UNKNOWN_CALLER: (401, "authError", "Request had invalid authentication credentials."),
}


def declined(no: Declined) -> Reply:
    status, reason, text = SAYS[no.reason]
    lacks = LACKS.fullmatch(str(no))
    message = f"Required '{lacks[1]}' permission for 'projects/{PROJECT}'" if lacks else text or str(no)
    return Reply(status, {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}})


# ── lists ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _page(kind: str, rows: list[Json], asked: Asked) -> Json:
    first = int(asked.query.get("pageToken", 0))
    last = first + min(int(asked.query.get("maxResults", PER_PAGE)), PER_PAGE)
    more = {"nextPageToken": str(last)} if last < len(rows) else {}
    return {"kind": f"compute#{kind}", "items": rows[first:last], **more}


def _list(kind: str, rows: list[Json], asked: Asked) -> Reply:
    """An empty list has no items."""
    page = _page(kind, rows, asked)
    return Reply(200, page if page["items"] else {"kind": page["kind"]})


def _aggregated(kind: str, name: str, rows: list[Json], asked: Asked) -> Reply:
    """By zone; each zone without anything says so."""
    page = _page(kind, rows, asked)
    items = {}
    for zone in ZONES:
        there = [row for row in page["items"] if row["zone"].endswith(f"/{zone}")]
        items[f"zones/{zone}"] = {name: there} if there else {"warning": {"code": "NO_RESULTS_ON_PAGE"}}
    return Reply(200, page | {"items": items})


def _selected(things: Iterable[Thing], asked: Asked) -> list[Thing]:
    """By label; of the filter's language what is used: `labels.key:*` and `labels.key=value`."""
    if (wanted := asked.query.get("filter")) is None:
        return list(things)
    if not (term := TERM.fullmatch(wanted)):
        raise Declined(Reason.INVALID, f"Invalid value for field 'filter': '{wanted}'.")
    return [
        thing
        for thing in things
        if term["key"] in (labels := thing.details["labels"]) and (term["how"] == ":*" or labels[term["key"]] == term["value"])
    ]


def _labels(body: Json) -> dict[str, str]:
    labels: dict[str, str] = body.get("labels") or {}
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            raise Declined(Reason.INVALID, f"Invalid value for field 'labels': '{key}={value}'.")
    return labels


def _link(thing: Thing) -> str:
    if thing.kind == FIREWALL:
        return f"{LINK}/projects/{PROJECT}/global/firewalls/{thing.name}"
    return f"{LINK}/projects/{PROJECT}/zones/{thing.details['zone']}/{PLURALS[thing.kind]}/{thing.name}"


PLURALS: Final = {MACHINE: "instances", DISK: "disks", FIREWALL: "firewalls"}


def _find(world: World, kind: str, name: str) -> Thing:
    """By its name, which is one thing's at a time; still there until it is gone."""
    found = [thing for thing in world.standing() if (thing.kind, thing.name) == (kind, name)]
    if not found:
        raise Declined(Reason.ABSENT, f"The resource '{PLURALS[kind]}/{name}' was not found")
    return world.read(kind, found[0].id)


def _require_name(world: World, kind: str, body: Json) -> str:
    name = str(body["name"])
    if not NAME.fullmatch(name):
        raise Declined(Reason.INVALID, f"Invalid value for field 'resource.name': '{name}'.")
    world.require_free(kind, f"The resource '{PLURALS[kind]}/{name}' already exists", lambda thing: thing.name == name)
    return name


# ── operations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _operation(world: World, verb: str, thing: Thing) -> Reply:
    """Its name tells of whom it is; it is over when the world says so."""
    ends_at_s = thing.ends_at_s if verb == "delete" else thing.created_at_s + world.settings.boot_s
    done = ends_at_s is not None and world.clock.now_s() >= ends_at_s
    status = {"status": "DONE" if done else "RUNNING", "targetLink": _link(thing)}
    return Reply(200, {"kind": "compute#operation", "name": f"operation-{verb}-{thing.id}", **status})


def _read_operation(world: World, asked: Asked, verb: str, id: str) -> Reply:
    [thing] = [each for each in world.things if each.id == int(id)]
    return _operation(world, verb, thing)


def _exhausted(zone: str) -> Reply:
    """Google takes the order, and the operation fails."""
    told = f"The zone 'projects/{PROJECT}/zones/{zone}' {NO_ROOM}"
    error = {"errors": [{"code": EXHAUSTED, "message": told}]}
    return Reply(200, {"kind": "compute#operation", "name": "operation-failed-0", "status": "DONE", "error": error})


# ── instances and disks ────────────────────────────────────────────────────────────────────────────────────────────


def _create_instance(world: World, asked: Asked, zone: str) -> Reply:
    body, name = asked.body, _require_name(world, MACHINE, asked.body)
    type = str(body["machineType"]).rpartition("/")[2]
    if type not in TYPES or zone not in TYPES[type].zones:
        raise Declined(Reason.INVALID, f"Invalid value for field 'resource.machineType': '{type}' does not exist in '{zone}'.")
    metadata = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    if len(metadata.get("user-data", "").encode()) > USER_DATA_BYTES:
        raise Declined(Reason.INVALID, "Invalid value for field 'resource.metadata': is too large")
    _require_disk(body)
    _require_fit(type, body["disks"][0]["initializeParams"].get("diskType", "pd-standard"))
    _require_schedule(world, type, body["scheduling"])
    details = {
        "labels": _labels(body),
        "zone": zone,
        "user_data": metadata.pop("user-data", ""),
        "metadata": metadata,
        "tags": body["tags"]["items"],
        "scheduling": body["scheduling"],
        "disk": body["disks"][0]["initializeParams"],
    }
    try:
        off = DISK_USD_PER_GB_HOUR * int(details["disk"]["diskSizeGb"])
        price = TYPES[type].usd_per_hour
        instance = world.create(MACHINE, name, details, type=type, usd_per_hour=price, off_usd_per_hour=off)
    except Declined as no:
        if no.reason is Reason.NO_CAPACITY:
            return _exhausted(zone)
        raise
    instance.ends_at_s = _limit_s(body["scheduling"])
    return _operation(world, "insert", instance)


def _require_disk(body: Json) -> None:
    [disk] = body["disks"]
    wanted = disk["initializeParams"]
    _labels(wanted)
    [size_gb] = [
        gb for (project, family), gb in IMAGES.items() if wanted["sourceImage"].endswith(f"{project}/global/images/{family}-v1")
    ]
    if int(wanted["diskSizeGb"]) < size_gb:
        raise Declined(Reason.INVALID, f"Requested disk size cannot be smaller than the image size ({size_gb} GB)")
    if not disk["autoDelete"]:
        raise Declined(Reason.INVALID, "a disk that stays is not imitated")


def _require_fit(type: str, disk: str) -> None:
    if not fnmatchcase(_last(disk), TYPES[type].disks):
        raise Declined(Reason.INVALID, f"[{type}] features and [disk_type: {_last(disk)}] are not compatible.")


def _require_schedule(world: World, type: str, scheduling: Json) -> None:
    for field in ("onHostMaintenance", "automaticRestart", "provisioningModel"):
        if field not in scheduling:
            raise Declined(Reason.INVALID, f"Required field 'resource.scheduling.{field}' not specified")
    spot = scheduling["provisioningModel"] == "SPOT"
    if spot and scheduling["automaticRestart"]:
        raise Declined(Reason.INVALID, "Scheduling must have automatic restart turned off for Spot VMs")
    if scheduling["onHostMaintenance"] != ("MIGRATE" if TYPES[type].moves and not spot else "TERMINATE"):
        raise Declined(Reason.INVALID, f"onHostMaintenance {scheduling['onHostMaintenance']} does not fit {type}")
    if (limit_s := _limit_s(scheduling)) is not None:
        if scheduling.get("instanceTerminationAction") != "DELETE":
            raise Declined(Reason.INVALID, "a limit that only stops is not imitated")
        if not SHORTEST_S <= limit_s - world.clock.now_s() <= LONGEST_S:
            raise Declined(
                Reason.INVALID, "Invalid value for field 'resource.scheduling.terminationTime': not 30 s to 120 days away"
            )


def _limit_s(scheduling: Json) -> float | None:
    text = scheduling.get("terminationTime")
    return None if text is None else dt.datetime.fromisoformat(text).timestamp()


def _instance(world: World, instance: Thing) -> Json:
    details = instance.details
    return {
        "kind": "compute#instance",
        "id": str(instance.id),
        "name": instance.name,
        "status": _status(world, instance),
        "creationTimestamp": instance.created,
        "selfLink": _link(instance),
        "zone": f"{LINK}/projects/{PROJECT}/zones/{details['zone']}",
        "machineType": f"{LINK}/projects/{PROJECT}/zones/{details['zone']}/machineTypes/{details['type']}",
        "labels": details["labels"],
        "tags": {"items": details["tags"]},
        "scheduling": details["scheduling"],
        "networkInterfaces": [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT", "natIP": instance.address}]}],
        **({} if instance.off_at_s is None else {"lastStopTimestamp": _moment(instance.off_at_s)}),
    }


def _moment(at_s: float) -> str:
    return dt.datetime.fromtimestamp(at_s, dt.UTC).isoformat(timespec="seconds")


def _status(world: World, instance: Thing) -> str:
    if instance.off:
        return "TERMINATED"
    return "RUNNING" if world.runs(instance) else "STAGING"


def _list_instances(world: World, asked: Asked) -> Reply:
    rows = [_instance(world, instance) for instance in _selected(world.listed(MACHINE), asked)]
    return _aggregated("instanceAggregatedList", "instances", rows, asked)


def _create_disk(world: World, asked: Asked, zone: str) -> Reply:
    name = _require_name(world, DISK, asked.body)
    details = {
        "labels": _labels(asked.body),
        "zone": zone,
        "size_gb": asked.body.get("sizeGb", "10"),
        "sold_as": _last(asked.body.get("type", "pd-standard")),
        "instance": None,
    }
    disk = world.create(DISK, name, details, usd_per_hour=Decimal("0.01"))
    return _operation(world, "insert", disk)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _disk(disk: Thing, users: list[str]) -> Json:
    zone = f"{LINK}/projects/{PROJECT}/zones/{disk.details['zone']}"
    link = f"{zone}/disks/{disk.name}"
    own = disk.details if disk.kind == DISK else disk.details["disk"]
    size_gb, sold_as = (
        (own["size_gb"], own["sold_as"])
        if disk.kind == DISK
        else (own["diskSizeGb"], _last(own.get("diskType", "pd-standard")))
    )
    shown = {"name": disk.name, "selfLink": link, "zone": zone, "sizeGb": size_gb, "labels": disk.details["labels"]}
    shown |= {"type": f"{zone}/diskTypes/{sold_as}"}
    return shown | ({"users": users} if users else {})


def _users(world: World, disk: Thing) -> list[str]:
    """An instance that is gone has it no more."""
    return [_link(each) for each in world.standing() if each.kind == MACHINE and each.id == disk.details["instance"]]


def _read_disk(world: World, asked: Asked, zone: str, name: str) -> Reply:
    """That of an instance has its name."""
    machines = [each for each in world.standing() if (each.kind, each.name) == (MACHINE, name)]
    if machines:
        return Reply(200, _disk(machines[0], [_link(machines[0])]))
    disk = _find(world, DISK, name)
    return Reply(200, _disk(disk, _users(world, disk)))


def _attach_disk(world: World, asked: Asked, zone: str, name: str) -> Reply:
    instance, disk = _find(world, MACHINE, name), _find(world, DISK, str(asked.body["source"]).rpartition("/")[2])
    if disk.details["zone"] != zone:
        raise Declined(Reason.INVALID, "The disk must be in the zone of the instance")
    _require_fit(str(instance.details["type"]), disk.details["sold_as"])
    if _users(world, disk):
        raise Declined(Reason.IN_USE)
    world.change(DISK, disk.id, {"instance": instance.id, "device": asked.body["deviceName"]})
    return _operation(world, "insert", disk)


def _delete_disk(world: World, asked: Asked, zone: str, name: str) -> Reply:
    if _users(world, _find(world, DISK, name)):
        raise Declined(Reason.IN_USE)
    return _delete_of(DISK)(world, asked, zone, name)


def _list_disks(world: World, asked: Asked) -> Reply:
    """Those of instances, and those that nothing uses."""
    of_machines = [_disk(machine, [_link(machine)]) for machine in _selected(world.listed(MACHINE), asked)]
    rows = of_machines + [_disk(disk, _users(world, disk)) for disk in _selected(world.listed(DISK), asked)]
    return _aggregated("diskAggregatedList", "disks", rows, asked)


def _serial_port(world: World, asked: Asked, zone: str, name: str) -> Reply:
    instance = _find(world, MACHINE, name)
    return Reply(200, {"kind": "compute#serialPortOutput", "contents": f"{instance.name} says nothing here\n"})


# ── firewall rules ─────────────────────────────────────────────────────────────────────────────────────────────────


def _create_firewall(world: World, asked: Asked) -> Reply:
    body, name = dict(asked.body), _require_name(world, FIREWALL, asked.body)
    _require_ranges(body)
    if len(body.get("description", "")) > DESCRIPTION_CHARS:
        raise Declined(Reason.INVALID, "Invalid value for field 'resource.description': is too long")
    if ("allowed" in body) is ("denied" in body):
        raise Declined(Reason.INVALID, "Exactly one of 'allowed' and 'denied' must be specified")
    if not str(body["network"]).endswith("networks/default"):
        raise Declined(Reason.ABSENT, f"The resource '{body['network']}' was not found")
    return _operation(world, "insert", world.create(FIREWALL, name, {"rule": body}))


def _require_ranges(body: Json) -> None:
    if len({":" in cidr for cidr in body["sourceRanges"]}) != 1:
        raise Declined(Reason.INVALID, "Invalid value for field 'resource.sourceRanges': both versions, or none")


def _firewall(world: World, firewall: Thing) -> Json:
    return {**firewall.details["rule"], "kind": "compute#firewall", "id": str(firewall.id), "selfLink": _link(firewall)}


def _list_firewalls(world: World, asked: Asked) -> Reply:
    return _list("firewallList", [_firewall(world, each) for each in world.listed(FIREWALL)], asked)


def _patch_firewall(world: World, asked: Asked, name: str) -> Reply:
    firewall = _find(world, FIREWALL, name)
    rule = firewall.details["rule"] | asked.body
    _require_ranges(rule)
    return _operation(world, "patch", world.change(FIREWALL, firewall.id, {"rule": rule}))


# ── both ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_of(kind: str, shown: Callable[[World, Thing], Json]) -> Callable[..., Reply]:
    return lambda world, asked, *names: Reply(200, shown(world, _find(world, kind, names[-1])))


def _delete_of(kind: str) -> Callable[..., Reply]:
    return lambda world, asked, *names: _operation(world, "delete", world.delete(kind, _find(world, kind, names[-1]).id))


def _list_zones(world: World, asked: Asked) -> Reply:
    rows = [{"name": zone, "status": "UP", "region": f"{LINK}/regions/{zone.rpartition('-')[0]}"} for zone in ZONES]
    return _list("zoneList", rows, asked)


def _read_zone(world: World, asked: Asked, zone: str) -> Reply:
    if zone not in ZONES:
        raise Declined(Reason.ABSENT, f"The resource 'projects/{PROJECT}/zones/{zone}' was not found")
    return Reply(200, {"kind": "compute#zone", "name": zone, "status": "UP"})


def _list_types(world: World, asked: Asked, zone: str) -> Reply:
    rows = [
        {"name": name} for name, type in TYPES.items() if zone in type.zones and asked.query["filter"] == f'name = "{name}"'
    ]
    return _list("machineTypeList", rows, asked)


def _read_image(world: World, asked: Asked, project: str, family: str) -> Reply:
    if (project, family) not in IMAGES:
        raise Declined(Reason.ABSENT, f"The resource 'projects/{project}/global/images/family/{family}' was not found")
    link = f"{LINK}/projects/{project}/global/images/{family}-v1"
    return Reply(200, {"name": f"{family}-v1", "family": family, "diskSizeGb": str(IMAGES[project, family]), "selfLink": link})


HERE: Final = rf"/compute/v1/projects/{PROJECT}"
# ── quotas ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_project(world: World, asked: Asked, project: str) -> Reply:
    return Reply(200, {"kind": "compute#project", "name": project, "quotas": _quotas(world, "GPUS_ALL_REGIONS")})


def _read_region(world: World, asked: Asked, project: str, region: str) -> Reply:
    return Reply(200, {"kind": "compute#region", "name": region, "quotas": _quotas(world, "NVIDIA_L4_GPUS")})


def _quotas(world: World, metric: str) -> list[Json]:
    """Every machine with a GPU here has one; the world's quota is of machines, so it is of GPUs."""
    quota = world.settings.quota
    limit = float(MADE_UP_LIMIT if quota is None else quota)
    used = sum(thing.details["type"].startswith("g2-") for thing in world.standing() if thing.kind == MACHINE)
    return [{"metric": metric, "limit": limit, "usage": float(used)}, {"metric": "NETWORKS", "limit": 5.0, "usage": 1.0}]


ROUTES: Final[tuple[tuple[str, str, Any], ...]] = (
    ("GET", r"/compute/v1/projects/([a-z-]+)", _read_project),
    ("GET", r"/compute/v1/projects/([a-z-]+)/regions/([a-z0-9-]+)", _read_region),
    ("GET", rf"{HERE}/zones", _list_zones),
    ("GET", rf"{HERE}/zones/([a-z0-9-]+)", _read_zone),
    ("GET", rf"{HERE}/zones/([a-z0-9-]+)/machineTypes", _list_types),
    ("GET", r"/compute/v1/projects/([a-z-]+)/global/images/family/([a-z0-9-]+)", _read_image),
    ("GET", rf"{HERE}/(?:global|zones/[a-z0-9-]+)/operations/operation-(\w+)-(\d+)", _read_operation),
    ("POST", rf"{HERE}/zones/([a-z0-9-]+)/instances", _create_instance),
    ("GET", rf"{HERE}/aggregated/instances", _list_instances),
    ("GET", rf"{HERE}/zones/([a-z0-9-]+)/instances/([^/]+)", _read_of(MACHINE, _instance)),
    ("GET", rf"{HERE}/zones/([a-z0-9-]+)/instances/([^/]+)/serialPort", _serial_port),
    ("DELETE", rf"{HERE}/zones/([a-z0-9-]+)/instances/([^/]+)", _delete_of(MACHINE)),
    ("POST", rf"{HERE}/zones/([a-z0-9-]+)/disks", _create_disk),
    ("GET", rf"{HERE}/aggregated/disks", _list_disks),
    ("GET", rf"{HERE}/zones/([a-z0-9-]+)/disks/([^/]+)", _read_disk),
    ("POST", rf"{HERE}/zones/([a-z0-9-]+)/instances/([^/]+)/attachDisk", _attach_disk),
    ("DELETE", rf"{HERE}/zones/([a-z0-9-]+)/disks/([^/]+)", _delete_disk),
    ("POST", rf"{HERE}/global/firewalls", _create_firewall),
    ("GET", rf"{HERE}/global/firewalls", _list_firewalls),
    ("GET", rf"{HERE}/global/firewalls/([^/]+)", _read_of(FIREWALL, _firewall)),
    ("PATCH", rf"{HERE}/global/firewalls/([^/]+)", _patch_firewall),
    ("DELETE", rf"{HERE}/global/firewalls/([^/]+)", _delete_of(FIREWALL)),
)
DIALECT: Final = Dialect(routes=ROUTES, declined=declined, power_off=PowerOff.STOPS, scopes=needed)
