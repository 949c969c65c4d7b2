"""DigitalOcean: a tag, a firewall, an SSH key and one droplet; and what of ours is still there, asked of its API.

A droplet that is switched off is billed as before, so here the timer of the user data ends the work and not the bill: only
a delete does. There is no spot market, and the disk is the size's own.

Tags here are words without a value, and neither keys nor firewalls have any of their own. So one word tells everything of
a run: the droplet carries it, the firewall applies to whatever carries it, and the key is called by it.
"""

from __future__ import annotations

import datetime as dt
import re
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
import pulumi

from catalogs.hardware import ANYWHERE, Offer
from planner.units import GB, MIB
from provision.clouds.programs import Volumes
from provision.clouds.programs.accounts.marks import id_or_mark
from provision.clouds.programs.accounts.quotas import Quota
from provision.clouds.programs.accounts.refusals import Refusal
from provision.clouds.programs.caller import caller_address as caller_address
from provision.clouds.programs.order import (
    DEADLINE_TAG,
    INSTALLATION_TAG,
    KEPT_TAG,
    OURS,
    OWNER_TAG,
    PRICE_TAG,
    RUN_TAG,
    SSH_PORT,
    TOO_DEAR,
    TOO_LITTLE_RAM,
    Image,
    KeptVolume,
    Order,
    PowerOff,
    require_disk,
    require_no_spot,
    require_price,
    require_ram,
    tagged_resource,
)
from provision.clouds.programs.rest import EVERYWHERE, Api, Json, as_owned, token_of
from provision.clouds.programs.tagging import SMALL_LETTERS, escaped, shorter_than, unescaped
from provision.errors import ProvisionError, Reason, Refused, Scope
from provision.seam import MACHINE, Answer, Layer, Owned, Resource

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own, of some of its modules
    import pulumi_digitalocean as digitalocean

PLUGIN: Final = "digitalocean"
KINDS: Final = {
    "digitalocean:index/droplet:Droplet": "instance",
    "digitalocean:index/firewall:Firewall": "firewall",
    "digitalocean:index/sshKey:SshKey": "key_pair",
    "digitalocean:index/tag:Tag": "tag",
}
VOLUMES: Final = Volumes(
    kinds={
        "digitalocean:index/volume:Volume": "volume",
        "digitalocean:index/volumeAttachment:VolumeAttachment": "attachment",
    },
    device="/dev/disk/by-id/scsi-0DO_Volume_*",  # docs.digitalocean.com, Volumes: by its name
)
ADDRESS: Final = ("digitalocean:index/droplet:Droplet", "ipv4Address")
IMAGE: Final = Image(
    owner="digitalocean",
    name="ubuntu-24-04-x64",
    user="ubuntu",
    takes_driver=True,
    source="docs.digitalocean.com, Droplet images",
    as_of=dt.date(2026, 11, 26),
)
# What a size begins with -> the image with its driver: docs.digitalocean.com, recommended GPU setup (read 2026-11). All others
# get the image of the order. Which branch the driver is of, is not stated there; the first boot looks, and puts one in where it
# is too old for torch.
GPU_IMAGES: Final = {
    r"gpu-mi\d+x": "gpu-amd-base",
    r"gpu-\w+x8-": "gpu-h100x8-base",
    r"gpu-\w+x1-": "gpu-h100x1-base",
}
WITHOUT_DRIVER: Final[Image | None] = None  # no image states a branch that could be too old: its first boot looks
# What the price list calls a size -> its slug; the other GPUs are sold by contract, under slugs of the contract's own.
SLUGS: Final = {
    "1x-h100": "gpu-h100x1-80gb",
    "1x-h200": "gpu-h200x1-141gb",
    "1x-l40s": "gpu-l40sx1-48gb",
    "1x-mi300x": "gpu-mi300x1-192gb",
    "1x-rtx-6000-ada": "gpu-6000adax1-48gb",
}
DROPLETS: Final = "droplet limit"
GPU_QUOTAS: Final = (DROPLETS,)
POWER_OFF: Final = PowerOff.KEEPS_BILLING  # docs.digitalocean.com, Droplet pricing: until a droplet is destroyed
# Texts of the API: it has one code for all of these (recorded by others, 2026-11). An account has one limit of droplets.
REFUSALS: Final = (
    TOO_DEAR,
    TOO_LITTLE_RAM,
    Refusal(r"\bsize\b.*(unavailable|not available)", Reason.CAPACITY, Scope.OFFER, "no machine of this size is free there"),
    Refusal("droplet limit", Reason.QUOTA, Scope.CLOUD, "the account may have no more droplets"),
    Refusal("unable to authenticate", Reason.CREDENTIALS, Scope.CLOUD, "the token is not valid"),
    Refusal(
        "not authorized|forbidden",
        Reason.PERMISSION,
        Scope.CLOUD,
        "the token lacks a scope (`rentune doctor --permissions digitalocean` lists them)",
    ),
)
URL: Final = "https://api.digitalocean.com"
TOKENS: Final = ("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN")
BILLING: Final = frozenset({"instance", "volume"})
NAMED: Final = frozenset({"instance", "firewall", "volume"})  # for their run; a key and a tag are called by the word
EVERYBODY: Final = ("0.0.0.0/0", "::/0")

