"""The double of the digitalocean plugin: tag, key, firewall, droplet and the list of sizes, done over our fake DigitalOcean."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any, Final

from provision.clouds.programs import digitalocean
from provision.clouds.programs.rest import Api
from tests.doubles.plugins.plugin import Double, Kind, serve
from tests.doubles.plugins.wire import Properties

VERSION: Final = "4.84.1"  # a test compares it with the installed SDK's
POLL_S: Final = 0.2
PATIENCE_S: Final = 120.0


def connect(configuration: Properties) -> Api:
    """Endpoint and token come from the environment, as with the vendor's plugin."""
    return digitalocean.connect(os.environ)


def _read(api: Api, path: str, name: str) -> Properties | None:
    found = api.find(path)
    return found and found[name]


def _unchanged(api: Api, id: str, news: Properties) -> None:
    raise NotImplementedError("what may change of it needs a new one")


# ── tag and key ────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_tag(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/tags/{id}", "tag")
    return found and {"name": found["name"], "totalResourceCount": found["resources"]["count"]}


TAG: Final = Kind(
    accepts=frozenset({"name"}),
    required=frozenset(),
    replaces=frozenset({"name"}),
    computed=("totalResourceCount",),
    create=lambda api, inputs: str(api.ask("POST", "/tags", {"name": inputs["name"]})["tag"]["name"]),
    read=_read_tag,
    update=_unchanged,
    delete=lambda api, id: api.delete(f"/tags/{id}"),
    auto_name="name",
)


def _create_key(api: Api, inputs: Properties) -> str:
    body = {"name": inputs["name"], "public_key": inputs["publicKey"]}
    return str(api.ask("POST", "/account/keys", body)["ssh_key"]["id"])


