"""Who is asked while a run waits: of a silent box its provider, and nobody where this machine took no file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Never

import msgspec
import pytest

from provision.aboard import job
from provision.account.ledger import Ledger
from provision.account.lines import Attempted, Created
from provision.account.receipt.value import Receipt
from provision.errors import ConnectionFailed, HomeFailed, ProvisionError, RentuneError, TransferFailed, WrongHostKey
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.seam import Answer, Box, Claim, Owned, Resource
from provision.walk import attempt
from provision.walk.driven import Reach, Run, read_run
from provision.walk.edges import Edges
from provision.walk.job import training
from provision.walk.job.patience import HOME_WAIT_S, RECONNECT_S, has_gone, let_in_again, patiently, wait_for_box
from provision.walk.run import walk
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper

BOX = Resource(kind="instance", id="i-1", run_id="r", bills=True)
LAG_S = 30.0


class Lagging(Paper):
    """Answers one look after another as it is told to, the last for ever; counts who was let in."""

    list_lag_s = LAG_S

    def __init__(self, *looks: Owned | ProvisionError) -> None:
        super().__init__()
        self.looks = list(looks)
        self.num_asked = 0
        self.num_admitted = 0

    def owned(self, claim: Claim | None = None) -> Owned:
        look = self.looks[min(self.num_asked, len(self.looks) - 1)]
        self.num_asked += 1
        if isinstance(look, ProvisionError):
            raise look
        return look

    def readmit(self, claim: Claim) -> str | None:
        self.num_admitted += 1
        return None


HERE = Owned(resources=(BOX,), complete=Answer.YES)
GONE = Owned(resources=(), complete=Answer.YES)
UNSEEN = ProvisionError("No answer.")


@dataclasses.dataclass
class Waiting:
    """A run with a box that stands, and what its waits came to."""

    run: Run
    cloud: Lagging
    slept_s: list[float]
    display: Quiet


@pytest.fixture
def waiting(run_id: str, places: Places, ledger: Ledger) -> Callable[..., Waiting]:
    def over(*looks: Owned | ProvisionError, allow_from: tuple[str, ...] = ()) -> Waiting:
        cloud, display, slept_s = Lagging(*looks), Quiet(), list[float]()
        held = read_run(
            run_id, Edges(places, display, make=lambda _claim: cloud, clocks=Clocks(sleep=slept_s.append)), ledger=ledger
        )
        plan = held.plan
        where = msgspec.structs.replace(plan.request.where, allow_from=allow_from)
        plan = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, where=where))
        box = Box(run_id=run_id, provider="local", host="h", port=22, user="me", host_key="k", folder="/box", resources=(BOX,))
        ledger.append(
            Attempted(
                run_id=run_id,
                at_s=held.clocks.wall(),
                offer=plan.offer,
                billing=plan.billing,
                disk_gib=0,
                deadline_at_s=held.state.deadline_at_s,
            )
        )
        ledger.append(Created(run_id=run_id, at_s=held.clocks.wall(), box=box))
        return Waiting(dataclasses.replace(held, plans=(plan,)), cloud, slept_s, display)

    return over


def failing_once(error: RentuneError) -> Callable[[], str]:
    errors = [error]

    def act() -> str:
        if errors:
            raise errors.pop()
        return "done"

    return act


@pytest.mark.parametrize("error", [HomeFailed("The disk is full."), TransferFailed("It came home damaged.")])
def test_where_the_box_answered_a_wait_only_sleeps(waiting: Callable[..., Waiting], error: RentuneError) -> None:
    """A home that is full for a night would ask its cloud ten thousand times, and let this machine in as often."""
    there = waiting(HERE)
    assert patiently(there.run, failing_once(error)) == "done"
    assert (there.cloud.num_asked, there.cloud.num_admitted) == (0, 0)
    assert there.slept_s == [RECONNECT_S]


@pytest.mark.parametrize("full_for_s", [HOME_WAIT_S - RECONNECT_S, HOME_WAIT_S + RECONNECT_S])
def test_a_home_that_stays_full_before_the_trainer_begins_is_waited_for_a_while(
    waiting: Callable[..., Waiting], full_for_s: float
) -> None:
    """There is nothing on the box to be lost, and each hour is paid; it was waited for to the deadline."""
    there, passed = waiting(HERE), [0.0]
    run = dataclasses.replace(
        there.run,
        clocks=dataclasses.replace(
            there.run.clocks, steady=lambda: passed[0], sleep=lambda s: passed.__setitem__(0, passed[0] + s)
        ),
    )

    def act() -> str:
        if passed[0] < full_for_s:
            raise HomeFailed("The disk is full.", hint="Free space there.")
        return "done"

    if full_for_s < HOME_WAIT_S:
        assert patiently(run, act, home_wait_s=HOME_WAIT_S) == "done"
        return
    with pytest.raises(
        HomeFailed, match=r"The disk is full\. It was waited for 10 min 00 s; the trainer had not begun"
    ) as raised:
        patiently(run, act, home_wait_s=HOME_WAIT_S)
    assert raised.value.hint == "Free space there."
    assert passed[0] == HOME_WAIT_S
    assert len(there.display.notes) == 1
    passed[0] = 0.0
    assert patiently(run, act) == "done", "where a result may lie on the box it is waited for longer"


def test_a_home_that_takes_no_event_asks_nobody_either(
    waiting: Callable[..., Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = waiting(HERE)

    def full(*_asked: object, **_more: object) -> Never:
        raise HomeFailed("The disk is full.")

    monkeypatch.setattr(job, "events", full)
    training._hear(there.run, None, None, ())  # type: ignore[arg-type]  # neither is asked
    assert there.cloud.num_asked == 0
    assert there.slept_s == [RECONNECT_S]


def test_a_silent_box_is_asked_for_and_lets_this_machine_in(waiting: Callable[..., Waiting]) -> None:
    there = waiting(HERE)
    assert patiently(there.run, failing_once(ConnectionFailed("Nothing answered."))) == "done"
    assert (there.cloud.num_asked, there.cloud.num_admitted) == (1, 1)
    assert there.slept_s == [RECONNECT_S]


def test_who_may_come_in_stays_as_the_user_has_said(waiting: Callable[..., Waiting]) -> None:
    """However it is come by: it says itself whether it asked."""
    there = waiting(HERE, allow_from=("203.0.113.0/24",))
    assert not let_in_again(there.run)
    wait_for_box(there.run)
    assert there.cloud.num_admitted == 0


def test_what_fails_while_a_machine_is_let_in_is_told_and_no_more(
    waiting: Callable[..., Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box may be silent for another reason."""
    there = waiting(HERE)

    def readmit(_self: Lagging, _claim: Claim) -> Never:
        raise KeyError("rules")

    monkeypatch.setattr(Lagging, "readmit", readmit)
    assert let_in_again(there.run)
    assert there.display.notes == ["This machine's address may not be let in any more, and could not be: 'rules'"]


