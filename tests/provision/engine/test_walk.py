"""A whole run at each cloud as far as no account goes: plan, engine, plugin, API, a machine that boots, SSH, a job, the end.

The engine, our programs, the user data, systemd, sshd and the trainer are real. A plugin is a double, an API is moto or our own
fake cloud, and a machine is a tree of namespaces without a GPU, whose image has this project's training stack in it: so the
offer is the planner's, and what is trained on it a model of two layers, on its CPU.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import psutil
import pytest

from catalogs.catalog import read_catalog
from catalogs.lists.own import read_own, with_own
from planner.asking.request import Where
from planner.cli import answer
from planner.plan import Plan
from planner.search.market.offers import on_sale
from provision.aboard import job
from provision.aboard.lease import lease_has_ended
from provision.account.ledger import Ledger
from provision.account.lines import Attempted, Created, Ended
from provision.charge.driving import drive
from provision.charge.ends.ending import end
from provision.cli import call
from provision.errors import ConnectionFailed, Exit, Reason
from provision.home.checkpoints import steps_at_home
from provision.home.places import Places, RunFolder
from provision.prepare.asking import search_edges
from provision.prepare.inputs import find_base
from provision.prepare.inputs.hub import pinned
from provision.prepare.opening import Agreed, open_run
from provision.seam import Answer
from provision.ssh import Shell
from provision.ssh.keys import client_key
from provision.walk.books import read_receipt
from provision.walk.edges import Edges
from provision.watch.view import read_events
from remote.bases.on_disk import prepare_base
from remote.contract import AdapterFile, Event, ModelSource, Outcome, Phase
from remote.digest import sha256_of
from tests.doubles.bench import ROOT, Bench, WithTheStack
from tests.doubles.displays import Quiet
from tests.doubles.services.hub import served
from tests.faults.drawn import on_engine
from tests.faults.rehearsal import wait_until
from tests.provision.plans import tiny_files, tiny_plan
from tests.provision.rigs import BOOT_S

pytestmark = [pytest.mark.engine, pytest.mark.root, pytest.mark.torch]

HERE: Final = ("127.0.0.1/32",)
HOUR_S: Final = 3600.0
NO_ROOM: Final = (
    "creating EC2 Instance: operation error EC2: RunInstances, https response error StatusCode: 500, RequestID: 1f, api error "
    "InsufficientInstanceCapacity: We currently do not have sufficient g5.xlarge capacity in the zone you requested."
)


@dataclass(frozen=True)
class Walk:
    """What is asked of the planner, so that it chooses something that the emulated cloud sells; and who is let in there."""

    where: Where
    own: str = "provider,instance_type"  # a user's CSV of offers, beside the price list
    user: str = "ubuntu"
    keeps_a_bill: bool = True


WALKS: Final = {
    "aws": Walk(Where(providers=("aws",), allow_from=HERE), keeps_a_bill=False),  # moto knows no dollars
    "gcp": Walk(Where(providers=("gcp",), regions=("us-central1",), gpus=("L4",), spot=False, allow_from=HERE)),
    "digitalocean": Walk(Where(providers=("digitalocean",), gpus=("L40S",), allow_from=HERE)),
    "hetzner": Walk(
        Where(providers=("hetzner",), allow_from=HERE),
        own="provider,region,instance_type,vcpus,ram_gib,on_demand_usd_per_hour\nhetzner,fsn1,ccx13,2,8,0.02",
    ),
    "runpod": Walk(Where(providers=("runpod",), gpus=("L4",)), user="root"),
}


def planned(walk: Walk, folder: Path, *, steps: int = 8) -> Plan:
    """A plan that trains on the CPU, on the offer and at the price that the planner chose."""
    tiny = tiny_plan(*tiny_files(folder), steps=steps, where=walk.where)
    own, shipped = folder / "offers.csv", read_catalog()
    own.write_text(walk.own)
    edges = search_edges()
    chosen = answer(tiny.request, edges, on_sale(with_own(shipped, read_own(own, shipped)), edges)).recommended
    assert chosen
    return msgspec.structs.replace(tiny, offer=chosen.offer, billing=chosen.billing)


@pytest.mark.parametrize("cloud", WALKS)
def test_from_the_plan_to_the_receipt(cloud: str, bench_at: Callable[[str], Bench], places: Places, tmp_path: Path) -> None:
    """The adapter is at home, the bill has ended, and neither the cloud nor this computer has anything of the run."""
    walk, bench, ledger, display = WALKS[cloud], bench_at(cloud), Ledger(places.ledger), Quiet()
    plan = planned(walk, tmp_path)
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)

    receipt = drive(run_id, Edges(places, display, make=lambda _: bench.provisioner(WithTheStack)))

    assert receipt.exit_code == Exit.OK, (receipt.ending.message, display.notes)
    assert receipt.teardown
    assert receipt.teardown.verdict == "destroyed"
    assert {end.gone for end in receipt.teardown.resources} == {Answer.YES}
    assert "instance" in {end.resource.kind for end in receipt.teardown.resources}
    assert [phase for phase in Phase if phase in display.phases][1:] == [
        phase for phase in Phase if phase not in (Phase.PREPARE, Phase.QUEUE)
    ]
    require_adapter(places.run(run_id))
    first, second = [line.box for line in ledger.lines() if isinstance(line, Created)][-2:]
    assert second.user == walk.user
    assert first.host_key != second.host_key, "the key that travelled in user data was replaced over the pinned connection"
    assert bench.provisioner().owned().nothing
    assert [process for process in psutil.process_iter() if run_id in " ".join(environment_of(process))] == []
    if walk.keeps_a_bill:
        require_bill_that_has_ended(bench)


@pytest.mark.long
def test_a_volume_that_is_kept_spares_the_next_run_the_download(
    bench_at: Callable[[str], Bench],
    places: Places,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first run fills it from the hub; the second, on a box of its own, asks for no weights, and its report says so.

    Then nothing is left but the volume, until `down --volumes` ends it, and the bill.
    """
    walk, bench = WALKS["runpod"], bench_at("runpod")
    plan = planned(walk, tmp_path, steps=2)
    keep = msgspec.structs.replace(plan.request.keep, volume_name="models")
    plan = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, keep=keep))
    with served(bench.control.outside()) as hub:
        hub.commit("owner/tiny", drawn_base(plan, tmp_path / "drawn"))
        base = pinned(find_base("owner/tiny"), None, {"HF_ENDPOINT": hub.url})
        kept: list[list[str | None]] = []
        fetched, reports = [], []
        for _ in range(2):
            hub.asked.clear()
            ledger = Ledger(places.ledger)
            run_id = open_run(plan, base, places=places, ledger=ledger, clock=time.time)
            receipt = drive(run_id, Edges(places, Quiet(), make=lambda _: bench.provisioner(WithTheStack)))
            assert receipt.exit_code == Exit.OK, receipt.ending.message
            kept.append([volume.name for volume in receipt.left.kept])
            fetched.append(any(each.startswith("GET ") and each.endswith(".safetensors") for each in hub.asked))
            reports.append(places.run(run_id).report.read_text())
    assert kept == [["models"], []], "it bills on once"
    assert fetched == [True, False]
    assert ["nothing of it was downloaded" in report for report in reports] == [False, True]

    assert [thing["kind"] for thing in bench.control.standing()] == ["volume"]
    for name, value in {"RENTUNE_HOME": str(places.home), **bench.row.variables(bench.url)}.items():
        monkeypatch.setenv(name, value)
    assert call(["down", "--volumes", "models"]) == Exit.OK, capsys.readouterr()
    require_bill_that_has_ended(bench)


