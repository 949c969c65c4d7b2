"""A whole run at RunPod as far as no account goes: plan, engine, API, a container that starts, SSH, a job, nothing left.

The engine, our dynamic provider, the start command, sshd and the trainer are real. The API is our own fake, and the
container is a tree of namespaces without a GPU, whose image has this project's training stack in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from catalogs.catalog import read_catalog
from planner.asking.request import Where
from planner.cli import answer
from planner.plan import Plan
from provision.account.ledger import Created, Ledger
from provision.charge.control import drive
from provision.errors import Exit
from provision.places import Places
from provision.prepare.asking import search_edges
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.provisioner import Answer
from remote.contract import Outcome
from tests.doubles.bench import Bench, WithTheStack
from tests.doubles.displays import Quiet
from tests.provision.plans import tiny_files, tiny_plan

pytestmark = [pytest.mark.engine, pytest.mark.root, pytest.mark.torch]


def planned(folder: Path) -> Plan:
    """A plan that trains on the CPU, on the offer and at the price that the planner chose at RunPod for a card of theirs."""
    tiny = tiny_plan(*tiny_files(folder), where=Where(providers=("runpod",), gpus=("L4",)))
    chosen = answer(tiny.request, search_edges(), catalog=read_catalog()).recommended
    assert chosen
    return msgspec.structs.replace(tiny, offer=chosen.offer, billing=chosen.billing)


def test_from_the_plan_to_the_receipt(bench_at: Callable[[str], Bench], places: Places, tmp_path: Path) -> None:
    """As root on a port that RunPod chose; the adapter is at home, the bill has ended, and the cloud has nothing of the run."""
    bench, plan, ledger, display = bench_at("runpod"), planned(tmp_path), Ledger(places.ledger), Quiet()
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)

    receipt = drive(run_id, places=places, display=display, make=lambda _: bench.provisioner(WithTheStack))

    assert receipt.exit_code == Exit.OK, (receipt.message, display.notes)
    assert receipt.teardown
    assert receipt.teardown.verdict == "destroyed"
    assert {end.gone for end in receipt.teardown.resources} == {Answer.YES}
    adapter = msgspec.json.decode(places.run(run_id).outcome.read_bytes(), type=Outcome).adapter
    assert {file.path for file in adapter} >= {"adapter_model.safetensors", "adapter_config.json"}
    first, second = [line.box for line in ledger.lines() if isinstance(line, Created)][-2:]
    assert (second.user, second.port != 22) == ("root", True)
    assert first.host_key != second.host_key, "the key that travelled in the environment was replaced"
    assert bench.control.standing() == []
    paid = bench.control.bill_usd()
    assert paid > 0
    bench.control.advance(3600)
    assert bench.control.bill_usd() == paid