def test_a_box_has_gone_only_once_two_looks_a_lag_apart_have_not_shown_it(waiting: Callable[..., Waiting]) -> None:
    """A list that lags shows nothing of a box that runs; an answer that does not come shows nothing at all."""
    for looks, gone, asked in (
        ((GONE, GONE), True, 2),
        ((GONE, HERE), False, 2),
        ((GONE, UNSEEN), False, 2),
        ((HERE, GONE), False, 1),
        ((UNSEEN, GONE), False, 1),
    ):
        there = waiting(*looks)
        assert has_gone(there.run) is gone
        assert there.cloud.num_asked == asked
        assert there.slept_s == [LAG_S] * (asked - 1)


# ── a box that an earlier controller had ───────────────────────────────────────────────────────────────────────────


def connected(there: Waiting) -> tuple[Receipt, int]:
    """The receipt of a walk that goes on from a box that stands, and how often that was reached for."""
    tries: list[Box] = []

    def connect(box: Box, **_more: object) -> Never:
        tries.append(box)
        raise WrongHostKey("Another machine answers.")

    receipt = walk(dataclasses.replace(there.run, reach=Reach(connect=connect)))
    return receipt, len(tries)


def test_a_box_that_is_gone_is_not_waited_for_by_whoever_takes_the_run_up(waiting: Callable[..., Waiting]) -> None:
    """Nothing is said to whoever has its address by now, and what is left of it is ended."""
    receipt, num_tries = connected(waiting(GONE))
    assert num_tries == 0
    assert receipt.ending.message.startswith("The box is gone before its deadline, and not by us.")
    assert receipt.teardown is not None
    assert receipt.teardown.clean


@pytest.mark.parametrize("looks", [(HERE,), (GONE, HERE), (UNSEEN,)], ids=["there", "there again", "not seen"])
def test_one_that_is_not_seen_to_be_gone_is_reached_for(waiting: Callable[..., Waiting], looks: tuple[Any, ...]) -> None:
    """A list that lags once, or does not answer, must not cost a training that goes on."""
    _, num_tries = connected(waiting(*looks))
    assert num_tries == 1


def test_a_line_that_is_cut_while_the_host_key_is_replaced_is_waited_for(
    waiting: Callable[..., Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from what was written down; the box was given up, and the next offer never asked for."""
    there = waiting(HERE)
    first = there.run.state.box
    assert first is not None
    coming = msgspec.structs.replace(first, coming_host_key="new")
    renewed = msgspec.structs.replace(first, host_key="new")
    met: list[Box] = []

    def cut_once(_shell: object, box: Box, write_down: Callable[[Box], object]) -> Box:
        met.append(box)
        if len(met) == 1:
            write_down(coming)
            raise ConnectionFailed("The line was cut.")
        write_down(renewed)
        return renewed

    monkeypatch.setattr(attempt, "replace_host_key", cut_once)
    shell: Any = None
    assert attempt._with_own_host_key(there.run, shell, first) == there.run.state.box == renewed
    assert met == [first, coming]
    assert there.slept_s == [RECONNECT_S]
