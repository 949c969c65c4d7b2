"""A machine that somebody rented by hand: planned by what it reports and what it costs, trained on, and left running."""

from __future__ import annotations

import sys
import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from planner.asking.request import Where
from planner.cli import answer
from planner.search.market.offers import on_sale
from provision.account.ledger import Ledger
from provision.charge.driving import drive
from provision.direct.host import ExistingHost, OwnSsh
from provision.errors import Exit
from provision.home.places import Places
from provision.prepare.asking import offer_of_host, search_edges
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Answer, Box, Launch
from provision.walk.edges import Edges
from remote.contract import Outcome
from tests.doubles.displays import Quiet
from tests.provision.plans import tiny_files, tiny_plan
from tests.provision.rigs import HOST_PORT_FILE, rig_of

pytestmark = [pytest.mark.box, pytest.mark.torch]

USD_PER_HOUR = Decimal("0.72")  # as `--assume-price` says it


class HostWithTheStack(ExistingHost):
    """Has the training stack already: nothing is installed, and nothing downloaded."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        return msgspec.structs.replace(super().up(offer, launch), python=sys.executable)


def test_any_other_machine_is_used_by_its_address(places: Places, tmp_path: Path) -> None:
    """From the plan to the receipt over the user's own SSH server; the adapter is at home, what it cost is accounted for, and
    the machine answers as before without anything of ours.
    """
    with rig_of("existing host", tmp_path) as rig:
        address = f"127.0.0.1:{(rig.folder / HOST_PORT_FILE).read_text()}"
        known, key = rig.folder / "host/known_hosts", rig.folder / "host/user_key"
        host = HostWithTheStack(address, own=OwnSsh(known_hosts=(known,), identities=(key,), agent=False))
        tiny = tiny_plan(*tiny_files(tmp_path), where=Where(host=address))
        offer = offer_of_host(host, usd_per_hour=USD_PER_HOUR)
        edges = search_edges()
        chosen = answer(tiny.request, edges, on_sale(read_catalog(), edges, beside=(offer,))).recommended
        assert chosen
        plan = msgspec.structs.replace(tiny, offer=chosen.offer, billing=chosen.billing)
        run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=Ledger(places.ledger), clock=time.time)

        receipt = drive(run_id, Edges(places, Quiet(), make=lambda _claim: host))

        assert receipt.exit_code == Exit.OK, receipt.ending.message
        assert (receipt.offer, receipt.usd_per_hour) == (chosen.offer.key, USD_PER_HOUR)
        assert receipt.metered_usd > 0
        assert receipt.teardown
        assert receipt.teardown.verdict == "cleaned"
        assert {end.gone for end in receipt.teardown.resources} == {Answer.YES}
        adapter = msgspec.json.decode(places.run(run_id).outcome.read_bytes(), type=Outcome).adapter
        assert [file.path for file in adapter if not (places.run(run_id).adapter / file.path).exists()] == []
        assert host.owned().nothing
        assert host.fetch_offer().instance_type == chosen.offer.instance_type, "it still answers, to its owner's key"
