"""The world in the words of the Hetzner Cloud API v1, as published (docs.hetzner.cloud, read 2026-11).

Imitated is what our program, our double of the plugin and our teardown ask for; anything else is `not_found`. The dollars of
the bill are the euros of the price list: only their sum matters. Firewalls are kept, and not enforced.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final, NamedTuple

from provision.clouds.programs.order import PowerOff
from tests.doubles.world.app import Asked, Dialect, Json, Reply
from tests.doubles.world.core import MACHINE, Declined, Reason, Thing, World

KEY: Final = "ssh_key"
VOLUME: Final = "volume"
LEAST_GB: Final = 10
VOLUME_USD_PER_GB_HOUR: Final = Decimal("0.0000784")  # 0.0572 a month
FIREWALL: Final = "firewall"
PER_PAGE: Final = 25
MOST_PER_PAGE: Final = 50
USER_DATA_BYTES: Final = 32 * 1024
LABEL_KEY: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE: Final = re.compile(rf"({LABEL_KEY.pattern})?")
HOSTNAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
LOCATIONS: Final = ("ash", "fsn1", "hel1", "hil", "nbg1", "sin")
IMAGES: Final = ("debian-12", "ubuntu-22.04", "ubuntu-24.04")


class Type(NamedTuple):
    """A row of the price list."""

    vcpus: int
    ram_gb: int
    disk_gb: int
    usd_per_hour: Decimal  # made up


TYPES: Final = {"cx23": Type(2, 4, 40, Decimal("0.0056")), "ccx13": Type(2, 8, 80, Decimal("0.0200"))}

# Reason -> status and code. The statuses of `resource_unavailable` and `uniqueness_error` as seen in public reports.
SAYS: Final[dict[Reason, tuple[int, str, str]]] = {
    Reason.ABSENT: (404, "not_found", ""),
    Reason.BROKEN: (500, "server_error", "an internal server error occurred"),
    Reason.IN_USE: (422, "resource_in_use", "firewall is still in use"),
    Reason.INVALID: (422, "invalid_input", ""),
    Reason.LOCKED: (423, "locked", "server is locked"),
    Reason.NO_CAPACITY: (412, "resource_unavailable", "error during placement"),
    Reason.QUOTA: (403, "resource_limit_exceeded", "server limit reached"),
    Reason.TAKEN: (409, "uniqueness_error", ""),
    Reason.THROTTLED: (429, "rate_limit_exceeded", "limit of 3600 requests per hour reached"),
    Reason.NOT_ALLOWED: (403, "forbidden", "insufficient permissions for this request"),
    Reason.UNKNOWN_CALLER: (401, "unauthorized", "unable to authenticate"),
}


def declined(no: Declined) -> Reply:
    status, code, text = SAYS[no.reason]
    return Reply(status, {"error": {"code": code, "message": text or str(no), "details": None}})


# ── lists ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _page(name: str, rows: list[Json], asked: Asked) -> Reply:
    per_page = min(int(asked.query.get("per_page", PER_PAGE)), MOST_PER_PAGE)
    page = int(asked.query.get("page", 1))
    last = max(1, -(-len(rows) // per_page))
    pagination = {
        "page": page,
        "per_page": per_page,
        "previous_page": page - 1 if page > 1 else None,
        "next_page": page + 1 if page < last else None,
        "last_page": last,
        "total_entries": len(rows),
    }
    return Reply(200, {name: rows[(page - 1) * per_page : page * per_page], "meta": {"pagination": pagination}})


def _selected(things: Iterable[Thing], asked: Asked) -> list[Thing]:
    """By name and by label; of the selector's language what is used: `key` and `key==value`."""
    selector, name = asked.query.get("label_selector"), asked.query.get("name")
    return [thing for thing in things if name in (None, thing.name) and (selector is None or _fits(thing, selector))]


def _fits(thing: Thing, selector: str) -> bool:
    key, equals, value = selector.partition("==")
    if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
        raise Declined(Reason.INVALID, "invalid input in field 'label_selector'")
    labels = thing.details["labels"]
    return labels.get(key) == value if equals else key in labels


def _labels(asked: Asked) -> dict[str, str]:
    labels: dict[str, str] = asked.body.get("labels") or {}
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            raise Declined(Reason.INVALID, f"invalid input in field 'labels': {key}={value}")
    return labels


