"""Whether a volume of the wanted name is there already, and whether this offer's machine can have it."""

from __future__ import annotations

from catalogs.hardware import ANYWHERE, Offer
from provision.clouds.boot.bootstrap import Volume
from provision.clouds.programs import Volumes
from provision.clouds.programs.order import CACHE as CACHE
from provision.clouds.programs.order import INSTALLATION_TAG, KEPT_TAG, MOUNT, KeptVolume
from provision.errors import Declined, ProvisionError, Reason, Refused, Scope
from provision.seam import Answer, Launch, Owned, Resource


def kept_volume(listed: Owned, offer: Offer, launch: Launch, tags: dict[str, str], volumes: Volumes) -> KeptVolume:
    """The user's volume of the launch's name, of whichever of their runs; where there is none, one that is to be made. So it is
    where an attempt of this very run has made one in another region: that box was no good, and nothing worth keeping is there.

    `tags` are those of the run. Raises ProvisionError where not all could be seen; Declined where it lies in another region or
    in a zone that has no such machine, and where it is of a kind that the machine can't have; Refused where another machine
    has it: two would spoil it.
    """
    name = str(launch.volume_name)
    if listed.complete is not Answer.YES:
        raise ProvisionError(f"{offer.provider} can't be asked for the volume {name}: {listed.message}.")
    mine = [each for each in listed.kept if each.name == name and _is_mine(each, launch, tags)]
    here = [each for each in mine if offer.region in (each.region, ANYWHERE)]
    if not here and all(each.run_id == launch.run_id for each in mine):
        return KeptVolume(tags=tags | {KEPT_TAG: name}, size_gib=launch.volume_gib)
    if not here:
        places = ", ".join(sorted({each.region for each in mine}))
        raise Declined(f"The volume {name} is in {places}, and {offer.key} is not.", reason=Reason.CAPACITY, scope=Scope.REGION)
    free = [each for each in here if not each.in_use]
    if not free:
        raise Refused(
            f"The volume {name} ({here[0].id}) is in use by another machine.",
            hint="Wait until that run has ended, or give another name to --keep-volume.",
        )
    [volume, *_] = free
    if not volumes.joins(offer.instance_type, volume.sold_as):
        words = f"The volume {name} is of the kind {volume.sold_as}, which no {offer.instance_type} takes."
        raise Declined(words, reason=Reason.CAPACITY, scope=Scope.INSTANCE_TYPE)
    if volume.zone in launch.full_zones:
        words = f"The volume {name} is in {volume.zone}, where no {offer.instance_type} is free."
        raise Declined(words, reason=Reason.CAPACITY, scope=Scope.OFFER)
    return KeptVolume(tags={}, size_gib=volume.size_gib or 0, id=volume.id, place=volume.zone or volume.region)


def mounted(volumes: Volumes | None, volume: KeptVolume | None) -> Volume | None:
    """What the machine is told of it; None where it has none."""
    if volumes is None or volume is None:
        return None
    return Volume(device=volumes.device, mount=MOUNT, cache=CACHE, fresh=volume.id is None)


def _is_mine(volume: Resource, launch: Launch, tags: dict[str, str]) -> bool:
    return launch.owner == volume.owner or tags[INSTALLATION_TAG] == volume.installation