def _read_key(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/account/keys/{id}", "ssh_key")
    return found and {"name": found["name"], "fingerprint": found["fingerprint"]}


KEY: Final = Kind(
    accepts=frozenset({"name", "publicKey"}),
    required=frozenset({"publicKey"}),
    replaces=frozenset({"publicKey", "name"}),
    computed=("fingerprint",),
    create=_create_key,
    read=_read_key,
    update=_unchanged,
    delete=lambda api, id: api.delete(f"/account/keys/{id}"),
    auto_name="name",
)

# ── firewall ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _rules(rules: Iterable[Properties], other: str, addresses: str) -> list[dict[str, Any]]:
    return [
        {"protocol": rule["protocol"], "ports": rule.get("portRange", "0"), other: {"addresses": rule[addresses]}}
        for rule in rules
    ]


def _firewall(inputs: Properties) -> dict[str, Any]:
    return {
        "name": inputs["name"],
        "tags": inputs.get("tags", []),
        "inbound_rules": _rules(inputs.get("inboundRules", []), "sources", "sourceAddresses"),
        "outbound_rules": _rules(inputs.get("outboundRules", []), "destinations", "destinationAddresses"),
    }


def _update_firewall(api: Api, id: str, news: Properties) -> None:
    api.ask("PUT", f"/firewalls/{id}", _firewall(news))


def _read_firewall(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/firewalls/{id}", "firewall")
    return found and {"name": found["name"], "status": found["status"], "tags": found["tags"]}


FIREWALL: Final = Kind(
    accepts=frozenset({"name", "tags", "inboundRules", "outboundRules"}),
    required=frozenset(),
    replaces=frozenset(),
    computed=("status",),
    create=lambda api, inputs: str(api.ask("POST", "/firewalls", _firewall(inputs))["firewall"]["id"]),
    read=_read_firewall,
    update=_update_firewall,
    delete=lambda api, id: api.delete(f"/firewalls/{id}"),
    auto_name="name",
)

# ── droplet ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _await(api: Api, id: str, statuses: tuple[str | None, ...]) -> None:
    """As the vendor's plugin does: until the droplet is so far; None is gone."""
    ends_at_s = time.monotonic() + PATIENCE_S
    while (found := _read(api, f"/droplets/{id}", "droplet") or {"status": None})["status"] not in statuses:
        if time.monotonic() > ends_at_s:
            raise TimeoutError(f"droplet {id} is {found['status']}")
        time.sleep(POLL_S)


def _create_droplet(api: Api, inputs: Properties) -> str:
    body = {
        "name": inputs["name"],
        "size": inputs["size"],
        "image": inputs["image"],
        "region": inputs["region"],
        "ssh_keys": inputs["sshKeys"],
        "user_data": inputs["userData"],
        "tags": inputs.get("tags", []),
        "with_droplet_agent": inputs["dropletAgent"],
    }
    id = str(api.ask("POST", "/droplets", body)["droplet"]["id"])
    _await(api, id, ("active",))
    return id


def _read_droplet(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/droplets/{id}", "droplet")
    if found is None:
        return None
    [address] = [each["ip_address"] for each in found["networks"]["v4"] if each["type"] == "public"]
    return {"name": found["name"], "status": found["status"], "tags": found["tags"], "ipv4Address": address}


def _delete_droplet(api: Api, id: str) -> None:
    api.delete(f"/droplets/{id}")
    _await(api, id, (None,))


DROPLET: Final = Kind(
    accepts=frozenset({"name", "size", "image", "region", "sshKeys", "userData", "tags", "dropletAgent"}),
    required=frozenset({"image", "size"}),
    replaces=frozenset({"image", "region", "sshKeys", "userData"}),
    computed=("ipv4Address", "status"),
    create=_create_droplet,
    read=_read_droplet,
    update=_unchanged,
    delete=_delete_droplet,
    auto_name="name",
)

# ── volume ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_volume(api: Api, inputs: Properties) -> str:
    body = {"name": inputs["name"], "region": inputs["region"], "tags": inputs.get("tags", [])}
    return str(api.ask("POST", "/volumes", body | {"size_gigabytes": int(inputs["size"])})["volume"]["id"])


def _read_volume(api: Api, id: str) -> Properties | None:
    found = _read(api, f"/volumes/{id}", "volume")
    return found and {"name": found["name"], "dropletIds": found["droplet_ids"]}


VOLUME: Final = Kind(
    accepts=frozenset({"name", "region", "size", "tags"}),
    required=frozenset({"region", "size"}),
    replaces=frozenset({"name", "region"}),
    computed=("dropletIds",),
    create=_create_volume,
    read=_read_volume,
    update=_unchanged,
    delete=lambda api, id: api.delete(f"/volumes/{id}"),
    auto_name="name",
)


def _attach(api: Api, inputs: Properties) -> str:
    """Named as the vendor's plugin names it: by what it joins."""
    droplet, volume = int(inputs["dropletId"]), str(inputs["volumeId"])
    api.ask("POST", f"/volumes/{volume}/actions", {"type": "attach", "droplet_id": droplet})
    return f"{droplet}-{volume}-attached"


def _read_attachment(api: Api, id: str) -> Properties | None:
    droplet, _, rest = id.partition("-")
    found = _read(api, f"/volumes/{rest.removesuffix('-attached')}", "volume")
    return {"dropletId": int(droplet)} if found and int(droplet) in found["droplet_ids"] else None


ATTACHMENT: Final = Kind(
    accepts=frozenset({"dropletId", "volumeId"}),
    required=frozenset({"dropletId", "volumeId"}),
    replaces=frozenset({"dropletId", "volumeId"}),
    computed=(),
    create=_attach,
    read=_read_attachment,
    update=_unchanged,
    delete=lambda api, id: None,
)

# ── lookups ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _get_sizes(api: Api, args: Properties) -> Properties:
    [filter] = args["filters"]
    rows = [row for row in api.rows("/sizes", "sizes") if row[filter["key"]] in filter["values"]]
    sizes = [
        {
            "slug": row["slug"],
            "available": row["available"],
            "disk": row["disk"],
            "memory": row["memory"],
            "priceHourly": row["price_hourly"],
            "priceMonthly": row["price_hourly"] * 672,
            "regions": row["regions"],
            "transfer": 1.0,
            "vcpus": row["vcpus"],
            "gpuInfos": [],
        }
        for row in rows
    ]
    return args | {"id": "sizes", "sizes": sizes}


DIGITALOCEAN: Final = Double(
    name="digitalocean",
    version=VERSION,
    kinds={
        "digitalocean:index/tag:Tag": TAG,
        "digitalocean:index/sshKey:SshKey": KEY,
        "digitalocean:index/firewall:Firewall": FIREWALL,
        "digitalocean:index/droplet:Droplet": DROPLET,
        "digitalocean:index/volume:Volume": VOLUME,
        "digitalocean:index/volumeAttachment:VolumeAttachment": ATTACHMENT,
    },
    lookups={"digitalocean:index/getSizes:getSizes": _get_sizes},
    connect=connect,
)

if __name__ == "__main__":
    serve(DIGITALOCEAN)