def _require_name(world: World, kind: str, asked: Asked) -> str:
    name = str(asked.body["name"])
    world.require_free(kind, f"{kind} name is already used", lambda thing: thing.name == name)
    return name


def _action(world: World, thing: Thing, command: str) -> Json:
    """Its number tells of whom it is; it is over when the world says so."""
    ends_at_s = thing.ends_at_s if command == "delete_server" else thing.created_at_s + world.settings.boot_s
    done = ends_at_s is not None and world.clock.now_s() >= ends_at_s
    number = thing.id * 10 + COMMANDS.index(command)
    resources = [{"id": thing.id, "type": "server" if thing.kind == MACHINE else thing.kind}]
    progress = {"status": "success" if done else "running", "progress": 100 if done else 0, "error": None}
    return {"id": number, "command": command, "resources": resources, **progress}


COMMANDS: Final = (
    "create_server",
    "delete_server",
    "set_firewall_rules",
    "apply_firewall",
    "create_volume",
    "attach_volume",
)


def _read_action(world: World, asked: Asked, number: str) -> Reply:
    id, command = divmod(int(number), 10)
    [thing] = [each for each in world.things if each.id == id]
    return Reply(200, {"action": _action(world, thing, COMMANDS[command])})


# ── servers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_server(world: World, asked: Asked) -> Reply:
    body, name = asked.body, _require_name(world, MACHINE, asked)
    type, location = str(body["server_type"]), body.get("location", LOCATIONS[0])  # Hetzner's choice, where none is made
    for field, value, known in (
        ("server_type", type, TYPES),
        ("image", body["image"], IMAGES),
        ("location", location, LOCATIONS),
    ):
        if value not in known:
            raise Declined(Reason.INVALID, f"{field} {value} not found")
    if not HOSTNAME.fullmatch(name):
        raise Declined(Reason.INVALID, "invalid input in field 'name'")
    user_data = body.get("user_data", "")
    if len(user_data.encode()) > USER_DATA_BYTES:
        raise Declined(Reason.INVALID, "invalid input in field 'user_data': is too long")
    for kind, ids in ((KEY, body.get("ssh_keys", [])), (FIREWALL, _firewall_ids(body))):
        for id in ids:
            world.read(kind, int(id))
    details = {
        "labels": _labels(asked),
        "location": location,
        "image": body["image"],
        "user_data": user_data,
        "firewalls": _firewall_ids(body),
    }
    server = world.create(MACHINE, name, details, type=type, usd_per_hour=TYPES[type].usd_per_hour)
    answer = {"server": _server(world, server), "action": _action(world, server, "create_server")}
    return Reply(201, {**answer, "next_actions": [], "root_password": None if body.get("ssh_keys") else "secret"})


def _firewall_ids(body: Json) -> list[int]:
    return [int(each["firewall"]) for each in body.get("firewalls", [])]


def _server(world: World, server: Thing) -> Json:
    details = server.details
    return {
        "id": server.id,
        "name": server.name,
        "status": _status(world, server),
        "created": server.created,
        "labels": details["labels"],
        "location": {"name": details["location"]},
        "server_type": _type(world, details["type"]),
        "image": {"name": details["image"]},
        "public_net": {
            "ipv4": {"ip": server.address, "blocked": False},
            "ipv6": {"ip": f"2001:db8:{server.id:x}::/64", "blocked": False},
            "firewalls": [{"id": id, "status": "applied"} for id in details["firewalls"]],
        },
        "volumes": [each.id for each in world.standing() if each.kind == VOLUME and each.details["server"] == server.id],
    }


def _status(world: World, server: Thing) -> str:
    if server.ends_at_s is not None:
        return "deleting"
    return "off" if server.off else "running" if world.runs(server) else "initializing"


def _list_servers(world: World, asked: Asked) -> Reply:
    return _page("servers", [_server(world, server) for server in _selected(world.listed(MACHINE), asked)], asked)


def _read_server(world: World, asked: Asked, id: str) -> Reply:
    return Reply(200, {"server": _server(world, world.read(MACHINE, int(id)))})


def _delete_server(world: World, asked: Asked, id: str) -> Reply:
    return Reply(200, {"action": _action(world, world.delete(MACHINE, int(id)), "delete_server")})


