"""What a box sends to object storage leaves its provider, and is on the bill."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.account.lines import MOST_BYTES, Sent
from provision.home.places import Places
from provision.seam import Box
from provision.ssh import Shell
from provision.walk.books import close_books
from provision.walk.driven import Run, read_run
from provision.walk.edges import Edges
from provision.walk.job.carrying import Carrier, meter_pushes
from remote.contract import Event, encode
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted

ASKED_AT_S = 1000.0
BOX = Box(run_id="r", provider="local", host="h", port=22, user="u", host_key="ssh-ed25519 AAAA", folder="/box")


@pytest.fixture
def run(run_id: str, places: Places, ledger: Ledger) -> Run:
    """A run on demand whose box was asked for."""
    ledger.append(attempted(run_id, at_s=ASKED_AT_S))
    return read_run(run_id, Edges(places, Quiet(), make=lambda _claim: Paper()), ledger=ledger)


def kept(seq: int, size_bytes: object, *, at_s: float = ASKED_AT_S + 60) -> Event:
    data: dict[str, Any] = {"step": seq, "size_bytes": size_bytes, "seconds": 1.0}
    return Event(seq=seq, kind="checkpoint_pushed", phase="train", at_s=at_s, monotonic_s=at_s, data=data)


def at_home(run: Run, events: Iterable[Event]) -> None:
    run.folder.events.write_bytes(b"".join(encode(event) + b"\n" for event in events))


def sent(run: Run) -> tuple[int, ...]:
    return tuple(rental.sent_bytes for rental in run.state.rentals)


def test_each_checkpoint_that_a_box_pushes_is_metered_once(run: Run) -> None:
    """From a machine on demand, too; told of twice, it has left once. Who comes after a dead controller adds the others."""
    carrier = Carrier(run, cast("Shell", None), BOX)
    for event in (kept(3, 100), kept(3, 100), kept(5, 20)):
        carrier.heard(event)
    assert sent(run) == (120,)
    at_home(run, [kept(3, 100), kept(5, 20), kept(9, 7)])
    for _ in range(2):
        meter_pushes(run)
    assert sent(run) == (127,)


def test_what_one_box_has_pushed_is_not_another_s(run: Run) -> None:
    """Each numbers its words from the first, and of an earlier one's that still lie at home nothing is counted again."""
    meter_pushes(run, [kept(3, 100)])
    run.ledger.append(attempted(run.run_id, at_s=ASKED_AT_S + 500))
    at_home(run, [kept(3, 100), kept(3, 40, at_s=ASKED_AT_S + 560)])
    meter_pushes(run)
    assert sent(run) == (100, 40)


@pytest.mark.parametrize("size_bytes", [-1, MOST_BYTES + 1, "many", None, 1.5])
def test_a_box_that_tells_nonsense_ends_nothing(run: Run, size_bytes: object) -> None:
    meter_pushes(run, [kept(1, size_bytes)])
    assert sent(run) == (0,)
    assert run.ledger.runs()[run.run_id].rentals, "the ledger can be read"


def test_pushes_are_in_the_receipt(run: Run) -> None:
    """At 10 cents a GB, of which one is free: 2 GB and 3 GB are 40 cents. Nobody had heard of the second."""
    sold = msgspec.structs.replace(run.plan.billing, egress_usd_per_gb=run.plan.offer.usd_per_hour / 36, egress_free_gb=1)
    asked = msgspec.structs.replace(attempted(run.run_id, at_s=ASKED_AT_S), billing=sold)
    run.ledger.append(asked)
    meter_pushes(run, [kept(1, 2 * 10**9)])
    at_home(run, [kept(1, 2 * 10**9), kept(2, 3 * 10**9)])
    receipt = close_books(run, message="", interrupted=False)
    assert {line.name: float(line.metered_usd) for line in receipt.bill}["egress"] == pytest.approx(0.4)
    lines = [line for line in run.ledger.lines() if isinstance(line, Sent)]
    assert [line.seq for line in lines] == [1, 2]
