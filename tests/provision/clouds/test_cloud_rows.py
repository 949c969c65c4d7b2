"""What is said of each cloud before its SDK is imported, and what its program says: the same."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import msgspec
import pytest

from catalogs.catalog import read_catalog, read_rules
from catalogs.hardware import WhileOff
from planner.asking.options.overlay import request_of
from planner.cli import answer
from planner.search.market.offers import on_sale
from provision.clouds.programs import CLOUDS, Ends, load_cloud
from provision.clouds.programs.order import ENDS_EARLY, PowerOff
from provision.clouds.programs.rest import EVERYWHERE
from provision.errors import Refused
from provision.prepare.asking import search_edges
from provision.providers import has_idle_limit, known_providers, never_met
from tests.clouds_page import DOCS
from tests.doubles.clouds import CLOUDS as DOUBLES
from tests.provision.orders import ORDER

# By what a machine's own power-off does to its bill: who must end that, and what the price list says of a machine that is off
# and there (where the cloud takes it away: of one that somebody stops by hand).
FOLLOWS = {
    PowerOff.ENDS_BILL: (Ends.POWER_OFF, WhileOff.DISK),
    PowerOff.STOPS: (Ends.LIMIT, WhileOff.DISK),
    PowerOff.KEEPS_BILLING: (Ends.HOME, WhileOff.EVERYTHING),
    PowerOff.REBOOTS: (Ends.REQUEST, WhileOff.DISK),
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_who_ends_a_machine_follows_from_what_its_power_off_does(cloud: str) -> None:
    """Sure are a power-off that ends the bill and a limit of the cloud's own; that a pod may end itself was never seen."""
    row = CLOUDS[cloud]
    ends, while_off = FOLLOWS[load_cloud(cloud).POWER_OFF]
    assert row.ends is ends
    assert read_rules().billing[cloud].while_off is while_off
    assert row.ends_itself == (row.ends in (Ends.POWER_OFF, Ends.LIMIT))
    assert known_providers()[cloud].keeps_lease == row.ends_early
    assert row.ends_early == has_idle_limit(cloud) == (load_cloud(cloud).POWER_OFF in ENDS_EARLY)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_bid_is_refused_where_no_spot_machine_is_rented(cloud: str) -> None:
    """By the program, before anything is made."""
    bid = msgspec.structs.replace(ORDER, max_usd_per_hour=Decimal("0.31"), allow_from=DOUBLES[cloud].allow_from)
    if CLOUDS[cloud].spot:
        load_cloud(cloud).program(bid)
    else:
        with pytest.raises(Refused, match="has no spot machines"):
            load_cloud(cloud).program(bid)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_whom_no_firewall_keeps_out_is_told_before_anything_is_rented(cloud: str) -> None:
    """By plan and check as well as by the program: where it has none, no network that was asked for is believed."""
    order = msgspec.structs.replace(ORDER, allow_from=("192.0.2.0/24",))
    assert known_providers()[cloud].has_firewall is CLOUDS[cloud].firewall
    if CLOUDS[cloud].firewall:
        load_cloud(cloud).program(order)
    else:
        with pytest.raises(Refused, match="no firewall"):
            load_cloud(cloud).program(order)
    options = {"model": "7b", "examples": 100, "allow_from": ("192.0.2.0/24",), "provider": (cloud,)}
    if not CLOUDS[cloud].firewall:
        edges = search_edges()
        found = answer(request_of(options), edges, on_sale(read_catalog(), edges))
        assert found.plans
        assert all("no firewall" in str(plan.why_not) for plan in found.plans)


@pytest.mark.parametrize("cloud", [name for name, row in CLOUDS.items() if row.one_look])
def test_one_look_sees_all_of_an_account_without_regions(cloud: str) -> None:
    assert load_cloud(cloud).regions({}) == EVERYWHERE


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_is_said_of_an_accounts_limits_is_what_is_asked(cloud: str) -> None:
    offer = msgspec.structs.replace(DOUBLES[cloud].offer, vcpus=4.0)
    assert CLOUDS[cloud].limits.startswith("none: ") == (load_cloud(cloud).needs(offer) == {})


# A layer of docs/layers.md that depends on the cloud, and which clouds have it, as their programs say.
LAYERS = {
    "idle limit": lambda cloud: load_cloud(cloud).POWER_OFF in ENDS_EARLY,
    "sentinel": lambda cloud: not CLOUDS[cloud].ends_itself,
    "timer": lambda cloud: load_cloud(cloud).IMAGE.told_by == "cloud-init",
    "watcher": lambda cloud: load_cloud(cloud).IMAGE.told_by == "start command",
    "shutdown behaviour": lambda cloud: load_cloud(cloud).POWER_OFF is PowerOff.ENDS_BILL,
    "termination time": lambda cloud: CLOUDS[cloud].ends is Ends.LIMIT,
}


@pytest.mark.parametrize("layer", LAYERS)
def test_the_page_of_layers_names_the_clouds_that_have_each(layer: str) -> None:
    """An idle limit above all is armed only where a power-off, or asking, ends the bill."""
    [row] = [line for line in (DOCS / "layers.md").read_text().splitlines() if line.startswith(f"| {layer} |")]
    named = {cloud for cloud, each in CLOUDS.items() if each.title.split()[0] in row.split("|")[2]}
    assert named == {cloud for cloud in CLOUDS if LAYERS[layer](cloud)}


def test_a_word_changes_with_the_first_real_run() -> None:
    """It is shown beside every plan, and the first run on a cloud says more, until then."""
    row = msgspec.structs.replace(CLOUDS["aws"], run_for_real_on=dt.date(2026, 12, 1))
    assert (CLOUDS["aws"].status, row.status) == ("real engine + emulator", "run for real on 2026-12-01")
    assert {known_providers()[name].status for name in CLOUDS} == {"real engine + emulator"}
    assert all(str(never_met(name)).endswith(row.status) for name, row in CLOUDS.items())
