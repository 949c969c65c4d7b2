"""What is ended, and what is told, where another machine has the run: of what was ordered here only what nobody else knows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import pytest

from catalogs.hardware import Offer
from provision.account.bill import usd_so_far
from provision.account.ledger import Elsewhere, Ledger
from provision.account.lines import AnyLine, Created, Ended, Late, Opened, PhaseEnded
from provision.account.runs import fold
from provision.direct.here import local_offer
from provision.errors import ControlLost, Declined, OwnEnded, ProvisionError, Reason, RentuneError, Scope, StoreFailed
from provision.home.clocks import CLOCKS, Clocks
from provision.seam import Answer, Box, Claim, InCharge, Launch, Own, Resource, ResourceEnd, Teardown, unshared
from provision.walk.overtaken import SEVERAL
from provision.walk.phases import Phases
from provision.walk.renting import Renting, end, holding
from remote.contract import Phase
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import FREE, attempted

LOST: Final = ControlLost("Run r1 was taken over from vm (process 7), and is left to it.", hint="rentune ls --state s3://b")
MACHINE: Final = Resource(kind="instance", id="i-1", run_id="r1", installation="here")
KEY: Final = Resource(kind="key_pair", id="key-1", run_id="r1", installation="here", bills=False)
VOLUME: Final = Resource(kind="volume", id="vol-1", run_id="r1", installation="here", name="models")
BOX: Final = Box(
    run_id="r1", provider="cloudy", host="192.0.2.1", port=22, user="u", host_key="k", folder="/f", resources=(MACHINE, KEY)
)
THERE: Final = Elsewhere(here="here", holder="there", known=frozenset({"i-2", "key-2"}))
WHERE: Final = (
    "rentune down r1 on the machine that has the run ends that, too, and the run. Alone it is ended by hand, at cloudy."
)


class Overtaken(Ledger):
    """Of a run that another machine takes over as soon as the box is ordered."""

    def __init__(self, path: Path, book: Elsewhere | RentuneError | None) -> None:
        super().__init__(path)
        self.book = book

    def append(self, line: AnyLine) -> None:
        self.require_charge()
        super().append(line)

    def require_charge(self) -> None:
        raise LOST

    def elsewhere(self) -> Elsewhere | None:
        if isinstance(self.book, RentuneError):
            raise self.book
        return self.book


class Cloudy(Paper):
    """Gives a box, or fails; notes what it is to end, and says of that what it is told to say."""

    def __init__(self, says: Teardown | Exception, *, fails: ProvisionError | None = None) -> None:
        super().__init__()
        self.says, self.fails = says, fails
        self.ended: list[Claim] = []

    def up(self, offer: Offer, launch: Launch) -> Box:
        if self.fails is not None:
            raise self.fails
        return BOX

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        in_charge()
        self.ended.append(claim)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    return Launch(run_id="r1", provider="cloudy", owner="me", folder=tmp_path, public_key="ssh-ed25519 A", deadline_at_s=1e10)


def gone(*resources: Resource, kept: tuple[Resource, ...] = ()) -> Teardown:
    ends = tuple(ResourceEnd(resource=each, gone=Answer.YES, at_s=1.0) for each in resources)
    return msgspec.structs.replace(Teardown.destroyed("r1", "Nothing is listed.", resources=ends), kept=kept)


def raised(cloudy: Cloudy, ledger: Ledger, launch: Launch, *, box: Box | None = None, spares: bool = False) -> ControlLost:
    """What a block ends with, of which every line comes too late."""
    held = holding(local_offer(), launch, Renting(cloudy, ledger, CLOCKS.wall), box=box, spare_on_failure=spares)
    with pytest.raises(ControlLost) as error, held:
        ledger.append(attempted("r1", at_s=1.0))
    return error.value


@pytest.mark.parametrize("spares", [False, True], ids=["", "its user wants to look at failures"])
def test_a_box_that_came_too_late_is_ended_and_told(tmp_path: Path, launch: Launch, spares: bool) -> None:
    """By what this home has ordered alone, and without a line: the books are the other's."""
    cloudy, ledger = Cloudy(gone(MACHINE, KEY)), Overtaken(tmp_path / "ledger", THERE)
    error = raised(cloudy, ledger, launch, spares=spares)
    [claim] = cloudy.ended
    assert claim.own == Own(installation="here", ids=frozenset({"i-1", "key-1"}), theirs=THERE.known)
    assert isinstance(error, OwnEnded)
    assert (error.bills, error.hint) == (False, LOST.hint)
    what = "What an order of this machine had brought, and nobody else knew of, was ended: instance i-1, key_pair key-1."
    assert str(error) == f"{LOST} {what}"
    assert not list(ledger.lines())


