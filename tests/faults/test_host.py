"""A run on a machine of the user's outlives whoever controls it, as one on a rented box does."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from planner.asking.request import Where
from planner.plan import Plan
from provision.aboard.marks import LEASE_ENDED_FILE
from provision.aboard.ship import STACK_MARK, stack_hash
from provision.account.ledger import Ledger
from provision.cli import call
from provision.direct.host import ExistingHost
from provision.direct.host_scripts import STACKS
from provision.errors import Exit
from provision.prepare.asking import offer_of_host
from provision.prepare.papers import read_claim
from provision.providers import vouched_key
from provision.seam import Answer
from provision.walk.books import read_receipt
from provision.watch.view import read_events
from remote.contract import EVENTS_FILE, Event, Phase
from tests.doubles.displays import Quiet
from tests.faults.leases.test_leased import leased
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.provision.plans import tiny_files
from tests.provision.rigs import HOST_PORT_FILE, rig_of

pytestmark = [pytest.mark.box, pytest.mark.torch]

RENTUNE = (sys.executable, "-c", "import sys; from provision.cli import main; sys.exit(main())")


class Hosted:
    """Runs on one host, which has the training stack already: nothing is installed, and nothing downloaded."""

    def __init__(self, rehearsal: Rehearsal, home: Path, address: str) -> None:
        self.rehearsal = rehearsal
        self.home = home
        self.address = address
        self.host = ExistingHost(address)

    def open(self, *, steps: int) -> str:
        return self.rehearsal.open(steps=steps, change=self._on_host)

    def num_steps(self, run_id: str) -> int:
        """Optimizer steps taken on the host, those of the probe not counted."""
        events = read_events(self.home / ".rentune/boxes" / run_id / "job" / EVENTS_FILE)
        return sum(event.kind == "step" for event in events)

    def has_finished(self, run_id: str) -> bool:
        return (self.home / ".rentune/boxes" / run_id / "job/outcome.json").exists()

    def adapter_is_home(self, run_id: str) -> bool:
        return (self.rehearsal.places.run(run_id).adapter / "adapter_model.safetensors").exists()

    def num_trainers(self, run_id: str) -> int:
        """How many have begun, one after another, as their events at home tell."""
        events = read_events(self.rehearsal.places.run(run_id).events)
        return sum((event.kind, event.phase) == ("phase_started", Phase.LOAD) for event in events)

    def pass_deadline(self, run_id: str) -> None:
        """As if it had come meanwhile: in the run's book, and on the line that admits its key."""
        keys, book = self.home / ".ssh/authorized_keys", self.rehearsal.places.ledger
        keys.write_text(re.sub(r'expiry-time="[0-9]+"', 'expiry-time="20200101000000"', keys.read_text()))
        agreed_s = self.rehearsal.state(run_id).deadline_at_s
        book.write_text(book.read_text().replace(f'"deadline_at_s":{agreed_s}', f'"deadline_at_s":{time.time() - 60}'))
        assert Ledger(book).runs()[run_id].deadline_at_s < time.time()

    def end_processes(self) -> None:
        """Whatever runs there for a run of ours."""
        for each in self.host.owned().resources:
            if each.kind == "process":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(each.id), signal.SIGKILL)

    def _on_host(self, plan: Plan) -> Plan:
        request = msgspec.structs.replace(plan.request, where=Where(host=self.address))
        return msgspec.structs.replace(plan, request=request, offer=offer_of_host(self.host, usd_per_hour=Decimal(0)))

    def scripted(self, run_id: str, lines: str) -> Path:
        """The folder of that run's box on the host, whose trainers are these lines of shell."""
        [python] = self.home.glob(f".rentune/{STACKS}/*/bin/python")
        trains = f'if [ "$1" = -m ] && [ "$2" = remote ]; then\n{lines}\nfi'
        python.write_text(f'#!/bin/sh\n{trains}\nexec {sys.executable} "$@"\n')
        return self.home / ".rentune/boxes" / run_id


