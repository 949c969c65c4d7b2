"""What boxes, lines and trainers do wrong, on the real local box."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import psutil
import pytest

from catalogs.hardware import Offer
from planner.plan import Plan
from provision.cli import call
from provision.direct.local import LocalBox
from provision.errors import Exit
from provision.home.checkpoints import steps_at_home
from provision.providers import boxes_folder
from provision.seam import Box, Launch
from provision.ssh.keys import make_key
from remote.contract import EndReason, Phase
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.doubles.services.webhook import Heard, Letters, webhook
from tests.faults.rehearsal import Rehearsal, wait_until

pytestmark = [pytest.mark.box, pytest.mark.torch]


class Elsewhere(LocalBox):
    """A local box that is said to listen at another port, or to have another host key."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__(boxes_folder(rehearsal.places), rehearsal.places.cache)
        self.changes: dict[str, object] = {}
        self.real_port = 0

    def up(self, offer: Offer, launch: Launch) -> Box:
        box = super().up(offer, launch)
        self.real_port = box.port
        return msgspec.structs.replace(box, **self.changes)


@contextmanager
def silent_port() -> Iterator[int]:
    """Accepts, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.fault("F10", tier="box")
def test_another_host_key_is_refused(rehearsal: Rehearsal) -> None:
    """Somebody else answers: no login, no job, and our box is ended."""
    elsewhere = Elsewhere(rehearsal)
    elsewhere.changes = {"host_key": make_key(rehearsal.folder / "other", comment="other").public}
    run_id = rehearsal.open()
    receipt = rehearsal.drive(run_id, make=lambda _launch: elsewhere)
    assert receipt.exit_code == Exit.FAILED
    assert "answered with the host key" in receipt.ending.message
    assert "; nothing was sent. Another machine has this address now" in receipt.ending.message
    assert rehearsal.is_gone(run_id)
    assert not rehearsal.places.run(run_id).job.exists()


@pytest.mark.fault("F10", tier="box")
def test_a_box_that_never_answers_is_given_up_at_the_deadline(rehearsal: Rehearsal) -> None:
    """The line is open and silent; the run ends by its own deadline, and the box with it."""
    elsewhere = Elsewhere(rehearsal)
    with silent_port() as port:
        elsewhere.changes = {"port": port}
        run_id = rehearsal.open(deadline_s=8.0)
        receipt = rehearsal.drive(run_id, make=lambda _launch: elsewhere)
    assert receipt.exit_code == Exit.FAILED
    assert receipt.ending.ended_by == "deadline"
    assert receipt.ending.message
    assert rehearsal.is_gone(run_id)


def test_a_box_that_dies_in_training_is_found_gone_at_once(rehearsal: Rehearsal) -> None:
    """Its server is killed; the provider can see that, and nobody is patient with a line that will not come back."""

    class Killing(Quiet):
        def phase(self, name: str) -> None:
            super().phase(name)
            if name == "train" and self.phases.count("train") == 1:
                kill_server(rehearsal, run_id)

    run_id = rehearsal.open(steps=100_000)
    display = Killing()
    receipt = rehearsal.drive(run_id, display)
    assert receipt.exit_code == Exit.FAILED
    assert receipt.ending.message == "The box is gone before its deadline, and not by us."
    assert [note for note in display.notes if not note.startswith("At this pace")] == [receipt.ending.message]
    assert rehearsal.is_gone(run_id)


def test_a_box_of_which_only_the_folder_is_left_is_gone(rehearsal: Rehearsal) -> None:
    """Its reaper was killed, and with it all that ran in it: nobody waits for the deadline of what is dead. A checkpoint that
    its folder may hold by then is told of behind that.
    """

    class Killing(Quiet):
        def phase(self, name: str) -> None:
            super().phase(name)
            if name == "train" and self.phases.count("train") == 1:
                kill_marked(rehearsal, run_id)

    run_id = rehearsal.open(steps=100_000)
    started_s = time.monotonic()
    receipt = rehearsal.drive(run_id, Killing())
    assert (receipt.ending.message or "").startswith("The box is gone before its deadline, and not by us.")
    assert receipt.exit_code == Exit.FAILED
    assert time.monotonic() - started_s < 60
    assert not (boxes_folder(rehearsal.places) / run_id).exists()


def kill_marked(rehearsal: Rehearsal, run_id: str) -> None:
    """SIGKILL to the box's reaper, its server and its trainer, and to nothing at home."""
    folder = str(boxes_folder(rehearsal.places) / run_id)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            marked = process.environ().get("RENTUNE_BOX") == run_id
            if marked or any(word.startswith(folder) for word in process.cmdline()):
                process.kill()