OPENED: Final = Opened(
    run_id="r1",
    at_s=90.0,
    owner="ada",
    provider="cloudy",
    region="*",
    instance_type="this-machine",
    model="tiny",
    usd_per_hour=Decimal("3.60"),
    billing=FREE,
    max_usd=None,
    deadline_at_s=1e10,
    tags={},
    versions={},
    folder="/runs/r1",
)


def test_what_it_cost_stands_in_this_homes_ledger(tmp_path: Path, launch: Launch) -> None:
    """Whoever took the run over saw that rental end before its box was there. What is told twice has billed once."""
    offer = msgspec.structs.replace(local_offer(usd_per_hour=Decimal("3.60")), provider="cloudy")
    asked = msgspec.structs.replace(attempted("r1", at_s=100.0), offer=offer)
    ledger = Overtaken(tmp_path / "ledger", THERE)
    for line in (OPENED, asked):
        Ledger.append(ledger, line)
    made = msgspec.structs.replace(MACHINE, since_s=160.0)
    ends = tuple(ResourceEnd(resource=each, gone=Answer.YES, at_s=1_160.0) for each in (made, KEY))
    cloudy = Cloudy(Teardown.destroyed("r1", "Nothing is listed.", resources=ends))
    with pytest.raises(OwnEnded), holding(offer, launch, Renting(cloudy, ledger, CLOCKS.wall)):
        pass
    *_, late = ledger.lines()
    assert isinstance(late, Late)
    assert (late.offer, late.asked_at_s, late.from_s, late.until_s) == (offer.key, 100.0, 160.0, 1_160.0)
    assert (late.ids, late.usd) == (("i-1",), Decimal("1.0"))
    for lines in (
        (late, Ended(run_id="r1", at_s=200.0, teardown=gone())),
        (Ended(run_id="r1", at_s=200.0, teardown=gone()), late, late),
    ):
        [state] = fold((OPENED, asked, *lines)).values()
        assert state.over
        assert usd_so_far(state, now_s=9e9) == Decimal("1.0")


def test_an_order_that_failed_on_the_way_is_ended_as_well(tmp_path: Path, launch: Launch) -> None:
    """No id of it is known, so its tag alone tells; where nothing of it is there, nothing is said."""
    declined = Declined("The name is taken.", reason=Reason.UNKNOWN, scope=Scope.OFFER)
    cloudy = Cloudy(gone(KEY), fails=declined)
    assert "was ended: key_pair key-1." in str(raised(cloudy, Overtaken(tmp_path / "ledger", THERE), launch))
    assert [claim.own for claim in cloudy.ended] == [Own(installation="here", theirs=THERE.known)]
    nothing = Cloudy(gone(), fails=declined)
    assert raised(nothing, Overtaken(tmp_path / "ledger", THERE), launch) is LOST


def test_a_volume_that_the_other_may_use_stays_and_is_named(tmp_path: Path, launch: Launch) -> None:
    error = raised(Cloudy(gone(MACHINE, kept=(VOLUME,))), Overtaken(tmp_path / "ledger", THERE), launch)
    assert str(error).endswith("was ended: instance i-1. volume vol-1, to be kept as asked, is there and bills.")


def test_a_box_that_the_other_has_in_its_books_is_its(tmp_path: Path, launch: Launch) -> None:
    """The line came through, and its answer did not."""
    cloudy = Cloudy(gone(MACHINE))
    book = msgspec.structs.replace(THERE, known=frozenset({"i-1", "key-1"}))
    assert raised(cloudy, Overtaken(tmp_path / "ledger", book), launch) is LOST
    assert cloudy.ended == []


