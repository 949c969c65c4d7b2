"""Two homes and a store that both can reach."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.state.link import read_link
from provision.state.mirror import MirroredLedger, Pace, Seat
from provision.state.shared import PASSPHRASE, Place, this_holder
from provision.store.bucket import Bucket
from tests.doubles.displays import Quiet
from tests.doubles.services.bucket import Storage

SECRET = "only the user knows this"


@dataclasses.dataclass
class Team:
    """Two machines' homes, and a place in object storage that both can reach."""

    url: str
    storage: Storage
    here: Places
    there: Places
    run_id: str = ""

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.url)

    def ledger(
        self,
        places: Places,
        display: Quiet | None = None,
        *,
        term_s: float = 90.0,
        beat_s: float = 60.0,
        line_s: float = 10.0,
        sleep: Callable[[float], None] = lambda _: None,
    ) -> MirroredLedger:
        """As `ledger_of` makes it, with times of the test's own."""
        link = read_link(places.run(self.run_id))
        assert link is not None
        holder = msgspec.structs.replace(this_holder(places), machine=places.home.name, term_s=term_s)
        note = (display or Quiet()).note
        pace = Pace(beat_s=beat_s, line_s=line_s, sleep=sleep)
        return MirroredLedger(places, Seat(self.run_id, link, holder), note=note, pace=pace)


@pytest.fixture
def team(stored: Storage, places: Places, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    """A run that was opened here, with its state in the store."""
    monkeypatch.setenv(PASSPHRASE, SECRET)
    made = Team(
        url=f"{stored.place}/{tmp_path.name}",
        storage=stored,
        here=places,
        there=msgspec.structs.replace(places, home=tmp_path / "another-home"),
    )
    place = Place(made.url)
    made.run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=Ledger(places.ledger), clock=time.time)
    place.publish(made.run_id, places)
    return made