def kill_server(rehearsal: Rehearsal, run_id: str) -> None:
    """SIGKILL to the box's SSH server, which is not asked first."""
    config = str(boxes_folder(rehearsal.places) / run_id / "server/sshd_config")
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if config in process.cmdline():
                process.kill()


@pytest.mark.fault("F13", tier="box")
def test_a_cut_of_ten_seconds_costs_nothing_but_the_view(rehearsal: Rehearsal) -> None:
    """Training goes on while the line is down; the events at home are those of the box, byte for byte."""
    elsewhere = Elsewhere(rehearsal)

    class Cutting(Quiet):
        def phase(self, name: str) -> None:
            super().phase(name)
            if name == "train" and self.phases.count("train") == 1:
                proxy.cut()
                threading.Timer(10.0, proxy.heal).start()

    with Proxy(target_port=0) as proxy:

        class Proxied(Elsewhere):
            def up(self, offer: Offer, launch: Launch) -> Box:
                box = super().up(offer, launch)
                proxy.target_port = box.port
                return msgspec.structs.replace(box, port=proxy.port)

        elsewhere = Proxied(rehearsal)
        run_id = rehearsal.open(steps=300)
        receipt = rehearsal.drive(run_id, Cutting(), make=lambda _launch: elsewhere)
    assert receipt.exit_code == Exit.OK
    lines = rehearsal.places.run(run_id).events.read_bytes().splitlines()
    numbers = [msgspec.json.decode(line)["seq"] for line in lines]
    assert numbers == list(range(len(numbers)))


def kill_trainer(rehearsal: Rehearsal, run_id: str) -> None:
    """SIGKILL to everything of the job, once it has trained a little and written a checkpoint."""
    wait_until(lambda: {"checkpoint", "step"} <= {event.kind for event in rehearsal.events_on_box(run_id)})
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("RENTUNE_TASK", "").endswith(f"{run_id}/job"):
                process.kill()


