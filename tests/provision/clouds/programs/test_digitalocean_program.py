"""The DigitalOcean program under Pulumi's own mocks, with the real `pulumi_digitalocean`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec
import pulumi
import pulumi.runtime
import pulumi_digitalocean as sdk
import pytest
from pulumi.runtime import mocks

from catalogs.catalog import read_catalog
from catalogs.sellers import BY_CONTRACT
from provision.clouds.programs import digitalocean, plugin_version
from provision.clouds.programs.order import KeptVolume, run_tags
from provision.errors import Refused
from tests.doubles.clouds import CLOUDS
from tests.doubles.plugins.digitalocean import DIGITALOCEAN, VERSION
from tests.provision.orders import LAUNCH, ORDER
from tests.provision.sdk import left_as_it_is, require_likeness

DROPLET = "digitalocean:index/droplet:Droplet"
FIREWALL = "digitalocean:index/firewall:Firewall"
KEY = "digitalocean:index/sshKey:SshKey"
TAG = "digitalocean:index/tag:Tag"
VOLUME = "digitalocean:index/volume:Volume"
ATTACHMENT = "digitalocean:index/volumeAttachment:VolumeAttachment"
SDK_CLASSES: dict[str, tuple[Any, Any]] = {
    DROPLET: (sdk.Droplet, sdk.DropletArgs),
    FIREWALL: (sdk.Firewall, sdk.FirewallArgs),
    KEY: (sdk.SshKey, sdk.SshKeyArgs),
    TAG: (sdk.Tag, sdk.TagArgs),
    VOLUME: (sdk.Volume, sdk.VolumeArgs),
    ATTACHMENT: (sdk.VolumeAttachment, sdk.VolumeAttachmentArgs),
}
TAGS = run_tags(CLOUDS["digitalocean"].offer, LAUNCH, "a1b2")
FRESH = KeptVolume(tags=TAGS | {"rentune-kept": "models"}, size_gib=40)
THEIRS = msgspec.structs.replace(
    ORDER, region="fra1", instance_type="s-2vcpu-4gb", disk_gib=60, image=digitalocean.IMAGE, tags=TAGS
)


class Recorder(pulumi.runtime.Mocks):  # type: ignore[misc] # pulumi's types are not followed
    """Takes down what is asked for, in its order; every size but one that nobody knows has 80 GB of disk and 4 GiB of RAM."""

    def __init__(self) -> None:
        self.inputs: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.inputs[args.typ] = args.inputs
        return str(len(self.inputs)), {**args.inputs, "ipv4Address": "198.51.100.4"}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        [slug] = args.args["filters"][0]["values"]
        size = {"slug": slug, "disk": 80, "memory": 4096, "priceHourly": 0.5}
        size["regions"] = [] if slug == "soldout" else ["nyc2", "tor1"]
        return {"id": "sizes", "sizes": [] if slug == "nobodys" else [size]}


def inputs(**changes: Any) -> dict[str, dict[str, Any]]:
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, preview=False)
    pulumi.runtime.test(digitalocean.program(msgspec.structs.replace(THEIRS, **changes)))()
    return recorder.inputs


def test_a_droplet_with_our_key_behind_our_firewall() -> None:
    """With a key no password is made and sent by mail; the firewall stands first, for all that carries the run's tag."""
    made = inputs()
    droplet, word = made[DROPLET], made[TAG]["name"]
    assert (droplet["size"], droplet["image"], droplet["region"]) == ("s-2vcpu-4gb", "ubuntu-24-04-x64", "fra1")
    assert droplet["sshKeys"] == [str([*made].index(KEY) + 1)]
    assert droplet["tags"] == [word, "team:nlp"]
    assert made[FIREWALL]["tags"] == [word]
    assert [*made].index(FIREWALL) < [*made].index(DROPLET)
    assert droplet["dropletAgent"] is False


def test_only_ssh_comes_in_and_everything_goes_out() -> None:
    """DigitalOcean closes what no rule names, in both directions."""
    firewall = inputs()[FIREWALL]
    [rule] = firewall["inboundRules"]
    assert (rule["protocol"], rule["portRange"]) == ("tcp", "22")
    assert rule["sourceAddresses"] == ["203.0.113.7/32", "2001:db8::7/128"]
    assert {rule["protocol"] for rule in firewall["outboundRules"]} == {"tcp", "udp", "icmp"}
    assert {tuple(rule["destinationAddresses"]) for rule in firewall["outboundRules"]} == {("0.0.0.0/0", "::/0")}


def test_user_data_is_a_secret() -> None:
    assert inputs()[DROPLET]["userData"]["value"] == THEIRS.user_data


def test_one_word_tells_everything_of_a_run_and_can_be_read_back() -> None:
    """In small letters, digits, dashes, underscores and colons: a capital is no other letter to DigitalOcean."""
    tags = TAGS | {"rentune-owner": "Äda: x_Y"}
    made = inputs(tags=tags)
    word = made[TAG]["name"]
    assert re.fullmatch(r"[a-z0-9:_-]{1,255}", word)
    assert made[KEY]["name"] == word
    assert digitalocean.from_tag(["team:nlp", word]) == {key: value for key, value in tags.items() if key != "team"}


@pytest.mark.parametrize("words", [[], ["team:nlp"], ["rentune"], ["rentune:r1"], ["other:a:b:c:d:e"]], ids=str)
def test_words_of_others_tell_nothing(words: list[str]) -> None:
    assert digitalocean.from_tag(words) == {}


def test_tags_that_are_too_long_are_refused_before_anything_is_made() -> None:
    for tags in (TAGS | {"note": "x" * 255}, TAGS | {"rentune-owner": "x" * 255}):
        with pytest.raises(Refused, match="too long for a tag"):
            digitalocean.program(msgspec.structs.replace(THEIRS, tags=tags))


