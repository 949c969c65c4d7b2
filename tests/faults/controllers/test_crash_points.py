"""kill -9 between a deed and the ledger's line about it, at every such moment: a fresh `down --orphans` leaves nothing behind.

Real processes on the local box, each of which dies where `RENTUNE_CRASH_AT` says. None of them comes as far as a trainer.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

import pytest

from planner.saved import write_plan
from provision.account.lines import AnyLine, Attempted, Billed, Created, Ended, Opened
from provision.cli import call
from provision.errors import Exit
from provision.walk.crash import MOMENTS, VARIABLE
from tests.faults.rehearsal import PATIENCE_S, Rehearsal
from tests.provision.plans import as_its_files_are

pytestmark = pytest.mark.box

RENTUNE: Final = (sys.executable, "-c", "import sys; from provision.cli import main; sys.exit(main())")
DEEDS: Final = (Opened, Attempted, Created, Ended, Billed)


@dataclass(frozen=True)
class Left:
    """What a death at a moment leaves: the ledger's last line about a deed, and whether a box stands."""

    last: type[AnyLine] | None
    stands: bool


RUN: Final = {"before-open": Left(None, stands=False), "after-open": Left(Opened, stands=False)}
RESUME: Final = {
    "after-intent": Left(Attempted, stands=False),
    "after-create": Left(Attempted, stands=True),
    "before-boot": Left(Created, stands=True),
}
DOWN: Final = {
    "after-destroy": Left(Created, stands=False),
    "before-confirm": Left(Ended, stands=False),
    "before-bill": Left(Ended, stands=False),
    "after-bill": Left(Billed, stands=False),
}


def killed(rehearsal: Rehearsal, moment: str, *words: str) -> None:
    """Type a command that dies at this moment."""
    environment = {**os.environ, VARIABLE: moment}
    done = subprocess.run(
        [*RENTUNE, *words],
        env=environment,
        cwd=rehearsal.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def left(rehearsal: Rehearsal) -> Left:
    """What there is, by the ledger and by the provider's own list."""
    deeds = [type(line) for line in rehearsal.ledger.lines() if isinstance(line, DEEDS)]
    return Left(deeds[-1] if deeds else None, stands=bool(rehearsal.box.owned().resources))


def require_nothing_left(rehearsal: Rehearsal) -> None:
    """After one command of somebody who knows no run by name: no box, no orphan, every run that was opened is over."""
    assert call(["down", "--orphans"]) == Exit.OK
    assert rehearsal.box.owned().nothing
    assert call(["ls", "--orphans"]) == Exit.OK
    assert all(state.over for state in rehearsal.ledger.runs().values())


def test_every_moment_is_died_at() -> None:
    assert {*RUN, *RESUME, *DOWN} == set(MOMENTS)


@pytest.mark.parametrize("moment", RUN)
@pytest.mark.fault("F1", tier="code")
@pytest.mark.fault("F2", tier="box")
def test_a_run_that_dies_as_it_is_opened(moment: str, rehearsal: Rehearsal) -> None:
    plan = rehearsal.folder / "plan.json"
    plan.write_text(write_plan(as_its_files_are(rehearsal.plan())))
    killed(rehearsal, moment, "run", str(plan), "--yes")
    assert left(rehearsal) == RUN[moment]
    require_nothing_left(rehearsal)


@pytest.mark.parametrize("moment", RESUME)
@pytest.mark.fault("F2", tier="box")
def test_a_controller_that_dies_as_it_rents(moment: str, rehearsal: Rehearsal) -> None:
    killed(rehearsal, moment, "resume", rehearsal.open())
    assert left(rehearsal) == RESUME[moment]
    require_nothing_left(rehearsal)


@pytest.mark.parametrize("moment", DOWN)
@pytest.mark.fault("F25", tier="box")
def test_a_down_that_dies_as_it_ends_a_box(moment: str, rehearsal: Rehearsal) -> None:
    run_id = rehearsal.open()
    killed(rehearsal, "before-boot", "resume", run_id)
    killed(rehearsal, moment, "down", run_id)
    assert left(rehearsal) == DOWN[moment]
    require_nothing_left(rehearsal)
