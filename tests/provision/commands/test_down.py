"""`rentune down` as a program hears it: the verdicts with what the text says of dollars, what is left alone and why."""

from __future__ import annotations

import json
import signal
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from catalogs.catalog import Rules, read_rules
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Ended
from provision.account.upkeep import Spent, spent_together
from provision.charge.ownerless.orphans import Orphans, find_orphans, none_words
from provision.cli import call
from provision.clouds.programs import CLOUDS
from provision.commands import ending, turns
from provision.commands.ending import Ended as Answered
from provision.commands.ending import EndedRun, _nothing_words, cost_sentences
from provision.errors import Exit
from provision.home.places import Places
from provision.seam import Answer, Owned, Resource, ResourceEnd, Teardown
from tests.contracts import CONTRACTS
from tests.provision.plans import attempted

MACHINE = Resource(
    kind="instance",
    id="i-1",
    region="us-east-1",
    run_id="lost",
    installation="here",
    runs=Answer.YES,
    usd_per_hour=Decimal("3.60"),
    since_s=0.0,
)


def strays(*machines: Resource, kept: tuple[Resource, ...] = ()) -> Orphans:
    owned = Owned(resources=machines, complete=Answer.YES, kept=kept)
    return find_orphans({}, {"aws": owned}, installation="here", now_s=1000.0, rules=Rules(billing=read_rules().billing))


