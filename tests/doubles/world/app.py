"""The world behind HTTP: one vendor's routes, and beside them those by which a test steers it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from provision.clouds.programs.order import PowerOff
from tests.doubles.hosting.hosts import Hosts
from tests.doubles.hosting.machines import Container, plug
from tests.doubles.world.core import MACHINE, Declined, Fault, Reason, Settings, Thing, World

Json = dict[str, Any]
READ: Final = "read"
WRITE: Final = "write"


@dataclass(frozen=True)
class Asked:
    """One request, read."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json = field(default_factory=dict)
    token: str = ""

    @staticmethod
    def of(environ: Mapping[str, Any]) -> Asked:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return Asked(
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"],
            query=dict(parse_qsl(environ.get("QUERY_STRING", ""))),
            body=json.loads(body or b"{}"),
            token=environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "),
        )


@dataclass(frozen=True)
class Reply:
    status: int
    body: Json | None = None  # None: an answer without a body


# A method, a pattern of the whole path, and what answers; the pattern's groups follow the request.
Route = tuple[str, str, Callable[..., Reply]]


@dataclass(frozen=True)
class Dialect:
    """How one vendor's API speaks of a world."""

    routes: tuple[Route, ...]
    declined: Callable[[Declined], Reply]
    power_off: PowerOff
    told: Callable[[Thing], str | Container] = lambda thing: str(thing.details["user_data"])  # what a machine of it is told
    # What a token must have for it; all of these.
    scopes: Callable[[Asked], tuple[str, ...]] = lambda asked: (READ if asked.method == "GET" else WRITE,)

    def answer(self, world: World, asked: Asked) -> Reply:
        try:
            if asked.token != world.settings.token:
                raise Declined(Reason.UNKNOWN_CALLER)
            if world.settings.scopes is not None:
                for needed in self.scopes(asked):
                    if needed not in world.settings.scopes:
                        raise Declined(Reason.NOT_ALLOWED, f"{needed} is missing")
            return answered(self.routes, world, asked)
        except Declined as no:
            return self.declined(no)
        except (KeyError, TypeError, ValueError) as error:
            return self.declined(Declined(Reason.INVALID, f"{type(error).__name__}: {error}"))


def answered(routes: Iterable[Route], world: World, asked: Asked) -> Reply:
    """Raises Declined where no route fits."""
    for method, pattern, act in routes:
        if method == asked.method and (found := re.fullmatch(pattern, asked.path)):
            return act(world, asked, *found.groups())
    raise Declined(Reason.ABSENT, f"{asked.method} {asked.path} is not imitated")


class App:
    """A WSGI application; one request at a time, and after each the machines are made to be what the world says."""

    def __init__(self, world: World, dialect: Dialect, lock: threading.Lock) -> None:
        self.world = world
        self.dialect = dialect
        self.lock = lock
        self.hosts: Hosts | None = None  # a machine behind each machine, where that is asked for

    def __call__(self, environ: Mapping[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        asked = Asked.of(environ)
        with self.lock:
            steered = asked.path.startswith("/_world/")
            reply = answered(CONTROL, self.world, asked) if steered else self.dialect.answer(self.world, asked)
            self.follow()
        text = b"" if reply.body is None else json.dumps(reply.body).encode()
        respond(f"{reply.status} {HTTPStatus(reply.status).phrase}", [("Content-Type", "application/json")])
        return [text]

    def follow(self) -> None:
        if self.hosts is None:
            return
        running = {str(thing.id): thing for thing in self.world.things if thing.kind == MACHINE and self.world.runs(thing)}
        self.hosts.follow(running, lambda name: (running[name].address, self.dialect.told(running[name])))

    def ended(self, name: str) -> None:
        """The machine of this name has no power any more; by its own doing, where the world says that it runs."""
        if any(thing.id == int(name) and self.world.runs(thing) for thing in self.world.things):
            self.world.power_off(int(name))
        self.follow()


# ── how a test steers it (tests/doubles/world/control.py) ──────────────────────────────────────────────────────────


def _reset(world: World, asked: Asked) -> Reply:
    world.reset()
    return Reply(200, {})


def _set(world: World, asked: Asked) -> Reply:
    wanted = msgspec.to_builtins(world.settings) | asked.body
    world.settings = msgspec.convert(wanted, Settings, strict=False)
    return Reply(200, {})


def _plant(world: World, asked: Asked) -> Reply:
    world.faults.append(msgspec.convert(asked.body, Fault))
    return Reply(200, {})


def _clear_faults(world: World, asked: Asked) -> Reply:
    world.faults.clear()
    return Reply(200, {})


def _advance(world: World, asked: Asked) -> Reply:
    world.clock.advance(asked.body["duration_s"])
    return Reply(200, {})


def _power_off(world: World, asked: Asked) -> Reply:
    world.power_off(asked.body["id"])
    return Reply(200, {})


def _cable(world: World, asked: Asked) -> Reply:
    plug(joined=asked.body["joined"])
    return Reply(200, {})


def _outside(world: World, asked: Asked) -> Reply:
    return Reply(200, {"address": world.outside})


def _standing(world: World, asked: Asked) -> Reply:
    return Reply(200, {"things": [_shown(thing) for thing in world.standing()]})


def _bill(world: World, asked: Asked) -> Reply:
    return Reply(200, {"usd": str(world.bill_usd())})


def _shown(thing: Thing) -> Json:
    open = {"kind": thing.kind, "id": thing.id, "name": thing.name, "off": thing.off, "address": thing.address}
    return {**open, "usd_per_hour": str(thing.usd_per_hour), "details": thing.details}


CONTROL: Final[tuple[Route, ...]] = (
    ("POST", "/_world/reset", _reset),
    ("POST", "/_world/settings", _set),
    ("POST", "/_world/faults", _plant),
    ("POST", "/_world/well", _clear_faults),
    ("POST", "/_world/advance", _advance),
    ("POST", "/_world/power-off", _power_off),
    ("POST", "/_world/cable", _cable),
    ("GET", "/_world/outside", _outside),
    ("GET", "/_world/standing", _standing),
    ("GET", "/_world/bill", _bill),
)
