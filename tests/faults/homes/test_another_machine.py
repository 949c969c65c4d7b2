"""A controller dies by kill -9, and its run is taken up from an empty home: on the real local box, through object storage."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import msgspec
import pytest

from catalogs.hardware import Offer
from provision.aboard.checkpoints import Fetched, fetch_newest
from provision.aboard.marks import LEASE_ENDED_FILE
from provision.account.ledger import Ledger
from provision.account.lines import Billed
from provision.charge.driving import drive
from provision.cli import call
from provision.errors import ControlLost, Exit, Reason
from provision.home.checkpoints import steps_at_home
from provision.home.places import Places, read_places
from provision.providers import boxes_folder
from provision.seam import Box, Launch
from provision.ssh import Shell
from provision.state.book import book_name, read_book, take
from provision.state.results import FINISHED
from provision.state.shared import PASSPHRASE, Place, bring, this_holder
from provision.store.bucket import Bucket
from provision.walk.edges import Edges
from remote.contract import EXIT_CODES, EndReason
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.doubles.services.bucket import Storage
from tests.faults.leases.test_leased import leased
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import FINISH, LEARN, ScriptedBox
from tests.faults.test_elsewhere import boots_at_once

pytestmark = [pytest.mark.box, pytest.mark.torch]


@pytest.fixture
def url(stored: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(PASSPHRASE, "only the user knows this")
    return f"{stored.place}/{tmp_path.name}"


def pass_the_term(url: str, run_id: str) -> None:
    """As if the dead controller had been silent for its term: nobody waits 90 s in a test."""
    bucket = Bucket(url)
    book, kept = read_book(bucket, book_name(run_id))
    assert book.holder is not None, "it died in charge"
    silent = msgspec.structs.replace(book, holder=msgspec.structs.replace(book.holder, term_s=0.0))
    assert bucket.put_over(book_name(run_id), msgspec.json.encode(silent), kept.version)
    time.sleep(2.1)  # the store tells whole seconds


def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setenv("RENTUNE_HOME", str(home))
    return read_places()


@pytest.mark.parametrize("point", ["train", "fetch:after"])
@pytest.mark.fault("F14", tier="box")
@pytest.mark.fault("F23", tier="box")
def test_another_home_brings_a_killed_run_to_its_receipt(
    rehearsal: Rehearsal,
    url: str,
    point: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused while the first may live; then followed, brought home, gone, billed once, and from no home trained again."""
    place = Place(url)
    run_id = rehearsal.open()
    place.publish(run_id, rehearsal.places)
    rehearsal.kill_controller_at(run_id, point)

    other = in_home(tmp_path / "other-home", monkeypatch)
    assert call(["resume", run_id, "--state", url]) == Exit.REFUSED
    assert "is controlled from" in capsys.readouterr().err
    pass_the_term(url, run_id)
    assert call(["resume", run_id[-4:], "--state", url]) == Exit.OK, capsys.readouterr()
    assert rehearsal.is_gone(run_id)
    assert (other.run(run_id).adapter / "adapter_model.safetensors").exists()
    assert other.run(run_id).receipt.exists()
    assert not other.run(run_id).keys.exists()
    assert [line.exit_code for line in Ledger(other.ledger).lines() if isinstance(line, Billed)] == [Exit.OK]
    assert list(Bucket(url).names(f"runs/{run_id}/checkpoints")) == [], "the result is at home"
    assert f"runs/{run_id}/adapter/{FINISHED}" in set(Bucket(url).names(f"runs/{run_id}/adapter"))

    for home in (rehearsal.places.home, tmp_path / "third-home"):
        there = in_home(home, monkeypatch)
        capsys.readouterr()
        assert call(["resume", run_id, "--state", url]) == Exit.REFUSED
        assert "is over" in capsys.readouterr().err
        assert there.run(run_id).receipt.exists()
        assert (there.run(run_id).adapter / "adapter_model.safetensors").exists()


