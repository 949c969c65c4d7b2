"""The Hetzner program under Pulumi's own mocks, with the real `pulumi_hcloud`."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pulumi
import pulumi.runtime
import pulumi_hcloud as hcloud
import pytest
from pulumi.runtime import mocks

from provision.clouds.engine.where import plugin_binary
from provision.clouds.programs import hetzner, plugin_version
from provision.clouds.programs.order import KeptVolume, run_tags
from provision.clouds.programs.tagging import from_label
from provision.errors import Refused
from provision.home.places import Places
from provision.parts import needed_parts
from tests.doubles.clouds import CLOUDS
from tests.doubles.plugins.hcloud import HCLOUD, VERSION
from tests.provision.orders import LAUNCH, ORDER
from tests.provision.sdk import left_as_it_is, require_likeness

SERVER = "hcloud:index/server:Server"
FIREWALL = "hcloud:index/firewall:Firewall"
KEY = "hcloud:index/sshKey:SshKey"
VOLUME = "hcloud:index/volume:Volume"
ATTACHMENT = "hcloud:index/volumeAttachment:VolumeAttachment"
SDK_CLASSES: dict[str, tuple[Any, Any]] = {
    SERVER: (hcloud.Server, hcloud.ServerArgs),
    FIREWALL: (hcloud.Firewall, hcloud.FirewallArgs),
    KEY: (hcloud.SshKey, hcloud.SshKeyArgs),
    VOLUME: (hcloud.Volume, hcloud.VolumeArgs),
    ATTACHMENT: (hcloud.VolumeAttachment, hcloud.VolumeAttachmentArgs),
}
FRESH = KeptVolume(tags={"rentune-run": "r1", "rentune-kept": "models"}, size_gib=40)
HETZNERS = msgspec.structs.replace(ORDER, region="fsn1", instance_type="ccx13", disk_gib=60, image=hetzner.IMAGE)


class Recorder(pulumi.runtime.Mocks):  # type: ignore[misc] # pulumi's types are not followed
    """Takes down what the program asks for; every type has a disk of 80 GB and 8 GB of RAM."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.typ] = args.inputs
        return str(len(self.inputs)), {"location": "hel1", **args.inputs, "ipv4Address": "198.51.100.4"}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        return {"id": 1, "name": args.args["name"], "disk": 80, "memory": 8.0}


def inputs(**changes: Any) -> dict[str, dict[str, Any]]:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, preview=False)
    pulumi.runtime.test(hetzner.program(msgspec.structs.replace(HETZNERS, **changes)))()
    return recorder.inputs


def test_a_server_with_our_key_behind_our_firewall() -> None:
    """With a key no password is made and sent by mail; the firewall stands before the server does."""
    server = inputs()[SERVER]
    assert (server["serverType"], server["image"], server["location"]) == ("ccx13", "ubuntu-24.04", "fsn1")
    assert server["sshKeys"] == ["1"]
    assert server["firewallIds"] == [2]


def test_an_offer_without_a_place_leaves_it_to_hetzner() -> None:
    """Its price list knows one price everywhere."""
    assert "location" not in inputs(region="*")[SERVER]


def test_only_ssh_and_only_from_the_given_networks() -> None:
    """One rule in; no rule out, which lets everything out."""
    [rule] = inputs()[FIREWALL]["rules"]
    assert (rule["direction"], rule["protocol"], rule["port"]) == ("in", "tcp", "22")
    assert rule["sourceIps"] == ["203.0.113.7/32", "2001:db8::7/128"]


def test_user_data_is_a_secret() -> None:
    assert inputs()[SERVER]["userData"]["value"] == HETZNERS.user_data


def test_everything_carries_the_same_labels_and_they_can_be_read_back() -> None:
    """With what Hetzner takes in a label: 63 letters, digits, dots, dashes and underscores."""
    tags = run_tags(CLOUDS["hetzner"].offer, LAUNCH, "a1b2") | {"Für": "Größe: 7 %", "-": "", "a_b": "_x-"}
    made = inputs(tags=tags)
    assert made[SERVER]["labels"] == made[FIREWALL]["labels"] == made[KEY]["labels"]
    for key, value in made[SERVER]["labels"].items():
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", key)
        assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value)
    assert {from_label(k): from_label(v) for k, v in made[SERVER]["labels"].items()} == tags


