"""The world in the words of RunPod's REST API v2, as published (docs.runpod.io/api-reference-v2, read 2026-11).

Imitated is what our program asks for; anything else is 404. Statuses and words of a no are those that others recorded of the
live service, but for an unknown GPU type, which is assumed. Behind a pod stands a container, where machines are asked for:
started again when it ends, with a new disk, and with the key for itself alone that RunPod puts into every pod. Of a stopped
pod nothing is billed: it has lost its container disk, and a network volume has a bill of its own.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import re
from decimal import Decimal
from typing import Any, Final

from provision.clouds.programs.order import PowerOff
from tests.doubles.hosting.machines import SUBNETS, Container
from tests.doubles.world.app import Asked, Dialect, Json, Reply
from tests.doubles.world.core import MACHINE, Declined, Reason, Thing, World

VOLUME: Final = "volume"
VOLUME_FIELDS: Final = {"name": str, "size": int, "dataCenter": str}
SIZES_GB: Final = range(10, 4097)
DATA_CENTRES: Final = ("EU-RO-1", "EU-CZ-1", "EUR-IS-1", "US-KS-2")
VOLUME_USD_PER_GB_HOUR: Final = Decimal("0.0000959")  # 0.07 a month
PER_PAGE: Final = 2  # "a page may hold fewer than `limit` pods"
MOST_VARIABLES: Final = 50
FIRST_PORT: Final = 40_000
PRICES_USD_PER_HOUR: Final = {"NVIDIA GeForce RTX 4090": Decimal("0.74"), "NVIDIA L4": Decimal("0.49")}
FIELDS: Final = {
    "name": str,
    "image": str,
    "gpu": dict,
    "cloud": str,
    "disk": int,
    "ports": list,
    "env": dict,
    "entrypoint": list,
    "cmd": list,
    "dataCenterIds": list,
    "mounts": dict,
}
GPU_FIELDS: Final = {"id": str, "count": int, "minCudaVersion": str, "minRamPerGpu": int, "minVcpuCountPerGpu": int}
HOST_RAM_GB, HOST_VCPUS = 64, 16  # for each GPU of every host here
ACTIONS: Final = ("start", "stop", "restart", "terminate")

SAYS: Final[dict[Reason, tuple[int, str, str]]] = {
    Reason.ABSENT: (404, "Not Found", "resource not found"),
    Reason.BROKEN: (500, "Internal Server Error", "something went wrong"),
    Reason.IN_USE: (409, "Conflict", "the pod's status does not allow it"),
    Reason.INVALID: (422, "Unprocessable Entity", "Request validation failed."),
    Reason.LOCKED: (409, "Conflict", "the pod is locked"),
    Reason.NO_CAPACITY: (
        400,
        "Bad Request",
        "There are no longer any instances available with the requested specifications. Please refresh and try again.",
    ),
    Reason.QUOTA: (
        402,
        "Payment Required",
        "Your account balance is too low to rent a pod. Please add funds to your account.",
    ),
    Reason.TAKEN: (409, "Conflict", "there is one already"),
    Reason.THROTTLED: (429, "Too Many Requests", "rate limit exceeded for the minute window"),
    Reason.NOT_ALLOWED: (403, "Forbidden", "access denied"),
    Reason.UNKNOWN_CALLER: (401, "Unauthorized", "invalid api key"),
}
FORBIDDEN: Final = Reply(403, {"title": "Forbidden", "status": 403, "detail": "access denied"})


def declined(no: Declined) -> Reply:
    status, title, detail = SAYS[no.reason]
    problem = {"title": title, "status": status, "detail": detail}
    return Reply(status, problem | ({"errors": [str(no)]} if no.reason is Reason.INVALID else {}))


# ── pods ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create(world: World, asked: Asked) -> Reply:
    body = asked.body
    _require_fields("$", body, FIELDS, required=("name", "image", "gpu"))
    _require_fields("$.gpu", body["gpu"], GPU_FIELDS, required=("id",))
    _require(body.get("cloud", "SECURE") in ("SECURE", "COMMUNITY"), "$.cloud: value must be one of 'SECURE', 'COMMUNITY'")
    _require(len(body.get("env", {})) <= MOST_VARIABLES, "$.env: too many")
    _require(all(isinstance(value, str) for value in body.get("env", {}).values()), "$.env: got something else, want string")
    _require(bool(re.fullmatch(r"\d+\.\d+", body["gpu"].get("minCudaVersion", "12.0"))), "$.gpu.minCudaVersion: no match")
    _require(body["gpu"]["id"] in PRICES_USD_PER_HOUR, f"GPU type {body['gpu']['id']} not found")
    if body["gpu"].get("minRamPerGpu", 1) > HOST_RAM_GB or body["gpu"].get("minVcpuCountPerGpu", 1) > HOST_VCPUS:
        raise Declined(Reason.NO_CAPACITY, "no host has so much")
    _require("disk" in body, "You must either provide a template id or pod configuration parameters")
    for mount in body.get("mounts", {}).get("network", []):
        volume = world.read(VOLUME, int(mount["volumeId"].removeprefix("vol")))
        _require(body.get("dataCenterIds") == [volume.details["dataCenter"]], "the volume is in another data center")
    gpu, count = body["gpu"]["id"], body["gpu"].get("count", 1)
    price, type = PRICES_USD_PER_HOUR[gpu] * count, f"{gpu} {body['cloud']}"
    pod = world.create(MACHINE, body["name"], {"body": body}, usd_per_hour=price, off_usd_per_hour=Decimal(0), type=type)
    return Reply(201, _shown(world, pod))


def _require_fields(where: str, body: Json, fields: dict[str, type], *, required: tuple[str, ...]) -> None:
    for name, value in body.items():
        _require(name in fields, f"{where}: additional properties '{name}' not allowed")
        _require(type(value) is fields[name], f"{where}.{name}: got {type(value).__name__}, want {fields[name].__name__}")
    for name in required:
        _require(name in body, f"{where}: missing property '{name}'")


def _require(fits: bool, told: str) -> None:
    if not fits:
        raise Declined(Reason.INVALID, told)


def _shown(world: World, pod: Thing) -> Json:
    body = pod.details["body"]
    runs = world.runs(pod)
    return {
        "id": _name(pod),
        "name": pod.name,
        "status": _status(world, pod),
        "cost": float(pod.usd_per_hour),
        "cloud": body["cloud"],
        "dataCenterId": (body.get("dataCenterIds") or ["EU-RO-1"])[0] if runs else None,
        "mounts": body.get("mounts", {}),
        "image": body["image"],
        "env": body.get("env", {}),
        "gpu": body["gpu"],
        "createdAt": dt.datetime.fromtimestamp(pod.created_at_s, dt.UTC).isoformat(),
        "ssh": {"proxy": None, "direct": _direct(pod) if runs and "22/tcp" in body.get("ports", []) else None},
    }


def _status(world: World, pod: Thing) -> str:
    """It says "RUNNING" before there is an address, and a list that lags still has what was ended."""
    if not pod.stands(world.clock.now_s()):
        return "TERMINATED"
    return "EXITED" if pod.off else "RUNNING"


def _direct(pod: Thing) -> Json:
    return {"host": pod.address, "port": _port(pod), "username": "root", "command": f"ssh root@{pod.address} -p {_port(pod)}"}


def _name(pod: Thing) -> str:
    return f"pod{pod.id}"


def _port(pod: Thing) -> int:
    """RunPod chooses one; never 22."""
    return FIRST_PORT + pod.id


def _list(world: World, asked: Asked) -> Reply:
    """Newest first, in pages; a cursor is where the next begins."""
    pods = sorted(world.listed(MACHINE), key=lambda pod: -pod.id)
    begin = int(asked.query.get("cursor", 0))
    more = begin + PER_PAGE < len(pods)
    pagination = {"hasNextPage": more, "nextCursor": str(begin + PER_PAGE) if more else None}
    return Reply(200, {"pods": [_shown(world, pod) for pod in pods[begin : begin + PER_PAGE]], "pagination": pagination})


def _read(world: World, asked: Asked, id: str) -> Reply:
    return Reply(200, _shown(world, world.read(MACHINE, int(id))))


def _delete(world: World, asked: Asked, id: str) -> Reply:
    world.delete(MACHINE, int(id))
    return Reply(204)


def _act(world: World, asked: Asked, id: str) -> Reply:
    action = asked.body["action"]
    _require(action in ACTIONS, f"$.action: value must be one of {', '.join(map(repr, ACTIONS))}")
    if action == "terminate":
        return _delete(world, asked, id)
    pod = world.read(MACHINE, int(id))
    if action == "stop":
        pod.off_at_s = world.clock.now_s()
    return Reply(200, _shown(world, pod))


# ── network volumes ────────────────────────────────────────────────────────────────────────────────────────────────


def _create_volume(world: World, asked: Asked) -> Reply:
    body = asked.body
    _require_fields("$", body, VOLUME_FIELDS, required=tuple(VOLUME_FIELDS))
    _require(body["size"] in SIZES_GB, "$.size: must be from 10 to 4096")
    _require(body["dataCenter"] in DATA_CENTRES, "$.dataCenter: there is no such one")
    details = {"size": body["size"], "dataCenter": body["dataCenter"]}
    volume = world.create(VOLUME, body["name"], details, usd_per_hour=VOLUME_USD_PER_GB_HOUR * body["size"])
    return Reply(201, _volume(volume))


def _volume(volume: Thing) -> Json:
    known = {name: volume.details[name] for name in ("size", "dataCenter")}
    return {"id": f"vol{volume.id}", "name": volume.name, "type": "STANDARD", **known}


def _list_volumes(world: World, asked: Asked) -> Reply:
    return Reply(200, {"networkVolumes": [_volume(each) for each in world.listed(VOLUME)]})


def _delete_volume(world: World, asked: Asked, id: str) -> Reply:
    """Whether RunPod refuses one that a pod has, was read nowhere; assumed."""
    pods = (each for each in world.standing() if each.kind == MACHINE)
    mounts = (mount for pod in pods for mount in pod.details["body"].get("mounts", {}).get("network", []))
    if any(mount["volumeId"] == f"vol{id}" for mount in mounts):
        raise Declined(Reason.IN_USE)
    world.delete(VOLUME, int(id))
    return Reply(204)


def _read_account(world: World, asked: Asked) -> Reply:
    return Reply(200, {"id": world.settings.account, "email": None})


ROUTES: Final[tuple[tuple[str, str, Any], ...]] = (
    ("GET", r"/v2/account", _read_account),
    ("POST", r"/v2/pods", _create),
    ("GET", r"/v2/pods", _list),
    ("GET", r"/v2/pods/pod(\d+)", _read),
    ("DELETE", r"/v2/pods/pod(\d+)", _delete),
    ("POST", r"/v2/pods/pod(\d+)/action", _act),
    ("POST", r"/v2/network-volumes", _create_volume),
    ("GET", r"/v2/network-volumes", _list_volumes),
    ("DELETE", r"/v2/network-volumes/vol(\d+)", _delete_volume),
)

# ── what is in a pod ───────────────────────────────────────────────────────────────────────────────────────────────


def _key(pod: Thing) -> str:
    return f"key-of-{_name(pod)}-alone"


def _told(pod: Thing) -> Container:
    """What the request says, and what RunPod adds. Our loopback is its internet, behind its network's first address."""
    body = pod.details["body"]
    [network] = [subnet for subnet in SUBNETS if ipaddress.ip_address(pod.address) in subnet]
    outside = {name: value.replace("127.0.0.1", str(network[1])) for name, value in body.get("env", {}).items()}
    own = {"RUNPOD_POD_ID": _name(pod), "RUNPOD_API_KEY": _key(pod)}
    volumes = {mount["path"]: mount["volumeId"] for mount in body.get("mounts", {}).get("network", [])}
    return Container((*body.get("entrypoint", ()), *body.get("cmd", ())), outside | own, _port(pod), volumes)


class RunPod(Dialect):
    """Beside the account's key, a pod's own is good: to end that pod."""

    def answer(self, world: World, asked: Asked) -> Reply:
        caller = [pod for pod in world.standing() if pod.kind == MACHINE and asked.token == _key(pod)]
        if not caller:
            return super().answer(world, asked)
        own = (("DELETE", f"/v2/pods/{_name(caller[0])}"), ("POST", f"/v2/pods/{_name(caller[0])}/action"))
        allowed = (asked.method, asked.path) in own
        return super().answer(world, dataclasses.replace(asked, token=world.settings.token)) if allowed else FORBIDDEN


DIALECT: Final = RunPod(routes=ROUTES, declined=declined, power_off=PowerOff.REBOOTS, told=_told)