def answered(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = call(["down", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_what_may_still_be_there_is_told_with_its_dollars(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it has cost since its provider made it, and what each thing costs on: the figures that the text shows."""
    left = Teardown.orphaned(
        "lost", "It is still listed.", resources=(ResourceEnd(resource=MACHINE, gone=Answer.NO, at_s=1000.0),)
    )
    monkeypatch.setattr(ending, "look_for_orphans", lambda *_, **_edges: strays(MACHINE))
    monkeypatch.setattr(ending, "end_stray", lambda *_, **__: left)
    code, said = answered(capsys, "--orphans")
    assert code == Exit.STILL_BILLS
    [run] = said["data"]
    assert (run["run_id"], run["verdict"], run["command"]) == ("lost", "orphaned", "rentune down lost")
    assert run["spent"] == {"usd": "1.000", "bound": "exactly"}
    assert run["costs_on"] == {"i-1": {"because": "it runs", "usd_per_hour": "3.60", "bound": "exactly"}}
    assert msgspec.convert(run, CONTRACTS["ended-run"]).clean is False
    assert call(["down", "--orphans"]) == Exit.STILL_BILLS
    text = " ".join(capsys.readouterr().out.split())
    assert "It has cost $1.0000. instance i-1 is there; it runs: $3.6000 an hour" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_ctrl_c_what_is_at_work_is_ended_and_the_rest_is_told_as_not_begun(
    number: signal.Signals, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended with "Interrupted." and the code that says that nothing is left, whatever was."""
    begun: list[str] = []

    def end(run_id: str, *_: object, **__: object) -> Teardown:
        begun.append(run_id)
        signal.raise_signal(number)
        return Teardown.destroyed(run_id, "It is gone.")

    machines = (MACHINE, msgspec.structs.replace(MACHINE, id="i-2", run_id="lost-2"))
    monkeypatch.setattr(ending, "look_for_orphans", lambda *_, **_edges: strays(*machines))
    monkeypatch.setattr(ending, "end_stray", end)
    assert call(["down", "--orphans"]) == Exit.STILL_BILLS
    told = capsys.readouterr()
    assert begun == ["lost"]
    assert "Ctrl-C is answered then" in told.err
    text = " ".join(told.out.split())
    assert "It is gone." in text
    assert turns.NOT_BEGUN in text


def test_one_that_is_cut_off_says_so_and_no_other_is_begun(
    run_id: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a result may be on its way home nobody is made to wait for it."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=1e10))
    begun: list[str] = []

    def end(run: str, *_: object, **__: object) -> Teardown:
        begun.append(run)
        raise KeyboardInterrupt

    state = ledger.runs()[run_id]
    left = msgspec.structs.replace(strays(), runs=(state, state))
    monkeypatch.setattr(ending, "look_for_orphans", lambda *_, **_edges: left)
    monkeypatch.setattr(ending, "end", end)
    assert call(["down", "--orphans"]) == Exit.STILL_BILLS
    text = " ".join(capsys.readouterr().out.split())
    assert begun == [run_id]
    assert "it may still bill" in text
    assert turns.NOT_BEGUN in text


def test_a_run_of_this_ledger_is_told_at_the_price_that_was_agreed_to(plan: Plan, ledger: Ledger, run_id: str) -> None:
    """Its receipt has the same sum; a price that was made up is marked."""
    offer = msgspec.structs.replace(plan.offer, provider="aws", usd_per_hour=Decimal("3.60"))
    billing = msgspec.structs.replace(plan.billing, provider="aws")
    ledger.append(attempted(run_id, msgspec.structs.replace(plan, offer=offer, billing=billing), at_s=0.0))
    ledger.append(Ended(run_id=run_id, at_s=1000.0, teardown=Teardown.destroyed(run_id, "")))
    [run] = Answered(teardowns=(Teardown.destroyed(run_id, ""),)).runs(ledger, now_s=9999.0)
    assert run.spent is not None
    assert (run.clean, run.costs_on, run.assumed) == (True, {}, False)
    assert cost_sentences(run) == (f"It has cost ${run.spent.usd:.4f}.",)
    assert cost_sentences(msgspec.structs.replace(run, assumed=True)) == (f"It has cost ${run.spent.usd:.4f} (assumed).",)


def test_nothing_is_said_of_dollars_that_nobody_paid_or_knows() -> None:
    free = EndedRun(run_id="r", verdict="destroyed", resources=(), message="", spent=Spent(usd=Decimal(0), bound="exactly"))
    assert cost_sentences(free) == cost_sentences(msgspec.structs.replace(free, spent=None)) == ()


def test_what_is_left_alone_and_why_stands_in_the_notes(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the text: a colleague's box is named, and where there is nothing to end that is said."""
    theirs = msgspec.structs.replace(MACHINE, run_id="theirs", installation="there", deadline_at_s=2000.0)
    monkeypatch.setattr(ending, "look_for_orphans", lambda *_, **_edges: strays(theirs))
    code, said = answered(capsys, "--orphans")
    assert (code, said["data"]) == (Exit.OK, [])
    assert any("theirs" in note or "left alone" in note for note in said["notes"])
    monkeypatch.setattr(ending, "look_for_orphans", lambda *_, **_edges: strays())
    code, said = answered(capsys, "--orphans")
    assert said["notes"][0] == "Nothing of ours is left anywhere that could be seen."


def test_where_no_cloud_was_asked_nobody_is_told_of_more_than_this_machine() -> None:
    """By `ls` and `down` alike: without any credentials "anywhere" was said of one machine."""
    found = msgspec.structs.replace(strays(), unasked=tuple(CLOUDS))
    assert _nothing_words(None, (), found) == ("Nothing of ours is left on this machine; no cloud was asked.",)
    assert none_words(found) == "No orphans on this machine; no cloud was asked."
    some = msgspec.structs.replace(strays(), unasked=("aws",))
    assert _nothing_words(None, (), some) == ("Nothing of ours is left anywhere that could be seen.",)
    assert none_words(some) == "No orphans where it was asked."


def test_a_run_that_nobody_knows_is_named_before_anybody_is_asked_to_vouch(capsys: pytest.CaptureFixture[str]) -> None:
    """`down --gone` without a terminal spoke of that alone."""
    assert call(["down", "--gone", "20261128-zzzz"]) == Exit.REFUSED
    assert "20261128-zzzz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bounds", "together"),
    [
        (["exactly", "exactly"], "exactly"),
        (["exactly", "at most"], "at most"),
        (["at least", "at least"], "at least"),
        (["at most", "at least"], None),
        (["exactly", None], None),
        ([], None),
    ],
)
def test_a_sum_of_bounds_is_one_only_where_it_says_something(bounds: list[Any], together: str | None) -> None:
    each = [None if bound is None else Spent(usd=Decimal(1), bound=bound) for bound in bounds]
    summed = spent_together(each)
    assert (summed and summed.bound) == together
    assert summed is None or summed.usd == len(bounds)