def test_a_spot_price_is_refused() -> None:
    with pytest.raises(Refused, match="no spot machines"):
        digitalocean.program(msgspec.structs.replace(THEIRS, max_usd_per_hour=Decimal("0.1")))


def test_a_size_whose_disk_is_too_small_or_that_nobody_lists_is_refused() -> None:
    """80 GB are 74 GiB."""
    with pytest.raises(Exception, match="s-2vcpu-4gb has a disk of 74 GiB, and the run needs 75 GiB"):
        inputs(disk_gib=75)
    with pytest.raises(Exception, match="DigitalOcean lists no size nobodys"):
        inputs(instance_type="nobodys")


def test_a_size_with_less_ram_than_the_order_asks_for_is_not_bought() -> None:
    """DigitalOcean's own list says what it has, where the list of prices does not."""
    assert inputs(ram_gib=4)[DROPLET]["size"] == "s-2vcpu-4gb"
    with pytest.raises(Exception, match=r"s-2vcpu-4gb has 4\.0 GiB of RAM, and the run needs 5 GiB"):
        inputs(ram_gib=5)


def test_a_size_that_costs_more_than_planned_is_not_ordered() -> None:
    """It is told before anything is made; a rounding's difference is none."""
    assert inputs(usd_per_hour=Decimal("0.495"))[DROPLET]["size"] == "s-2vcpu-4gb"
    with pytest.raises(Exception, match=r"s-2vcpu-4gb costs \$0\.5000 an hour by now, and \$0\.4300 was planned"):
        inputs(usd_per_hour=Decimal("0.43"))


def test_each_machine_of_the_price_list_has_a_slug_or_is_sold_by_contract() -> None:
    """So a plan recommends none that no account can order."""
    listed = {each.instance_type for each in read_catalog().offers if each.provider == "digitalocean"}
    assert listed == digitalocean.SLUGS.keys() | BY_CONTRACT["digitalocean"]


def test_an_offer_without_a_place_is_rented_where_there_is_one() -> None:
    """Its price list knows one price everywhere; a size that no region has now is declined before anything is made."""
    assert inputs(region="*")[DROPLET]["region"] == "nyc2"
    with pytest.raises(Exception, match="The size soldout is not available in any region"):
        inputs(instance_type="soldout")


@pytest.mark.parametrize(
    ("type", "size", "image"),
    [
        ("1x-h100", "gpu-h100x1-80gb", "gpu-h100x1-base"),
        ("1x-l40s", "gpu-l40sx1-48gb", "gpu-h100x1-base"),
        ("gpu-h100x8-640gb", "gpu-h100x8-640gb", "gpu-h100x8-base"),
        ("1x-mi300x", "gpu-mi300x1-192gb", "gpu-amd-base"),
        ("c-2", "c-2", "ubuntu-24-04-x64"),
    ],
)
def test_a_gpu_comes_with_the_image_that_has_its_driver(type: str, size: str, image: str) -> None:
    """And what the price list calls by its GPU has a slug at DigitalOcean."""
    chosen = digitalocean.image_of(type, digitalocean.IMAGE)
    droplet = inputs(instance_type=type, image=chosen)[DROPLET]
    assert (droplet["size"], droplet["image"]) == (size, image)


def test_a_volume_that_is_kept_lies_where_the_droplet_does_under_a_tag_that_is_not_the_run_s() -> None:
    """The run's own tag ends with the run; what the volume carries tells the same, and its name."""
    made = inputs(volume=FRESH)
    [word] = made[VOLUME]["tags"]
    assert word != made[TAG]["name"]
    assert digitalocean.from_tag([word]) == {name: TAGS.get(name, "") for name in digitalocean.FACTS} | {
        "rentune-kept": "models"
    }
    assert (made[VOLUME]["region"], made[VOLUME]["size"]) == ("fra1", 40)
    assert [*made].index(DROPLET) < [*made].index(VOLUME)
    again = inputs(volume=KeptVolume(tags={}, size_gib=40, id="u-7", place="tor1"), region="*")
    assert (again[DROPLET]["region"], again[ATTACHMENT]["volumeId"]) == ("tor1", "u-7")
    assert VOLUME not in again


def test_every_kind_that_the_program_makes_is_known_to_the_listing() -> None:
    """Else a pending create of it could not be found again."""
    assert set(inputs()) == set(digitalocean.KINDS)
    both = set(digitalocean.KINDS) | set(digitalocean.VOLUMES.kinds)
    assert set(inputs(volume=FRESH)) == both == set(DIGITALOCEAN.kinds)
    assert set(digitalocean.KINDS.values()) | {"volume"} == set(digitalocean.LISTS)
    assert digitalocean.ADDRESS[0] in digitalocean.KINDS


@pytest.mark.parametrize("type", SDK_CLASSES)
def test_the_double_knows_the_properties_that_the_sdk_knows(type: str) -> None:
    """What it accepts exists, what the SDK requires it requires, and what the program sends it acts on."""
    kind = DIGITALOCEAN.kinds[type]
    require_likeness(kind, *SDK_CLASSES[type])
    assert set(inputs(volume=FRESH)[type]) <= kind.accepts


def test_the_double_has_the_version_of_the_installed_sdk() -> None:
    """The engine binds a plugin to exactly that version."""
    assert plugin_version(digitalocean.PLUGIN) == VERSION


def test_neither_a_newer_image_nor_a_fresh_key_replaces_a_box_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second create, after a controller died in its first, looks its image up and makes its one-time host key anew."""
    assert left_as_it_is(inputs, monkeypatch) == {"digitalocean:index/droplet:Droplet": {"image", "sshKeys", "userData"}}