@pytest.mark.long
def test_where_a_cloud_has_no_room_the_next_region_is_tried(
    bench_at: Callable[[str], Bench], places: Places, tmp_path: Path
) -> None:
    """A refusal through engine and plugin, as EC2 words it; what it had made is gone before the other region is asked."""
    bench, ledger, display = bench_at("aws"), Ledger(places.ledger), Quiet()
    plan = planned(WALKS["aws"], tmp_path)
    first, second = (in_region(plan, region) for region in bench.row.regions)
    bench.faults.plant("create", "before", "Instance", f"error {NO_ROOM}", once=True)
    base = find_base(first.request.model)
    run_id = open_run(first, base, places=places, ledger=ledger, clock=time.time, agreed=Agreed(alternatives=(second,)))

    receipt = drive(run_id, Edges(places, display, make=lambda _: bench.provisioner(WithTheStack)))

    assert receipt.exit_code == Exit.OK, (receipt.ending.message, display.notes)
    assert [(each.offer, each.reason, each.usd > 0) for each in receipt.tries] == [
        (first.offer.key, Reason.CAPACITY, False),
        (second.offer.key, None, True),
    ]
    kinds = [line for line in ledger.lines() if isinstance(line, Attempted | Ended)]
    assert [type(line) for line in kinds] == [Attempted, Ended, Attempted, Ended]
    assert bench.provisioner().owned().resources == ()


class Reboots(Quiet):
    """Reboots the machine at the trainer's first checkpoint, over a line of its own."""

    def __init__(self, reboot: Callable[[], None]) -> None:
        super().__init__()
        self.reboot = reboot
        self.kinds: list[str] = []

    def event(self, event: Event) -> None:
        super().event(event)
        self.kinds.append(event.kind)
        if event.kind == "checkpoint" and self.kinds.count("checkpoint") == 1:
            self.reboot()


