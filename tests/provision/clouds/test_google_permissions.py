"""docs/permissions/gcp.yaml is enough for a whole life of a box, and nothing of it is too much: our fake asks for it.

The calls are those of the plugin's double and of the program's own half, without the engine, which adds none.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

import msgspec
import pytest

from provision.clouds.programs import gcp, load_cloud
from provision.clouds.programs.accounts.refusals import read_refusal
from provision.errors import ProvisionError, Reason, Scope
from provision.seam import Answer, Resource
from tests.doubles.emulator import Emulator
from tests.doubles.plugins.gcp import GCP
from tests.doubles.plugins.wire import decode, encode
from tests.doubles.world.app import Asked
from tests.doubles.world.gcp import ROUTES
from tests.doubles.world.gcp_permissions import needed
from tests.provision.clouds.permitted import HERE, end_volume_of, listed, page_of, with_volume
from tests.provision.clouds.programs.test_gcp_account import TAGS
from tests.provision.clouds.programs.test_gcp_program import ATTACHED, DISK, FIREWALL, GOOGLES, INSTANCE, recorded
from tests.provision.clouds.programs.test_refusals import unread

CLOUD: Final = "gcp"
GOOGLE: Final = load_cloud(CLOUD)
ALLOWED: Final[list[str]] = page_of(CLOUD)["includedPermissions"]
TYPES: Final = {"shut": FIREWALL, "ssh": FIREWALL, "box": INSTANCE, "kept": DISK, "attached": ATTACHED}
A_MOMENT_S: Final = 0.05
ZONE: Final = "us-central1-b"


def life_of_a_box(run_id: str = "r1") -> None:
    """Everything that is ever asked of Compute Engine, by the code that asks it. Raises ProvisionError where it is refused."""
    environment = dict(os.environ)
    api, asked = GCP.connect({}), _asked(run_id)
    assert gcp.quotas("us-central1", gcp.GPU_QUOTAS, environment)[0].limit
    zones = GCP.lookups["gcp:compute/getZones:getZones"](api, {"region": "us-central1", "status": "UP"})["names"]
    assert ZONE in zones
    wanted = {"zone": ZONE, "filter": 'name = "g2-standard-4"'}
    assert GCP.lookups["gcp:compute/getMachineTypes:getMachineTypes"](api, wanted)["machineTypes"]
    ids: dict[str, str] = {}
    for name, type in TYPES.items():
        ends = {"disk": ids["kept"], "instance": ids["box"]} if name == "attached" else {}
        ids[name] = GCP.kinds[type].create(api, asked[name] | ends)
        assert GCP.kinds[type].read(api, ids[name]) is not None

    found = listed(GOOGLE, run_id)
    assert {each.kind for each in found.resources} == {"instance", "firewall"}
    [instance] = [each for each in found.resources if each.kind == "instance"]
    assert gcp.console(instance, environment)
    assert [layer.there for layer in gcp.guards(instance, environment)] == [Answer.YES]
    gcp.admit("us-central1", run_id, (HERE,), environment)
    for name in ("box", "ssh", "shut"):
        GCP.kinds[TYPES[name]].delete(api, ids[name])
    end_volume_of(GOOGLE, run_id)


def _asked(run_id: str) -> dict[str, Any]:
    """What the production program orders, with the image that the fake has."""
    order = with_volume(msgspec.structs.replace(GOOGLES, tags=TAGS), run_id)
    order = msgspec.structs.replace(order, deadline_at_s=time.time() + 3600, image=gcp.GPU_IMAGE)
    made = {each: decode(encode(inputs)) for each, inputs in recorded(order).inputs.items()}
    image = f"projects/{gcp.GPU_IMAGE.owner}/global/images/{gcp.GPU_IMAGE.name}-v1"
    made["box"]["bootDisk"]["initializeParams"]["image"] = image
    return made


def test_the_role_is_enough(reached: Emulator) -> None:
    """Every call of a box's life is allowed by it, and every field of the order."""
    reached.control.set(scopes=ALLOWED, boot_s=A_MOMENT_S)
    life_of_a_box()
    assert reached.control.standing() == []


@pytest.mark.parametrize("permission", ALLOWED)
def test_nothing_of_it_is_too_much(reached: Emulator, permission: str) -> None:
    """Without it that life ends, with this very permission in the reason."""
    waits = {"boot_s": A_MOMENT_S} if "Operations" in permission else {}  # what is over at once is not asked for again
    reached.control.set(scopes=[each for each in ALLOWED if each != permission], **waits)
    with pytest.raises(ProvisionError, match=f"Required '{permission}' permission"):
        life_of_a_box()


def test_a_permission_that_is_missing_is_one_sentence_that_says_where_the_list_is() -> None:
    said = unread("forbidden: Required 'compute.instances.create' permission for 'projects/of-the-test'")
    refused = read_refusal(gcp.REFUSALS, said, cloud="gcp")
    assert (refused.reason, refused.scope) == (Reason.PERMISSION, Scope.CLOUD)
    assert "rentune doctor --permissions gcp" in str(refused)


def test_every_route_of_the_fake_has_its_permissions_written_down() -> None:
    """So a call that is added to the program comes to the file as well, or its tests fail."""
    examples = {r"([a-z-]+)": "p", r"([a-z0-9-]+)": "z", r"([^/]+)": "n", r"(?:global|zones/[a-z0-9-]+)": "global"}
    for method, pattern, _ in ROUTES:
        path = pattern.replace(r"operation-(\w+)-(\d+)", "operation-insert-1")
        for group, example in examples.items():
            path = path.replace(group, example)
        assert set(needed(Asked(method, path))) <= set(ALLOWED), path


def test_whoever_may_only_look_ends_nothing(reached: Emulator) -> None:
    """`ls --orphans` needs none that makes, changes or ends."""
    reached.control.set(scopes=[each for each in ALLOWED if each.endswith((".list", ".get"))])
    assert listed(GOOGLE).resources == ()
    firewall = Resource(kind="firewall", id="projects/of-the-test/global/firewalls/x")
    with pytest.raises(ProvisionError, match=r"compute\.firewalls\.delete"):
        gcp.destroy_stray(firewall, dict(os.environ))