WORD: Final = "rentune"
FACTS: Final = (RUN_TAG, OWNER_TAG, INSTALLATION_TAG, DEADLINE_TAG, PRICE_TAG)  # in this order behind the word
KEPT_WORD: Final = "rentune-kept"  # so begins the tag of a volume that is kept: a run's own ends with the run
KEPT_FACTS: Final = (*FACTS, KEPT_TAG)
TAG_LENGTH: Final = 256  # shorter than; source=the API's reference (v2, Tags), 2026-11
WORDS: Final = {WORD: FACTS, KEPT_WORD: KEPT_FACTS}
PLAIN: Final = SMALL_LETTERS + "-"  # a capital letter is no other letter to DigitalOcean


def tag_of(tags: Mapping[str, str], word: str = WORD) -> str:
    """Everything of a run in one word. Raises Refused where that is too long."""
    facts = [tags.get(fact, "") for fact in WORDS[word]]
    return shorter_than(TAG_LENGTH, ":".join((word, *(escaped(fact, PLAIN) for fact in facts))), " ".join(facts))


def from_tag(words: Iterable[str]) -> dict[str, str]:
    """What the first of these words that is one of ours tells; empty where none is."""
    for word in words:
        first, *facts = word.split(":")
        if len(facts) == len(WORDS.get(first, ())) != 0:
            return dict(zip(WORDS[first], map(unescaped, facts), strict=True))
    return {}


def _users_tags(tags: Mapping[str, str]) -> list[str]:
    own = {key: value for key, value in tags.items() if not key.startswith(OURS)}
    return [shorter_than(TAG_LENGTH, f"{escaped(key, PLAIN)}:{escaped(value, PLAIN)}", key) for key, value in own.items()]


# ── the program ────────────────────────────────────────────────────────────────────────────────────────────────────


def program(order: Order) -> Callable[[], None]:
    """The resources of one run as a closure for the Automation API; its exports are for people, we read the state.

    Raises Refused for tags that are too long, and for a spot price.
    """
    require_no_spot("DigitalOcean", order)
    word, users = tag_of(order.tags), _users_tags(order.tags)
    slug = SLUGS.get(order.instance_type, order.instance_type)

    def run() -> None:
        size = _size(slug)
        require_disk(order, int(size.disk) * GB)
        require_ram(order, int(size.memory) * MIB)
        require_price(order, Decimal(str(size.price_hourly)))
        # The engine leaves the tag where it is: without it a droplet that the state does not know could not be found.
        tag = digitalocean.Tag("tag", name=word, opts=pulumi.ResourceOptions(retain_on_delete=True))
        key = digitalocean.SshKey("key", name=word, public_key=order.public_key)
        firewall = digitalocean.Firewall("ssh", name=order.name, tags=[tag.name], **_rules(order.allow_from))
        region = _region(order, size)
        droplet = _droplet(order, slug, region, key, firewall, [tag.name, *users])
        if order.volume is not None:
            _attach(order, order.volume, region, droplet)
        pulumi.export("host", droplet.ipv4_address)
        pulumi.export("user", order.image.user)
        pulumi.export("host_key", order.host_key)
        pulumi.export("instance", droplet.id)
        pulumi.export("firewall", firewall.id)
        pulumi.export("key_pair", key.id)

    return run


def _region(order: Order, size: Any) -> str:
    """The volume's, where there is one; else the order's, or the first that has the size."""
    if order.volume is not None and order.volume.place is not None:
        return order.volume.place
    return str(size.regions[0]) if order.region == ANYWHERE else order.region


def _attach(order: Order, volume: KeptVolume, region: str, droplet: digitalocean.Droplet) -> None:
    """The volume, made where the droplet is, if there is none yet. The engine leaves both; a droplet's end detaches it."""
    kept, id = pulumi.ResourceOptions(retain_on_delete=True), volume.id
    if id is None:
        after = pulumi.ResourceOptions(retain_on_delete=True, depends_on=[droplet])  # no machine, no volume that bills
        tags = [tag_of(volume.tags, KEPT_WORD)]
        id = digitalocean.Volume("kept", name=order.name, region=region, size=volume.size_gib, tags=tags, opts=after).id
    digitalocean.VolumeAttachment("attached", droplet_id=droplet.id.apply(int), volume_id=id, opts=kept)