def test_a_tag_too_long_for_a_label_is_refused_before_anything_is_made() -> None:
    with pytest.raises(Refused, match="too long for a tag"):
        hetzner.program(msgspec.structs.replace(HETZNERS, tags={"note": "x" * 64}))


def test_a_spot_price_is_refused() -> None:
    with pytest.raises(Refused, match="no spot machines"):
        hetzner.program(msgspec.structs.replace(HETZNERS, max_usd_per_hour=Decimal("0.1")))


def test_a_type_whose_disk_is_too_small_is_refused() -> None:
    """80 GB are 74 GiB."""
    with pytest.raises(Exception, match="ccx13 has a disk of 74 GiB, and the run needs 75 GiB"):
        inputs(disk_gib=75)


def test_a_type_with_less_ram_than_the_order_asks_for_is_not_bought() -> None:
    """Its price list may not tell what it has; Hetzner's gigabytes are taken for decimal ones, the smaller."""
    assert inputs(ram_gib=7)[SERVER]["serverType"] == "ccx13"
    with pytest.raises(Exception, match=r"ccx13 has 7\.5 GiB of RAM, and the run needs 8 GiB"):
        inputs(ram_gib=8)


def test_a_volume_that_is_kept_is_made_where_the_server_is_and_one_that_is_there_draws_the_server_to_it() -> None:
    """Also where Hetzner chose the location. A further one is not made."""
    made = inputs(volume=FRESH, region="*")
    assert (made[VOLUME]["location"], made[VOLUME]["size"]) == ("hel1", 40)
    assert made[VOLUME]["labels"] == FRESH.tags
    ids = [str(place) for place, type in enumerate(made, 1) if type in (SERVER, VOLUME)]
    assert [str(int(made[ATTACHMENT][name])) for name in ("serverId", "volumeId")] == ids
    again = inputs(volume=KeptVolume(tags={}, size_gib=40, id="77", place="nbg1"), region="*")
    assert (again[SERVER]["location"], int(again[ATTACHMENT]["volumeId"])) == ("nbg1", 77)
    assert VOLUME not in again


def test_every_kind_that_the_program_makes_is_known_to_the_listing() -> None:
    """Else a pending create of it could not be found again."""
    assert set(inputs()) == set(hetzner.KINDS)
    assert set(inputs(volume=FRESH)) == set(hetzner.KINDS) | set(hetzner.VOLUMES.kinds) == set(HCLOUD.kinds)
    assert set(hetzner.KINDS.values()) <= set(hetzner.LISTS)
    assert hetzner.ADDRESS[0] in hetzner.KINDS


@pytest.mark.parametrize("type", SDK_CLASSES)
def test_the_double_knows_the_properties_that_the_sdk_knows(type: str) -> None:
    """What it accepts exists, what the SDK requires it requires, and what the program sends it acts on."""
    kind = HCLOUD.kinds[type]
    require_likeness(kind, *SDK_CLASSES[type])
    assert set(inputs(volume=FRESH)[type]) <= kind.accepts


def test_the_plugin_is_looked_for_by_its_own_name(tmp_path: Path) -> None:
    """Which is not the cloud's."""
    places = Places(home=tmp_path / "home", cache=tmp_path / "cache")
    plugin = plugin_binary(places, "hcloud", VERSION)
    plugin.parent.mkdir(parents=True)
    plugin.touch()
    [found] = [part for part in needed_parts(places, {"PATH": "", "HOME": str(tmp_path)}) if part.part == "hetzner plugin"]
    assert (found.state, found.detail) == ("there", str(plugin))


def test_the_double_has_the_version_of_the_installed_sdk() -> None:
    """The engine binds a plugin to exactly that version."""
    assert plugin_version(hetzner.PLUGIN) == VERSION


def test_neither_a_newer_image_nor_a_fresh_key_replaces_a_box_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second create, after a controller died in its first, looks its image up and makes its one-time host key anew."""
    assert left_as_it_is(inputs, monkeypatch) == {"hcloud:index/server:Server": {"image", "sshKeys", "userData"}}