@pytest.mark.long
@pytest.mark.fault("F12", tier="engine")
def test_a_machine_that_reboots_in_training_goes_on(bench_at: Callable[[str], Bench], places: Places, tmp_path: Path) -> None:
    """The same box, its disk and its deadline; the trainer starts again from its checkpoint, and the run ends once."""
    bench, ledger, plan = bench_at("aws"), Ledger(places.ledger), planned(WALKS["aws"], tmp_path, steps=200)
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)

    def reboot() -> None:
        box, key = ledger.runs()[run_id].box, client_key(places.run(run_id).keys, run_id=run_id).private
        assert box
        with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell, suppress(ConnectionFailed):  # whichever is faster
            shell.run("sudo -n systemctl --no-block reboot")

    display = Reboots(reboot)
    receipt = drive(run_id, Edges(places, display, make=lambda _: bench.provisioner(WithTheStack)))

    assert receipt.exit_code == Exit.OK, (receipt.ending.message, display.notes)
    assert display.kinds.count("resumed") == 1
    assert "The box was rebooted, which ended the trainer; starting it again from its last checkpoint." in display.notes
    steps = [event.data["step"] for event in read_events(places.run(run_id).events) if event.kind == "step"]
    assert (steps[-1], len(steps) < 2 * 200) == (200, True), "it did not begin anew"
    assert len({line.box.host for line in ledger.lines() if isinstance(line, Created)}) == 1
    assert bench.provisioner().owned().resources == ()


LEASE_S: Final = 25.0  # a machine is reached within ten seconds, also beside other tests; AWS's timer looks once a minute


@pytest.mark.long
@pytest.mark.parametrize("cloud", ["aws", "runpod"])
def test_down_brings_home_what_a_box_has_saved_that_waits_at_its_leases_end(
    cloud: str, bench_at: Callable[[str], Bench], tmp_path: Path
) -> None:
    """Its controller was killed in the training. The trainer was told to leave and has saved, and the machine waits 300 s for
    somebody: that is whoever ends the run.
    """
    bench, places = bench_at(cloud), Places(home=tmp_path / "home", cache=tmp_path / "cache")
    plan, ledger = planned(WALKS[cloud], tmp_path, steps=100_000), Ledger(places.ledger)
    budget = msgspec.structs.replace(plan.request.budget, lease_hours=LEASE_S / HOUR_S)
    plan = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    words = [msgspec.json.encode(bench).decode(), str(places.home), run_id, "resume"]
    with (tmp_path / "controller.out").open("wb") as out:
        command = [sys.executable, "-W", "ignore", "-m", on_engine.__name__, *words]
        controller = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        wait_until(lambda: any(each.kind == "checkpoint" for each in read_events(places.run(run_id).events)))
    finally:
        controller.kill()
        controller.wait()

    box, key = ledger.runs()[run_id].box, client_key(places.run(run_id).keys, run_id=run_id).private
    assert box
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:
        wait_until(lambda: lease_has_ended(shell, box) and job.state(shell, box).state != "running")
        [*_, saved] = [each.data["step"] for each in job.last_events(shell, box) if each.kind == "checkpoint"]
    teardown = end(run_id, Edges(places, display := Quiet(), make=lambda _: bench.provisioner(WithTheStack)))

    assert teardown.clean
    assert bench.provisioner().owned().resources == ()
    assert steps_at_home(places.run(run_id).checkpoints)[-1:] == [saved], display.notes
    receipt = read_receipt(places.run(run_id))
    assert receipt is not None
    assert receipt.ending.ended_by == "lease"
    assert "Its lease had ended" in receipt.ending.message


def drawn_base(plan: Plan, folder: Path) -> dict[str, bytes]:
    """The files of the plan's base with random weights, as a hub has them."""
    source = ModelSource(kind="config", location=plan.request.model)
    made = Path(prepare_base(source, cache=folder, dtype=plan.strategy.param_dtype, seed=1))
    return {file.name: file.read_bytes() for file in made.iterdir()}


def in_region(plan: Plan, region: str) -> Plan:
    return msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, region=region))


def require_adapter(folder: RunFolder) -> None:
    """Every file of the outcome is at home, with its hash."""
    files: tuple[AdapterFile, ...] = msgspec.json.decode(folder.outcome.read_bytes(), type=Outcome).adapter
    assert {file.path for file in files} >= {"adapter_model.safetensors", "adapter_config.json"}
    for file in files:
        assert sha256_of(folder.adapter / file.path) == file.sha256


def require_bill_that_has_ended(bench: Bench) -> None:
    """By the fake cloud's own book: something was paid for, nothing stands there, and an hour later not a cent came to it."""
    assert bench.control.standing() == []
    paid = bench.control.bill_usd()
    assert paid > 0
    bench.control.advance(HOUR_S)
    assert bench.control.bill_usd() == paid


def environment_of(process: psutil.Process) -> list[str]:
    try:
        return [f"{name}={value}" for name, value in process.environ().items()]
    except psutil.Error:
        return []
