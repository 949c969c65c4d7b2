"""Reading back everything that ends a run's box without its owner: at its provider, on the box, at home.

Nothing is changed by it, and nobody is asked twice. What could not be seen is unknown, and nothing follows from that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from provision.aboard.layers import read_layers, unseen
from provision.aboard.lease import unwatched_layer
from provision.account.ledger import Ledger
from provision.account.runs import RunState, Standing
from provision.charge.controller import is_alive, is_locked, lives_on
from provision.charge.finding import find_run
from provision.clouds.boot.bootstrap import UPTIME_MARGIN_S
from provision.clouds.programs.order import TIMER_AFTER_S
from provision.errors import RentuneError
from provision.home.places import Places, RunFolder
from provision.prepare.papers import read_claim
from provision.providers import ends_itself
from provision.seam import LEASE, Answer, Claim, Layer, Owned, Provisioner, clock_trouble, seen
from provision.ssh import Shell, Waits
from provision.ssh.keys import known_key
from provision.walk.driven import Connect
from provision.walk.edges import MakeProvisioner, provisioners
from provision.walk.job.rescue import REACH_S

# Derived: the last to strike is a limit by uptime where a cloud's own limit comes first; with a minute for clocks that differ.
LATE_S: Final = UPTIME_MARGIN_S + max(TIMER_AFTER_S.values()) + 60.0
HERE: Final = (Standing.ASKED, Standing.UP)  # in these a box may be there


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """What stands between a run's box and a bill without end. No layers where no box is there."""

    run_id: str
    provider: str
    box: Answer  # whether its provider lists one
    message: str  # of the box, one sentence
    deadline_at_s: float  # by the ledger
    layers: tuple[Layer, ...] = ()

    @property
    def whole(self) -> Answer:
        """Whether all of it is there; unknown where nothing is missing, and something could not be seen."""
        answers = {self.box} - {Answer.NO} | {layer.there for layer in self.layers}
        return next((answer for answer in (Answer.NO, Answer.UNKNOWN) if answer in answers), Answer.YES)


def examine_layers(
    name: str,
    *,
    places: Places,
    environment: Mapping[str, str],
    make: MakeProvisioner | None = None,
    connect: Connect = Shell.connect,
    clock: Callable[[], float],
) -> Layers:
    """Look at the run of this id, or part of one. Raises BadInput for a run that is not known, MissingPart where its provider
    can't be asked from here.
    """
    ledger = Ledger(places.ledger)
    state = find_run(ledger, name)
    folder = places.run(state.run_id)
    of_run = Layers(
        run_id=state.run_id,
        provider=state.provider,
        box=Answer.NO,
        message="Nothing is rented for it now.",
        deadline_at_s=state.deadline_at_s,
    )
    if state.standing not in HERE:
        return of_run
    claim = read_claim(folder, state)
    provisioner = (make or provisioners(places, environment))(claim)
    owned = seen(lambda: provisioner.owned(claim))
    if owned.nothing or (state.box is not None and owned.lacks(state.box)):
        message = f"{provisioner.name} lists no box of it any more: `rentune down {state.run_id}` closes its books."
        return msgspec.structs.replace(of_run, message=message)
    layers = (
        *_with_lease((*_of_provider(provisioner, claim), *_of_box(provisioner, state, folder, connect, clock())), state),
        *_at_home(state, folder),
    )
    return msgspec.structs.replace(
        of_run,
        box=Answer.YES if owned.resources else Answer.UNKNOWN,
        message=_box_words(provisioner.name, owned),
        layers=tuple(_in_time(layer, state.deadline_at_s) for layer in layers),
    )


def _box_words(provider: str, owned: Owned) -> str:
    if owned.complete is not Answer.YES:
        return f"What {provider} has of it could not be seen: {owned.message}"
    bills = [each.words for each in owned.resources if each.bills]
    said = f"{provider} lists {', '.join(bills) or 'what bills nothing'}."
    return " ".join(filter(None, (said, clock_trouble(owned.ahead_s))))


def _of_provider(provisioner: Provisioner, claim: Claim) -> tuple[Layer, ...]:
    try:
        return provisioner.layers(claim)
    except Exception as error:  # noqa: BLE001 - whatever it was, a layer that nobody saw is unknown
        says = f"it could not be asked ({type(error).__name__}: {error})"
        return (Layer(place="provider", name="its own limit", there=Answer.UNKNOWN, says=says),)


def _of_box(provisioner: Provisioner, state: RunState, folder: RunFolder, connect: Connect, now_s: float) -> tuple[Layer, ...]:
    """What the box itself says, where its provisioner does not know all of it."""
    if not provisioner.look:
        return ()
    key = known_key(folder.keys)
    if state.box is None or key is None:
        return (unseen("It is not known here how to reach the box."),)
    try:
        with connect(state.box, key=key, deadline_s=REACH_S, waits=Waits(patience_s=REACH_S)) as shell:
            return read_layers(shell, provisioner.look, now_s=now_s)
    except (RentuneError, OSError) as error:
        return (unseen(f"The box could not be asked: {error}"),)


def _with_lease(layers: tuple[Layer, ...], state: RunState) -> tuple[Layer, ...]:
    """And the lease that the run was promised, where its box was seen and told of none."""
    is_unseen = any(layer.place == "box" and layer.there is Answer.UNKNOWN for layer in layers)
    is_told = is_unseen or any(layer.name == LEASE for layer in layers)
    return layers if state.opened.lease_s is None or is_told else (*layers, unwatched_layer())


def _at_home(state: RunState, folder: RunFolder) -> tuple[Layer, ...]:
    """Who follows the run; where the provider bills what is off, also who deletes it."""
    return (_controller(state, folder), *(() if ends_itself(state.provider) else (_sentinel(folder),)))


def _controller(state: RunState, folder: RunFolder) -> Layer:
    controlled = state.controlled
    if controlled is not None and (is_locked(folder.lock) or lives_on(state)):
        kind = "supervisor" if controlled.detached else "controller"
        where = "" if is_alive(controlled) else " of another computer, or one that can't be seen from here"
        return Layer(place="home", name="controller", there=Answer.YES, says=f"{kind}, process {controlled.pid}{where}")
    says = f"nobody follows it; to go on: rentune resume {state.run_id}, to end it: rentune down {state.run_id}"
    return Layer(place="home", name="controller", there=Answer.NO, says=says)


def _sentinel(folder: RunFolder) -> Layer:
    there = is_locked(folder.sentinel)
    says = "deletes the machine after its deadline" if there else "nobody deletes the machine that has switched itself off"
    return Layer(place="home", name="sentinel", there=Answer.YES if there else Answer.NO, says=says)


def _in_time(layer: Layer, deadline_at_s: float) -> Layer:
    """One that strikes long after the deadline ends nothing at it, unless it is renewed: then that is said."""
    if layer.is_renewed and layer.strikes_at_s is not None and layer.strikes_at_s > deadline_at_s:
        return msgspec.structs.replace(layer, says=f"{layer.says}; the deadline comes first", strikes_at_s=None)
    if layer.is_renewed or layer.strikes_at_s is None or layer.strikes_at_s <= deadline_at_s + LATE_S:
        return layer
    return msgspec.structs.replace(layer, there=Answer.NO, says=f"{layer.says}, but long after the run's deadline")