def _size(slug: str) -> Any:
    sizes = digitalocean.get_sizes(filters=[{"key": "slug", "values": [slug]}]).sizes
    if not sizes:
        raise Refused(f"DigitalOcean lists no size {slug}.", hint="Some are sold by contract only.")
    if not sizes[0].regions:
        raise Refused(f"The size {slug} is not available in any region of DigitalOcean's now.", hint="Try again later.")
    return sizes[0]


def _rules(cidrs: tuple[str, ...]) -> dict[str, Any]:
    """Whatever is not named is closed, in both directions; the box must reach package and model registries."""
    ssh = {"protocol": "tcp", "port_range": str(SSH_PORT), "source_addresses": list(cidrs)}
    out = [{"protocol": each, "port_range": "1-65535", "destination_addresses": list(EVERYBODY)} for each in ("tcp", "udp")]
    return {"inbound_rules": [ssh], "outbound_rules": [*out, {"protocol": "icmp", "destination_addresses": list(EVERYBODY)}]}


def _droplet(
    order: Order, slug: str, region: str, key: digitalocean.SshKey, firewall: digitalocean.Firewall, tags: list[Any]
) -> digitalocean.Droplet:
    return digitalocean.Droplet(
        "box",
        name=order.name,
        size=slug,
        image=order.image.name,
        region=region,
        ssh_keys=[key.id],  # without one a password is made, and sent by mail
        user_data=pulumi.Output.secret(order.user_data),
        tags=tags,
        droplet_agent=False,  # it would let DigitalOcean's console in
        # The firewall stands before what it protects. A fresh key must never replace a box that runs.
        opts=pulumi.ResourceOptions(depends_on=[firewall], ignore_changes=["image", "sshKeys", "userData"]),
    )


def image_of(instance_type: str, image: Image) -> Image:
    """The image with the driver of the size's GPU; without a GPU, the given one."""
    slug = SLUGS.get(instance_type, instance_type)
    named = next((name for pattern, name in GPU_IMAGES.items() if re.match(pattern, slug)), None)
    return image if named is None else msgspec.structs.replace(image, name=named, driver_branch=None)


# ── the cloud itself ───────────────────────────────────────────────────────────────────────────────────────────────


def connect(environment: Mapping[str, str]) -> Api:
    """The team that the token belongs to. Raises ProvisionError without one."""
    return Api(
        cloud="DigitalOcean",
        url=f"{environment.get('DIGITALOCEAN_API_URL', URL)}/v2",
        token=token_of("DigitalOcean", environment, TOKENS),
        next_page=lambda answer: "next" in (answer.get("links") or {}).get("pages", {}),
        reason=lambda answer: f"{answer['id']}: {answer['message']}",
        total=lambda answer: (answer.get("meta") or {}).get("total"),
    )


def needs(offer: Offer) -> dict[str, float]:
    """One droplet. How many GPUs a team may have, the API does not tell."""
    return {DROPLETS: 1.0}


def quotas(region: str, names: Iterable[str], environment: Mapping[str, str]) -> tuple[Quota, ...]:
    """The team's limit of droplets, and how many it has."""
    api = connect(environment)
    limit = api.ask("GET", "/account")["account"].get("droplet_limit")
    used = sum(1 for _ in _rows(api, MACHINE))
    return tuple(Quota(name=name, unit="droplets", where="the whole team", limit=limit, used=used) for name in names)


def account(environment: Mapping[str, str]) -> str:
    """The team, or whoever has none (docs.digitalocean.com/reference/api, "Account", 2026-11): both by their uuid."""
    api = connect(environment)

    def told() -> str:
        who = api.ask("GET", "/account")["account"]
        return str((who.get("team") or who)["uuid"])

    return id_or_mark(told, api.token)


def regions(environment: Mapping[str, str]) -> tuple[str, ...]:
    """One: a team has no regions, and a look at it sees every data centre."""
    return EVERYWHERE


