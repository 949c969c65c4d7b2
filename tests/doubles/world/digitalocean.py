"""The world in the words of the DigitalOcean API v2, as published (docs.digitalocean.com, read 2026-11).

Imitated is what our program, our double of the plugin and our teardown ask for; anything else is `not_found`. Firewalls are
kept, and not enforced. A tag that a droplet names is made with it, and outlives it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

from provision.clouds.programs.order import PowerOff
from tests.doubles.world.app import Asked, Dialect, Json, Reply
from tests.doubles.world.core import MACHINE, Declined, Reason, Thing, World

KEY: Final = "ssh_key"
FIREWALL: Final = "firewall"
TAG: Final = "tag"
VOLUME: Final = "volume"
VOLUME_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
VOLUME_USD_PER_GIB_HOUR: Final = Decimal("0.00015")
MADE_UP_LIMIT: Final = 10
PER_PAGE: Final = 20
MOST_PER_PAGE: Final = 200
USER_DATA_BYTES: Final = 64 * 1024
TAG_NAME: Final = re.compile(r"[A-Za-z0-9:_-]{1,255}")
FIREWALL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,254}")
HOSTNAME: Final = re.compile(r"[A-Za-z0-9.-]{1,255}")
REGIONS: Final = ("ams3", "fra1", "nyc2", "tor1")
IMAGES: Final = ("gpu-amd-base", "gpu-h100x1-base", "gpu-h100x8-base", "ubuntu-24-04-x64")
UUID: Final = "00000000-0000-4000-8000-{:012d}"


class Size(NamedTuple):
    """A row of the price list."""

    vcpus: int
    ram_mib: int
    disk_gb: int
    usd_per_hour: Decimal  # made up


SIZES: Final = {
    "s-1vcpu-1gb": Size(1, 1024, 25, Decimal("0.00893")),
    "s-2vcpu-4gb": Size(2, 4096, 80, Decimal("0.03571")),
    "gpu-l40sx1-48gb": Size(8, 65536, 500, Decimal("1.57")),
}

# Reason -> status, id and message.
SAYS: Final[dict[Reason, tuple[int, str, str]]] = {
    Reason.ABSENT: (404, "not_found", "The resource you requested could not be found."),
    Reason.BROKEN: (500, "server_error", "Unexpected server-side error"),
    Reason.IN_USE: (422, "unprocessable_entity", "It is still in use."),
    Reason.INVALID: (422, "unprocessable_entity", ""),
    Reason.LOCKED: (422, "unprocessable_entity", "Droplet already has a pending event."),
    Reason.NO_CAPACITY: (422, "unprocessable_entity", "The size you selected is temporarily unavailable."),
    Reason.QUOTA: (422, "unprocessable_entity", "creating this/these droplet(s) will exceed your droplet limit"),
    Reason.TAKEN: (409, "conflict", ""),
    Reason.THROTTLED: (429, "too_many_requests", "API Rate limit exceeded."),
    Reason.NOT_ALLOWED: (403, "Forbidden", ""),
    Reason.UNKNOWN_CALLER: (401, "Unauthorized", "Unable to authenticate you"),
}


def declined(no: Declined) -> Reply:
    status, id, message = SAYS[no.reason]
    told = f"You are not authorized to perform this operation: {no}" if no.reason is Reason.NOT_ALLOWED else message or str(no)
    return Reply(status, {"id": id, "message": told, "request_id": "made-up"})


def _page(name: str, rows: list[Json], asked: Asked) -> Reply:
    per_page = min(int(asked.query.get("per_page", PER_PAGE)), MOST_PER_PAGE)
    page = int(asked.query.get("page", 1))
    more = {"next": f"/v2/{name}?page={page + 1}"} if page * per_page < len(rows) else {}
    shown = rows[(page - 1) * per_page : page * per_page]
    return Reply(200, {name: shown, "links": {"pages": more} if more else {}, "meta": {"total": len(rows)}})


def _listing(name: str, kind: str, shown: Callable[[World, Thing], Json]) -> Callable[[World, Asked], Reply]:
    return lambda world, asked: _page(name, [shown(world, thing) for thing in world.listed(kind)], asked)


def _reading(name: str, kind: str, shown: Callable[[World, Thing], Json]) -> Callable[..., Reply]:
    return lambda world, asked, id: Reply(200, {name: shown(world, world.read(kind, int(id)))})


def _deleting(kind: str) -> Callable[..., Reply]:
    def act(world: World, asked: Asked, id: str) -> Reply:
        world.delete(kind, int(id))
        return Reply(204)

    return act


# ── droplets ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_droplet(world: World, asked: Asked) -> Reply:
    body, size = asked.body, str(asked.body["size"])
    for field, value, known in (("size", size, SIZES), ("image", body["image"], IMAGES), ("region", body["region"], REGIONS)):
        if value not in known:
            raise Declined(Reason.INVALID, f"You specified an invalid {field} for Droplet creation.")
    if not HOSTNAME.fullmatch(body["name"]):
        raise Declined(Reason.INVALID, "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)")
    user_data = body.get("user_data") or ""
    if len(user_data.encode()) > USER_DATA_BYTES:
        raise Declined(Reason.INVALID, "User data is too long.")
    for id in body.get("ssh_keys", []):
        world.read(KEY, int(id))
    for tag in body.get("tags", []):
        _made_tag(world, tag)
    details = {
        "tags": body.get("tags", []),
        "region": body["region"],
        "image": body["image"],
        "user_data": user_data,
    }
    droplet = world.create(MACHINE, body["name"], details, type=size, usd_per_hour=SIZES[size].usd_per_hour)
    return Reply(202, {"droplet": _droplet(world, droplet), "links": {"actions": []}})


def _droplet(world: World, droplet: Thing) -> Json:
    size = SIZES[droplet.details["type"]]
    public = {"ip_address": droplet.address, "netmask": "255.255.240.0", "type": "public"}
    private = {"ip_address": "10.0.0.2", "netmask": "255.255.0.0", "type": "private"}
    return {
        "id": droplet.id,
        "name": droplet.name,
        "status": _status(world, droplet),
        "locked": droplet.ends_at_s is not None,
        "created_at": droplet.created,
        "memory": size.ram_mib,
        "vcpus": size.vcpus,
        "disk": size.disk_gb,
        "size_slug": droplet.details["type"],
        "image": {"slug": droplet.details["image"]},
        "region": {"slug": droplet.details["region"]},
        "tags": droplet.details["tags"],
        "networks": {"v4": [private, public], "v6": []},
    }


def _list_droplets(world: World, asked: Asked) -> Reply:
    """Those with a GPU where it is asked for them, and no others then; else those without."""
    is_asked = asked.query.get("type", "droplets") == "gpus"
    shown = [each for each in world.listed(MACHINE) if each.details["type"].startswith("gpu-") is is_asked]
    return _page("droplets", [_droplet(world, each) for each in shown], asked)


def _status(world: World, droplet: Thing) -> str:
    return "off" if droplet.off else "active" if world.runs(droplet) else "new"


def _list_sizes(world: World, asked: Asked) -> Reply:
    rows = [
        {
            "slug": slug,
            "memory": size.ram_mib,
            "vcpus": size.vcpus,
            "disk": size.disk_gb,
            "price_hourly": float(world.price(slug, size.usd_per_hour)),
            "regions": list(REGIONS),
            "available": True,
        }
        for slug, size in SIZES.items()
    ]
    return _page("sizes", rows, asked)


def _read_account(world: World, asked: Asked) -> Reply:
    """The limit of droplets that the world keeps; of GPUs the API tells none."""
    quota = world.settings.quota
    limit = MADE_UP_LIMIT if quota is None else quota
    team = {"uuid": world.settings.account, "name": "My Team"}
    return Reply(200, {"account": {"droplet_limit": limit, "status": "active", "uuid": "whoever-asks", "team": team}})


def _list_regions(world: World, asked: Asked) -> Reply:
    return _page("regions", [{"slug": slug, "name": slug, "available": True} for slug in REGIONS], asked)


# ── volumes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_volume(world: World, asked: Asked) -> Reply:
    body, size_gib = asked.body, int(asked.body["size_gigabytes"])
    if body["region"] not in REGIONS or size_gib < 1 or not VOLUME_NAME.fullmatch(body["name"]):
        raise Declined(Reason.INVALID, "invalid region, size or name")
    taken = lambda thing: (thing.name, thing.details["region"]) == (body["name"], body["region"])  # noqa: E731
    world.require_free(VOLUME, "a volume with this name already exists in that region", taken)
    for tag in body.get("tags", []):
        _made_tag(world, tag)
    details = {"tags": body.get("tags", []), "region": body["region"], "size_gib": size_gib, "droplet": None}
    volume = world.create(VOLUME, body["name"], details, usd_per_hour=VOLUME_USD_PER_GIB_HOUR * size_gib)
    return Reply(201, {"volume": _volume(world, volume)})


def _volume(world: World, volume: Thing) -> Json:
    """A droplet that is gone has it no more."""
    details = volume.details
    return {
        "id": UUID.format(volume.id),
        "name": volume.name,
        "region": {"slug": details["region"]},
        "size_gigabytes": details["size_gib"],
        "droplet_ids": _users(world, volume),
        "created_at": volume.created,
        "filesystem_type": "",
        "tags": details["tags"],
    }


def _users(world: World, volume: Thing) -> list[int]:
    return [each.id for each in world.standing() if each.kind == MACHINE and each.id == volume.details["droplet"]]


def _act_on_volume(world: World, asked: Asked, id: str) -> Reply:
    volume, droplet = world.read(VOLUME, int(id)), world.read(MACHINE, int(asked.body["droplet_id"]))
    if asked.body["type"] != "attach" or droplet.details["region"] != volume.details["region"]:
        raise Declined(Reason.INVALID, "attach is imitated, in one region")
    if _users(world, volume):
        raise Declined(Reason.IN_USE)
    world.change(VOLUME, volume.id, {"droplet": droplet.id})
    return Reply(202, {"action": {"id": volume.id, "status": "completed", "type": "attach_volume"}})


def _delete_volume(world: World, asked: Asked, id: str) -> Reply:
    if _users(world, world.read(VOLUME, int(id))):
        raise Declined(Reason.IN_USE)
    world.delete(VOLUME, int(id))
    return Reply(204)


# ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_key(world: World, asked: Asked) -> Reply:
    material = str(asked.body["public_key"]).split()[1]
    if any(thing.kind == KEY and thing.details["public_key"].split()[1] == material for thing in world.standing()):
        raise Declined(Reason.INVALID, "SSH Key is already in use on your account")
    key = world.create(KEY, str(asked.body["name"]), {"public_key": asked.body["public_key"]})
    return Reply(201, {"ssh_key": _key(world, key)})


def _key(world: World, key: Thing) -> Json:
    return {"id": key.id, "name": key.name, "fingerprint": f"{key.id:032x}", "public_key": key.details["public_key"]}


# ── tags ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _made_tag(world: World, name: str) -> Thing:
    """Letters of either case are one tag, written as it was first."""
    for thing in world.standing():
        if thing.kind == TAG and thing.name.lower() == name.lower():
            return thing
    if not TAG_NAME.fullmatch(name):
        raise Declined(Reason.INVALID, "Tags may contain letters, numbers, colons, dashes, and underscores.")
    return world.create(TAG, name, {})


def _create_tag(world: World, asked: Asked) -> Reply:
    return Reply(201, {"tag": _tag(world, _made_tag(world, str(asked.body["name"])))})


def _tag(world: World, tag: Thing) -> Json:
    carriers = [thing for thing in world.standing() if thing.kind in (MACHINE, VOLUME)]
    count = sum(tag.name in thing.details.get("tags", []) for thing in carriers)
    return {"name": tag.name, "resources": {"count": count}}


def _named(world: World, name: str) -> Thing:
    for thing in world.standing():
        if (thing.kind, thing.name) == (TAG, name):
            return thing
    raise Declined(Reason.ABSENT)


def _read_tag(world: World, asked: Asked, name: str) -> Reply:
    return Reply(200, {"tag": _tag(world, _named(world, name))})


def _delete_tag(world: World, asked: Asked, name: str) -> Reply:
    """What carried it carries it no more."""
    world.delete(TAG, _named(world, name).id)
    for thing in world.standing():
        if name in thing.details.get("tags", []):
            thing.details["tags"] = [each for each in thing.details["tags"] if each != name]
    return Reply(204)


# ── firewalls ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_firewall(world: World, asked: Asked) -> Reply:
    details, name = _rules(world, asked.body), str(asked.body["name"])
    if not FIREWALL_NAME.fullmatch(name):
        raise Declined(Reason.INVALID, "name must be alphanumeric, with dashes and periods")
    world.require_free(FIREWALL, "duplicate name", lambda thing: thing.name == name)
    return Reply(202, {"firewall": _firewall(world, world.create(FIREWALL, name, details))})


def _rules(world: World, body: Json) -> Json:
    for tag in body.get("tags") or []:
        _named(world, tag)
    inbound, outbound = body.get("inbound_rules") or [], body.get("outbound_rules") or []
    if not inbound and not outbound:
        raise Declined(Reason.INVALID, "at least one rule is required")
    for rule, other in [(rule, "sources") for rule in inbound] + [(rule, "destinations") for rule in outbound]:
        if not rule[other].get("addresses"):
            raise Declined(Reason.INVALID, f"{other} must be specified")
    names = {"inbound_rules": inbound, "outbound_rules": outbound}
    return {**names, "tags": body.get("tags") or [], "droplet_ids": body.get("droplet_ids") or []}


def _firewall(world: World, firewall: Thing) -> Json:
    details = {name: value for name, value in firewall.details.items() if name != "type"}
    return {
        "id": UUID.format(firewall.id),
        "name": firewall.name,
        "status": "succeeded",
        "created_at": firewall.created,
        **details,
    }


def _replace_firewall(world: World, asked: Asked, id: str) -> Reply:
    return Reply(200, {"firewall": _firewall(world, world.change(FIREWALL, int(id), _rules(world, asked.body)))})


IN_UUID: Final = r"00000000-0000-4000-8000-(\d{12})"
ROUTES: Final[tuple[tuple[str, str, Any], ...]] = (
    ("GET", r"/v2/account", _read_account),
    ("GET", r"/v2/regions", _list_regions),
    ("GET", r"/v2/sizes", _list_sizes),
    ("POST", r"/v2/droplets", _create_droplet),
    ("GET", r"/v2/droplets", _list_droplets),
    ("GET", r"/v2/droplets/(\d+)", _reading("droplet", MACHINE, _droplet)),
    ("DELETE", r"/v2/droplets/(\d+)", _deleting(MACHINE)),
    ("POST", r"/v2/volumes", _create_volume),
    ("GET", r"/v2/volumes", _listing("volumes", VOLUME, _volume)),
    ("GET", rf"/v2/volumes/{IN_UUID}", _reading("volume", VOLUME, _volume)),
    ("POST", rf"/v2/volumes/{IN_UUID}/actions", _act_on_volume),
    ("DELETE", rf"/v2/volumes/{IN_UUID}", _delete_volume),
    ("POST", r"/v2/account/keys", _create_key),
    ("GET", r"/v2/account/keys", _listing("ssh_keys", KEY, _key)),
    ("GET", r"/v2/account/keys/(\d+)", _reading("ssh_key", KEY, _key)),
    ("DELETE", r"/v2/account/keys/(\d+)", _deleting(KEY)),
    ("POST", r"/v2/tags", _create_tag),
    ("GET", r"/v2/tags", _listing("tags", TAG, _tag)),
    ("GET", r"/v2/tags/([^/]+)", _read_tag),
    ("DELETE", r"/v2/tags/([^/]+)", _delete_tag),
    ("POST", r"/v2/firewalls", _create_firewall),
    ("GET", r"/v2/firewalls", _listing("firewalls", FIREWALL, _firewall)),
    ("GET", rf"/v2/firewalls/{IN_UUID}", _reading("firewall", FIREWALL, _firewall)),
    ("PUT", rf"/v2/firewalls/{IN_UUID}", _replace_firewall),
    ("DELETE", rf"/v2/firewalls/{IN_UUID}", _deleting(FIREWALL)),
)
VERBS: Final = {"GET": "read", "POST": "create", "PUT": "update", "DELETE": "delete"}
# Where a path begins -> the resource of its scope, by the API's reference (docs.digitalocean.com/reference/api, 2026-11).
RESOURCES: Final = {
    "account": "account",
    "account/keys": "ssh_key",
    "droplets": "droplet",
    "firewalls": "firewall",
    "regions": "regions",
    "sizes": "sizes",
    "tags": "tag",
    "volumes": "block_storage",
}


def scope_of(asked: Asked) -> str:
    """What a token must have for it; what is done with a volume that is there has a resource of its own."""
    path = asked.path.removeprefix("/v2/")
    first = next(each for each in sorted(RESOURCES, reverse=True) if path == each or path.startswith(f"{each}/"))
    resource = "block_storage_action" if path.endswith("/actions") else RESOURCES[first]
    return f"{resource}:{VERBS[asked.method]}"


DIALECT: Final = Dialect(
    routes=ROUTES, declined=declined, power_off=PowerOff.KEEPS_BILLING, scopes=lambda asked: (scope_of(asked),)
)
