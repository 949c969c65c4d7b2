"""What the tests of a cloud's permissions share: the page that lists them, the order of a life that needs each, and a look that
is refused aloud.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML

from provision.clouds.programs import Cloud
from provision.clouds.programs.order import KEPT_TAG, RUN_TAG, KeptVolume, Order, resource_name
from provision.errors import ProvisionError
from provision.seam import Answer, Owned

PAGES: Final = Path(__file__).parents[3] / "docs" / "permissions"
HERE: Final = "198.51.100.9/32"  # whoever has moved


def page_of(name: str) -> dict[str, Any]:
    """What docs/permissions has for a cloud."""
    page: dict[str, Any] = YAML(typ="safe").load(PAGES / f"{name}.yaml")
    return page


def with_volume(order: Order, run_id: str) -> Order:
    """The order of that run, with a volume of its own beside the machine."""
    tags = order.tags | {RUN_TAG: run_id}
    fresh = KeptVolume(tags=tags | {KEPT_TAG: "models"}, size_gib=40)
    return msgspec.structs.replace(order, name=resource_name(run_id), tags=tags, volume=fresh)


def listed(cloud: Cloud, run_id: str = "r1") -> Owned:
    """What the cloud has of a run. Raises ProvisionError where it does not let us see all of it."""
    owned = cloud.owned("*", run_id, dict(os.environ))
    if owned.complete is not Answer.YES:
        raise ProvisionError(owned.message)
    return owned


def end_volume_of(cloud: Cloud, run_id: str) -> None:
    """The last of a run: its volume is all that is there, and then nothing is."""
    [kept] = listed(cloud, run_id).kept
    cloud.destroy_stray(kept, dict(os.environ))
    left = listed(cloud, run_id)
    assert (left.nothing, left.kept) == (True, ())
