"""Before the first dollar: what is on disk, until when a run may live, and what is refused."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

import pytest

from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.runs import Standing
from provision.charge.ends.ending import end
from provision.direct.address import address_of
from provision.direct.server import current_user
from provision.errors import BadInput, MissingPart
from provision.home.places import Places, read_places
from provision.parts import clouds_in_reach
from provision.prepare.inputs import find_base, hub_secrets
from provision.prepare.opening import new_run_id, open_run
from provision.prepare.papers import read_launch
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.doubles.virtual.lives import Killed, Life, MortalLedger


@pytest.mark.fault("F2", tier="code")
def test_the_intent_is_on_disk_before_anything_is_rented(run_id: str, places: Places, ledger: Ledger, plan: Plan) -> None:
    """Price, billing rule, deadline and the key are there; the folder is nobody else's."""
    state = ledger.runs()[run_id]
    opened = state.opened
    assert (opened.usd_per_hour, opened.billing, opened.provider) == (plan.offer.usd_per_hour, plan.billing, "local")
    folder = places.run(run_id)
    assert folder.root.stat().st_mode & 0o777 == 0o700
    launch = read_launch(folder)
    assert launch.public_key.startswith("ssh-ed25519 ")
    assert (launch.folder, launch.deadline_at_s) == (folder.root, opened.deadline_at_s)


@pytest.mark.fault("F1", tier="code")
def test_a_kill_before_the_intent_is_on_disk_leaves_no_run(plan: Plan, places: Places, ledger: Ledger) -> None:
    """No line, so nothing was asked for and nothing can bill; the next run is opened as if there had been none."""
    base = find_base(plan.request.model)
    with pytest.raises(Killed):
        open_run(plan, base, places=places, ledger=MortalLedger(places.ledger, Life(killed_at=1)), clock=time.time)
    assert ledger.runs() == {}
    assert open_run(plan, base, places=places, ledger=ledger, clock=time.time) in ledger.runs()


@pytest.mark.fault("F2", tier="code")
def test_a_kill_right_after_the_intent_leaves_a_run_that_rented_nothing(plan: Plan, places: Places, ledger: Ledger) -> None:
    """The next command closes it."""
    mortal = MortalLedger(places.ledger, Life(killed_at=2))
    with pytest.raises(Killed):
        open_run(plan, find_base(plan.request.model), places=places, ledger=mortal, clock=time.time)
    [state] = ledger.runs().values()
    assert state.standing is Standing.OPENED
    assert end(state.run_id, Edges(places, Quiet())).clean
    assert ledger.runs()[state.run_id].standing is Standing.OVER


def test_a_state_folder_that_cannot_be_written_is_bad_input(plan: Plan, tmp_path: Path) -> None:
    """Told before anything is rented, with the variable that names another."""
    (tmp_path / "file").touch()
    places = Places(home=tmp_path / "file", cache=tmp_path)
    with pytest.raises(BadInput, match="can't be written to: Not a directory") as refused:
        open_run(plan, find_base(plan.request.model), places=places, ledger=Ledger(places.ledger), clock=time.time)
    assert str(refused.value.hint).startswith("RENTUNE_HOME=")


@pytest.mark.parametrize("trouble", [KeyError("uid"), KeyboardInterrupt(), OSError("no room"), ValueError("odd")])
def test_whatever_goes_wrong_leaves_no_half_of_a_run(
    trouble: BaseException, plan: Plan, places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with a key that is in no ledger would be found by nobody."""

    def fail(*_: object, **__: object) -> None:
        raise trouble

    monkeypatch.setattr("provision.prepare.opening.launch_of", fail)
    with pytest.raises((type(trouble), BadInput)):
        open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    assert list((places.home / "runs").iterdir()) == []
    assert ledger.runs() == {}


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> int:
    """A container that was started as a user which its image lacks: the user's number."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    return os.geteuid()


def test_a_user_whom_the_system_does_not_know_is_called_by_the_number(
    nameless: int, plan: Plan, places: Places, ledger: Ledger
) -> None:
    """The owner is on every tag; a number tells whose it is as well."""
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    assert ledger.runs()[run_id].opened.owner == f"uid-{nameless}"


def test_what_needs_a_name_or_a_home_says_so_in_one_sentence(nameless: int) -> None:
    """With what to type: a local box's SSH server knows no numbers, and neither does a host."""
    with pytest.raises(MissingPart, match=f"no name for user {nameless}"):
        current_user()
    with pytest.raises(BadInput, match="As whom to log in") as refused:
        address_of("gpu-box")
    assert refused.value.hint == "USER@gpu-box"
    assert address_of("me@gpu-box").user == "me"
    with pytest.raises(BadInput, match="no home folder here"):
        read_places({})
    moved = {"RENTUNE_HOME": "/a", "RENTUNE_CACHE": "/b"}
    assert read_places(moved).home == Path("/a")
    assert clouds_in_reach({}) == ()
    assert hub_secrets(find_base("gpt2"), {}) == {}


def test_run_ids_sort_by_time_and_never_meet() -> None:
    """They stand in file names, tags and consoles."""
    ids = [new_run_id(float(at_s)) for at_s in range(0, 100_000, 1000)]
    assert ids == sorted(ids)
    assert len({new_run_id(0.0) for _ in range(50)}) > 40
