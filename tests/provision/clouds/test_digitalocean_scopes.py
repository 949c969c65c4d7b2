"""docs/permissions/digitalocean.yaml is enough for a whole life of a box, and nothing of it is too much: our fake asks for it.

The calls are those of the plugin's double and of the program's own half, without the engine, which adds none.
"""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec
import pytest

from provision.clouds.programs import digitalocean, load_cloud
from provision.clouds.programs.accounts.refusals import read_refusal
from provision.errors import ProvisionError, Reason, Scope
from provision.seam import Resource
from tests.doubles.bench import PUBLIC_KEY
from tests.doubles.emulator import Emulator
from tests.doubles.plugins.digitalocean import DIGITALOCEAN
from tests.doubles.plugins.wire import decode, encode
from tests.doubles.world.app import Asked
from tests.doubles.world.digitalocean import RESOURCES, ROUTES, VERBS, scope_of
from tests.provision.clouds.permitted import HERE, end_volume_of, listed, page_of, with_volume
from tests.provision.clouds.programs.test_digitalocean_program import TAGS, THEIRS, inputs
from tests.provision.clouds.programs.test_refusals import unread

CLOUD: Final = "digitalocean"
OCEAN: Final = load_cloud(CLOUD)
POLICY: Final = page_of(CLOUD)
CALLED: Final[list[str]] = POLICY["called"]


def life_of_a_box(run_id: str = "r1") -> None:
    """Everything that is ever asked of DigitalOcean, by the code that asks it. Raises ProvisionError where that is refused."""
    environment = dict(os.environ)
    api = digitalocean.connect(environment)
    digitalocean.quotas("*", digitalocean.GPU_QUOTAS, environment)
    order = with_volume(msgspec.structs.replace(THEIRS, public_key=PUBLIC_KEY, tags=TAGS), run_id)
    size = {"filters": [{"key": "slug", "values": [order.instance_type]}]}
    assert DIGITALOCEAN.lookups["digitalocean:index/getSizes:getSizes"](api, size)["sizes"]
    asked = {type.rpartition(":")[2]: decode(encode(each)) for type, each in inputs(**_changes(order)).items()}
    kinds = {type.rpartition(":")[2]: kind for type, kind in DIGITALOCEAN.kinds.items()}
    ids: dict[str, str] = {}
    for kind in ("Tag", "SshKey", "Firewall", "Droplet", "Volume"):
        keys = {"sshKeys": [int(ids["SshKey"])]} if kind == "Droplet" else {}
        ids[kind] = kinds[kind].create(api, asked[kind] | keys)
        assert kinds[kind].read(api, ids[kind])
    joined = {"dropletId": int(ids["Droplet"]), "volumeId": ids["Volume"]}
    ids["VolumeAttachment"] = kinds["VolumeAttachment"].create(api, joined)
    assert kinds["VolumeAttachment"].read(api, ids["VolumeAttachment"])

    assert {each.kind for each in listed(OCEAN, run_id).resources} == {"instance", "firewall", "key_pair", "tag"}
    digitalocean.admit("*", run_id, (HERE,), environment)
    for kind in ("Droplet", "Firewall", "SshKey", "Tag"):
        kinds[kind].delete(api, ids[kind])
    end_volume_of(OCEAN, run_id)


def _changes(order: Any) -> dict[str, Any]:
    return {name: getattr(order, name) for name in ("name", "public_key", "tags", "volume")}


def test_the_scopes_are_enough(reached: Emulator) -> None:
    """Every call of a box's life is allowed by what is called; what the control panel adds is asked for by none."""
    reached.control.set(scopes=CALLED)
    life_of_a_box()
    assert [each["name"] for each in reached.control.standing()] == ["team:nlp"]  # the user's own word outlives the droplet


@pytest.mark.parametrize("scope", CALLED)
def test_nothing_of_them_is_too_much(reached: Emulator, scope: str) -> None:
    """Without it that life ends, with this very scope in the reason."""
    reached.control.set(scopes=[each for each in CALLED if each != scope])
    with pytest.raises(ProvisionError, match=f"{scope} is missing"):
        life_of_a_box()


def test_a_stray_is_ended_with_them_too(reached: Emulator) -> None:
    """By the calls of the teardown that knows no state, after a life that ended in its middle."""
    reached.control.set(scopes=CALLED)
    environment = dict(os.environ)
    api, word = digitalocean.connect(environment), digitalocean.tag_of(TAGS)
    api.ask("POST", "/tags", {"name": word})
    api.ask("POST", "/account/keys", {"name": word, "public_key": PUBLIC_KEY})
    left = listed(OCEAN).resources
    assert {each.kind for each in left} == {"key_pair", "tag"}
    for resource in left:
        digitalocean.destroy_stray(resource, environment)
    assert reached.control.standing() == []


def test_a_scope_that_is_missing_is_one_sentence_that_says_where_the_list_is() -> None:
    said = unread("Forbidden: You are not authorized to perform this operation: droplet:create is missing")
    refused = read_refusal(digitalocean.REFUSALS, said, cloud="digitalocean")
    assert (refused.reason, refused.scope) == (Reason.PERMISSION, Scope.CLOUD)
    how = "`rentune doctor --permissions digitalocean` lists them"
    assert str(refused) == f"digitalocean declined: the token lacks a scope ({how})."


def test_every_route_of_the_fake_asks_for_a_scope_of_the_reference() -> None:
    """So a call that is added to the program comes to the file as well, or its tests fail."""
    asked = {scope_of(Asked(method, pattern.replace("\\", ""))) for method, pattern, _ in ROUTES}
    assert asked - set(CALLED) == {"regions:read"}
    words = {*RESOURCES.values(), "block_storage_action"}
    assert {scope.partition(":")[0] for scope in CALLED} <= words
    assert {scope.partition(":")[2] for scope in CALLED} <= set(VERBS.values())


def test_what_the_vendor_asks_for_beside_is_no_call_of_ours() -> None:
    """And stands by one that is."""
    for scope, beside in POLICY["required_with"].items():
        assert scope in CALLED
        assert not set(beside) & set(CALLED)


def test_a_machine_may_be_read_by_whoever_may_only_look(reached: Emulator) -> None:
    """`ls --orphans` needs none that makes, changes or ends."""
    reached.control.set(scopes=[each for each in CALLED if each.endswith(":read")])
    assert listed(OCEAN).resources == ()
    with pytest.raises(ProvisionError, match="tag:delete is missing"):
        digitalocean.destroy_stray(Resource(kind="tag", id="rentune:x"), dict(os.environ))
