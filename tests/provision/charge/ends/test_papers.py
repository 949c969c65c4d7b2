"""A run whose papers are lost or damaged: it can be ended, and says why it can't go on."""

from __future__ import annotations

import errno
import shutil

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.account.lines import Created
from provision.charge.ends.ending import end
from provision.cli import call
from provision.direct.here import local_offer
from provision.errors import ControlLost, Exit
from provision.home.clocks import CLOCKS
from provision.home.places import Places
from provision.prepare.papers import read_claim
from provision.seam import Box, Resource
from provision.walk import renting
from provision.walk.edges import Edges
from provision.walk.renting import Renting
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted


def test_a_lost_directory_leaves_enough_to_destroy(run_id: str, places: Places, ledger: Ledger) -> None:
    """The ledger alone names run, provider and region: of the box that was asked for last."""
    places.run(run_id).launch.unlink()
    claim = read_claim(places.run(run_id), ledger.runs()[run_id])
    assert (claim.run_id, claim.provider, claim.region) == (run_id, "local", "here")
    elsewhere = msgspec.structs.replace(local_offer(), provider="aws", region="eu-north-1")
    ledger.append(msgspec.structs.replace(attempted(run_id, at_s=1.0), offer=elsewhere))
    claim = read_claim(places.run(run_id), ledger.runs()[run_id])
    assert (claim.provider, claim.region) == ("aws", "eu-north-1")


DAMAGED = {"cut off": b'{"run_id": "r", "own', "of a wrong type": b"[1, 2]", "not text": b"\xff\xfe\x00", "empty": b""}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_launch_is_ended_by_its_tag(run_id: str, places: Places, ledger: Ledger, content: bytes) -> None:
    """`down` ends it and closes its books, `ls` lists it."""
    places.run(run_id).launch.write_bytes(content)
    assert call(["ls"]) == Exit.OK
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: paper)).clean
    assert not paper.boxes
    assert ledger.runs()[run_id].billed is not None


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("paper", ["plan", "base", "launch"])
def test_a_run_with_a_damaged_paper_cannot_go_on(
    run_id: str, places: Places, paper: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that names the file, and the command that ends the run."""
    file = places.run(run_id).root / f"{paper}.json"
    file.write_bytes(content)
    assert call(["resume", run_id]) == Exit.REFUSED
    assert capsys.readouterr().err == (
        f"Error: {file} is damaged, and the run can't go on without it.\nHint: rentune down {run_id}\n"
    )


def test_a_run_on_the_users_own_host_is_found_again_without_its_papers(run_id: str, places: Places, ledger: Ledger) -> None:
    """Address and host key of the box stand in the ledger, too."""
    box = Box(
        run_id=run_id, provider="host", host="fe80::1", port=2222, user="me", host_key="ssh-ed25519 A", folder="/f", ours=False
    )
    ledger.append(Created(run_id=run_id, at_s=1.0, box=box))
    places.run(run_id).launch.write_text("{")
    claim = read_claim(places.run(run_id), ledger.runs()[run_id])
    assert (claim.user_at_host, claim.host_key) == ("me@[fe80::1]:2222", "ssh-ed25519 A")


def test_a_host_of_the_users_is_not_cleaned_unasked(run_id: str, places: Places, ledger: Ledger) -> None:
    """Its folder may be all that there is of a result, which nobody can ask for without the run's papers. It bills nothing."""
    theirs = Resource(kind="folder", id="/f", run_id=run_id)
    box = Box(
        run_id=run_id, provider="host", host="h", port=22, user="me", host_key="ssh-ed25519 A", folder="/f", ours=False,
        resources=(theirs,),
    )  # fmt: skip
    ledger.append(attempted(run_id, at_s=1.0))
    ledger.append(Created(run_id=run_id, at_s=2.0, box=box))
    places.run(run_id).plan.write_text("{")
    paper = Paper()
    paper.boxes[run_id] = theirs
    left = end(run_id, Edges(places, Quiet(), make=lambda _launch: paper))
    assert (left.verdict, left.command) == ("orphaned", f"rentune down --discard {run_id}")
    assert "plan.json" in left.message
    assert paper.boxes == {run_id: theirs}
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: paper), discard=True).clean
    assert paper.boxes == {}
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: paper)).clean, "it has gone"


