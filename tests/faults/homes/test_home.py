"""A result on the box that home does not take at once: it is waited for, put elsewhere, or left where it is, never lost."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from planner.plan import Plan
from provision.charge.ends.ending import end
from provision.errors import Exit
from provision.home.checkpoints import steps_at_home
from provision.providers import boxes_folder
from provision.seam import Teardown
from provision.walk.driven import Run
from provision.walk.edges import Edges
from provision.walk.job.rescue import rescue
from provision.walk.run import walk
from remote.contract import WEIGHTS_FILE, checkpoint_name
from tests.doubles.displays import CtrlC, Quiet
from tests.doubles.proxy import Proxy
from tests.faults.controllers.test_resume import boots_fast, left_behind, start_trainer
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import FINISH, LEARN, WEIGHTS, ScriptedBox

pytestmark = pytest.mark.box

FINISH_DAMAGED = f"{FINISH}; printf garbage > output/adapter.safetensors"
TRAINING = """printf '{"seq":0,"kind":"phase_started","phase":"train","at_s":1.0,"monotonic_s":1.0}\\n' > events.jsonl
while :; do sleep 0.05; done"""
# A trainer that has saved, and has far to go.
LEARNS = f"{LEARN}\n{TRAINING}"
# A trainer that saves once it is told to leave.
LEARNS_WHEN_TOLD = f"leave() {{\n{LEARN}\nexit 4\n}}\ntrap leave TERM\n{TRAINING}"
# A trainer that crashes after it has saved: by its own words, and without a word.
CRASHES = f"{LEARN}\ncp $HERE/crashed.json outcome.json; exit 11"
VANISHES = f"{LEARN}\nexit 1"
# A trainer that was in its last steps: told to leave, it has a result a moment later.
FINISH_WHEN_TOLD = f"trap '{FINISH}; exit 0' TERM\n{TRAINING}"


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


def kept_in(folder: Path) -> Callable[[Plan], Plan]:
    def change(plan: Plan) -> Plan:
        keep = msgspec.structs.replace(plan.request.keep, adapter=str(folder))
        return boots_fast(msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, keep=keep)))

    return change


def shown_to(run: Run, display: Quiet) -> Run:
    return dataclasses.replace(run, display=display)


def test_an_adapter_that_its_folder_does_not_take_comes_into_the_runs_own(rehearsal: Rehearsal, line: Proxy) -> None:
    """The folder of the job file was writable when the run was opened, and is a file by now."""
    taken = rehearsal.folder / "taken"
    taken.touch()
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH), change=kept_in(taken / "adapter"))
    receipt = walk(shown_to(run, watcher := Quiet()))
    assert (receipt.exit_code, receipt.adapter_folder) == (Exit.OK, str(run.folder.adapter))
    assert (run.folder.adapter / "adapter.safetensors").read_bytes() == WEIGHTS
    assert any(str(taken) in note and str(run.folder.adapter) in note for note in watcher.notes)


def test_an_adapter_takes_no_place_of_anothers(rehearsal: Rehearsal, line: Proxy) -> None:
    """The folder of the job file was empty when the run was opened: another run of the same job has put its own there since."""
    (out := rehearsal.folder / "out").mkdir()
    (out / "adapter.safetensors").write_bytes(b"the only copy of another run's")
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH), change=kept_in(out))
    receipt = walk(shown_to(run, watcher := Quiet()))
    assert (receipt.exit_code, receipt.adapter_folder) == (Exit.OK, str(run.folder.adapter))
    assert (out / "adapter.safetensors").read_bytes() == b"the only copy of another run's"
    assert (run.folder.adapter / "adapter.safetensors").read_bytes() == WEIGHTS
    assert any(f"{out / 'adapter.safetensors'} is another's" in note for note in watcher.notes)


def test_no_result_waits_for_a_log(rehearsal: Rehearsal, line: Proxy) -> None:
    """The log came first, and whole: one that home had no room for kept the result on the box until that was ended."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, f"{FINISH}; echo begun; truncate -s 40G log"))
    run.folder.log.mkdir()
    receipt = walk(shown_to(run, watcher := Quiet()))
    assert (receipt.exit_code, receipt.adapter_folder) == (Exit.OK, str(run.folder.adapter))
    assert any("The trainer's log did not come home" in note for note in watcher.notes)
    assert [path.name for path in run.folder.root.glob("*log*") if path.is_file()] == []


