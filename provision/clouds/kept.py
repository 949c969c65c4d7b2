"""The end of a disk that its user has kept, which every run's teardown leaves: deleted once, and gone once its cloud has
said so twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from provision.clouds.patience import GRACE_S
from provision.clouds.programs import CLOUDS, load_cloud
from provision.errors import ProvisionError
from provision.home.clocks import Clocks
from provision.redact import without_secrets
from provision.seam import Answer, Resource, ResourceEnd, Teardown, seen


def end_kept(provider: str, volume: Resource, *, environment: Mapping[str, str], clocks: Clocks) -> Teardown:
    """Delete it and look whether it is gone: twice, further apart than the cloud's lists lag behind. A delete that was refused
    has ended nothing, whatever a list says.
    """
    run_id, tag = volume.run_id or "a run without a name", volume.run_id if volume.names_run else None
    cloud, own = load_cloud(provider), without_secrets(environment, but=CLOUDS[provider].secret_variables)
    trouble = ""
    try:
        cloud.destroy_stray(volume, own)
    except ProvisionError as error:
        trouble = f": {str(error).removesuffix('.')}"

    def look() -> tuple[Answer, str]:
        listed = seen(lambda: cloud.owned(volume.region, tag, own))
        if listed.complete is not Answer.YES:
            return Answer.UNKNOWN, listed.message
        return Answer.NO if volume.id in {each.id for each in listed.kept} else Answer.YES, ""

    gone, why = look()
    if gone is Answer.YES and trouble:
        gone, why = Answer.UNKNOWN, "its list shows none, and the delete was refused"
    elif gone is Answer.YES:
        clocks.sleep(GRACE_S)
        gone, why = look()
    end = ResourceEnd(resource=volume, gone=gone, at_s=clocks.wall())
    if gone is Answer.YES:
        return Teardown.destroyed(run_id, f"{provider} lists its {volume.words} no more.", resources=(end,))
    if gone is Answer.NO:
        command = None if tag is None else f"rentune down --volumes {tag}"
        still = f"{provider} still lists its {volume.words}{trouble}."
        return Teardown.orphaned(run_id, still, resources=(end,), command=command)
    return Teardown.unknown(run_id, f"{provider} could not be asked for it: {why}{trouble}.", resources=(end,))
