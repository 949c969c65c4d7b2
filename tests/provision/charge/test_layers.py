"""`rentune doctor RUN`: what ends a box if nobody comes back, read back from where it lies; looking changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Created
from provision.charge.controller import hold_alone, in_control
from provision.charge.layers import LATE_S, Layers, examine_layers
from provision.cli import call
from provision.direct.local import REAPING, LocalBox
from provision.direct.processes import SERVER_FOLDER
from provision.errors import Exit
from provision.home.clocks import CLOCKS
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Answer, Claim, Layer, Owned, Resource
from provision.walk.driven import read_run
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted
from tests.provision.rigs import await_true

pytestmark = pytest.mark.box


@pytest.fixture
def local(places: Places) -> LocalBox:
    """Without a namespace, so that its server outlives a reaper that was killed."""
    return LocalBox(places.home / "boxes", places.cache, namespace=False)


@pytest.fixture
def rented(run_id: str, places: Places, ledger: Ledger, local: LocalBox) -> Iterator[str]:
    """A run with a local box, and nobody who follows it."""
    ledger.append(attempted(run_id, at_s=time.time()))
    run = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: local), ledger=ledger)
    box = local.up(run.plan.offer, run.launch)
    ledger.append(Created(run_id=run_id, at_s=time.time(), box=box))
    yield run_id
    local.destroy(run.claim)


def look(run_id: str, places: Places, provisioner: LocalBox | Paper) -> Layers:
    return examine_layers(run_id, places=places, environment={}, make=lambda _claim: provisioner, clock=CLOCKS.wall)


def by_name(found: Layers) -> dict[str, Layer]:
    return {layer.name: layer for layer in found.layers}


def state_of(home: Path) -> dict[str, str]:
    """Every file of the state folder with its hash, but for those that a living box writes."""
    files = (path for path in home.rglob("*") if path.is_file() and "boxes" not in path.parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_that_is_followed_has_all_of_its_layers(
    rented: str, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reaper with the deadline that it was told, and the controller; nothing is written for the look."""
    with in_control(rented, places.run(rented), ledger, clocks=CLOCKS):
        before = state_of(places.home)
        assert call(["doctor", rented[-4:], "--json"]) == Exit.OK
        assert state_of(places.home) == before
    data = json.loads(capsys.readouterr().out)["data"]
    assert [(layer["name"], layer["place"], layer["there"]) for layer in data["layers"]] == [
        ("reaper", "box", "yes"),
        ("idle limit", "box", "yes"),
        ("controller", "home", "yes"),
    ]
    assert data["layers"][0]["strikes_at_s"] == data["deadline_at_s"] == ledger.runs()[rented].deadline_at_s


def test_a_run_that_nobody_follows_is_told_with_what_to_type(rented: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The box ends by itself, its result with it."""
    assert call(["doctor", rented]) == Exit.FAILED
    said = " ".join(capsys.readouterr().out.split())
    assert "missing" in said
    assert "reaper" in said


def test_a_reaper_that_was_killed_is_missing(rented: str, places: Places, local: LocalBox) -> None:
    """The box goes on without it, and would for ever."""
    says = by_name(look(rented, places, local))["reaper"].says
    os.kill(int(says.split()[1]), signal.SIGKILL)
    await_true(lambda: by_name(look(rented, places, local))["reaper"].there is Answer.NO)


def test_a_reaper_that_a_signal_has_stopped_is_missing_until_it_is_woken(rented: str, places: Places, local: LocalBox) -> None:
    """It is there, and looks at no clock."""
    pid = int(by_name(look(rented, places, local))["reaper"].says.split()[1])
    os.kill(pid, signal.SIGSTOP)
    await_true(lambda: by_name(look(rented, places, local))["reaper"].there is Answer.NO)
    os.kill(pid, signal.SIGCONT)
    await_true(lambda: by_name(look(rented, places, local))["reaper"].there is Answer.YES)


def test_one_that_strikes_long_after_the_deadline_counts_as_missing(rented: str, places: Places, local: LocalBox) -> None:
    """By the ledger's deadline: what the user agreed to."""
    told = places.home / "boxes" / rented / SERVER_FOLDER / REAPING
    reaping = json.loads(told.read_text())
    for late_s, there in ((LATE_S - 1, Answer.YES), (LATE_S + 1, Answer.NO)):
        told.write_text(json.dumps(reaping | {"deadline_at_s": reaping["deadline_at_s"] + late_s}))
        assert by_name(look(rented, places, local))["reaper"].there is there


def test_a_lease_is_read_back_and_one_that_no_box_knows_of_is_missing(
    plan: Plan, places: Places, ledger: Ledger, local: LocalBox
) -> None:
    """One that is longer than what is left to the deadline need not strike, and is there all the same."""
    budget = msgspec.structs.replace(plan.request.budget, lease_hours=24.0)
    asks = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))
    run_id = open_run(asks, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    ledger.append(attempted(run_id, at_s=time.time(), deadline_at_s=time.time() + 7200.0))
    run = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: local), ledger=ledger)
    assert run.launch.lease_s == run.state.opened.lease_s == 24 * 3600
    for lease_s, there in ((run.launch.lease_s, Answer.YES), (None, Answer.NO)):
        box = local.up(run.plan.offer, msgspec.structs.replace(run.launch, lease_s=lease_s))
        ledger.append(Created(run_id=run_id, at_s=time.time(), box=box))
        told = by_name(look(run_id, places, local))["lease"]
        assert (told.there, told.strikes_at_s) == (there, None)
        assert ("; the deadline comes first" in told.says) == (there is Answer.YES)
        local.destroy(run.claim)


