"""A test's hand on a world that runs in another process."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec

from tests.doubles.world.core import Fault, Reason, Verb

TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Control:
    """Whatever only the cloud itself could do, and what only it knows."""

    url: str

    def set(self, **settings: Any) -> None:
        """Change the manners by the names of `Settings`."""
        self._ask("POST", "settings", settings)

    def plant(self, verb: Verb, reason: Reason, kind: str | None = None, *, times: int = 1, after: bool = False) -> None:
        """The next calls of this verb are declined; with `after` they are carried out all the same."""
        fault = Fault(verb=verb, reason=reason, kind=kind, times=times, after=after)
        self._ask("POST", "faults", msgspec.to_builtins(fault))

    def advance(self, duration_s: float) -> None:
        self._ask("POST", "advance", {"duration_s": duration_s})

    def power_off(self, id: int) -> None:
        """As if the machine did it."""
        self._ask("POST", "power-off", {"id": id})

    def cable(self, *, joined: bool) -> None:
        """Pull the cable between the machines and everybody else, or put it back; only where there are machines."""
        self._ask("POST", "cable", {"joined": joined})

    def outside(self) -> str:
        """Where its machines reach this computer; only where there are machines."""
        return str(self._ask("GET", "outside")["address"])

    def clear_faults(self) -> None:
        """Nothing that was planted strikes any more."""
        self._ask("POST", "well", {})

    def reset(self) -> None:
        self._ask("POST", "reset", {})

    def standing(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What is there, whatever the lists say."""
        things = self._ask("GET", "standing")["things"]
        return [thing for thing in things if kind in (None, thing["kind"])]

    def bill_usd(self) -> Decimal:
        return Decimal(self._ask("GET", "bill")["usd"])

    def _ask(self, method: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_world/{what}", data, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            read: dict[str, Any] = json.loads(answer.read())
        return read