# Resource.kind -> the list of it: path, name of its rows, a row's id, and the words that may be our tag. What bills is
# ended first; the tag last, and only when nothing carries it: a droplet without it would be nobody's, and go on billing.
LISTS: Final[dict[str, tuple[str, str, str, Callable[[Json], list[str]]]]] = {
    "instance": ("/droplets", "droplets", "id", lambda row: row["tags"] or []),
    "firewall": ("/firewalls", "firewalls", "id", lambda row: row["tags"] or []),
    "key_pair": ("/account/keys", "ssh_keys", "id", lambda row: [row["name"]]),
    "tag": ("/tags", "tags", "name", lambda row: [row["name"]]),
    "volume": ("/volumes", "volumes", "id", lambda row: row["tags"] or []),
}
# Resource.kind -> the questions that all of it is the answer to: a list of droplets has those with a GPU only where it is asked
# for them, and then no others (docs.digitalocean.com/reference/api, List All Droplets, `type`; 2026-11).
QUERIES: Final[dict[str, tuple[dict[str, str], ...]]] = {MACHINE: ({"type": "droplets"}, {"type": "gpus"})}


def _rows(api: Api, kind: str) -> Iterator[Json]:
    path, name, *_ = LISTS[kind]
    for query in QUERIES.get(kind, ({},)):
        yield from api.rows(path, name, **query)


# Status of a droplet (docs.digitalocean.com, "Droplets", 2026-11) -> whether it has power; one that is not here tells nothing.
RUNS: Final = {"new": Answer.YES, "active": Answer.YES, "off": Answer.NO}
# Resource.kind -> how it stands, beside what its words tell.
STANDS: Final[dict[str, Callable[[Json], dict[str, Any]]]] = {
    "instance": lambda row: {"runs": RUNS.get(row["status"], Answer.UNKNOWN)},
    "volume": lambda row: {"size_gib": row["size_gigabytes"], "in_use": bool(row["droplet_ids"])},
}


def owned(region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
    """Droplets, firewalls, keys, tags and volumes of the team that are ours. All are listed: none can be asked by a prefix."""
    return as_owned(lambda: connect(environment), lambda api: _listed(api, tag))


def _listed(api: Api, run_id: str | None) -> Iterator[Resource]:
    for kind, (_, _, id, words) in LISTS.items():
        for row in _rows(api, kind):
            facts = from_tag(words(row)) or _from_name(kind, row.get("name") or "")
            if facts and run_id in (None, facts[RUN_TAG]) and (kind, KEPT_TAG in facts) != ("tag", True):
                region = (row.get("region") or {}).get("slug", "")
                made_at = row.get("created_at")
                found = tagged_resource(kind, str(row[id]), region, facts, bills=kind in BILLING, made_at=made_at)
                yield msgspec.structs.replace(found, **STANDS[kind](row) if kind in STANDS else {})


def _from_name(kind: str, name: str) -> dict[str, str]:
    """What the name of a droplet, firewall or volume tells whose tag somebody took away: its run. A volume is kept, since no
    other is made; what its user calls it was in the tag, so it goes by its name here.
    """
    if kind not in NAMED or not name.startswith(OURS):
        return {}
    return {RUN_TAG: name.removeprefix(OURS)} | ({KEPT_TAG: name} if kind == "volume" else {})


def destroy_stray(resource: Resource, environment: Mapping[str, str]) -> None:
    """Delete one resource, whatever it is doing."""
    api = connect(environment)
    if resource.kind == "tag":
        _require_unused(api, resource.id)
    path = f"{LISTS[resource.kind][0]}/{urllib.parse.quote(resource.id, safe=':')}"
    carried = (api.find(path) or {}).get("volume", {}).get("tags", []) if resource.kind == "volume" else []
    api.delete(path)
    for word in (each for each in carried if each.startswith(f"{KEPT_WORD}:")):  # of this volume alone
        api.delete(f"/tags/{urllib.parse.quote(word, safe=':')}")


def _require_unused(api: Api, word: str) -> None:
    carriers = sum(int(row["resources"]["count"]) for row in api.rows("/tags", "tags") if row["name"] == word)
    if carriers:
        raise ProvisionError(f"the tag is carried by {carriers} more, and ends after them")


def admit(region: str, run_id: str, cidrs: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """The firewall is replaced in one step, so nobody who is still let in is shut out in between."""
    api = connect(environment)
    for firewall in api.rows("/firewalls", "firewalls"):
        if from_tag(firewall["tags"] or []).get(RUN_TAG) == run_id:
            kept = {name: firewall[name] for name in ("name", "outbound_rules", "droplet_ids", "tags")}
            ssh = {"protocol": "tcp", "ports": str(SSH_PORT), "sources": {"addresses": list(cidrs)}}
            api.ask("PUT", f"/firewalls/{firewall['id']}", kept | {"inbound_rules": [ssh]})


def console(instance: Resource, environment: Mapping[str, str]) -> str:
    """Nothing: the API shows a console to a browser only."""
    return ""


def guards(instance: Resource, environment: Mapping[str, str]) -> tuple[Layer, ...]:
    """None: DigitalOcean ends no droplet by itself."""
    return ()
