"""Taking a run up again: a box that is well is not ended for what can wait or does not matter."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import msgspec
import pytest

from planner.plan import Plan
from provision.aboard import job
from provision.account.lines import Created
from provision.errors import Exit
from provision.handoff import hand_off
from provision.seam import Box
from provision.ssh import Shell, Waits
from provision.ssh.keys import client_key
from provision.walk.driven import Reach, Run, read_run
from provision.walk.edges import Edges
from provision.walk.job.training import train
from provision.walk.phases import Phases
from provision.walk.run import walk
from remote.contract import Phase
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.faults.rehearsal import Rehearsal
from tests.faults.standins import ADAPTER, FINISH, WEIGHTS, ScriptedBox
from tests.provision.plans import about, attempted
from tests.provision.rigs import await_true

pytestmark = pytest.mark.box

UNTIL_TOLD = "while [ ! -e $HERE/go ]; do sleep 0.05; done"


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


def boots_fast(plan: Plan) -> Plan:
    duration = msgspec.structs.replace(plan.duration, phase_s=plan.duration.phase_s | {Phase.BOOT.value: about(0.1)})
    return msgspec.structs.replace(plan, duration=duration)


def boots_slowly(plan: Plan) -> Plan:
    """So that a first connection over a long line is no box that does not answer."""
    duration = msgspec.structs.replace(plan.duration, phase_s=plan.duration.phase_s | {Phase.BOOT.value: about(20.0)})
    return msgspec.structs.replace(plan, duration=duration)


def left_behind(
    rehearsal: Rehearsal,
    scripted: ScriptedBox,
    *,
    change: Callable[[Plan], Plan] = boots_fast,
    deadline_s: float = 60.0,
    alerts: tuple[str, ...] = (),
) -> tuple[Run, Box]:
    """A run whose controller died right after its box had come up."""
    run_id = rehearsal.open(deadline_s=deadline_s, change=change, alerts=alerts)
    run = read_run(run_id, Edges(rehearsal.places, Quiet(), make=lambda _claim: scripted), ledger=rehearsal.ledger)
    run.ledger.append(attempted(run_id, run.plan, at_s=time.time(), deadline_at_s=run.state.deadline_at_s))
    box = scripted.up(run.plan.offer, run.launch)
    run.ledger.append(Created(run_id=run_id, at_s=time.time(), box=box))
    return dataclasses.replace(
        run,
        clocks=dataclasses.replace(run.clocks, sleep=lambda seconds: time.sleep(min(seconds, 0.3))),
        reach=Reach(least_boot_s=0.3),
    ), box


def connected(run: Run, box: Box) -> Shell:
    key = client_key(run.folder.keys, run_id=run.run_id).private
    return Shell.connect(box, key=key, deadline_s=20.0, waits=Waits(patience_s=0.3))


def start_trainer(run: Run, box: Box) -> None:
    """As the dead controller did it."""
    handed = hand_off(
        run.plan,
        run.base,
        run_id=run.run_id,
        job_folder=job.job_folder(box),
        billed_since_s=run.state.rentals[-1].started_at_s,
        started_at_s=time.time(),
        deadline_at_s=run.state.deadline_at_s,
    )
    with connected(run, box) as shell:
        job.start(shell, box, handed.spec, python=box.python or "")


def later(seconds: float, act: Callable[[], object]) -> None:
    threading.Timer(seconds, act).start()


def test_an_input_that_went_away_after_it_was_shipped_does_not_matter(rehearsal: Rehearsal, line: Proxy) -> None:
    """The trainer has it; nothing at home is needed to bring the adapter back."""
    run, box = left_behind(rehearsal, ScriptedBox(rehearsal, line, f"{UNTIL_TOLD}; {FINISH}"))
    start_trainer(run, box)
    (rehearsal.folder / "rows.jsonl").unlink()
    (rehearsal.folder / "stack/go").touch()
    assert walk(run).exit_code == Exit.OK


@pytest.mark.fault("F13", tier="box")
def test_a_box_that_is_silent_for_longer_than_a_boot_is_waited_for(rehearsal: Rehearsal, line: Proxy) -> None:
    """Its provider lists it: it will answer."""
    run, box = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH))
    start_trainer(run, box)
    line.cut()
    later(3.0, line.heal)
    assert walk(run).exit_code == Exit.OK


def test_an_outcome_that_is_not_whole_is_fetched_again(rehearsal: Rehearsal, line: Proxy) -> None:
    """What went wrong while fetching costs a pause, not the adapter. It is asked for twice: the pause is the real one."""
    lines = "printf '{' > outcome.json; (sleep 2; " + FINISH + ") &"
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, lines))
    assert walk(dataclasses.replace(run, clocks=dataclasses.replace(run.clocks, sleep=time.sleep))).exit_code == Exit.OK


def test_a_box_that_was_silent_at_first_and_never_started_is_started(rehearsal: Rehearsal, line: Proxy) -> None:
    """The first question goes unanswered; the next one says that there is no trainer yet."""
    run, box = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH))
    with connected(run, box) as shell:
        line.cut()
        later(1.5, line.heal)
        train(run, Phases(run.run_id, run.ledger, run.display, clocks=run.clocks, crash_point=None), shell, box)
    assert (run.folder.adapter / "adapter.safetensors").exists()


@pytest.mark.fault("F12", tier="box")
def test_a_trainer_that_a_reboot_told_to_leave_is_started_again(rehearsal: Rehearsal, line: Proxy) -> None:
    """It saved and left with code 4, and nobody here had asked it to."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, f"[ -e once ] || {{ touch once; exit 4; }}; {FINISH}"))
    assert walk(run).exit_code == Exit.OK


