"""Pods and their addresses as resources that Pulumi's engine creates, reads and deletes: a dynamic provider.

The engine starts a Python that imports this module by the name that it has in a run's state, and a run's destroy uses the
state of its create. **So never rename or move this module or a class of it.** What is pickled is the classes' names: the
account's key and the address of the API are read from the environment, in the methods.

A pod and its address are two resources, because the first is there at once and the second minutes later: the engine writes
the pod's id down before it waits, so a kill in between leaves no pod that nobody recorded.
"""

from __future__ import annotations

import json
import os
import time
from decimal import Decimal
from typing import Any, Final

from pulumi import Input, ResourceOptions
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider

from provision.clouds.boot.container import END_VARIABLE
from provision.clouds.programs.accounts.runpod_api import NO_CAPACITY, connect, find, path_of, volume_path
from provision.clouds.programs.order import risen
from provision.clouds.programs.rest import Api, Json
from provision.errors import ProvisionError

API_VARIABLE: Final = "RENTUNE_API"
PROVIDER: Final = "__provider"  # Pulumi's own property
WAIT_S: Final = 600.0  # assumed: an image of ten gigabytes is there in less, and RunPod bills while it is fetched
LOOK_S: Final = 5.0  # assumed
ENDS_TRIED: Final = 3  # assumed
END_AGAIN_S: Final = 3  # assumed: an API that is not well for a moment
DEAD: Final = ("EXITED", "ERROR")

# How a pod ends itself: with the key that RunPod puts into every pod and that is good for that pod alone
# (docs.runpod.io/pods/templates/environment-variables). That it may delete its own pod is recorded for version 2 of the API
# (204, 2026-09); for version 1 somebody saw a 403, so a stop is asked for then, which ends the bill of a pod without volume.
# Of a pod that is stopped nothing asks again, so a refusal of the moment must have passed before.
# The key is handed over on standard input: a command line can be read by everybody.
SELF_END: Final = f"""\
can_end() {{ command -v curl > /dev/null && [ -n "${{RUNPOD_POD_ID:-}}" ] && [ -n "${{RUNPOD_API_KEY:-}}" ]; }}
ask() {{
  printf 'header = "Authorization: Bearer %s"\\n' "$RUNPOD_API_KEY" |
    curl -q -f -sS -m 20 -A rentune -o /dev/null -K - "$@"
}}
end_box() {{
  pod="${API_VARIABLE}/pods/$RUNPOD_POD_ID"
  for trial in $(seq {ENDS_TRIED}); do ! ask -X DELETE "$pod" || return 0; sleep {END_AGAIN_S}; done
  ask -X POST -H 'Content-Type: application/json' -d '{{"action": "stop"}}' "$pod/action"
}}
"""


class PodProvider(ResourceProvider):  # type: ignore[misc] # pulumi's types are not followed
    """Creates a pod from the body of RunPod's own request, and adds how it ends itself."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Returns as soon as RunPod has the pod."""
        api = connect(os.environ)
        body = json.loads(props["body"])
        body["env"] = json.loads(props["environment"]) | {END_VARIABLE: SELF_END, API_VARIABLE: api.url}
        wanted = json.loads(props.get("volume") or "{}")
        pod = _with_volume(api, body, wanted) if wanted else api.ask("POST", "/pods", body)
        _require_price(api, pod, json.loads(props.get("price") or "{}"))
        return CreateResult(pod["id"], {"name": body["name"]})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        return _read(find(connect(os.environ), id_), id_, props)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """A fresh key or a newer image must never replace a box that runs."""
        return DiffResult(changes=False)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        connect(os.environ).delete(path_of(_id))


