"""The disks that their users have kept: found by tag in the accounts within reach, and ended when that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from provision.account.ledger import Ledger
from provision.account.lines import UNREADABLE
from provision.account.runs import RunState
from provision.charge.ends.afterwards import with_ends, write_end
from provision.charge.ends.handover import alone_with
from provision.charge.ownerless.orphans import Orphans
from provision.clouds.kept import end_kept
from provision.errors import Held, Refused
from provision.home.places import Places
from provision.prepare.papers import read_launch
from provision.seam import Resource, Teardown
from provision.walk.edges import Edges

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


def end_volume(provider: str, volume: Resource, edges: Edges) -> Teardown:
    """End one, as `end_kept` does. The ledger is told, where it has the run, and the store where its state lies.

    Raises Held where a run goes on with it, or a machine has it: that is left alone.
    """
    with _unused(volume, edges):
        teardown = end_kept(provider, volume, environment=edges.environment, clocks=edges.clocks)
        if teardown.clean:
            _note_down(teardown, edges)
        return teardown


@contextmanager
def _unused(volume: Resource, edges: Edges) -> Iterator[None]:
    """Hold the lock of the run that made it, and look once more, since the list is older: between two attempts no machine has
    it, and the next one will.
    """
    places, run_id = edges.places, volume.run_id
    ledger = Ledger(places.ledger)
    user = _user(volume, ledger, places)
    if user is not None:
        raise Held(f"Run {user.run_id} goes on with {volume.words} ({volume.name}).", hint=f"rentune down {user.run_id}")
    if volume.in_use:
        raise Held(f"A machine has {volume.words} ({volume.name}).", hint="rentune ls --orphans tells whose")
    if not run_id or not volume.names_run:
        yield
        return
    with alone_with(run_id, places.run(run_id), ledger, edges.display.note, edges.clocks):
        yield


def _user(volume: Resource, ledger: Ledger, places: Places) -> RunState | None:
    """A run of this home that has not ended and has made it, or asks for one of its name."""
    going_on = (state for state in ledger.runs().values() if not state.over)
    return next((each for each in going_on if volume.run_id == each.run_id or _asks_for(volume, each, places)), None)


def _asks_for(volume: Resource, state: RunState, places: Places) -> bool:
    with suppress(OSError, *UNREADABLE):
        return volume.name is not None and read_launch(places.run(state.run_id)).volume_name == volume.name
    return False


def _note_down(ended: Teardown, edges: Edges) -> None:
    """The run's verdict once more, with the end of this disk: `ls` tells it no more, wherever the run's book is read."""
    state = Ledger(edges.places.ledger).runs().get(ended.run_id)
    if state is None or state.teardown is None:
        return
    teardown = with_ends(state.teardown, ended.resources, state.teardown)
    write_end(state, teardown, at_s=edges.clocks.wall(), places=edges.places, note=edges.display.note)
