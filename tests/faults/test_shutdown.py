"""A machine that shuts down in an orderly way, or a session that is closed: the supervisor lets go, and the run goes on."""

from __future__ import annotations

import signal
import time

import pytest

from provision.charge.attendant import Attendant
from provision.charge.controller import Hands, hands_of
from provision.cli import call
from provision.errors import Exit
from tests.doubles.displays import CtrlC, Quiet
from tests.doubles.proxy import Proxy
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import ScriptedBox
from tests.faults.test_hang_up import LEAVES_WHEN_TOLD

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
    assert f"{number.name}: this process ends, and the run goes on without it. rentune resume {run_id} follows it again" in said
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


def test_where_nothing_but_this_machine_ends_the_bill_the_run_is_ended(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at Hetzner and DigitalOcean: a machine that stays off lets a box bill past its deadline for as long."""
    monkeypatch.setattr("provision.charge.driving.ended_from_home", lambda _provider: True)
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