def test_a_box_that_was_taken_up_here_is_no_order_of_this_controller(tmp_path: Path, launch: Launch) -> None:
    cloudy = Cloudy(gone(MACHINE))
    assert raised(cloudy, Overtaken(tmp_path / "ledger", THERE), launch, box=BOX) is LOST
    assert cloudy.ended == []


@pytest.mark.parametrize("provider", ["local", "host"])
def test_a_machine_of_the_users_own_is_left_to_whoever_has_the_run(tmp_path: Path, launch: Launch, provider: str) -> None:
    """Nothing of it bills, and what it is called is the same for both."""
    cloudy = Cloudy(gone(MACHINE))
    launch = msgspec.structs.replace(launch, provider=provider)
    assert raised(cloudy, Overtaken(tmp_path / "ledger", THERE), launch) is LOST
    assert cloudy.ended == []


@pytest.mark.parametrize(
    ("book", "why"),
    [
        (StoreFailed("s3://b did not answer."), "Whose it is can't be told: s3://b did not answer."),
        (msgspec.structs.replace(THERE, holder="here"), SEVERAL),
    ],
    ids=["the book can't be read", "a copy of this home"],
)
def test_what_can_not_be_told_apart_is_named_and_left(
    tmp_path: Path, launch: Launch, book: Elsewhere | RentuneError, why: str
) -> None:
    cloudy = Cloudy(gone(MACHINE))
    error = raised(cloudy, Overtaken(tmp_path / "ledger", book), launch)
    assert isinstance(error, OwnEnded)
    assert (cloudy.ended, error.bills, error.hint) == ([], True, WHERE)
    said = "An order of this machine may bill beside that, and nobody else knows of it: instance i-1, key_pair key-1 at cloudy."
    assert str(error) == f"{LOST} {said} {why}"


STANDS: Final = ResourceEnd(resource=MACHINE, gone=Answer.NO, at_s=1.0)


@pytest.mark.parametrize(
    ("says", "named", "why"),
    [
        (Teardown.orphaned("r1", "It still lists that.", resources=(STANDS,)), "instance i-1", "It still lists that."),
        (Teardown.unknown("r1", "No answer."), "what it has brought, which is not known", "No answer."),
        (RuntimeError("a bug"), "instance i-1, key_pair key-1", "The destroy itself failed (RuntimeError: a bug)."),
    ],
    ids=["refused", "unseen", "broken"],
)
def test_what_does_not_end_is_named_with_what_to_type(
    tmp_path: Path, launch: Launch, says: Teardown | Exception, named: str, why: str
) -> None:
    error = raised(Cloudy(says), Overtaken(tmp_path / "ledger", THERE), launch)
    assert isinstance(error, OwnEnded)
    assert (error.bills, error.hint) == (True, WHERE)
    assert str(error).endswith(f"knows of it: {named} at cloudy. {why}")


def test_what_became_of_the_order_is_not_hidden_by_the_line_about_its_phase(tmp_path: Path) -> None:
    """That comes too late as well."""

    class Late(Overtaken):
        def append(self, line: AnyLine) -> None:
            if isinstance(line, PhaseEnded):
                raise LOST

    phases = Phases("r1", Late(tmp_path / "ledger", THERE), Quiet(), clocks=Clocks(wall=lambda: 1.0), crash_point=None)
    error = OwnEnded("An order came too late.", bills=True)
    with pytest.raises(ControlLost) as caught, phases.timed(Phase.CREATE):
        raise error
    assert caught.value is error


def test_a_teardown_that_slept_ends_nothing_more_and_writes_no_verdict(tmp_path: Path, launch: Launch) -> None:
    """What carries the run's tag by then is the other's. Before each act it is asked who has the run."""

    class SoonOvertaken(Overtaken):
        asked = 0

        def require_charge(self) -> None:
            self.asked += 1
            if self.asked > 1:
                raise LOST

    cloudy, ledger = Cloudy(gone(MACHINE)), SoonOvertaken(tmp_path / "ledger", THERE)
    with pytest.raises(ControlLost):
        end(launch, Renting(cloudy, ledger, CLOCKS.wall))
    assert cloudy.ended == []
    assert not any(isinstance(line, Created | Ended) for line in ledger.lines())
