"""The double of the hcloud plugin: key, firewall, server and the look at a server type, done over our fake Hetzner's API."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from provision.clouds.programs import hetzner
from provision.clouds.programs.rest import Api
from provision.errors import ProvisionError
from tests.doubles.plugins.plugin import Double, Kind, serve
from tests.doubles.plugins.wire import Properties

VERSION: Final = "1.43.3"  # a test compares it with the installed SDK's
POLL_S: Final = 0.2
PATIENCE_S: Final = 120.0


def connect(configuration: Properties) -> Api:
    """Endpoint and token come from the environment, as with the vendor's plugin."""
    return hetzner.connect(os.environ)


def _read(api: Api, path: str, name: str) -> Properties | None:
    found = api.find(path)
    return found and found[name]


def _await(api: Api, action: dict[str, Any]) -> None:
    """As the vendor's plugin does: until the action is over."""
    ends_at_s = time.monotonic() + PATIENCE_S
    while action["status"] == "running" and time.monotonic() < ends_at_s:
        time.sleep(POLL_S)
        action = api.ask("GET", f"/actions/{action['id']}")["action"]
    if action["status"] != "success":
        raise TimeoutError(f"action {action['command']} is {action['status']}")


# ── key ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_key(api: Api, inputs: Properties) -> str:
    body = {"name": inputs["name"], "public_key": inputs["publicKey"], "labels": inputs.get("labels", {})}
    return str(api.ask("POST", "/ssh_keys", body)["ssh_key"]["id"])