def _require_price(api: Api, pod: Json, planned: dict[str, str]) -> None:
    """A create states no price, so it is known by the pod. One that costs more than planned is deleted at once.

    Raises ProvisionError in the words of `order.TOO_DEAR`.
    """
    if not planned or pod.get("cost") is None:
        return
    if (why := risen(planned["type"], Decimal(planned["usd_per_hour"]), Decimal(str(pod["cost"])))) is not None:
        api.delete(path_of(pod["id"]))
        raise ProvisionError(f"{why}.")


def _with_volume(api: Api, body: Json, wanted: dict[str, Any]) -> Json:
    """The pod with a volume of its own, which must be there first: in the first data centre that has room for the pod.

    One that was made for a pod that did not come is ended: nothing was ever on it. Raises ProvisionError where none has room.
    """
    *others, last = wanted["dataCentres"]
    for centre in others:
        try:
            return _beside(api, body, wanted, centre)
        except ProvisionError as error:
            if NO_CAPACITY not in str(error):
                raise
    return _beside(api, body, wanted, last)


def _beside(api: Api, body: Json, wanted: dict[str, Any], centre: str) -> Json:
    order = {"name": wanted["name"], "size": wanted["size"], "dataCenter": centre}
    volume = api.ask("POST", "/network-volumes", order)["id"]
    mounts = {"network": [{"volumeId": volume, "path": wanted["path"]}]}
    try:
        return api.ask("POST", "/pods", body | {"mounts": mounts, "dataCenterIds": [centre]})
    except ProvisionError as error:
        if NO_CAPACITY in str(error):  # any other answer does not say that no pod has it
            api.delete(volume_path(volume))
        raise


class AddressProvider(ResourceProvider):  # type: ignore[misc] # pulumi's types are not followed
    """Waits until RunPod has given a pod's SSH port an address; nothing of its own is made."""

    def create(self, props: dict[str, Any]) -> CreateResult:
        api, ends_at_s = connect(os.environ), time.monotonic() + WAIT_S
        while True:
            pod = find(api, props["pod"])
            if pod is None or pod["status"] in DEAD:
                raise ProvisionError(f"RunPod's pod {props['pod']} ended before it had an address.")
            if direct := (pod.get("ssh") or {}).get("direct"):
                host, port = direct["host"], int(direct["port"])
                return CreateResult(f"{host}:{port}", {"pod": props["pod"], "host": host, "port": port})
            if time.monotonic() >= ends_at_s:
                raise ProvisionError(f"RunPod's pod {props['pod']} had no address for SSH after {WAIT_S:.0f} s.")
            time.sleep(LOOK_S)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        return _read(find(connect(os.environ), props["pod"]), id_, props)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=False)


def _read(pod: Json | None, id: str, props: dict[str, Any]) -> ReadResult:
    """What was written down of a pod that is there; no id for one that is gone."""
    if pod is None:
        return ReadResult("", {})
    return ReadResult(id, {name: value for name, value in props.items() if name != PROVIDER})


class Pod(Resource, module="runpod", name="Pod"):  # type: ignore[misc, call-arg] # pulumi's types are not followed
    """One pod; `body` is RunPod's CreatePodRequest as JSON, so that whole numbers stay whole on their way.

    `environment`, JSON as well, is what the pod is told; `volume`, too: the network volume that is made for it, or nothing;
    and `price`: the `type` that was ordered and what it is to cost at the most, `usd_per_hour`, or nothing.
    """

    def __init__(
        self, name: str, body: Input[str], environment: Input[str], volume: Input[str] = "{}", price: Input[str] = "{}"
    ) -> None:
        told = {"body": body, "environment": environment, "volume": volume, "price": price}
        super().__init__(PodProvider(), name, told)


class Address(Resource, module="runpod", name="Address"):  # type: ignore[misc, call-arg] # pulumi's types are not followed
    """Where a pod answers over SSH: `host` and `port`."""

    host: Any
    port: Any

    def __init__(self, name: str, pod: Input[str], opts: ResourceOptions | None = None) -> None:
        super().__init__(AddressProvider(), name, {"pod": pod, "host": None, "port": None}, opts)