def test_what_is_renewed_need_not_strike_by_the_deadline(places: Places, ledger: Ledger, local: LocalBox, run_id: str) -> None:
    """An hour's idle limit is there in a run's last minutes, too."""
    ledger.append(attempted(run_id, at_s=time.time(), deadline_at_s=time.time() + 60))
    run = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: local), ledger=ledger)
    ledger.append(Created(run_id=run_id, at_s=time.time(), box=local.up(run.plan.offer, run.launch)))
    limit = by_name(look(run_id, places, local))["idle limit"]
    local.destroy(run.claim)
    assert (limit.there, limit.strikes_at_s) == (Answer.YES, None)
    assert limit.says.endswith("; the deadline comes first")


def test_a_lease_that_nobody_could_see_is_not_missing(run_id: str, places: Places, ledger: Ledger) -> None:
    """The box did not answer: it may have one."""
    lines = ledger.runs()[run_id]
    ledger.append(msgspec.structs.replace(lines.opened, run_id="r2", lease_s=7200.0))
    ledger.append(attempted("r2", at_s=time.time()))
    assert "lease" not in by_name(look("r2", places, Away()))


def test_where_no_box_is_there_is_nothing_to_end(run_id: str, places: Places, ledger: Ledger) -> None:
    """Before one was asked for, and once its provider lists none."""
    assert look(run_id, places, Paper()).layers == ()
    ledger.append(attempted(run_id, at_s=time.time()))
    gone = look(run_id, places, Paper())
    assert (gone.box, gone.layers, gone.whole) == (Answer.NO, (), Answer.YES)
    assert f"rentune down {run_id}" in gone.message


class Away(Paper):
    """A provider that does not answer, whose boxes must be asked themselves."""

    look = "echo"

    def owned(self, claim: Claim | None = None) -> Owned:
        return Owned(resources=(), complete=Answer.UNKNOWN, message="no answer")

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        raise OSError("no line")


def test_what_cannot_be_seen_is_unknown_and_nothing_is_missing_by_it(run_id: str, places: Places, ledger: Ledger) -> None:
    """Neither the provider answers nor the box; whoever follows it is seen all the same. What is missing outweighs it."""
    ledger.append(attempted(run_id, at_s=time.time()))
    with in_control(run_id, places.run(run_id), ledger, clocks=CLOCKS):
        found = look(run_id, places, Away())
    assert (found.box, found.whole) == (Answer.UNKNOWN, Answer.UNKNOWN)
    assert look(run_id, places, Away()).whole is Answer.NO  # nobody follows it any more
    assert [layer.there for layer in found.layers] == [Answer.UNKNOWN, Answer.UNKNOWN, Answer.YES]


def test_what_could_not_be_seen_has_a_code_of_its_own(rented: str, places: Places, ledger: Ledger) -> None:
    """Everything there that answers, and a box whose key is not here: neither "all is well" nor "something is missing"."""
    with in_control(rented, places.run(rented), ledger, clocks=CLOCKS):
        assert call(["doctor", rented]) == Exit.OK
        told = places.home / "boxes" / rented / SERVER_FOLDER / REAPING
        told.write_text("{")
        assert call(["doctor", rented]) == Exit.UNSEEN


def test_where_a_machine_is_billed_that_is_off_somebody_here_must_wait_for_it(
    run_id: str, places: Places, ledger: Ledger
) -> None:
    """The sentinel holds its lock for as long as it lives."""
    line = attempted(run_id, at_s=time.time())
    ledger.append(msgspec.structs.replace(line, offer=msgspec.structs.replace(line.offer, provider="hetzner")))
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    assert by_name(look(run_id, places, paper))["sentinel"].there is Answer.NO
    with hold_alone(places.run(run_id).sentinel, CLOCKS):
        assert by_name(look(run_id, places, paper))["sentinel"].there is Answer.YES


def test_this_machine_is_not_set_up_for_a_run() -> None:
    assert call(["doctor", "any", "--install"]) == Exit.REFUSED
