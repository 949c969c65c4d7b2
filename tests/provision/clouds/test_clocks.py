"""How far this machine's clock is off, by the answers of each cloud; and that nothing is bought by a clock that is."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path

import msgspec
import pytest

from provision.clouds.engine.here import EngineHere
from provision.clouds.engine.stack import State
from provision.clouds.inventory import Inventory
from provision.clouds.patience import Patience
from provision.clouds.programs import CLOUDS, load_cloud
from provision.clouds.programs.clocks import Heard
from provision.clouds.provisioner import PulumiProvisioner
from provision.commands.doctor import _clock_notes
from provision.doctor import CloudHere
from provision.errors import Refused
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.prepare.ahead import LookAhead
from provision.seam import Answer, Owned
from tests.doubles.clouds import CLOUDS as DOUBLES
from tests.doubles.emulator import started
from tests.provision.clouds.test_cloud import Sky

HOUR_S = 3600.0


@pytest.mark.parametrize("name", CLOUDS)
def test_each_cloud_tells_the_time_with_what_it_lists(name: str) -> None:
    """Its emulator runs on this machine, so the two agree but for the seconds of an answer; nobody is asked for it alone."""
    with started(name) as at:
        found = load_cloud(name).owned(DOUBLES[name].offer.region, None, at.environment)
    assert found.complete is Answer.YES, found.message
    assert found.ahead_s == pytest.approx(0.0, abs=10.0)


def test_of_several_answers_the_one_that_took_the_least_time_tells_best() -> None:
    """An answer that was long on its way looks like a clock that is ahead."""
    heard = Heard()
    assert heard.ahead_s is None
    for date in (None, "", "yesterday", "Thu, 99 Foo 2026 00:00:00 GMT"):
        heard.note(date, now_s=0.0)
    assert heard.ahead_s is None
    for took_s in (30.0, 2.0, 9.0):
        heard.note(formatdate(HOUR_S, usegmt=True), now_s=2 * HOUR_S + took_s)
    assert heard.ahead_s == HOUR_S + 2.0


def test_of_several_regions_the_one_that_answered_soonest_tells_best(tmp_path: Path) -> None:
    """They share one clock: what they seem to differ by is how long each took. One that tells none is no voice."""
    told: dict[str, float | None] = {"here": HOUR_S + 40.0, "there": HOUR_S + 3.0, "yonder": None}

    class Slow(Sky):
        def owned(self, region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
            return Owned(resources=(), complete=Answer.YES, ahead_s=told[region])

    sky = Slow()
    inventory = Inventory(sky, {}, Patience(clocks=Clocks(wall=lambda: 3 * HOUR_S), grace_s=0.0, teardown_s=0.0))
    assert inventory.listed(tuple(told), None).ahead_s == HOUR_S + 3.0
    assert inventory.listed(("yonder",), None).ahead_s is None
    assert inventory.told_s(inventory.listed(tuple(told), None)) == 2 * HOUR_S - 3.0


@pytest.mark.parametrize("late_s", [-1.5, 0.0, 0.9, 1.9])
def test_clocks_that_agree_as_far_as_whole_seconds_tell_move_no_deadline(late_s: float) -> None:
    """A header's second is over by up to one when it comes: a box ended itself before the deadline that was agreed to."""
    heard = Heard()
    heard.note(formatdate(HOUR_S, usegmt=True), now_s=HOUR_S + late_s)
    assert heard.ahead_s == 0.0


class Early(Sky):
    """A cloud whose clock is so far behind this machine's."""

    ahead_s: float | None = None

    def owned(self, region: str, tag: str | None, environment: Mapping[str, str]) -> Owned:
        return Owned(resources=(), complete=Answer.YES, ahead_s=self.ahead_s)


@pytest.mark.parametrize(
    ("ahead_s", "told"), [(2 * HOUR_S, "2 h 00 min ahead of"), (-2 * HOUR_S, "2 h 00 min behind"), (60.0, ""), (None, "")]
)
def test_by_a_clock_that_is_off_nothing_is_bought(ahead_s: float | None, told: str, tmp_path: Path) -> None:
    """The box's own deadline would be as far off: past what the budget pays, or before the training has begun."""
    sky = Early()
    sky.ahead_s = ahead_s
    places = Places(home=tmp_path, cache=tmp_path)
    provisioner = PulumiProvisioner("cloudy", sky, EngineHere(places, None, {}))
    if not told:
        assert provisioner._refuse_leftovers(State(), "here", "r1") == (ahead_s or 0.0), "by so much the order is moved"
        return
    with pytest.raises(Refused, match=f"clock is {told} the providers'. Nothing is bought.") as refused:
        provisioner._refuse_leftovers(State(), "here", "r1")
    assert "timedatectl" in str(refused.value.hint)


def test_run_names_such_a_clock_before_anybody_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cloud is asked once, however many offers of it are looked at; one that does not answer stands in nobody's way."""
    asked: list[float | None] = [0.0, None, -HOUR_S]

    def owned(*_: object) -> Owned:
        return Owned(resources=(), complete=Answer.YES, ahead_s=asked.pop(0))

    monkeypatch.setattr(load_cloud("hetzner"), "owned", owned)
    environment, offer = DOUBLES["hetzner"].variables("http://127.0.0.1:1"), DOUBLES["hetzner"].offer
    for _ in range(2):
        look = LookAhead(environment, {})
        assert look(offer).why_not is look(offer).why_not is None
    with pytest.raises(Refused, match=r"clock is 1 h 00 min behind the providers'\. Nothing is rented by it\."):
        LookAhead(environment, {})(offer)


def test_doctor_names_each_cloud_whose_clock_differs() -> None:
    """And leaves out those that agree, or were not asked."""
    asked = {name: CloudHere(credentials="", gpu_quota="", smallest_offer="") for name in ("aws", "gcp", "runpod")}
    asked["aws"] = msgspec.structs.replace(asked["aws"], clock_ahead_s=1.0)
    asked["gcp"] = msgspec.structs.replace(asked["gcp"], clock_ahead_s=-HOUR_S)
    [note] = _clock_notes(asked)
    assert note.startswith("This machine's clock is 1 h 00 min behind the providers'. So says gcp:")
