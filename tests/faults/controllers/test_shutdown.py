"""A machine that shuts down in an orderly way, or a session that is closed: the supervisor lets go, and the run goes on."""

from __future__ import annotations

import dataclasses
import signal
import time
from typing import Any

import msgspec
import pytest

from catalogs.hardware import Offer
from provision.account.ledger import Ledger
from provision.account.lines import Ended
from provision.account.runs import RunState, Standing
from provision.charge.attendant import Attendant
from provision.charge.controller import Hands, hands_of
from provision.charge.leaving import TAKEN_UP, UNREAD, leaving, left_words
from provision.charge.rings.bell import bell
from provision.cli import call
from provision.errors import Exit
from provision.home.clocks import CLOCKS
from provision.seam import Box, Launch, Teardown
from provision.walk.driven import read_run
from provision.walk.edges import Edges
from tests.doubles.displays import CtrlC, Quiet
from tests.doubles.proxy import Proxy
from tests.doubles.services.webhook import Heard, webhook
from tests.faults.controllers.test_hang_up import LEAVES_WHEN_TOLD
from tests.faults.leases.test_leased import leased
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import FINISH, ScriptedBox
from tests.faults.test_elsewhere import NOTICED, boots_at_once, elsewhere
from tests.provision.plans import attempted

pytestmark = [pytest.mark.box, pytest.mark.torch]