def test_a_killed_trainer_goes_on_from_its_checkpoint_and_whoever_is_told_hears_of_it(
    rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the kernel kills what takes too much memory: started again, and trained to the end; `logs` tells it where it was."""
    letters = Letters(rehearsal.folder / "letters")
    with webhook(Heard()) as heard:
        run_id = rehearsal.open(steps=400, alerts=(heard.url, letters.command))
        killer = threading.Thread(target=kill_trainer, args=(rehearsal, run_id))
        killer.start()
        receipt = rehearsal.drive(run_id, watcher := Quiet())
        killer.join()
    assert any("starting it again" in note for note in watcher.notes)
    assert receipt.exit_code == Exit.OK
    assert heard.kinds() == ["started", "probed", "crashed", "finished"]
    assert letters.bodies() == heard.bodies
    assert call(["logs", run_id]) == Exit.OK
    told = capsys.readouterr().out
    assert told.count("  the trainer was started again\n") == 1
    assert told.index("train\n") < told.index("the trainer was started again\n") < told.index("  going on from step ")


def crashing(plan: Plan) -> Plan:
    loop = msgspec.structs.replace(plan.request.loop, learning_rate=1e38, warmup_ratio=0.0, schedule="constant")
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, loop=loop))


@pytest.mark.fault("F17", tier="box")
def test_a_trainer_that_crashes_is_told_apart_from_one_that_stops(rehearsal: Rehearsal) -> None:
    """A learning rate that no float can carry: a typed reason with its words, box gone, exit code 1, bill shown."""
    run_id = rehearsal.open(steps=40, change=crashing)
    receipt = rehearsal.drive(run_id)
    assert receipt.ending.reason == EndReason.CRASHED
    assert "overflow" in receipt.ending.message
    assert receipt.exit_code == Exit.FAILED
    assert rehearsal.is_gone(run_id)
    assert receipt.metered_usd > 0


# No machine of the tests has a card. Its library's word for one that is full comes from a stand-in, in the trainer's own
# process, once that enters the phase: where a parameter is made, and where a forward begins.
FULL_CARD = """
import runpy, sys, torch
from remote.telemetry import Events
full, enter = sys.argv.pop(1), Events.enter
def refuse(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB.")
def entered(self, phase, **more):
    enter(self, phase, **more)
    if phase == full:
        torch.nn.Module.register_parameter = torch.nn.functional.embedding = refuse
Events.enter = entered
runpy.run_module("remote", run_name="__main__", alter_sys=True)
"""


class FullCard(LocalBox):
    """A local box whose trainer meets a card that is full."""

    def __init__(self, rehearsal: Rehearsal, phase: str) -> None:
        super().__init__(boxes_folder(rehearsal.places), rehearsal.places.cache)
        (code := rehearsal.folder / "full.py").write_text(FULL_CARD)
        self.python = rehearsal.folder / "python"
        as_any = f'[ "$1 $2" = "-m remote" ] || exec {sys.executable} "$@"'
        self.python.write_text(f'#!/bin/sh\n{as_any}\nshift 2\nexec {sys.executable} -c "$(cat {code})" {phase} "$@"\n')
        self.python.chmod(0o755)
        self.num_ordered = 0

    def up(self, offer: Offer, launch: Launch) -> Box:
        self.num_ordered += 1
        return msgspec.structs.replace(super().up(offer, launch), python=str(self.python))


@pytest.mark.long
@pytest.mark.fault("F17", tier="box")
@pytest.mark.parametrize("phase", [Phase.LOAD, Phase.PROBE, Phase.EVALUATE])
def test_a_card_that_is_full_has_a_reason_of_its_own_and_no_blind_try_again(rehearsal: Rehearsal, phase: Phase) -> None:
    """At the load, at the longest batch, at an evaluation: named with the phase, box gone, and nothing else is rented."""
    box = FullCard(rehearsal, phase)
    run_id = rehearsal.open(steps=40)
    receipt = rehearsal.drive(run_id, make=lambda _claim: box)
    assert (receipt.exit_code, receipt.ending.reason) == (Exit.FAILED, EndReason.OUT_OF_MEMORY), receipt.ending.message
    assert f"the job does not fit into memory (during {phase})" in receipt.ending.message
    assert "CUDA out of memory" in receipt.ending.message
    assert rehearsal.is_gone(run_id)
    assert (box.num_ordered, receipt.restarts) == (1, ())


def break_data(rehearsal: Rehearsal) -> None:
    (rehearsal.folder / "rows.jsonl").write_text('{"neither": "prompt", "nor": "answer"}\n')


def keep_box(plan: Plan) -> Plan:
    keep = msgspec.structs.replace(plan.request.keep, box_on_failure=True)
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, keep=keep))


def test_data_that_cannot_be_used_is_named(rehearsal: Rehearsal) -> None:
    """The trainer's own sentence reaches the receipt."""
    run_id = rehearsal.open()
    break_data(rehearsal)
    receipt = rehearsal.drive(run_id)
    assert (receipt.ending.reason, receipt.exit_code) == (EndReason.BAD_JOB, Exit.FAILED)
    assert rehearsal.is_gone(run_id)


def test_a_kept_box_says_that_it_still_bills(rehearsal: Rehearsal) -> None:
    """--keep-box-on-failure: exit code 3 and the command that ends it; the deadline stands."""
    run_id = rehearsal.open(change=keep_box)
    break_data(rehearsal)
    receipt = rehearsal.drive(run_id)
    assert receipt.exit_code == Exit.STILL_BILLS
    assert not rehearsal.is_gone(run_id)
    assert rehearsal.state(run_id).deadline_at_s > time.time()


def went_with_its_machine(rehearsal: Rehearsal, run_id: str, number: signal.Signals, saved: str) -> Path:
    """The controller is killed once this file is in the box's folder, and the box goes as at a reboot; the folder."""
    folder = boxes_folder(rehearsal.places) / run_id
    controller = rehearsal.start_controller(run_id)
    wait_until(lambda: any(folder.glob(f"job/{saved}")))
    controller.kill()
    controller.wait()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(folder / "server/reaper.json") in process.cmdline():
                process.send_signal(number)
    wait_until(lambda: [each.kind for each in rehearsal.box.owned().resources if each.run_id == run_id] == ["folder"])
    return folder


@pytest.mark.parametrize(("number", "command"), [(signal.SIGTERM, "resume"), (signal.SIGKILL, "down")])
def test_what_a_local_box_had_learned_outlives_a_reboot_of_its_machine(
    rehearsal: Rehearsal, number: signal.Signals, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An orderly one ends its processes, a power cut all at once: its newest checkpoint is on this very disk."""
    run_id = rehearsal.open(steps=10_000)
    folder = went_with_its_machine(rehearsal, run_id, number, "checkpoints/step-*[1-9]*")
    call([command, run_id])
    said = "".join(capsys.readouterr())
    home = rehearsal.places.run(run_id)
    assert steps_at_home(home.checkpoints)[-1] > 0
    assert str(home.go_on) in said.replace("\n", "")
    assert not folder.exists()
    assert rehearsal.state(run_id).billed is not None


def test_a_result_that_a_local_box_had_finished_outlives_a_reboot_of_its_machine(rehearsal: Rehearsal) -> None:
    """It is brought home from this disk, and the run has ended well."""
    run_id = rehearsal.open(steps=400)
    folder = went_with_its_machine(rehearsal, run_id, signal.SIGKILL, "outcome.json")
    receipt = rehearsal.drive(run_id)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert (rehearsal.places.run(run_id).adapter / "adapter_model.safetensors").exists()
    assert not folder.exists()
