"""Two homes order a box for one run, at each cloud: the one that was asleep meanwhile ends what it ordered, and no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest

from catalogs.hardware import Offer
from provision.account.ledger import Elsewhere, Ledger
from provision.account.lines import AnyLine, Created
from provision.clouds.programs import CLOUDS as PROGRAMS
from provision.clouds.programs import load_cloud
from provision.clouds.programs.order import Order
from provision.clouds.provisioner import PulumiProvisioner
from provision.errors import ControlLost, OwnEnded
from provision.home.clocks import CLOCKS
from provision.home.installation import installation_id
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Box, Launch
from provision.walk.renting import Renting, holding
from tests.doubles.bench import Bench
from tests.provision.plans import attempted, tiny_files, tiny_plan

pytestmark = [pytest.mark.engine, pytest.mark.fault("F15", tier="engine")]
KEEPING: Final = frozenset(name for name, row in PROGRAMS.items() if row.keeps_volumes)
OTHER_KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUxW9Rb4mXa1MJmRcbVGiTt0ZWp0rBvRrjW7JWTfRrq other"
LOST: Final = ControlLost("Run r1 was taken over from another-machine (process 7), and is left to it.", hint="rentune ls")


class Overtaken(Ledger):
    """Of a home whose run another one takes over, at some moment; what that one has noted stands in `others`."""

    def __init__(self, path: Path, here: str) -> None:
        super().__init__(path)
        self.here = here
        self.others: Elsewhere | None = None

    def append(self, line: AnyLine) -> None:
        self.require_charge()
        super().append(line)

    def require_charge(self) -> None:
        if self.others is not None:
            raise LOST

    def elsewhere(self) -> Elsewhere | None:
        return self.others


class Asleep(PulumiProvisioner):
    """Between its look at what there is and its order something happens that it does not hear of."""

    meanwhile: Callable[[], None]

    def _order(self, offer: Offer, launch: Launch, *, ahead_s: float = 0.0) -> Order:
        order = super()._order(offer, launch, ahead_s=ahead_s)
        self.meanwhile()
        return order


class NamedApart(PulumiProvisioner):
    """Calls what it orders by another name than its run's: most clouds let no two things have one."""

    def _order(self, offer: Offer, launch: Launch, *, ahead_s: float = 0.0) -> Order:
        order = super()._order(offer, launch, ahead_s=ahead_s)
        return msgspec.structs.replace(order, name=f"{order.name}-b")


class Pair:
    """A run that is opened in one home; another one takes it over while the first is asleep, and rents."""

    def __init__(self, bench: Bench, *, apart: bool) -> None:
        self.apart = apart  # whether the other's things have names of their own
        plan = tiny_plan(*tiny_files(bench.places.home))
        plan = msgspec.structs.replace(plan, offer=bench.row.offer)
        base, ledger = find_base(plan.request.model), Ledger(bench.places.ledger)
        run_id = open_run(plan, base, places=bench.places, ledger=ledger, clock=time.time)
        self.bench = msgspec.structs.replace(bench, run_id=run_id)
        self.here = installation_id(bench.places)
        self.ledger = Overtaken(bench.places.ledger, self.here)
        self.ledger.append(attempted(run_id, plan, at_s=time.time()))
        self.second: Box | None = None
        self.sleeper = bench.provisioner(Asleep)
        assert isinstance(self.sleeper, Asleep)
        self.sleeper.meanwhile = self.take_over

    @property
    def launch(self) -> Launch:
        kept = {"volume_name": "models", "volume_gib": 12} if self.bench.cloud in KEEPING else {}
        return msgspec.structs.replace(self.bench.launch, **kept)

    @property
    def there(self) -> Places:
        return msgspec.structs.replace(self.bench.places, home=Path(self.bench.folder) / "another-home")

    def take_over(self) -> None:
        other = self.bench.provisioner(NamedApart if self.apart else PulumiProvisioner)
        other.engine = replace(other.engine, places=self.there)
        key = OTHER_KEY if self.apart else self.launch.public_key
        launch = msgspec.structs.replace(self.launch, folder=self.there.run(self.launch.run_id).root, public_key=key)
        self.second = other.up(self.bench.row.offer, launch)
        known = frozenset(each.id for each in self.second.resources)
        self.ledger.others = Elsewhere(here=self.here, holder=installation_id(self.there), known=known)


@pytest.mark.parametrize("names", ["of the run", "apart"])
def test_whoever_slept_through_a_takeover_ends_what_it_ordered_and_no_more(bench_at_each: Bench, names: str) -> None:
    """The other's box stands, whole and alone, where the cloud let the sleeper have all that it had ordered as well, and where
    it declined at a name that is taken.
    """
    pair = Pair(bench_at_each, apart=names == "apart")
    held = holding(pair.bench.row.offer, pair.launch, Renting(pair.sleeper, pair.ledger, CLOCKS.wall))
    with pytest.raises(ControlLost) as raised, held:
        pytest.fail("its ledger took no line")
    assert pair.second is not None
    listed, another = pair.bench.listed(), installation_id(pair.there)
    ours = load_cloud(pair.bench.cloud).KINDS
    assert (
        {each.kind for each in listed.resources} >= {each.kind for each in pair.second.resources} - {"address"} >= {"instance"}
    )
    assert {each.installation for each in (*listed.resources, *listed.kept)} == {another}
    assert len(listed.kept) == (pair.bench.cloud in KEEPING)
    assert not any(isinstance(line, Created) for line in pair.ledger.lines())
    if names == "apart":
        assert isinstance(raised.value, OwnEnded)
        assert (raised.value.bills, raised.value.hint) == (False, LOST.hint)
        said = str(raised.value)
        assert said.startswith(f"{LOST} What an order of this machine had brought, and nobody else knew of, was ended: ")
        assert {kind for kind in ours.values() if f"{kind} " in said} >= {"instance"}