def _type(world: World, name: str) -> Json:
    type = TYPES[name]
    price = str(world.price(name, type.usd_per_hour))
    prices = [{"location": each, "price_hourly": {"net": price, "gross": price}} for each in LOCATIONS]
    sizes = {"cores": type.vcpus, "memory": type.ram_gb, "disk": type.disk_gb}
    return {"id": [*TYPES].index(name) + 1, "name": name, **sizes, "architecture": "x86", "prices": prices}


def _list_types(world: World, asked: Asked) -> Reply:
    names = [name for name in TYPES if asked.query.get("name") in (None, name)]
    return _page("server_types", [_type(world, name) for name in names], asked)


def _list_locations(world: World, asked: Asked) -> Reply:
    return _page("locations", [{"id": number, "name": name} for number, name in enumerate(LOCATIONS, 1)], asked)


# ── volumes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_volume(world: World, asked: Asked) -> Reply:
    body, name = asked.body, _require_name(world, VOLUME, asked)
    if int(body["size"]) < LEAST_GB:
        raise Declined(Reason.INVALID, "invalid input in field 'size': must be at least 10")
    if body["location"] not in LOCATIONS:
        raise Declined(Reason.INVALID, f"location {body['location']} not found")
    details = {"labels": _labels(asked), "location": body["location"], "size": int(body["size"]), "server": None}
    volume = world.create(VOLUME, name, details, usd_per_hour=VOLUME_USD_PER_GB_HOUR * int(body["size"]))
    answer = {"volume": _volume(world, volume), "action": _action(world, volume, "create_volume"), "next_actions": []}
    return Reply(201, answer)


def _volume(world: World, volume: Thing) -> Json:
    """A server that is gone has it no more."""
    details = volume.details
    return {
        "id": volume.id,
        "name": volume.name,
        "status": "available",
        "created": volume.created,
        "labels": details["labels"],
        "location": {"name": details["location"]},
        "size": details["size"],
        "format": None,
        "linux_device": f"/dev/disk/by-id/scsi-0HC_Volume_{volume.id}",
        "server": _user(world, volume),
    }


def _user(world: World, volume: Thing) -> int | None:
    there = {each.id for each in world.standing() if each.kind == MACHINE}
    return volume.details["server"] if volume.details["server"] in there else None


def _attach_volume(world: World, asked: Asked, id: str) -> Reply:
    volume, server = world.read(VOLUME, int(id)), world.read(MACHINE, int(asked.body["server"]))
    if _user(world, volume) is not None:
        raise Declined(Reason.LOCKED)
    if server.details["location"] != volume.details["location"]:
        raise Declined(Reason.INVALID, "server and volume must be in the same location")
    world.change(VOLUME, volume.id, {"server": server.id})
    return Reply(201, {"action": _action(world, volume, "attach_volume")})


def _delete_volume(world: World, asked: Asked, id: str) -> Reply:
    if _user(world, world.read(VOLUME, int(id))) is not None:
        raise Declined(Reason.IN_USE)
    world.delete(VOLUME, int(id))
    return Reply(204)


# ── keys and firewalls ─────────────────────────────────────────────────────────────────────────────────────────────


def _create_key(world: World, asked: Asked) -> Reply:
    material = str(asked.body["public_key"]).split()[1]
    told = "SSH key with the same fingerprint already exists"
    world.require_free(KEY, told, lambda thing: thing.details["public_key"].split()[1] == material)
    details = {"labels": _labels(asked), "public_key": asked.body["public_key"]}
    return Reply(201, {"ssh_key": _key(world.create(KEY, _require_name(world, KEY, asked), details))})


def _key(key: Thing) -> Json:
    material = base64.b64decode(key.details["public_key"].split()[1])
    digest = hashlib.md5(material).hexdigest()
    fingerprint = ":".join(digest[place : place + 2] for place in range(0, 32, 2))
    return {"id": key.id, "name": key.name, "fingerprint": fingerprint, "created": key.created, **_open(key)}


def _open(thing: Thing) -> Json:
    return {name: value for name, value in thing.details.items() if name != "type"}


def _create_firewall(world: World, asked: Asked) -> Reply:
    details = {"labels": _labels(asked), "rules": _rules(asked.body)}
    firewall = world.create(FIREWALL, _require_name(world, FIREWALL, asked), details)
    return Reply(201, {"firewall": _firewall(world, firewall), "actions": []})


