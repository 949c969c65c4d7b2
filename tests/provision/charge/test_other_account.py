"""A run and the account that it was rented in: written down before the order, and compared before anything is concluded."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest

from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Attempted, Created, Ended, Tried
from provision.charge.driving import drive
from provision.charge.ends.ending import end
from provision.charge.ownerless.orphans import account_sentences, find_orphans
from provision.errors import EndUnseen, Exit, ProvisionError, Reason, Refused, RentuneError, Scope
from provision.home.places import Places
from provision.prepare.papers import read_claim
from provision.seam import DEADLINE_GRACE_S, Answer, Box, Launch, Owned, Resource, Teardown
from provision.walk.driven import read_run
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Failing, Paper
from tests.provision.plans import attempted

MINE, THEIRS = "123456789012", "210987654321"
BOX: Final = Box(
    run_id="",
    provider="aws",
    host="198.51.100.4",
    port=22,
    user="ubuntu",
    host_key="",
    folder="/x",
    resources=(Resource(kind="instance", id="i-1"),),
)


class Of(Failing):
    """Whoever asks is of one account; nothing is listed there, and an order fails."""

    def __init__(self, account: str | None) -> None:
        super().__init__(ProvisionError("There is no such machine left."))
        self.whose = account

    def account(self) -> str | None:
        return self.whose


@pytest.fixture
def rented(run_id: str, ledger: Ledger, plan: Plan) -> Callable[[str], Attempted]:
    """An order at a cloud, in the account of this number."""

    def rent(provider: str) -> Attempted:
        offer = msgspec.structs.replace(plan.offer, provider=provider, region="eu-central-1")
        line = msgspec.structs.replace(attempted(run_id, plan, at_s=1.0), offer=offer, account=MINE)
        ledger.append(line)
        return line

    return rent


def test_whose_it_is_stands_in_the_ledger_before_the_order_and_goes_with_it(
    run_id: str, places: Places, ledger: Ledger
) -> None:
    told: list[str | None] = []

    class Asked(Of):
        def up(self, offer: object, launch: Launch) -> Box:
            told.append(launch.account)
            return super().up(offer, launch)  # type: ignore[arg-type]

    drive(run_id, Edges(places, Quiet(), make=lambda _claim: Asked(MINE)))
    rental = ledger.runs()[run_id].rental
    assert rental is not None
    assert (rental.account, told) == (MINE, [MINE])


def test_a_line_of_before_says_that_nobody_knows(run_id: str, ledger: Ledger) -> None:
    line = msgspec.json.decode(msgspec.json.encode(attempted(run_id, at_s=1.0)), type=dict)
    del line["account"]
    assert msgspec.convert(line, Attempted, strict=False).account is None


def test_resume_is_refused_with_another_account_and_nothing_is_asked_for(
    run_id: str, places: Places, ledger: Ledger, rented: Callable[[str], Attempted]
) -> None:
    """It would find its box gone, and buy a second one. While that box may bill the exit code says so."""
    rented("aws")
    ledger.append(Created(run_id=run_id, at_s=2.0, box=msgspec.structs.replace(BOX, run_id=run_id)))
    before, asked = places.ledger.read_bytes(), Of(THEIRS)

    def refused() -> RentuneError:
        with pytest.raises(RentuneError, match=f"{MINE}.*{THEIRS}.*AWS_PROFILE.*rentune resume {run_id}") as caught:
            drive(run_id, Edges(places, Quiet(), make=lambda _claim: asked))
        return caught.value

    told = refused()
    assert isinstance(told, EndUnseen)
    assert told.exit_code == Exit.STILL_BILLS
    assert (asked.calls, places.ledger.read_bytes()) == ([], before)
    ledger.append(Ended(run_id=run_id, at_s=3.0, teardown=Teardown.destroyed(run_id, "")))
    assert isinstance(refused(), Refused)


def test_a_claim_knows_whose_it_is_what_may_be_there_and_by_when_it_is_surely_gone(
    run_id: str, places: Places, ledger: Ledger, rented: Callable[[str], Attempted]
) -> None:
    """Of a cloud that bills what is off there is no such moment; once all is seen gone, nothing may be there."""
    folder = places.run(run_id)
    line = rented("aws")
    ledger.append(Created(run_id=run_id, at_s=2.0, box=msgspec.structs.replace(BOX, run_id=run_id)))
    claim = read_claim(folder, ledger.runs()[run_id])
    assert (claim.account, claim.known, claim.gone_by_s) == (MINE, frozenset({"i-1"}), line.deadline_at_s + DEADLINE_GRACE_S)
    run = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: Paper()), ledger=ledger)
    assert run.launch.account == MINE
    ledger.append(Ended(run_id=run_id, at_s=3.0, teardown=Teardown.destroyed(run_id, "")))
    assert read_claim(folder, ledger.runs()[run_id]).known == frozenset()
    rented("hetzner")
    assert read_claim(folder, ledger.runs()[run_id]).gone_by_s is None


def test_an_orphan_search_says_whose_accounts_it_asked_and_what_lies_in_another(
    run_id: str, ledger: Ledger, rented: Callable[[str], Attempted]
) -> None:
    rented("aws")
    owned = {
        name: Owned(resources=(), complete=Answer.YES, account=account) for name, account in (("aws", THEIRS), ("gcp", "p"))
    }
    found = find_orphans(ledger.runs(), owned, installation="here", now_s=time.time())
    assert list(found.unseen) == [f"run {run_id}"]
    assert f"{MINE} of AWS EC2" in found.unseen[f"run {run_id}"]
    assert account_sentences(found) == (
        f"Asked by the credentials here: AWS EC2's account {THEIRS}, Google Cloud's project p.",
    )
    at_home = {"aws": Owned(resources=(), complete=Answer.YES, account=MINE)}
    assert find_orphans(ledger.runs(), at_home, installation="here", now_s=time.time()).unseen == {}


def test_an_end_that_is_not_known_leaves_the_rental_open(
    run_id: str, places: Places, ledger: Ledger, rented: Callable[[str], Attempted]
) -> None:
    """As the provisioner says of another account: its dollars run on in `ls`, and `down` may be typed again."""

    class Strange(Paper):
        def destroy(self, claim: object, in_charge: object = None) -> Teardown:
            return Teardown.unknown(run_id, "In another account.")

    rented("aws")
    teardown = end(run_id, Edges(places, Quiet(), make=lambda _claim: Strange()))
    state = ledger.runs()[run_id]
    assert (teardown.verdict, teardown.command) == ("unknown", f"rentune down {run_id}")
    assert state.may_bill
    assert not state.over


def test_between_two_attempts_too_the_last_ones_account_is_asked_for(
    run_id: str, places: Places, ledger: Ledger, rented: Callable[[str], Attempted]
) -> None:
    """That nothing was left is looked at once more before the next order."""
    rented("aws")
    ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=Teardown.destroyed(run_id, "")))
    why: dict[str, Any] = {"reason": Reason.CAPACITY, "scope": Scope.OFFER, "message": "full"}
    ledger.append(Tried(run_id=run_id, at_s=3.0, offer="x", took_s=1.0, usd=Decimal(0), **why))
    with pytest.raises(Refused, match=MINE):
        drive(run_id, Edges(places, Quiet(), make=lambda _claim: Of(THEIRS)))