def test_a_home_that_takes_nothing_is_waited_for(rehearsal: Rehearsal, line: Proxy) -> None:
    """Said once, with what to do about it; the box stays meanwhile."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH))
    run.folder.adapter.touch()
    said: list[str] = []

    class Clearing(Quiet):
        def note(self, sentence: str) -> None:
            if "can't be written on this machine" in sentence:
                said.append(sentence)
                threading.Timer(1.5, run.folder.adapter.unlink).start()

    assert walk(shown_to(run, Clearing())).exit_code == Exit.OK
    [once] = said
    assert once.endswith("Make it a place that you may write to. Trying again.")


@pytest.mark.fault("F20", tier="box")
def test_a_result_that_cannot_be_fetched_keeps_its_box(rehearsal: Rehearsal, line: Proxy) -> None:
    """Exit 3 and the command that tries again; once the reason is gone, that brings it home."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH_DAMAGED))
    receipt = walk(run)
    assert (receipt.exit_code, receipt.trained, receipt.teardown) == (Exit.STILL_BILLS, False, None)
    assert "adapter.safetensors is damaged" in receipt.ending.message
    assert f"rentune resume {run.run_id}" in receipt.ending.message
    assert not rehearsal.is_gone(run.run_id)
    (boxes_folder(rehearsal.places) / run.run_id / "job/output/adapter.safetensors").write_bytes(WEIGHTS)
    assert walk(run).exit_code == Exit.OK
    assert rehearsal.is_gone(run.run_id)


@pytest.mark.parametrize(("times", "code"), [(1, Exit.OK), (2, Exit.INTERRUPTED)])
def test_ctrl_c_while_a_result_is_fetched_must_be_meant(rehearsal: Rehearsal, line: Proxy, times: int, code: Exit) -> None:
    """The first says what would be lost and goes on; the second gives it up."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH))
    receipt = walk(shown_to(run, watcher := CtrlC(at="fetch", times=times)))
    assert any("once more Ctrl-C gives it up" in note for note in watcher.notes)
    assert (receipt.exit_code, receipt.trained) == (code, code == Exit.OK)
    assert rehearsal.is_gone(run.run_id)


def test_ctrl_c_loses_no_result_that_came_in_that_moment(rehearsal: Rehearsal, line: Proxy) -> None:
    """The trainer was told to leave, and was done before it could."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH_WHEN_TOLD))
    assert walk(shown_to(run, CtrlC(at="train"))).exit_code == Exit.OK
    assert rehearsal.is_gone(run.run_id)


def learned(run: Run) -> list[str]:
    return [
        (run.folder.checkpoints / checkpoint_name(step) / WEIGHTS_FILE).read_text()
        for step in steps_at_home(run.folder.checkpoints)
    ]


def test_ctrl_c_brings_home_what_was_learned_where_there_is_no_result(rehearsal: Rehearsal, line: Proxy) -> None:
    """The last checkpoint and the best, and the report says where; the box is gone."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, LEARNS))
    receipt = walk(shown_to(run, CtrlC(at="train")))
    assert receipt.exit_code == Exit.INTERRUPTED
    assert learned(run) == ["weights of 00000002", "weights of 00000004"]
    assert receipt.ending.message.endswith(f"Its last checkpoint is at home: {run.folder.checkpoints / checkpoint_name(4)}")
    assert rehearsal.is_gone(run.run_id)


@pytest.mark.parametrize(("lines", "why"), [(CRASHES, "(crashed): It is broken."), (VANISHES, "left no outcome")])
def test_a_trainer_that_fails_leaves_what_it_had_learned_at_home(
    rehearsal: Rehearsal, line: Proxy, lines: str, why: str
) -> None:
    """Its box is ended as before; the report says where the checkpoint is."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, lines))
    receipt = walk(run)
    assert (receipt.exit_code, learned(run)) == (Exit.FAILED, ["weights of 00000002", "weights of 00000004"])
    assert why in receipt.ending.message
    assert receipt.ending.message.endswith(f"Its last checkpoint is at home: {run.folder.checkpoints / checkpoint_name(4)}")
    assert rehearsal.is_gone(run.run_id)