def _rules(body: Json) -> list[Json]:
    for rule in body.get("rules", []):
        if rule["direction"] == "in" and not rule.get("source_ips"):
            raise Declined(Reason.INVALID, "invalid input in field 'rules': source_ips is missing")
    return list(body.get("rules", []))


def _firewall(world: World, firewall: Thing) -> Json:
    users = [server for server in world.standing() if firewall.id in server.details.get("firewalls", [])]
    applied = [{"type": "server", "server": {"id": server.id}} for server in users]
    return {"id": firewall.id, "name": firewall.name, "created": firewall.created, "applied_to": applied, **_open(firewall)}


def _set_rules(world: World, asked: Asked, id: str) -> Reply:
    firewall = world.change(FIREWALL, int(id), {"rules": _rules(asked.body)})
    return Reply(201, {"actions": [_action(world, firewall, "set_firewall_rules")]})


def _delete_firewall(world: World, asked: Asked, id: str) -> Reply:
    firewall = world.read(FIREWALL, int(id))
    if _firewall(world, firewall)["applied_to"]:
        raise Declined(Reason.IN_USE)
    world.delete(FIREWALL, int(id))
    return Reply(204)


def _list_of(kind: str, shown: Callable[[World, Thing], Json]) -> Callable[[World, Asked], Reply]:
    return lambda world, asked: _page(
        f"{kind}s", [shown(world, thing) for thing in _selected(world.listed(kind), asked)], asked
    )


def _read_of(kind: str, shown: Callable[[World, Thing], Json]) -> Callable[..., Reply]:
    return lambda world, asked, id: Reply(200, {kind: shown(world, world.read(kind, int(id)))})


def _relabel(kind: str, shown: Callable[[World, Thing], Json]) -> Callable[..., Reply]:
    def act(world: World, asked: Asked, id: str) -> Reply:
        thing = world.change(kind, int(id), {"labels": _labels(asked)})
        return Reply(200, {"server" if kind == MACHINE else kind: shown(world, thing)})

    return act


def _delete_key(world: World, asked: Asked, id: str) -> Reply:
    world.delete(KEY, int(id))
    return Reply(204)


def _shown_key(world: World, key: Thing) -> Json:
    return _key(key)


ROUTES: Final[tuple[tuple[str, str, Any], ...]] = (
    ("GET", r"/v1/locations", _list_locations),
    ("GET", r"/v1/server_types", _list_types),
    ("GET", r"/v1/actions/(\d+)", _read_action),
    ("POST", r"/v1/servers", _create_server),
    ("GET", r"/v1/servers", _list_servers),
    ("GET", r"/v1/servers/(\d+)", _read_server),
    ("PUT", r"/v1/servers/(\d+)", _relabel(MACHINE, _server)),
    ("DELETE", r"/v1/servers/(\d+)", _delete_server),
    ("POST", r"/v1/volumes", _create_volume),
    ("GET", r"/v1/volumes", _list_of(VOLUME, _volume)),
    ("GET", r"/v1/volumes/(\d+)", _read_of(VOLUME, _volume)),
    ("POST", r"/v1/volumes/(\d+)/actions/attach", _attach_volume),
    ("DELETE", r"/v1/volumes/(\d+)", _delete_volume),
    ("POST", r"/v1/ssh_keys", _create_key),
    ("GET", r"/v1/ssh_keys", _list_of(KEY, _shown_key)),
    ("GET", r"/v1/ssh_keys/(\d+)", _read_of(KEY, _shown_key)),
    ("PUT", r"/v1/ssh_keys/(\d+)", _relabel(KEY, _shown_key)),
    ("DELETE", r"/v1/ssh_keys/(\d+)", _delete_key),
    ("POST", r"/v1/firewalls", _create_firewall),
    ("GET", r"/v1/firewalls", _list_of(FIREWALL, _firewall)),
    ("GET", r"/v1/firewalls/(\d+)", _read_of(FIREWALL, _firewall)),
    ("PUT", r"/v1/firewalls/(\d+)", _relabel(FIREWALL, _firewall)),
    ("POST", r"/v1/firewalls/(\d+)/actions/set_rules", _set_rules),
    ("DELETE", r"/v1/firewalls/(\d+)", _delete_firewall),
)
DIALECT: Final = Dialect(routes=ROUTES, declined=declined, power_off=PowerOff.KEEPS_BILLING)