@pytest.mark.fault("F14", tier="box")
@pytest.mark.parametrize("trains", [False, True])
def test_a_machine_that_shuts_down_keeps_no_other_from_its_run(rehearsal: Rehearsal, url: str, trains: bool) -> None:
    """The supervisor's last act: a laptop that is shut may be so for days, and its run is another's at once."""
    run_id = rehearsal.open(steps=300)
    Place(url).publish(run_id, rehearsal.places)
    supervisor = rehearsal.start_controller(run_id)
    wait_until(lambda: rehearsal.num_steps(run_id) > 1 if trains else bool(rehearsal.state(run_id).rentals))
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(30) == -signal.SIGTERM
    assert read_book(Bucket(url), book_name(run_id))[0].holder is None
    call(["down", run_id])
    assert rehearsal.is_gone(run_id)


WAITS = f"touch begun; while [ ! -e $HERE/go ]; do sleep 0.1; done; {FINISH}"


@pytest.mark.fault("F15", tier="box")
def test_a_controller_that_was_overtaken_leaves_box_and_books_alone(
    rehearsal: Rehearsal, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mid-training another machine takes its run; when the trainer is done the first one sees it, and ends nothing."""
    place, displayed = Place(url), Quiet()
    run_id = rehearsal.open()
    place.publish(run_id, rehearsal.places)

    def overtake() -> None:
        wait_until((boxes_folder(rehearsal.places) / run_id / "job/begun").exists)
        pass_the_term(url, run_id)
        other = in_home(tmp_path / "other-home", monkeypatch)
        take(Bucket(url), run_id, this_holder(other))
        (rehearsal.folder / "stack/go").touch()

    with Proxy(target_port=0) as line:
        box = ScriptedBox(rehearsal, line, WAITS)
        threading.Thread(target=overtake, daemon=True).start()
        with pytest.raises(ControlLost, match="was taken over from"):
            rehearsal.drive(run_id, displayed, make=lambda _claim: box)
    state = rehearsal.state(run_id)
    assert not rehearsal.is_gone(run_id)
    assert (state.teardown, state.billed) == (None, None)
    assert not rehearsal.places.run(run_id).receipt.exists()


class OneAtATime(ScriptedBox):
    """Its files are its own, as a rented one's; it is asked for while none stands, or that is noted."""

    num_ordered, stood = 0, False

    def up(self, offer: Offer, launch: Launch) -> Box:
        self.num_ordered += 1
        self.stood |= any(each.bills for each in super().owned().resources)
        return msgspec.structs.replace(super().up(offer, launch), shares_files=False)


SAVES_AND_LEAVES = f"{LEARN}; touch ../{LEASE_ENDED_FILE}; exit {EXIT_CODES[EndReason.INTERRUPTED]}"
GOES_ON = f"if [ -e checkpoints/step-00000004/state.pt ]; then {FINISH}\nelse {SAVES_AND_LEAVES}\nfi"


@pytest.mark.fault("F15", tier="box")
def test_two_machines_that_come_back_at_a_leases_end_end_one_box_and_rent_one(
    rehearsal: Rehearsal, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one fetches what the box has saved as the other takes the run: it ends nothing, and rents nothing. The other fetches
    it, too, ends the box and goes on with the next.
    """
    run_id = rehearsal.open(change=lambda plan: leased(boots_at_once(plan), lease_s=600.0))
    Place(url).publish(run_id, rehearsal.places)
    other, first = tmp_path / "other-home", list[int]()

    def fetch(shell: Shell, box: Box, home: Path) -> Fetched | None:
        if not first:
            first.append(1)
            pass_the_term(url, run_id)
            there = in_home(other, monkeypatch)
            take(Bucket(url), run_id, this_holder(there))
        return fetch_newest(shell, box, home)

    monkeypatch.setattr("provision.walk.job.carrying.fetch_newest", fetch)
    with Proxy(target_port=0) as line:
        box = OneAtATime(rehearsal, line, GOES_ON)
        with pytest.raises(ControlLost, match="was taken over from"):
            rehearsal.drive(run_id, make=lambda _claim: box)
        assert steps_at_home(rehearsal.places.run(run_id).checkpoints)[-1:] == [4]
        assert (box.num_ordered, rehearsal.is_gone(run_id)) == (1, False)
        there = read_places()
        bring(run_id, url, there)
        receipt = drive(run_id, Edges(there, Quiet(), make=lambda _claim: box))
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [each.reason for each in receipt.tries] == [Reason.LEASE, None]
    assert (box.num_ordered, box.stood) == (2, False)