def test_what_was_learned_and_does_not_come_keeps_no_box(rehearsal: Rehearsal, line: Proxy) -> None:
    """A checkpoint that is half there is no result; why it is not at home is told."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, LEARNS.replace('"best_step": 2', "")))
    receipt = walk(shown_to(run, watcher := CtrlC(at="train")))
    assert any("The last checkpoint did not come home" in note for note in watcher.notes)
    assert (receipt.exit_code, learned(run)) == (Exit.INTERRUPTED, [])
    assert rehearsal.is_gone(run.run_id)


def test_a_run_is_calibrated_once(rehearsal: Rehearsal, line: Proxy) -> None:
    """However often its books are closed, and wherever a crash came in between."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, FINISH))
    walk(run)
    rows = rehearsal.places.calibration.read_bytes()
    run.folder.receipt.unlink()
    assert walk(run).trained
    assert rehearsal.places.calibration.read_bytes() == rows
    rehearsal.places.calibration.unlink()
    walk(run)
    assert rehearsal.places.calibration.read_bytes().count(b"\n") == rows.count(b"\n") > 0


def finished(rehearsal: Rehearsal, scripted: ScriptedBox) -> Run:
    """A run that nobody controls, whose trainer has come to its end."""
    run, box = left_behind(rehearsal, scripted)
    start_trainer(run, box)
    wait_until((boxes_folder(rehearsal.places) / run.run_id / "job/rc").exists)
    return run


def ended(rehearsal: Rehearsal, run: Run, *, discard: bool = False) -> Teardown:
    return end(run.run_id, Edges(rehearsal.places, Quiet(), make=lambda _launch: run.provisioner), discard=discard)


@pytest.mark.parametrize("discard", [False, True])
def test_down_brings_home_what_is_finished(rehearsal: Rehearsal, line: Proxy, discard: bool) -> None:
    """Unless it is told not to."""
    run = finished(rehearsal, ScriptedBox(rehearsal, line, FINISH))
    assert ended(rehearsal, run, discard=discard).clean
    assert (run.folder.adapter / "adapter.safetensors").exists() is not discard
    billed = rehearsal.state(run.run_id).billed
    assert billed is not None
    assert billed.exit_code == (Exit.INTERRUPTED if discard else Exit.OK)


def test_down_brings_home_what_was_learned_where_nothing_is_finished(rehearsal: Rehearsal, line: Proxy) -> None:
    """Nobody follows the trainer, and it is still at it."""
    run, box = left_behind(rehearsal, ScriptedBox(rehearsal, line, LEARNS))
    start_trainer(run, box)
    wait_until((boxes_folder(rehearsal.places) / run.run_id / "job/events.jsonl").exists)
    assert ended(rehearsal, run).clean
    assert learned(run) == ["weights of 00000002", "weights of 00000004"]


def test_down_lets_a_trainer_that_is_at_it_save_first(rehearsal: Rehearsal, line: Proxy) -> None:
    """Nobody else would tell it to."""
    run, box = left_behind(rehearsal, ScriptedBox(rehearsal, line, LEARNS_WHEN_TOLD))
    start_trainer(run, box)
    wait_until((boxes_folder(rehearsal.places) / run.run_id / "job/events.jsonl").exists)
    assert ended(rehearsal, run).clean
    assert learned(run) == ["weights of 00000002", "weights of 00000004"]


def test_down_does_not_end_a_box_whose_result_does_not_come(rehearsal: Rehearsal, line: Proxy) -> None:
    """It says why, and what ends it all the same."""
    run = finished(rehearsal, ScriptedBox(rehearsal, line, FINISH_DAMAGED))
    teardown = ended(rehearsal, run)
    assert (teardown.verdict, teardown.command) == ("orphaned", f"rentune down --discard {run.run_id}")
    assert "adapter.safetensors is damaged" in teardown.message
    assert not rehearsal.is_gone(run.run_id)
    assert ended(rehearsal, run, discard=True).clean
    assert rehearsal.is_gone(run.run_id)


def test_a_box_that_does_not_answer_does_not_keep_down_waiting(rehearsal: Rehearsal, line: Proxy) -> None:
    """Nobody can say whether it holds anything."""
    run = finished(rehearsal, ScriptedBox(rehearsal, line, FINISH))
    line.cut()
    rescue(dataclasses.replace(run, display=(watcher := Quiet())), reach_s=1.0)
    assert "The box could not be asked for a result" in watcher.notes[0]
