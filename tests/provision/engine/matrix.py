"""The kill matrix: who is struck, by which signal, when in a create or a destroy; and what a fresh process sees then."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

from provision.clouds.engine.stack import State
from provision.clouds.engine.undoing import Undoing
from provision.clouds.inventory import Notes
from provision.clouds.provisioner import PulumiProvisioner
from provision.home.places import RunFolder
from provision.seam import Claim, InCharge
from tests.doubles.bench import Bench
from tests.doubles.faults import Moment
from tests.provision.engine.killing import PATIENCE_S, called, controllers, the_engine, wait_until

Target = Literal["Python", "engine", "both"]
Deed = Literal["create", "destroy"]

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
TARGETS: Final[tuple[Target, ...]] = ("Python", "engine", "both")
MOMENTS: Final[tuple[tuple[Deed, Moment], ...]] = (
    ("create", "before"),
    ("create", "after"),
    ("destroy", "before"),
    ("destroy", "after"),
)
ASKED: Final = {"create": ("up", "create"), "destroy": ("destroy", "delete")}  # of the controller; of the plugin
IN_THE_CALL: Final = "sleep 2"  # longer than a signal takes to arrive; the call goes on where nobody ends it


@dataclass(frozen=True)
class Strike:
    """One cell. `moment` is before or after the cloud's yes to the call for the instance."""

    number: signal.Signals
    target: Target
    deed: Deed
    moment: Moment

    def __str__(self) -> str:
        return f"{self.number.name} to {self.target}, {self.moment} the {self.deed}"


MATRIX: Final = tuple(
    Strike(number, target, deed, moment) for number, target, (deed, moment) in product(SIGNALS, TARGETS, MOMENTS)
)
# Each signal at each target once, and each moment three times: a quarter of the cells, of which no two are alike.
QUARTER: Final = tuple(
    Strike(number, target, *MOMENTS[(row + column) % len(MOMENTS)])
    for row, number in enumerate(SIGNALS)
    for column, target in enumerate(TARGETS)
)


@dataclass(frozen=True)
class Observed(Undoing):
    """Looked at once it has destroyed."""

    look: Callable[[], None]

    def destroy(self, notes: Notes, in_charge: InCharge) -> None:
        super().destroy(notes, in_charge)
        self.look()


class Looking(PulumiProvisioner):
    """Keeps what the state said at the end of a destroy: a clean one takes its files away."""

    left: State | None = None
    locks: tuple[str, ...] = ()

    def undoing(self, claim: Claim, regions: tuple[str, ...]) -> Undoing:
        by_state = super().undoing(claim, regions)

        def look() -> None:
            engine = RunFolder(claim.folder).engine
            if by_state.has_state:
                self.left = self._stack(claim).state()
                self.locks = tuple(str(lock) for lock in (engine / "state").rglob("locks/**/*.json"))

        return Observed(**vars(by_state), look=look)


def broken_by(strike: Strike, bench: Bench) -> list[str]:
    """Strike; then end the run as a process that knows nothing of it. What does not hold afterwards, in words."""
    deed, verb = ASKED[strike.deed]
    if strike.deed == "destroy":
        bench.provisioner().up(bench.row.offer, bench.launch)
    bench.faults.plant(verb, strike.moment, "Instance", IN_THE_CALL, once=True)
    with controllers(bench) as start:
        process = start(deed)
        wait_until(lambda: called(bench, f"{strike.moment} {verb} Instance"))
        strikes: dict[str, Callable[[int], object]] = {
            "engine": the_engine(bench).send_signal,
            "Python": process.send_signal,
        }
        for struck in (strike.target,) if strike.target in strikes else strikes:
            strikes[struck](strike.number)
        process.wait(PATIENCE_S)
        return _left_over(strike, bench)


def _left_over(strike: Strike, bench: Bench) -> list[str]:
    """A create that was cut off before the cloud heard of it stays pending until the tag has shown nothing, twice."""
    unheard = (strike.deed, strike.moment) == ("create", "before")
    provisioner = bench.provisioner(Looking)
    assert isinstance(provisioner, Looking)
    teardown = provisioner.destroy(bench.launch)
    listed, left = bench.listed(), provisioner.left
    holds = {
        f"the verdict is {teardown.verdict}: {teardown.message}": teardown.verdict == "destroyed",
        f"the cloud lists {listed.resources}": listed.nothing,
        f"the state holds {left}": left is None or left.empty or (unheard and not left.resources),
        f"a lock stays: {provisioner.locks}": not provisioner.locks,
        "the engine's files stay": not (RunFolder(bench.launch.folder).engine / "state").exists(),
    }
    return [words for words, held in holds.items() if not held]
