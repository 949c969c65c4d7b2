"""The disks that their users have kept: found by tag in the accounts within reach, and ended when that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from provision.account.ledger import Ledger
from provision.charge.afterwards import with_ends, write_end
from provision.charge.orphans import Orphans
from provision.clouds.patience import GRACE_S
from provision.clouds.programs import CLOUDS, load_cloud
from provision.errors import ProvisionError, Refused
from provision.home.places import Places
from provision.provisioner import Answer, Resource, ResourceEnd, Teardown, seen
from provision.redact import without_secrets
from provision.words import Note

Volume = tuple[str, Resource]  # who has it, and which it is


def kept_volumes(found: Orphans, named: str | None, *, ledger: Ledger, installation: str | None) -> tuple[Volume, ...]:
    """Those of one run, whoever rented it, or one by its own name that is ours; without either, all that are ours.

    Raises Refused where that run has not ended: its box still writes on it.
    """
    runs = ledger.runs()
    if named in runs and not runs[named].over:
        raise Refused(f"{named} has not ended.", hint=f"rentune down {named}")

    def is_ours(volume: Resource) -> bool:
        return volume.run_id in runs or (installation is not None and volume.installation == installation)

    return tuple(
        (provider, volume)
        for provider, volume in found.kept
        if volume.run_id == named or (named in (None, volume.name) and is_ours(volume))
    )


def end_volume(
    provider: str,
    volume: Resource,
    *,
    places: Places,
    environment: Mapping[str, str],
    note: Note = lambda _said: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Teardown:
    """Delete one and look whether it is gone: twice, further apart than the cloud's lists lag behind. The ledger is told, where
    it has the run, and the store where its state lies. A delete that was refused has ended nothing, whatever a list says.
    """
    run_id, names_run = volume.run_id or "a run without a name", volume.names_run
    cloud, own = load_cloud(provider), without_secrets(environment, but=CLOUDS[provider].secret_variables)
    trouble = ""
    try:
        cloud.destroy_stray(volume, own)
    except ProvisionError as error:
        trouble = f": {str(error).removesuffix('.')}"

    def look() -> tuple[Answer, str]:
        listed = seen(lambda: cloud.owned(volume.region, volume.run_id if names_run else None, own))
        if listed.complete is not Answer.YES:
            return Answer.UNKNOWN, listed.message
        return _is_gone(volume, listed.kept), ""

    gone, why = look()
    if gone is Answer.YES and trouble:
        gone, why = Answer.UNKNOWN, "its list shows none, and the delete was refused"
    elif gone is Answer.YES:
        sleep(GRACE_S)
        gone, why = look()
    end = ResourceEnd(resource=volume, gone=gone, at_s=time.time())
    if gone is Answer.YES:
        _note_down(end, places, note)
        return Teardown.destroyed(run_id, f"{provider} lists its {volume.words} no more.", resources=(end,))
    if gone is Answer.NO:
        command = f"rentune down --volumes {run_id}" if names_run else None
        still = f"{provider} still lists its {volume.words}{trouble}."
        return Teardown.orphaned(run_id, still, resources=(end,), command=command)
    return Teardown.unknown(run_id, f"{provider} could not be asked for it: {why}{trouble}.", resources=(end,))


def _is_gone(volume: Resource, kept: tuple[Resource, ...]) -> Answer:
    return Answer.NO if volume.id in {each.id for each in kept} else Answer.YES


def _note_down(end: ResourceEnd, places: Places, note: Note) -> None:
    """The run's verdict once more, with the end of this disk: `ls` tells it no more, wherever the run's book is read."""
    state = Ledger(places.ledger).runs().get(end.resource.run_id or "")
    if state is None or state.teardown is None:
        return
    write_end(state, with_ends(state.teardown, (end,), state.teardown), at_s=end.at_s, places=places, note=note)
