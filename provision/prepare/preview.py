"""What `run` would create at a provider, without creating it or opening a run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from planner.plan import Plan
from provision.clouds.programs import CLOUDS
from provision.home.places import Places, RunFolder
from provision.prepare.limits.deadline import allowed_s
from provision.prepare.limits.outlay import UNTOUCHED, Taken
from provision.prepare.opening import launch_of, new_run_id
from provision.providers import make_provisioner

if TYPE_CHECKING:
    from provision.clouds.orders.preview import WouldBe
    from provision.clouds.provisioner import PulumiProvisioner


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """One run that is not opened. Names hold an id that a run of its own would have in another form."""

    provider: str
    region: str
    instance_type: str
    purchase: str
    usd_per_hour: Decimal
    disk_gib: int
    deadline_at_s: float  # wall clock, were it opened now
    tags: dict[str, str]  # the user's own; ours are among the resources' properties
    resources: tuple[WouldBe, ...]  # empty where nothing is rented


def preview(plan: Plan, *, places: Places, environment: Mapping[str, str], now_s: float, taken: Taken = UNTOUCHED) -> Preview:
    """As the engine sees it, which asks the cloud for images and types, and makes nothing. Its files are gone afterwards.

    Raises what creating it would raise before anything is made: ProvisionError, MissingPart, Refused.
    """
    from provision.ssh.keys import make_key

    run_id = new_run_id(now_s)
    with tempfile.TemporaryDirectory(prefix="rentune-preview-") as name:
        folder = RunFolder(Path(name))
        key = make_key(folder.root / "client_key", comment=run_id)
        launch = launch_of(plan, folder, run_id=run_id, public_key=key.public, deadline_at_s=now_s + allowed_s(plan, taken))
        resources: tuple[WouldBe, ...] = ()
        if plan.offer.provider in CLOUDS:
            made = make_provisioner(plan.offer.provider, places=places, environment=environment)
            resources = cast("PulumiProvisioner", made).preview(plan.offer, launch)
    return Preview(
        provider=plan.offer.provider,
        region=plan.offer.region,
        instance_type=plan.offer.instance_type,
        purchase=plan.offer.purchase,
        usd_per_hour=plan.offer.usd_per_hour,
        disk_gib=launch.disk_gib,
        deadline_at_s=launch.deadline_at_s,
        tags=launch.tags,
        resources=resources,
    )
