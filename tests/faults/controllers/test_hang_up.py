"""A terminal that is closed in mid-run: the run goes on without it, under a supervisor."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from provision.charge.attendant import Attendant
from provision.errors import Exit
from provision.walk.books import read_receipt
from tests.doubles.displays import CtrlC
from tests.doubles.proxy import Proxy
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import ScriptedBox

pytestmark = [pytest.mark.box, pytest.mark.torch]

RENTUNE = (sys.executable, "-c", "import sys; from provision.cli import main; sys.exit(main())")
LEAVES_WHEN_TOLD = """trap 'exit 4' TERM
printf '{"seq":0,"kind":"phase_started","phase":"train","at_s":1.0,"monotonic_s":1.0}\\n' > events.jsonl
while :; do sleep 0.05; done"""


@pytest.mark.fault("F8", tier="box")
def test_a_closed_terminal_leaves_the_run_to_a_supervisor(rehearsal: Rehearsal) -> None:
    """The controller dies of it at once; the trainer is followed to its end, the adapter comes home, the box goes."""
    run_id = rehearsal.open(steps=300)
    with (rehearsal.folder / "terminal").open("wb") as terminal:
        controller = subprocess.Popen([*RENTUNE, "resume", run_id], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
        wait_until(lambda: rehearsal.num_steps(run_id) > 3)
        controller.send_signal(signal.SIGHUP)
        assert controller.wait(10) == -signal.SIGHUP
    wait_until(lambda: rehearsal.state(run_id).billed is not None)
    controlled = rehearsal.state(run_id).controlled
    assert controlled is not None
    assert controlled.detached
    receipt = read_receipt(rehearsal.places.run(run_id))
    assert receipt is not None
    assert receipt.exit_code == Exit.OK
    assert (rehearsal.places.run(run_id).adapter / "adapter_model.safetensors").exists()
    assert rehearsal.is_gone(run_id)


class HangUp(CtrlC):
    """Presses Ctrl-C when a phase begins, and closes the terminal when another does."""

    def __init__(self, at: str, *, ctrl_c_at: str = "") -> None:
        super().__init__(ctrl_c_at)
        self.hang_up_at = at

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == self.hang_up_at:
            signal.raise_signal(signal.SIGHUP)


def test_before_anything_was_rented_a_closed_terminal_ends_the_run(rehearsal: Rehearsal) -> None:
    """Nobody is left to do what has not begun."""
    handed_over: list[str] = []
    run_id = rehearsal.open()
    receipt = rehearsal.drive(run_id, HangUp("prepare"), attendant=Attendant(hand_over=lambda: handed_over.append(run_id)))
    assert (receipt.exit_code, handed_over) == (Exit.INTERRUPTED, [])


def test_a_run_that_was_stopped_is_not_taken_up_again(rehearsal: Rehearsal) -> None:
    """Ctrl-C, and then the terminal is closed: the stop that was meant goes on."""
    handed_over: list[str] = []
    run_id = rehearsal.open()
    with Proxy(target_port=0) as line:
        receipt = rehearsal.drive(
            run_id,
            HangUp("teardown", ctrl_c_at="train"),
            make=lambda _launch: ScriptedBox(rehearsal, line, LEAVES_WHEN_TOLD),
            attendant=Attendant(hand_over=lambda: handed_over.append(run_id)),
        )
    assert (receipt.exit_code, handed_over) == (Exit.INTERRUPTED, [])
    assert rehearsal.is_gone(run_id)