@pytest.mark.fault("F8", tier="box")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_supervisor_that_a_shutdown_ends_lets_go_of_its_run(
    rehearsal: Rehearsal, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a kill does: the trainer goes on, `ls` says that nobody has it in hand, `resume` brings it to its end."""
    run_id = rehearsal.open(steps=300)
    supervisor = rehearsal.start_controller(run_id)
    wait_until(lambda: rehearsal.num_steps(run_id) > 3)
    supervisor.send_signal(number)
    assert supervisor.wait(10) == -number
    state = rehearsal.state(run_id)
    assert state.teardown is None
    assert hands_of(state, rehearsal.places.run(run_id).lock, now_s=time.time()) is Hands.NOBODY
    said = (rehearsal.folder / "controller.out").read_text()
    assert (
        f"{number.name}: this process ends. The run goes on without it. Its box is a process here and ends with this machine"
        in said
    )
    assert f"rentune resume {run_id} follows it again" in said
    assert call(["ls"]) == Exit.OK
    assert run_id in capsys.readouterr().out
    steps = rehearsal.num_steps(run_id)
    wait_until(lambda: rehearsal.num_steps(run_id) > steps)
    receipt = rehearsal.drive(run_id)
    assert receipt.exit_code == Exit.OK
    assert rehearsal.is_gone(run_id)


class Shutdown(CtrlC):
    """Presses Ctrl-C when a phase begins, and shuts the machine down when another does."""

    def __init__(self, at: str, *, ctrl_c_at: str = "") -> None:
        super().__init__(ctrl_c_at)
        self.shut_down_at = at

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == self.shut_down_at:
            signal.raise_signal(signal.SIGTERM)


def test_what_is_being_ended_is_ended(rehearsal: Rehearsal) -> None:
    """By `down` or Ctrl-C, and then the machine shuts down: the stop that was meant goes on for as long as it is let."""
    went: list[int] = []
    run_id = rehearsal.open()
    with Proxy(target_port=0) as line:
        receipt = rehearsal.drive(
            run_id,
            Shutdown("teardown", ctrl_c_at="train"),
            make=lambda _launch: ScriptedBox(rehearsal, line, LEAVES_WHEN_TOLD),
            attendant=Attendant(let_go=went.append),
        )
    assert (receipt.exit_code, went) == (Exit.INTERRUPTED, [])
    assert rehearsal.is_gone(run_id)


class CutOff(ScriptedBox):
    """Its user presses Ctrl-C in the midst of an order, and while what comes of that is waited for another signal comes."""

    def __init__(self, rehearsal: Rehearsal, line: Proxy, then: signal.Signals) -> None:
        super().__init__(rehearsal, line, LEAVES_WHEN_TOLD)
        self.then = then

    def up(self, offer: Offer, launch: Launch) -> Box:
        box = super().up(offer, launch)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(self.then)
            raise
        return box


@pytest.mark.fault("F8", tier="box")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_order_that_was_to_end_is_ended_whatever_comes_then(rehearsal: Rehearsal, number: signal.Signals) -> None:
    """By `down`, and then the machine shuts down: until the teardown begins nothing in the ledger tells of it, and the box was
    left to bill.
    """
    went: list[int] = []
    run_id = rehearsal.open()
    with Proxy(target_port=0) as line:
        box = CutOff(rehearsal, line, number)
        receipt = rehearsal.drive(run_id, make=lambda _launch: box, attendant=Attendant(let_go=went.append))
    assert (receipt.exit_code, went) == (Exit.INTERRUPTED, [])
    assert rehearsal.is_gone(run_id)


@pytest.mark.fault("F8", tier="box")
def test_whoever_pressed_ctrl_c_and_closes_the_terminal_has_no_other_box_ordered(rehearsal: Rehearsal) -> None:
    """The run went over to a supervisor, which ended that order and made the next."""
    handed_over: list[str] = []
    run_id = rehearsal.open()
    with Proxy(target_port=0) as line:
        box = CutOff(rehearsal, line, signal.SIGHUP)
        leave = Attendant(hand_over=lambda: handed_over.append(run_id))
        receipt = rehearsal.drive(run_id, make=lambda _launch: box, attendant=leave)
    assert (receipt.exit_code, handed_over) == (Exit.INTERRUPTED, [])
    assert rehearsal.is_gone(run_id)


class Stopping(Shutdown):
    """Asks for the end by the signal that `down` sends."""

    def phase(self, name: str) -> None:
        if name == "train":
            signal.raise_signal(signal.SIGINT)
        super().phase(name)


def test_the_result_of_a_run_that_is_being_ended_comes_home_first(rehearsal: Rehearsal) -> None:
    """A trainer that was done when it was asked to stop: fetching its result begins nothing new."""
    went: list[int] = []
    run_id = rehearsal.open()
    done = f"{LEAVES_WHEN_TOLD.replace('exit 4', f'{FINISH}; exit 0')}"
    with Proxy(target_port=0) as line:
        box = ScriptedBox(rehearsal, line, done)
        receipt = rehearsal.drive(run_id, Stopping("fetch"), make=lambda _: box, attendant=Attendant(let_go=went.append))
    assert (receipt.exit_code, went) == (Exit.OK, [])
    assert rehearsal.is_gone(run_id)


def test_where_nothing_but_this_machine_ends_the_bill_the_run_is_ended(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at Hetzner and DigitalOcean: a machine that stays off lets a box bill past its deadline for as long."""
    monkeypatch.setattr("provision.charge.leaving.ended_from_home", lambda _provider: True)
    went: list[int] = []
    run_id = rehearsal.open()
    with Proxy(target_port=0) as line:
        receipt = rehearsal.drive(
            run_id,
            Shutdown("train"),
            make=lambda _launch: ScriptedBox(rehearsal, line, LEAVES_WHEN_TOLD),
            attendant=Attendant(let_go=went.append),
        )
    assert (receipt.exit_code, went) == (Exit.INTERRUPTED, [])
    assert rehearsal.is_gone(run_id)


def test_before_anything_was_rented_it_lets_go_as_well(rehearsal: Rehearsal) -> None:
    """Nothing is stopped by it; whoever comes next rents."""
    went: list[int] = []
    run_id = rehearsal.open()
    display: Quiet = Shutdown("prepare", ctrl_c_at="create")
    receipt = rehearsal.drive(run_id, display, attendant=Attendant(let_go=went.append))
    assert (receipt.exit_code, went) == (Exit.INTERRUPTED, [signal.SIGTERM])


class Gone(BaseException):
    """In the place of a process's end."""


def goes(number: int) -> None:
    raise Gone(number)


class ShutdownOnce(Quiet):
    """Shuts the machine down when a phase begins for the first time."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def phase(self, name: str) -> None:
        if name == self.at and name not in self.phases:
            signal.raise_signal(signal.SIGTERM)
        super().phase(name)


@pytest.mark.fault("F16", tier="box")
@pytest.mark.parametrize("phase", ["teardown", "confirm"])
def test_a_machine_that_shuts_down_between_two_attempts_orders_no_more(rehearsal: Rehearsal, phase: str) -> None:
    """The spot machine that is taken back is ended; the next is asked for by whoever resumes, and goes on."""
    plan = boots_at_once(rehearsal.plan(steps=8))
    here, there = (elsewhere(plan, region, purchase="spot") for region in ("here", "there"))
    run_id = rehearsal.open(change=lambda _: here, alternatives=(there,))
    display, hurried = ShutdownOnce(phase), dataclasses.replace(CLOCKS, sleep=lambda seconds: time.sleep(min(seconds, 0.3)))
    with Proxy(target_port=0) as line:
        box = ScriptedBox(rehearsal, line, NOTICED)
        edges: dict[str, Any] = {"make": lambda _claim: box, "clocks": hurried}
        with pytest.raises(Gone):
            rehearsal.drive(run_id, display, attendant=Attendant(let_go=goes), **edges)
        state = rehearsal.state(run_id)
        assert (state.standing, len(state.rentals)) == (Standing.BETWEEN, 1)
        assert "Nothing is rented, and whoever takes the run up goes on with it." in display.notes[-1]
        receipt = rehearsal.drive(run_id, **edges)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert len(rehearsal.state(run_id).rentals) == 2


def test_who_is_told_of_a_run_hears_that_nobody_is_in_charge(rehearsal: Rehearsal) -> None:
    """And what becomes of it, before the process has gone."""
    with webhook(Heard()) as heard, Proxy(target_port=0) as line:
        run_id = rehearsal.open(alerts=(heard.url,))
        with pytest.raises(Gone):
            rehearsal.drive(
                run_id,
                ShutdownOnce("environment"),
                make=lambda _claim: ScriptedBox(rehearsal, line, LEAVES_WHEN_TOLD),
                attendant=Attendant(let_go=goes),
            )
    assert heard.kinds() == ["let_go", "started"] or heard.kinds() == ["started", "let_go"]
    (told,) = [body for body in heard.bodies if body["kind"] == "let_go"]
    assert told["text"].startswith(f"Run {run_id} has nobody in charge any more: its controller's machine shuts down.")
    assert told["command"] == f"rentune resume {run_id}"


@pytest.mark.parametrize(
    ("provider", "heard", "words"),
    [
        ("aws", False, "Nothing trains on its box yet, which ends itself within 1 h 00 min where nobody comes."),
        ("aws", True, "The run goes on without it, and the box's own deadline ends it."),
        ("gcp", False, "Nothing trains on its box yet, and the box's own deadline ends it."),
        (
            "local",
            True,
            "The run goes on without it. Its box is a process here and ends with this machine; what it has saved is kept.",
        ),
    ],
)
def test_what_is_said_of_a_run_that_is_left(rehearsal: Rehearsal, provider: str, heard: bool, words: str) -> None:
    """Not that it goes on where nothing has begun to train, nor where the box goes with the machine."""
    run_id = rehearsal.open()
    plan = rehearsal.plan()
    plan = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, provider=provider))
    rehearsal.ledger.append(attempted(run_id, plan, at_s=time.time()))
    run = read_run(run_id, Edges(rehearsal.places, Quiet(), make=lambda _: rehearsal.box), ledger=rehearsal.ledger)
    if heard:
        run.folder.events.touch()
    assert left_words(run) == words
    rehearsal.ledger.append(Ended(run_id=run_id, at_s=time.time(), teardown=Teardown.destroyed(run_id, "")))


def test_books_that_can_t_be_read_end_nothing(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """By them nobody knows whether the run may be left; a machine that shuts down has no time to find out."""

    def unreadable(_ledger: Ledger) -> dict[str, RunState]:
        raise OSError(5, "Input/output error")

    went: list[int] = []
    run_id = rehearsal.open()
    run = read_run(run_id, Edges(rehearsal.places, Quiet(), make=lambda _: rehearsal.box), ledger=rehearsal.ledger)
    with bell(run) as ringing:
        _, answers = leaving(ringing, Attendant(let_go=went.append))
        with monkeypatch.context() as broken:
            broken.setattr(Ledger, "runs", unreadable)
            assert answers[signal.SIGTERM]()
    assert went == [signal.SIGTERM]
    assert isinstance(run.display, Quiet)
    assert run.display.notes == [f"SIGTERM: this process ends. {UNREAD} {TAKEN_UP.format(run_id)}"]


def test_a_local_box_that_is_left_is_said_to_end_by_its_lease(rehearsal: Rehearsal) -> None:
    run_id = rehearsal.open(change=lambda plan: leased(plan, lease_s=1800.0))
    rehearsal.ledger.append(attempted(run_id, rehearsal.plan(), at_s=time.time()))
    run = read_run(run_id, Edges(rehearsal.places, Quiet(), make=lambda _: rehearsal.box), ledger=rehearsal.ledger)
    assert "ends with this machine, or by its lease once nobody comes for 30 min 00 s; what" in left_words(run)
    rehearsal.ledger.append(Ended(run_id=run_id, at_s=time.time(), teardown=Teardown.destroyed(run_id, "")))