def test_books_that_cannot_be_closed_do_not_keep_a_box(run_id: str, places: Places, ledger: Ledger) -> None:
    """Without its plan a run has no report; it is ended all the same."""
    places.run(run_id).plan.write_text("{")
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: Paper())).clean
    assert ledger.runs()[run_id].over


@pytest.mark.parametrize(("rented", "code"), [(True, Exit.STILL_BILLS), (False, Exit.REFUSED)])
def test_a_run_without_its_directory_cannot_go_on(
    run_id: str,
    places: Places,
    ledger: Ledger,
    rented: bool,
    code: Exit,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence and the command that ends it; code 3 where its box may live."""
    if rented:
        ledger.append(attempted(run_id, at_s=1.0))
    shutil.rmtree(places.run(run_id).root)
    assert call(["resume", run_id]) == code
    assert capsys.readouterr().err == (
        f"Error: {places.run(run_id).plan} is missing, and the run can't go on without it.\nHint: rentune down {run_id}\n"
    )


UNREADABLE = {**DAMAGED, "too deep": b"[" * 200_000}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_what_came_home_damaged_keeps_no_box(run_id: str, places: Places, ledger: Ledger, content: bytes) -> None:
    """Outcome, receipt and the word on where the state lies: `ls` goes on, and `down` ends the box."""
    folder = places.run(run_id)
    for file in (folder.outcome, folder.receipt, folder.state, folder.events):
        file.write_bytes(content)
    ledger.append(attempted(run_id, at_s=1.0))
    assert call(["ls"]) == Exit.OK
    paper, display = Paper(), Quiet()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    assert end(run_id, Edges(places, display, make=lambda _launch: paper)).clean
    assert not paper.boxes
    assert any("is ended all the same" in note for note in display.notes)


def test_a_home_that_takes_no_byte_keeps_no_box(
    run_id: str, places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its box is ended, the verdict says what could not be written, and the next `down` writes it."""
    ledger.append(attempted(run_id, at_s=1.0))
    paper, display = Paper(), Quiet()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)

    def full(_ledger: Ledger, _line: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "append", full)
        teardown = end(run_id, Edges(places, display, make=lambda _launch: paper))
    assert not paper.boxes
    assert "could not take this line: No space left on device" in teardown.message
    assert any("takes no line" in note for note in display.notes)
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: paper)).clean
    assert ledger.runs()[run_id].billed is not None


def test_a_lock_that_can_not_be_made_is_held_by_nobody(run_id: str, places: Places, ledger: Ledger) -> None:
    """A file lies where the run's directory was."""
    ledger.append(attempted(run_id, at_s=1.0))
    shutil.rmtree(places.run(run_id).root)
    places.run(run_id).root.write_bytes(b"")
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: paper)).clean
    assert not paper.boxes


def test_down_of_a_rented_run_that_fails_says_that_it_may_bill(
    run_id: str, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cloud's package is not there: 3, not the 2 of a run that rented nothing; `resume` likewise."""
    nowhere = msgspec.structs.replace(local_offer(), provider="no-such-cloud", region="nowhere")
    ledger.append(msgspec.structs.replace(attempted(run_id, at_s=1.0), offer=nowhere))
    assert call(["down", run_id]) == Exit.STILL_BILLS
    assert f"rentune down {run_id}" in capsys.readouterr().out


def test_only_another_machine_that_took_the_run_over_stops_a_destroy(run_id: str, places: Places, ledger: Ledger) -> None:
    """A fault of the books does not."""

    class Faulty(Ledger):
        error: Exception = RuntimeError("a fault of ours")

        def require_charge(self) -> None:
            raise self.error

    paper, faulty = Paper(), Faulty(places.ledger)
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    claim = read_claim(places.run(run_id), ledger.runs()[run_id])
    faulty.error = ControlLost("taken over")
    with pytest.raises(ControlLost):
        renting.end(claim, Renting(paper, faulty, CLOCKS.wall))
    assert paper.boxes
    faulty.error = RuntimeError("a fault of ours")
    assert renting.end(claim, Renting(paper, faulty, CLOCKS.wall)).clean
    assert not paper.boxes