@pytest.mark.fault("F12", tier="box")
@pytest.mark.parametrize(
    ("boot", "said"), [("0f3c5bd0-an-earlier-boot", "The box was rebooted"), (None, "The trainer was killed")]
)
def test_the_next_controller_says_whether_the_trainer_ended_with_a_boot(
    rehearsal: Rehearsal, line: Proxy, boot: str | None, said: str
) -> None:
    """By the boot id that lies beside its pid. tests/provision/aboard/test_reattach.py has a machine that really reboots."""
    run, box = left_behind(rehearsal, ScriptedBox(rehearsal, line, f"[ -e once ] || {{ touch once; sleep 600; }}; {FINISH}"))
    start_trainer(run, box)
    folder = job.job_folder(box)
    with connected(run, box) as shell:
        await_true(lambda: shell.run(f"cat {folder}/once").rc == 0)
        shell.run(f"kill -9 -- -$(cat {folder}/pid)")
        await_true(lambda: job.state(shell, box).state == "killed")
        if boot is not None:
            shell.run(f"echo {boot} 12345 > {folder}/pid.identity")
    assert walk(run).exit_code == Exit.OK
    [note] = [note for note in cast("Quiet", run.display).notes if "from its last checkpoint" in note]
    assert note.startswith(said)


def test_one_empty_list_does_not_mean_that_the_box_is_gone(rehearsal: Rehearsal, line: Proxy) -> None:
    """A provider's lists lag: gone is what two of them say."""
    scripted = ScriptedBox(rehearsal, line, FINISH)
    run, _ = left_behind(rehearsal, scripted)
    scripted.empty_lists = 1
    assert walk(run).exit_code == Exit.OK


def test_two_empty_lists_mean_that_it_is(rehearsal: Rehearsal, line: Proxy) -> None:
    """Then there is nothing to wait for; and a trainer that went with it has left no result on this disk."""
    scripted = ScriptedBox(rehearsal, line, "sleep 600")
    run, _ = left_behind(rehearsal, scripted)
    scripted.empty_lists = 4  # twice: before what it left is looked for, and before anybody connects
    receipt = walk(run)
    assert receipt.exit_code == Exit.FAILED
    assert "gone" in receipt.ending.message


# Two hundred events in eight seconds or more, and then the result.
TALKS = f"""i=0; while [ $i -lt 200 ]; do
printf '{{"seq":%s,"kind":"progress","phase":"train","at_s":1.0,"monotonic_s":1.0}}\\n' $i >> events.jsonl
i=$((i+1)); sleep 0.04; done; {FINISH}"""


@pytest.mark.fault("F13", tier="box")
@pytest.mark.parametrize(("cut_every_s", "bytes_per_s"), [(2.0, math.inf), (4.0, 500_000.0)], ids=["wide", "narrow"])
def test_a_line_that_is_cut_again_and_again_loses_no_event(
    rehearsal: Rehearsal, cut_every_s: float, bytes_per_s: float
) -> None:
    """The job does not notice, and home has every event once."""
    with Proxy(target_port=0, cut_every_s=cut_every_s, bytes_per_s=bytes_per_s) as line:
        run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, TALKS))
        assert walk(run).exit_code == Exit.OK
        assert line.num_cuts >= 2
    numbers = [msgspec.json.decode(event)["seq"] for event in run.folder.events.read_bytes().splitlines()]
    assert numbers == list(range(200))


@pytest.mark.fault("F13", tier="box")
def test_a_run_ends_well_over_a_line_that_is_long(rehearsal: Rehearsal) -> None:
    """0.3 s from a word to its answer: connected to, followed to its end, fetched from, and ended."""
    with Proxy(target_port=0, delay_s=0.15) as line:
        run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, TALKS), change=boots_slowly, deadline_s=600.0)
        assert walk(run).exit_code == Exit.OK
    numbers = [msgspec.json.decode(event)["seq"] for event in run.folder.events.read_bytes().splitlines()]
    assert numbers == list(range(200))
    assert (run.folder.adapter / ADAPTER.path).read_bytes() == WEIGHTS
    assert rehearsal.is_gone(run.run_id)


@pytest.mark.fault("F14", tier="box")
def test_a_result_at_home_is_not_trained_for_again_where_the_spot_machine_was_taken(rehearsal: Rehearsal, line: Proxy) -> None:
    """A lost spot machine is followed by another only where there is something left to train."""

    def spot(plan: Plan) -> Plan:
        return boots_fast(msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, purchase="spot")))

    scripted = ScriptedBox(rehearsal, line, FINISH)
    run, _ = left_behind(rehearsal, scripted, change=spot)
    run.folder.adapter.mkdir()
    (run.folder.adapter / ADAPTER.path).write_bytes(WEIGHTS)
    run.folder.outcome.write_bytes((rehearsal.folder / "stack/outcome.json").read_bytes())
    scripted.destroy(run.claim)
    receipt = walk(dataclasses.replace(run, plans=(run.plans[0], boots_fast(run.plans[0]))))
    assert (receipt.exit_code, len(receipt.tries)) == (Exit.OK, 1)
    assert rehearsal.is_gone(run.run_id)