def _read_key(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/ssh_keys/{id}", "ssh_key")
    return found and {"name": found["name"], "fingerprint": found["fingerprint"], "labels": found["labels"]}


KEY: Final = Kind(
    accepts=frozenset({"name", "publicKey", "labels"}),
    required=frozenset({"publicKey"}),
    replaces=frozenset({"publicKey"}),
    computed=("fingerprint",),
    create=_create_key,
    read=_read_key,
    update=lambda api, id, news: api.ask("PUT", f"/ssh_keys/{id}", {"labels": news.get("labels", {})}),
    delete=lambda api, id: api.delete(f"/ssh_keys/{id}"),
    auto_name="name",
)

# ── firewall ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _rules(inputs: Properties) -> list[dict[str, Any]]:
    names = {"direction": "direction", "protocol": "protocol", "port": "port", "sourceIps": "source_ips"}
    return [
        {names[name]: value for name, value in rule.items() if name in names} | {"description": rule.get("description")}
        for rule in inputs.get("rules", [])
    ]


def _create_firewall(api: Api, inputs: Properties) -> str:
    body = {"name": inputs["name"], "labels": inputs.get("labels", {}), "rules": _rules(inputs)}
    return str(api.ask("POST", "/firewalls", body)["firewall"]["id"])


def _read_firewall(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/firewalls/{id}", "firewall")
    return found and {"name": found["name"], "labels": found["labels"]}


def _update_firewall(api: Api, id: str, news: Properties) -> None:
    api.ask("PUT", f"/firewalls/{id}", {"labels": news.get("labels", {})})
    api.ask("POST", f"/firewalls/{id}/actions/set_rules", {"rules": _rules(news)})


FIREWALL: Final = Kind(
    accepts=frozenset({"name", "labels", "rules"}),
    required=frozenset(),
    replaces=frozenset(),
    computed=(),
    create=_create_firewall,
    read=_read_firewall,
    update=_update_firewall,
    delete=lambda api, id: api.delete(f"/firewalls/{id}"),
    auto_name="name",
)

# ── server ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_server(api: Api, inputs: Properties) -> str:
    body = {
        "name": inputs["name"],
        "server_type": inputs["serverType"],
        "image": inputs["image"],
        "ssh_keys": inputs["sshKeys"],
        "firewalls": [{"firewall": id} for id in inputs["firewallIds"]],
        "user_data": inputs["userData"],
        "labels": inputs.get("labels", {}),
    }
    answer = api.ask("POST", "/servers", body | {name: inputs[name] for name in ("location",) if name in inputs})
    _await(api, answer["action"])
    return str(answer["server"]["id"])


def _read_server(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/servers/{id}", "server")
    return found and {
        "name": found["name"],
        "labels": found["labels"],
        "status": found["status"],
        "ipv4Address": found["public_net"]["ipv4"]["ip"],
        "ipv6Network": found["public_net"]["ipv6"]["ip"],
        "location": found["location"]["name"],
    }


def _delete_server(api: Api, id: str) -> None:
    try:
        _await(api, api.ask("DELETE", f"/servers/{id}")["action"])
    except ProvisionError as error:
        if "not_found" not in str(error):
            raise


SERVER: Final = Kind(
    accepts=frozenset(
        {"name", "serverType", "image", "location", "sshKeys", "firewallIds", "userData", "labels"},
    ),
    required=frozenset({"serverType"}),
    replaces=frozenset({"image", "location", "sshKeys", "userData"}),
    computed=("ipv4Address", "ipv6Network", "status", "location"),
    create=_create_server,
    read=_read_server,
    update=lambda api, id, news: api.ask("PUT", f"/servers/{id}", {"labels": news.get("labels", {})}),
    delete=_delete_server,
    auto_name="name",
)

# ── volume ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_volume(api: Api, inputs: Properties) -> str:
    body = {name: inputs[name] for name in ("name", "location", "labels")} | {"size": int(inputs["size"])}
    answer = api.ask("POST", "/volumes", body)
    _await(api, answer["action"])
    return str(answer["volume"]["id"])


def _read_volume(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/volumes/{id}", "volume")
    return found and {"name": found["name"], "labels": found["labels"], "linuxDevice": found["linux_device"]}


VOLUME: Final = Kind(
    accepts=frozenset({"name", "size", "location", "labels"}),
    required=frozenset({"size"}),
    replaces=frozenset({"location"}),
    computed=("linuxDevice",),
    create=_create_volume,
    read=_read_volume,
    update=lambda api, id, news: None,
    delete=lambda api, id: api.delete(f"/volumes/{id}"),
    auto_name="name",
)


def _attach(api: Api, inputs: Properties) -> str:
    id, body = int(inputs["volumeId"]), {"server": int(inputs["serverId"]), "automount": inputs["automount"]}
    _await(api, api.ask("POST", f"/volumes/{id}/actions/attach", body)["action"])
    return str(id)


def _read_attachment(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/volumes/{id}", "volume")
    return {"serverId": found["server"]} if found and found["server"] is not None else None


ATTACHMENT: Final = Kind(
    accepts=frozenset({"serverId", "volumeId", "automount"}),
    required=frozenset({"serverId", "volumeId"}),
    replaces=frozenset({"serverId", "volumeId"}),
    computed=(),
    create=_attach,
    read=_read_attachment,
    update=lambda api, id, news: None,
    delete=lambda api, id: None,
)

# ── lookups ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _get_server_type(api: Api, args: Properties) -> Properties:
    found = api.ask("GET", "/server_types", name=args["name"])["server_types"]
    if not found:
        raise LookupError(f"server type {args['name']} not found")
    return {key: found[0][key] for key in ("id", "name", "disk", "memory")}


HCLOUD: Final = Double(
    name="hcloud",
    version=VERSION,
    kinds={
        "hcloud:index/sshKey:SshKey": KEY,
        "hcloud:index/firewall:Firewall": FIREWALL,
        "hcloud:index/server:Server": SERVER,
        "hcloud:index/volume:Volume": VOLUME,
        "hcloud:index/volumeAttachment:VolumeAttachment": ATTACHMENT,
    },
    lookups={"hcloud:index/getServerType:getServerType": _get_server_type},
    connect=connect,
)

if __name__ == "__main__":
    serve(HCLOUD)
