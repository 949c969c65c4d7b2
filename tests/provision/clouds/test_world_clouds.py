"""What the programs of Hetzner, DigitalOcean and Google Cloud ask the cloud itself, over HTTP, of our own fake cloud."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

import pytest

from provision.clouds.programs import Cloud, digitalocean, gcp, hetzner, load_cloud
from provision.clouds.programs.accounts import gcp_api
from provision.clouds.programs.order import PowerOff, run_tags
from provision.clouds.programs.rest import EVERYWHERE, Api, Json
from provision.clouds.programs.tagging import label
from provision.errors import ProvisionError
from provision.seam import Answer, Resource
from tests.doubles.bench import PUBLIC_KEY
from tests.doubles.clouds import CLOUDS
from tests.doubles.emulator import Emulator, started
from tests.doubles.world.app import Dialect
from tests.doubles.world.core import MACHINE, TOKEN, Reason
from tests.doubles.world.gcp import PROJECT
from tests.provision.orders import LAUNCH

OTHER_KEY = "ssh-ed25519 AAAA other"
CONNECT = {"hetzner": hetzner.connect, "digitalocean": digitalocean.connect, "gcp": gcp_api.connect}
# What each says of a key that it does not know, and of a failure of its own.
UNKNOWN = {"hetzner": "unauthorized", "digitalocean": "Unauthorized", "gcp": "authError"}
BROKEN = {"hetzner": "server_error", "digitalocean": "server_error", "gcp": "backendError"}


def rent_at_hetzner(api: Api, tags: Mapping[str, str], public_key: str) -> int:
    labels = {label(key): label(value) for key, value in tags.items()}
    name = {"name": f"rentune-{tags['rentune-run']}", "labels": labels}
    api.ask("POST", "/ssh_keys", name | {"public_key": public_key})
    firewall = api.ask("POST", "/firewalls", name | {"rules": []})["firewall"]["id"]
    server = {"server_type": "ccx13", "image": "ubuntu-24.04", "location": "fsn1", "firewalls": [{"firewall": firewall}]}
    return int(api.ask("POST", "/servers", name | server)["server"]["id"])


def rent_at_digitalocean(api: Api, tags: Mapping[str, str], public_key: str) -> int:
    word, name = digitalocean.tag_of(tags), f"rentune-{tags['rentune-run']}"
    api.ask("POST", "/tags", {"name": word})
    api.ask("POST", "/account/keys", {"name": word, "public_key": public_key})
    inbound = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["203.0.113.7/32"]}}
    api.ask("POST", "/firewalls", {"name": name, "tags": [word], "inbound_rules": [inbound]})
    size = {"size": CLOUDS["digitalocean"].offer.instance_type, "image": "gpu-h100x1-base", "region": "tor1"}
    return int(api.ask("POST", "/droplets", size | {"name": name, "tags": [word, "team:nlp"]})["droplet"]["id"])


def rent_at_google(api: Api, tags: Mapping[str, str], public_key: str) -> int:
    name, here, zone = f"rentune-{tags['rentune-run']}", f"/projects/{PROJECT}", "zones/us-central1-b"
    rule = {"description": json.dumps(tags), "network": "global/networks/default", "sourceRanges": ["203.0.113.7/32"]}
    api.ask("POST", f"{here}/global/firewalls", rule | {"name": name, "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}]})
    image = f"projects/{gcp.GPU_IMAGE.owner}/global/images/{gcp.GPU_IMAGE.name}-v1"
    instance = {
        "name": name,
        "machineType": f"{zone}/machineTypes/g2-standard-4",
        "disks": [{"autoDelete": True, "initializeParams": {"sourceImage": image, "diskSizeGb": "20"}}],
        "scheduling": {"provisioningModel": "STANDARD", "automaticRestart": False, "onHostMaintenance": "TERMINATE"},
        "metadata": {"items": []},
        "labels": gcp.labels_of(tags),
        "tags": {"items": [name]},
    }
    return int(api.ask("POST", f"{here}/{zone}/instances", instance)["name"].rpartition("-")[2])


RENT: dict[str, Callable[[Api, Mapping[str, str], str], int]] = {
    "hetzner": rent_at_hetzner,
    "digitalocean": rent_at_digitalocean,
    "gcp": rent_at_google,
}


@pytest.fixture(scope="module", params=RENT)
def running(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with started(request.param) as emulator:
        yield emulator


@pytest.fixture
def at(running: Emulator) -> Emulator:
    running.reset()
    return running


@pytest.fixture
def cloud(at: Emulator) -> Cloud:
    return load_cloud(at.cloud)


def api(at: Emulator) -> Api:
    return CONNECT[at.cloud](at.environment)


def rent(at: Emulator, run_id: str = "r1", *, public_key: str = PUBLIC_KEY) -> int:
    """Everything of a run as its program makes it; the machine's id."""
    tags = run_tags(CLOUDS[at.cloud].offer, LAUNCH, "a1b2") | {"rentune-run": run_id, "rentune-owner": "Ada@home"}
    return RENT[at.cloud](api(at), tags, public_key)


