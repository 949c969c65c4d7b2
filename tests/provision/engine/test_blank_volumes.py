"""A volume that its cloud has made and whose order came back with an error: nothing is on it, and no later run could use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.account.runs import RunState
from provision.clouds.programs import CLOUDS
from provision.errors import ProvisionError
from provision.home.clocks import CLOCKS
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Answer, Launch
from provision.walk.renting import Renting, holding
from tests.doubles.bench import Bench
from tests.doubles.world.core import Reason
from tests.doubles.world.runpod import VOLUME
from tests.provision.plans import attempted, tiny_files, tiny_plan

pytestmark = [pytest.mark.engine, pytest.mark.fault("F4", tier="engine")]
KEEPING: Final = [name for name, row in CLOUDS.items() if row.keeps_volumes]


class Attempt:
    """A run at one cloud that asks for a volume, as the walk hands it to its lease."""

    def __init__(self, bench: Bench) -> None:
        self.ledger = Ledger(bench.places.ledger)
        plan = tiny_plan(*tiny_files(bench.places.home))
        self.plan = msgspec.structs.replace(plan, offer=bench.row.offer)
        base = find_base(plan.request.model)
        run_id = open_run(self.plan, base, places=bench.places, ledger=self.ledger, clock=time.time)
        self.bench = msgspec.structs.replace(bench, run_id=run_id)

    @property
    def state(self) -> RunState:
        return self.ledger.runs()[self.bench.run_id]

    @property
    def launch(self) -> Launch:
        return msgspec.structs.replace(self.bench.launch, volume_name="models", volume_gib=12)

    def rent(self) -> None:
        self.ledger.append(attempted(self.bench.run_id, self.plan, at_s=time.time()))
        with holding(self.bench.row.offer, self.launch, Renting(self.bench.provisioner(), self.ledger, CLOCKS.wall)):
            pass

    def made_though_the_answer_is_no(self) -> None:
        if self.bench.row.double:
            self.bench.faults.plant(
                "create", "after", "Disk" if self.bench.cloud == "gcp" else "Volume", "error 500", once=True
            )
        else:
            self.bench.control.plant("create", Reason.BROKEN, VOLUME, after=True)


@pytest.mark.parametrize("cloud", KEEPING)
def test_it_ends_with_the_attempt_that_made_it(cloud: str, bench_without_machines: Callable[[str], Bench]) -> None:
    """Found by its tag, or its name; and its end stands in the ledger. What an attempt before had filled stays."""
    attempt = Attempt(bench_without_machines(cloud))
    attempt.made_though_the_answer_is_no()

    with pytest.raises(
        ProvisionError, match=r"listed volume \S+, to be kept as asked, which ends with the run's box if it is blank"
    ):
        attempt.rent()

    verdict = attempt.state.teardown
    assert verdict is not None
    assert verdict.verdict == "destroyed", verdict.message
    assert [end.gone for end in verdict.resources if end.resource.name == "models"] == [Answer.YES]
    assert (verdict.kept, attempt.state.kept) == ((), ())
    owned = attempt.bench.provisioner().owned()
    assert (owned.complete, owned.resources, owned.kept) == (Answer.YES, (), ())
