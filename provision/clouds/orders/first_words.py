"""What an order tells its machine for the first boot, in the form that its image reads; the one-time host key is in it."""

from __future__ import annotations

from typing import Final

import msgspec

from provision.aboard.renewal import IDLE_LIMIT_S
from provision.clouds.boot import bootstrap, container
from provision.clouds.boot.bootstrap import FirstBoot, render_user_data
from provision.clouds.boot.container import render_start
from provision.clouds.boot.driver_unit import DriverOrder
from provision.clouds.orders.reuse import mounted
from provision.clouds.programs import Cloud
from provision.clouds.programs.order import ENDS_EARLY, TIMER_AFTER_S, Image, KeptVolume, resource_name
from provision.seam import Launch
from provision.ssh.keys import new_key

RENDERED: Final = {"cloud-init": render_user_data, "start command": render_start}  # by Image.told_by
LOOKS: Final = {"cloud-init": bootstrap.render_look, "start command": container.render_look}  # by the same


class FirstWords(msgspec.Struct, frozen=True, kw_only=True):
    """What is ordered with the machine."""

    user_data: str  # a secret
    host_key: str  # the public half of the key in it


def idle_limit_of(cloud: Cloud) -> float | None:
    """Seconds after which a box there ends itself where nobody comes; None where its own end would end no bill."""
    return IDLE_LIMIT_S if cloud.POWER_OFF in ENDS_EARLY else None


def first_words(
    launch: Launch,
    *,
    cloud: Cloud,
    image: Image,
    volume: KeptVolume | None,
    now_s: float,
    driver_order: DriverOrder | None = None,
) -> FirstWords:
    """For a machine of this image. `now_s` and the launch's deadline are by the clock that the machine will have;
    `driver_order` is what its first boot sees to.
    """
    private, public = new_key(comment=resource_name(launch.run_id))  # for one login: on no disk of ours
    late_s = TIMER_AFTER_S.get(cloud.POWER_OFF, 0.0)
    ends = msgspec.structs.replace(launch.ends, deadline_at_s=launch.deadline_at_s + late_s, idle_limit_s=idle_limit_of(cloud))
    boot = FirstBoot(
        user=image.user,
        folder=box_folder(image, launch.run_id),
        public_key=launch.public_key,
        host_key_private=private,
        host_key_public=public,
        now_s=now_s,
        **msgspec.structs.asdict(ends),
        volume=mounted(cloud.VOLUMES, volume),
        driver_order=driver_order,
    )
    return FirstWords(user_data=RENDERED[image.told_by](boot), host_key=public)


def box_folder(image: Image, run_id: str) -> str:
    """Below which everything of ours lies on the box."""
    return f"{image.home}/{resource_name(run_id)}"