def listed(at: Emulator, run_id: str | None = "r1") -> tuple[Resource, ...]:
    owned = load_cloud(at.cloud).owned(CLOUDS[at.cloud].offer.region, run_id, at.environment)
    assert owned.complete is Answer.YES, owned.message
    return owned.resources


def the_instance(at: Emulator) -> Resource:
    [instance] = [resource for resource in listed(at) if resource.kind == "instance"]
    return instance


def test_what_is_ours_is_listed_with_whose_it_is_and_until_when(at: Emulator, cloud: Cloud) -> None:
    """One look sees every location; of two runs each is found by its own id; only the machine bills, and it comes first."""
    rent(at)
    rent(at, "r2", public_key=OTHER_KEY)
    mine = listed(at)
    assert sorted(resource.kind for resource in mine) == sorted(cloud.KINDS.values())
    assert [resource.kind for resource in mine if resource.bills] == ["instance"] == [mine[0].kind]
    assert mine[0].region == CLOUDS[at.cloud].offer.region
    assert {(one.run_id, one.owner, one.installation, one.deadline_at_s) for one in mine} == {
        ("r1", "Ada@home", "a1b2", LAUNCH.deadline_at_s // 1)
    }
    assert {resource.run_id for resource in listed(at, None)} == {"r1", "r2"}
    assert cloud.regions(at.environment) == EVERYWHERE


def test_what_is_anothers_is_not_ours(at: Emulator) -> None:
    """Whatever it is called."""
    rule = {"description": "ours", "network": "global/networks/default", "sourceRanges": ["0.0.0.0/0"], "denied": []}
    thing: dict[str, tuple[str, Json]] = {
        "hetzner": ("/ssh_keys", {"public_key": OTHER_KEY}),
        "digitalocean": ("/account/keys", {"public_key": OTHER_KEY}),
        "gcp": (f"/projects/{PROJECT}/global/firewalls", rule),
    }
    path, body = thing[at.cloud]
    api(at).ask("POST", path, {"name": "rentune"} | body)
    assert listed(at, None) == ()


def test_a_list_of_many_pages_is_read_to_its_end(at: Emulator) -> None:
    for number in range(51):
        rent(at, f"r{number}", public_key=f"ssh-ed25519 AAAA{number:04} x")
    assert len({resource.run_id for resource in listed(at, None)}) == 51


def test_a_cloud_that_does_not_answer_is_unknown_not_empty(at: Emulator, cloud: Cloud) -> None:
    """Wrong token, no token, nobody there, or a token in the clear: each says so, and never the token."""
    rent(at)
    url, token, *_ = CLOUDS[at.cloud].variables("")
    answers = {
        UNKNOWN[at.cloud]: {token: "another"},
        "asks for a token": {token: ""},
        "did not answer": {url: "http://127.0.0.1:9"},
        "only asked over https": {url: "http://203.0.113.9"},
    }
    for word, change in answers.items():
        owned = cloud.owned("anywhere", "r1", at.environment | change)
        assert owned.complete is Answer.UNKNOWN
        assert word in owned.message
        assert TOKEN not in owned.message


def test_what_was_too_much_is_asked_again(at: Emulator, cloud: Cloud) -> None:
    """Once or twice is not worth a word; what does not end is told."""
    rent(at)
    at.control.plant("list", Reason.THROTTLED, times=2)
    the_instance(at)
    at.control.plant("list", Reason.BROKEN, times=4)
    owned = cloud.owned("anywhere", "r1", at.environment)
    assert (owned.complete, BROKEN[at.cloud] in owned.message) == (Answer.UNKNOWN, True)


def test_a_create_is_never_asked_for_twice(at: Emulator) -> None:
    """The answer was no, and the machine may stand all the same."""
    at.control.plant("create", Reason.BROKEN, MACHINE, after=True)
    with pytest.raises(ProvisionError, match=BROKEN[at.cloud]):
        rent(at)
    assert len(at.control.standing(MACHINE)) == 1


def test_the_program_says_of_a_power_off_what_the_cloud_does(at: Emulator, cloud: Cloud) -> None:
    """Else an end of the work would be taken for an end of the bill."""
    dialect: Dialect = importlib.import_module(f"tests.doubles.world.{at.cloud}").DIALECT
    assert cloud.POWER_OFF is dialect.power_off is not PowerOff.ENDS_BILL


def test_only_a_delete_ends_the_bill(at: Emulator, cloud: Cloud) -> None:
    """A machine that has switched itself off stands in the list as that, and costs on: test_while_off.py has how much."""
    machine = rent(at)
    assert the_instance(at).runs is Answer.YES
    at.control.power_off(machine)
    paid = at.control.bill_usd()
    at.control.advance(3600)
    assert at.control.bill_usd() > paid
    instance = the_instance(at)
    assert (instance.runs, instance.bills) == (Answer.NO, True)
    cloud.destroy_stray(instance, at.environment)
    paid = at.control.bill_usd()
    at.control.advance(3600)
    assert at.control.bill_usd() == paid
    cloud.destroy_stray(instance, at.environment)  # gone is fine


def test_everything_of_a_run_can_be_ended_one_by_one(at: Emulator, cloud: Cloud) -> None:
    """In the order of the list."""
    rent(at)
    for resource in listed(at):
        cloud.destroy_stray(resource, at.environment)
    assert listed(at) == ()
    assert [thing["name"] for thing in at.control.standing() if "rentune" in thing["name"]] == []


@pytest.mark.parametrize("running", ["digitalocean"], indirect=True)
def test_a_tag_is_not_taken_from_what_still_bills(at: Emulator, cloud: Cloud) -> None:
    """Without it nothing would tell whose the droplet is; and whose tag is gone is known by its name all the same."""
    rent(at)
    [tag] = [resource for resource in listed(at) if resource.kind == "tag"]
    with pytest.raises(ProvisionError, match="carried by 1 more"):
        cloud.destroy_stray(tag, at.environment)
    assert the_instance(at).owner == "Ada@home"
    api(at).delete(f"/tags/{tag.id}")
    assert (the_instance(at).run_id, the_instance(at).owner) == ("r1", None)


@pytest.mark.parametrize("running", ["digitalocean"], indirect=True)
def test_droplets_are_listed_and_counted_with_a_gpu_and_without(at: Emulator) -> None:
    """Its API has a list of each, and shows only those without where nothing is said."""
    rent(at)
    word = digitalocean.tag_of(run_tags(CLOUDS[at.cloud].offer, LAUNCH, "a1b2") | {"rentune-run": "r2"})
    plain = {"name": "rentune-r2", "size": "s-2vcpu-4gb", "image": "ubuntu-24-04-x64", "region": "fra1", "tags": [word]}
    api(at).ask("POST", "/droplets", plain)
    shown = [row["name"] for row in api(at).rows("/droplets", "droplets")]
    assert shown == ["rentune-r2"]
    assert {each.run_id for each in listed(at, None) if each.kind == "instance"} == {"r1", "r2"}
    [quota] = digitalocean.quotas("*", [digitalocean.DROPLETS], at.environment)
    assert quota.used == 2


@pytest.mark.parametrize("running", ["hetzner", "digitalocean", "gcp"], indirect=True)
def test_a_kept_volume_without_the_tag_that_says_so_is_kept_all_the_same(at: Emulator, cloud: Cloud) -> None:
    """Somebody took it away: its run's end must not be the volume's."""
    at_hetzner = {"name": "rentune-r1", "labels": {label("rentune-run"): label("r1")}, "location": "fsn1", "size": 40}
    volume: dict[str, tuple[str, Json]] = {
        "hetzner": ("/volumes", at_hetzner),
        "digitalocean": ("/volumes", {"name": "rentune-r1", "region": "tor1", "size_gigabytes": 40}),
        "gcp": (
            f"/projects/{PROJECT}/zones/us-central1-b/disks",
            {"name": "rentune-r1-kept", "labels": gcp.labels_of({"rentune-run": "r1"}), "sizeGb": "40"},
        ),
    }
    path, body = volume[at.cloud]
    api(at).ask("POST", path, body)
    owned = cloud.owned("*", "r1", at.environment)
    assert owned.resources == ()
    assert [(each.kind, each.run_id, each.name, each.size_gib) for each in owned.kept] == [("volume", "r1", body["name"], 40)]


def test_a_no_to_a_delete_is_one_sentence(at: Emulator, cloud: Cloud) -> None:
    rent(at)
    at.control.plant("delete", Reason.LOCKED, MACHINE)
    with pytest.raises(ProvisionError, match=r"(?i)declined to delete /\S+: \w+: .*(server|droplet|resource) "):
        cloud.destroy_stray(the_instance(at), at.environment)


def test_a_moved_caller_is_let_in_and_the_old_address_is_not(at: Emulator, cloud: Cloud) -> None:
    """Of this run, and of no other."""
    rent(at)
    rent(at, "r2", public_key=OTHER_KEY)
    for _ in range(2):
        cloud.admit("anywhere", "r1", ("198.51.100.9/32",), at.environment)
    first, second = (str(firewall["details"]) for firewall in at.control.standing("firewall"))
    assert "198.51.100.9/32" in first
    assert "203.0.113.7/32" not in first
    assert "198.51.100.9/32" not in second


def test_a_price_that_has_risen_is_what_is_billed(at: Emulator) -> None:
    """The list's price is from now on another; what is ordered then costs that."""
    at.control.set(prices={CLOUDS[at.cloud].offer.instance_type: "100"})
    rent(at)
    at.control.advance(36)
    assert at.control.bill_usd() >= Decimal(1)