@pytest.fixture
def hosted(rehearsal: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    """Known and reached as a person's SSH client does it: by what lies in the home that the controllers are given."""
    with rig_of("existing host", tmp_path) as rig:
        home = rig.folder / "host"
        (home / "user_key").rename(home / ".ssh/id_ed25519")
        (home / "known_hosts").rename(home / ".ssh/known_hosts")
        stack = home / ".rentune" / STACKS / stack_hash()[:16]
        (stack / "bin").mkdir(parents=True)
        (stack / STACK_MARK).write_text(stack_hash())
        (stack / "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (stack / "bin/python").chmod(0o755)
        monkeypatch.setenv("HOME", str(home))
        made = Hosted(rehearsal, home, f"127.0.0.1:{(rig.folder / HOST_PORT_FILE).read_text()}")
        yield made
        made.end_processes()


def test_a_job_file_is_checked_on_the_host_that_is_named(
    hosted: Hosted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `run --host` would plan it, whatever machine the file asks for; one whose key nobody knows is refused with a way."""
    model, data = tiny_files(tmp_path)
    training = "training: {method: lora, seq_len: 64, optimizer: adamw_torch}\n"
    (tmp_path / "job.yaml").write_text(f"model: {model}\ndata: {{file: {data}}}\n{training}where: {{providers: [aws]}}\n")
    words = ["check", str(tmp_path / "job.yaml"), "--host", hosted.address]
    assert call(words) == Exit.OK
    said = " ".join(capsys.readouterr().out.split())
    assert "Note: on host/127.0.0.1/" in said
    (hosted.home / ".ssh/known_hosts").rename(hosted.home / "known_hosts")
    assert call(words) == Exit.REFUSED
    shown = re.search(r"--host-key (\S+)", " ".join(capsys.readouterr().err.split()))
    assert shown is not None
    assert call([*words, "--host-key", shown[1]]) == Exit.OK
    assert not (hosted.home / ".rentune/boxes").exists()


@pytest.mark.fault("F2", tier="box")
def test_whoever_takes_a_run_on_a_host_up_again_follows_the_trainer_that_runs(hosted: Hosted) -> None:
    """The controller was killed in mid-training: nothing on the host is ended or begun again for that."""
    run_id = hosted.open(steps=200)
    hosted.rehearsal.kill_controller_at(run_id, "train")
    assert hosted.rehearsal.drive(run_id).exit_code == Exit.OK
    assert hosted.num_trainers(run_id) == 1
    assert hosted.adapter_is_home(run_id)
    assert hosted.host.owned().nothing


@pytest.mark.fault("F2", tier="box")
def test_what_a_host_has_finished_with_nobody_there_comes_home(hosted: Hosted) -> None:
    """The adapter that lies there is the run's only result."""
    run_id = hosted.open(steps=8)
    hosted.rehearsal.kill_controller_at(run_id, "train")
    wait_until(lambda: hosted.has_finished(run_id))
    assert hosted.rehearsal.drive(run_id).exit_code == Exit.OK
    assert hosted.adapter_is_home(run_id)
    assert hosted.host.owned().nothing


def test_a_host_that_was_rebooted_has_its_watchdog_again_beside_the_trainer(hosted: Hosted) -> None:
    """Nothing there starts either by itself."""
    run_id = hosted.open(steps=2000)
    hosted.rehearsal.kill_controller_at(run_id, "train")
    hosted.end_processes()
    claim = read_claim(hosted.rehearsal.places.run(run_id), hosted.rehearsal.state(run_id))
    assert [each.there for each in hosted.host.layers(claim) if each.name == "watchdog"] == [Answer.NO]
    controller = hosted.rehearsal.start_controller(run_id)
    wait_until(lambda: any((each.name, each.there) == ("watchdog", Answer.YES) for each in hosted.host.layers(claim)))
    controller.kill()
    controller.wait()
    assert call(["down", "--discard", run_id]) == Exit.OK


class Rebooted(Quiet):
    """Its host is rebooted before the trainer is started; what guards it when it trains is remembered. Then Ctrl-C."""

    def __init__(self, hosted: Hosted, run_id: str) -> None:
        super().__init__()
        self.hosted, self.run_id = hosted, run_id
        self.watchdogs: list[Answer] = []

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == Phase.DOWNLOAD:
            self.hosted.end_processes()

    def event(self, event: Event) -> None:
        claim = read_claim(self.hosted.rehearsal.places.run(self.run_id), self.hosted.rehearsal.state(self.run_id))
        self.watchdogs = [each.there for each in self.hosted.host.layers(claim) if each.name == "watchdog"]
        raise KeyboardInterrupt


def test_a_host_that_was_rebooted_before_its_trainer_began_has_its_watchdog_again(hosted: Hosted) -> None:
    """As while the environment is built, which takes minutes: whoever starts the trainer sees to what ends it."""
    run_id = hosted.open(steps=2000)
    display = Rebooted(hosted, run_id)
    hosted.rehearsal.drive(run_id, display)
    assert display.watchdogs == [Answer.YES]


@pytest.mark.fault("F2", tier="box")
@pytest.mark.parametrize("command", ["down", "resume"])
def test_what_a_host_has_finished_comes_home_past_the_deadline_as_well(hosted: Hosted, command: str) -> None:
    """The run's key has ended by then, on a real server: it is admitted once more by the user's own login."""
    run_id = hosted.open(steps=8)
    hosted.rehearsal.kill_controller_at(run_id, "train")
    wait_until(lambda: hosted.has_finished(run_id))
    hosted.pass_deadline(run_id)
    assert call([command, run_id]) == Exit.OK
    assert hosted.adapter_is_home(run_id)
    assert hosted.host.owned().nothing


@pytest.mark.fault("F8", tier="box")
def test_a_closed_terminal_leaves_a_run_on_a_host_to_a_supervisor(hosted: Hosted) -> None:
    run_id = hosted.open(steps=200)
    with (hosted.rehearsal.folder / "terminal").open("wb") as terminal:
        controller = subprocess.Popen([*RENTUNE, "resume", run_id], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
        wait_until(lambda: hosted.num_steps(run_id) > 3)
        controller.send_signal(signal.SIGHUP)
        assert controller.wait(10) == -signal.SIGHUP
    wait_until(lambda: hosted.rehearsal.state(run_id).billed is not None)
    receipt = read_receipt(hosted.rehearsal.places.run(run_id))
    assert receipt is not None
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert hosted.adapter_is_home(run_id)


def test_a_run_whose_folder_somebody_removed_from_the_host_is_told_gone_and_cleaned(hosted: Hosted) -> None:
    """Also where a key of ours still stands there, which is no box."""
    run_id = hosted.open(steps=200)
    hosted.rehearsal.kill_controller_at(run_id, "train")
    hosted.end_processes()
    shutil.rmtree(hosted.home / ".rentune/boxes" / run_id)
    receipt = hosted.rehearsal.drive(run_id)
    assert receipt.exit_code == Exit.FAILED
    assert "gone before its deadline" in receipt.ending.message
    assert hosted.host.owned().nothing


def test_the_key_that_a_run_began_with_is_known_to_it_from_then_on(hosted: Hosted) -> None:
    """Whoever looks for it from another home, whose files vouch for nobody, looks at the same host."""
    run_id = hosted.open(steps=200)
    hosted.rehearsal.kill_controller_at(run_id, "train")
    known = hosted.home / ".ssh/known_hosts"
    key = vouched_key(hosted.address)
    assert key is not None
    assert key in known.read_text()
    known.unlink()
    assert vouched_key(hosted.address) is None
    claim = read_claim(hosted.rehearsal.places.run(run_id), hosted.rehearsal.state(run_id))
    assert claim.host_key == key
    assert call(["down", run_id]) == Exit.OK


def test_a_lease_that_ended_before_the_trainer_began_is_forgotten(hosted: Hosted) -> None:
    """Its mark would let each later death of the trainer pass for another end of the lease, and restart it for ever."""
    run_id = hosted.rehearsal.open(steps=8, change=lambda plan: leased(hosted._on_host(plan), lease_s=600.0))
    box = hosted.scripted(run_id, "touch began; exec sleep 1000")
    hosted.rehearsal.kill_controller_at(run_id, "boot")
    (box / LEASE_ENDED_FILE).touch()
    controller = hosted.rehearsal.start_controller(run_id)
    wait_until((box / "job/began").exists)
    assert not (box / LEASE_ENDED_FILE).exists()
    assert call(["down", "--discard", run_id]) == Exit.OK
    controller.wait()
