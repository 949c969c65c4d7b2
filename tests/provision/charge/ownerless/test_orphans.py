"""What has no owner: runs that nobody controls, and resources of no run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import msgspec
import psutil
import pytest

from catalogs.catalog import Rules, read_rules
from provision.account.ledger import Ledger
from provision.account.lines import Controlled, Ended
from provision.account.runs import Standing
from provision.charge.controller import hands_of, in_control, this_process
from provision.charge.ownerless.looking import look_for_orphans
from provision.charge.ownerless.orphans import (
    Orphans,
    clock_sentences,
    find_orphans,
    kept_sentences,
    lists_of,
    off_sentences,
    only_run,
    other_sentences,
    providers_to_ask,
    stray_runs,
    stray_sentences,
)
from provision.cli import call
from provision.clouds.programs import CLOUDS
from provision.clouds.programs.order import PRICE_TAG, tagged_resource
from provision.errors import Exit
from provision.home.clocks import CLOCKS
from provision.home.installation import installation_id
from provision.home.places import Places
from provision.home.processes import boot_id
from provision.providers import Lists, boxes_folder, make_provisioner
from provision.seam import DEADLINE_GRACE_S, Answer, Claim, InCharge, Owned, Provisioner, Resource, Teardown, unshared
from tests.doubles.provisioners import Paper
from tests.provision.looks import let_every_look_find
from tests.provision.plans import attempted, between_attempts


def resource(run_id: str | None, **tags: Any) -> Resource:
    return Resource(kind="instance", id=f"i-{run_id}", run_id=run_id, **tags)


def orphans(ledger: Ledger, owned: dict[str, Owned] | None = None) -> Orphans:
    runs = ledger.runs()
    hands = {run_id: hands_of(state, None, now_s=1000.0) for run_id, state in runs.items() if not state.over}
    return find_orphans(runs, owned or {}, installation="here", now_s=1000.0, hands=hands)


def seen(*resources: Resource, ahead_s: float | None = 0.0) -> dict[str, Owned]:
    return {"aws": Owned(resources=resources, complete=Answer.YES, ahead_s=ahead_s)}


def test_an_opened_run_without_a_controller_is_an_orphan(run_id: str, ledger: Ledger) -> None:
    """Opened and not ended, and its process is gone."""
    assert [state.run_id for state in orphans(ledger).runs] == [run_id]
    ledger.append(this_process(run_id, at_s=1.0, detached=False))
    assert orphans(ledger).nothing
    ledger.append(Controlled(run_id=run_id, at_s=2.0, pid=1, process_started_s=0.0, boot_id=boot_id()))
    assert len(orphans(ledger).runs) == 1


@pytest.mark.parametrize(
    ("ahead_s", "is_over", "off"),
    [
        (0.0, False, None),
        (4 * 3600.0, False, "This machine's clock is 4 h 00 min ahead of the providers'."),
        (-4 * 3600.0, True, "This machine's clock is 4 h 00 min behind the providers'."),
        (None, False, None),
    ],
)
def test_whether_somebody_elses_deadline_has_passed_the_provider_says(
    ledger: Ledger, ahead_s: float | None, is_over: bool, off: str | None
) -> None:
    """A clock that was set hours ahead ended a box that trained; one behind left what nobody wants. Untold, nothing is over."""
    local_s = 100_000.0
    in_an_hour = resource("theirs", installation="there", deadline_at_s=local_s + 3600)
    if ahead_s is None:
        in_an_hour = msgspec.structs.replace(in_an_hour, deadline_at_s=1.0)
    found = find_orphans(ledger.runs(), seen(in_an_hour, ahead_s=ahead_s), installation="here", now_s=local_s)
    assert bool(found.strays) is is_over
    assert [sentence.partition(" Deadlines")[0] for sentence in clock_sentences(found.ahead_s)] == ([off] if off else [])
    assert found.seen_at_s == local_s - (ahead_s or 0.0)


def test_the_earliest_clock_counts_where_providers_differ(ledger: Ledger) -> None:
    """By one of them nothing is over yet, so nothing is ended."""
    over = resource("theirs", installation="there", deadline_at_s=1000.0)
    owned = {"aws": seen(over)["aws"], "gcp": Owned(resources=(), complete=Answer.YES, ahead_s=9000.0)}
    assert find_orphans(ledger.runs(), owned, installation="here", now_s=10_000.0).strays == ()


def test_a_clock_that_is_off_is_named_by_each_look(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In text and in JSON, whether or not anything was found."""
    found = find_orphans({}, seen(ahead_s=7200.0), installation="here", now_s=10_000.0)
    let_every_look_find(monkeypatch, lambda: found)
    for words in (["ls", "--orphans"], ["down", "--orphans"], ["down", "--volumes"]):
        assert call(words) == Exit.OK
        assert "This machine's clock is 2 h 00 min ahead" in " ".join(capsys.readouterr().out.split())
    assert call(["ls", "--orphans", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["data"]["clock_ahead_s"] == 7200.0
    assert call(["down", "--orphans", "--json"]) == Exit.OK
    assert "clock is 2 h 00 min ahead" in json.loads(capsys.readouterr().out)["notes"][-1]


ELSEWHERE = {"boot_id": "another boot", "machine": "another computer"}


def test_a_run_whose_lock_is_held_is_controlled_from_wherever_one_looks(
    run_id: str, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two machines share a home, or two containers a volume: what the ledger says of the process means nothing here."""
    with in_control(run_id, places.run(run_id), ledger, clocks=CLOCKS):
        ledger.append(msgspec.structs.replace(this_process(run_id, at_s=time.time()), pid=1, **ELSEWHERE))
        assert [state.run_id for state in look_for_orphans(places, CLOCKS).controlled] == [run_id]
        assert call(["down", "--orphans"]) == Exit.OK
        assert call(["ls"]) == Exit.OK
    told = capsys.readouterr()
    assert f"rentune down {run_id}" in told.out
    assert "running" in told.out
    assert "Nobody here controls" not in told.err
    assert not ledger.runs()[run_id].over


class Sky(Paper):
    """A cloud that is asked while other things happen."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.meanwhile = meanwhile
        self.ended: list[str] = []

    def owned(self, claim: Claim | None = None) -> Owned:
        self.meanwhile()
        return super().owned(claim)

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        self.ended.append(claim.run_id)
        return super().destroy(claim, in_charge)


@pytest.fixture
def at_aws(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sky], Sky]:
    def put(sky: Sky) -> Sky:
        monkeypatch.setattr("provision.charge.ownerless.looking.clouds_in_reach", lambda _: ("aws",))
        monkeypatch.setattr(
            "provision.charge.ownerless.looking.make_provisioner",
            lambda provider, places: sky if provider == "aws" else Paper(),
        )
        monkeypatch.setattr("provision.walk.edges.provisioner_of_run", lambda *_claim, **_edges: sky)
        return sky

    return put


def test_what_is_rented_while_one_looks_is_no_stray(
    run_id: str, places: Places, ledger: Ledger, at_aws: Callable[[Sky], Sky]
) -> None:
    """A run that was opened once the ledger had been read: its line was written before its box was asked for."""
    with ExitStack() as held:

        def rented() -> None:
            if "r-new" not in sky.boxes:
                ledger.append(msgspec.structs.replace(ledger.runs()[run_id].opened, run_id="r-new", provider="aws"))
                held.enter_context(in_control("r-new", places.run("r-new"), ledger, clocks=CLOCKS))
                ledger.append(attempted("r-new", at_s=1.0))
                sky.boxes["r-new"] = resource("r-new", installation=installation_id(places))

        sky = at_aws(Sky(rented))
        found = look_for_orphans(places, CLOCKS)
        assert (found.strays, [state.run_id for state in found.controlled]) == ((), ["r-new"])
        assert call(["down", "--orphans"]) == Exit.OK
        assert (sky.ended, list(sky.boxes)) == ([run_id], ["r-new"]), "of the other nobody was in charge"


def test_what_ends_while_one_looks_is_no_stray(
    run_id: str, places: Places, ledger: Ledger, at_aws: Callable[[Sky], Sky]
) -> None:
    """It was listed, and its own controller has ended it and seen it gone before the list was held against the ledger."""
    ledger.append(attempted(run_id, at_s=1.0))

    def gone() -> None:
        if not ledger.runs()[run_id].over:
            ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=Teardown.destroyed(run_id, "")))

    at_aws(Sky(gone)).boxes[run_id] = resource(run_id)
    assert look_for_orphans(places, CLOCKS).nothing
    assert stray_runs(look_for_orphans(places, CLOCKS)) == ((run_id, "aws"),), "what is still there at another look is one"


def test_between_two_attempts_a_run_is_its_controllers(
    run_id: str, places: Places, ledger: Ledger, at_aws: Callable[[Sky], Sky], capsys: pytest.CaptureFixture[str]
) -> None:
    """What its last attempt left is listed on by lag; ended now, what it rents next would be ended with it."""
    sky = at_aws(Sky())
    sky.boxes[run_id] = resource(run_id)
    between_attempts(run_id, ledger)
    with in_control(run_id, places.run(run_id), ledger, clocks=CLOCKS):
        assert call(["ls", "--orphans"]) == Exit.OK
        assert call(["down", "--orphans"]) == Exit.OK
        assert f"left alone; to end it: rentune down {run_id}" in " ".join(capsys.readouterr().out.split())
    assert (sky.ended, ledger.runs()[run_id].standing) == ([], Standing.BETWEEN)


def test_between_two_attempts_a_run_whose_controller_died_is_an_orphan(
    run_id: str, places: Places, ledger: Ledger, at_aws: Callable[[Sky], Sky]
) -> None:
    """Nothing of it is known to bill, and nobody goes on with it: it is ended as a run, with its books."""
    sky = at_aws(Sky())
    sky.boxes[run_id] = resource(run_id)
    between_attempts(run_id, ledger)
    found = look_for_orphans(places, CLOCKS)
    assert (found.strays, [state.run_id for state in found.runs]) == ((), [run_id])
    assert call(["down", "--orphans"]) == Exit.OK
    assert (sky.ended, ledger.runs()[run_id].over) == ([run_id], True)
    assert ledger.runs()[run_id].billed is not None


def test_what_another_computer_took_charge_of_is_left_alone_until_its_deadline(
    run_id: str, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its home may be a copy, whose lock tells nothing: that is unknown, with 3, and ended by name alone."""
    ledger.append(msgspec.structs.replace(this_process(run_id, at_s=time.time()), **ELSEWHERE))
    assert call(["down", "--orphans"]) == Exit.STILL_BILLS
    told = capsys.readouterr()
    assert f"Run {run_id} is left alone until its deadline" in " ".join(told.out.split())
    assert not ledger.runs()[run_id].over
    assert call(["ls"]) == Exit.OK
    assert "unknown" in capsys.readouterr().out
    assert call(["down", run_id]) == Exit.OK
    assert ledger.runs()[run_id].over


def test_what_was_rented_from_here_is_a_stray_when_no_run_of_the_ledger_lives_by_it(run_id: str, ledger: Ledger) -> None:
    """A ledger that was lost hides nothing; a teardown that was believed is not the last word."""
    gone = Teardown.destroyed(run_id, "")
    assert not orphans(ledger, seen(resource(run_id))).strays
    ledger.append(Ended(run_id=run_id, at_s=1.0, teardown=gone))
    found = orphans(ledger, seen(resource(run_id), resource("lost", installation="here")))
    assert stray_runs(found) == ((run_id, "aws"), ("lost", "aws"))
    untold = ": whether it runs is not known: at a price that is not known"
    assert stray_sentences(found) == (
        f"aws: instance i-{run_id} of run {run_id}, which the ledger has as ended{untold}",
        f"aws: instance i-lost of run lost, in no ledger{untold}",
    )
    assert stray_runs(orphans(ledger, {"local": seen(resource("folder"))["aws"]})) == (("folder", "local"),)


def test_somebody_else_s_box_is_shown_and_left_alone_until_its_deadline(ledger: Ledger) -> None:
    """A shared account: a colleague's run trains on it. Past deadline and grace nobody wants it; named, it is to go."""
    theirs = resource("theirs", installation="there", deadline_at_s=1001.0, owner="bob")
    over = resource("over", installation="there", deadline_at_s=1000.0 - DEADLINE_GRACE_S - 1)
    at_it = resource("at-it", installation="there", deadline_at_s=1000.0 - DEADLINE_GRACE_S + 1)
    untold = resource("untold")
    found = orphans(ledger, seen(theirs, over, at_it, untold, resource(None)))

    assert stray_runs(found) == (("over", "aws"),)
    assert {each.run_id for _, each in found.others} == {"theirs", "at-it", "untold", None}
    assert any("bob" in sentence and "rentune down --orphans theirs" in sentence for sentence in other_sentences(found))
    assert stray_runs(only_run(found, "theirs")) == (("theirs", "aws"),)


def test_what_a_box_has_cost_is_told_without_its_ledger(ledger: Ledger) -> None:
    """By the price on its tag, since its cloud made it; what one of the two is missing of costs nobody knows what so far."""
    priced = {"usd_per_hour": Decimal("3.60"), "since_s": 900.0, "runs": Answer.YES}
    lost = resource("lost", installation="here", **priced)
    theirs = resource("theirs", installation="there", deadline_at_s=1001.0, **priced)
    untold = resource("untold", installation="here", usd_per_hour=Decimal("3.60"), runs=Answer.YES)
    found = orphans(ledger, seen(lost, theirs, untold))
    assert stray_sentences(found) == (
        "aws: instance i-lost of run lost, in no ledger: $0.1000 so far; it runs: $3.6000 an hour, $2,628.00 a month",
        "aws: instance i-untold of run untold, in no ledger: it runs: $3.6000 an hour, $2,628.00 a month",
    )
    assert (
        "somebody else's: $0.1000 so far; it runs: $3.6000 an hour, $2,628.00 a month; `rentune down --orphans theirs` ends it."
        in other_sentences(found)[0]
    )


@pytest.mark.parametrize(
    ("provider", "since", "costs"),
    [
        (
            "aws",
            {"off_since_s": 500.0},
            "$0.5015 so far; it is off, and its disk of 100 GiB is billed: $0.0110 an hour, $8.00 a month",
        ),
        ("aws", {}, "at most $1.0000 so far; it is off, and its disk of 100 GiB is billed: $0.0110 an hour, $8.00 a month"),
        ("hetzner", {}, "$1.0000 so far; it is off, and everything is billed as before: $3.6000 an hour, $2,628.00 a month"),
        (
            "lambda",
            {},
            "at most $1.0000 so far; it is off, and what its provider bills then is not known: at a price that is not known",
        ),
    ],
)
def test_one_that_is_switched_off_costs_what_its_provider_bills_then(
    ledger: Ledger, provider: str, since: dict[str, float], costs: str
) -> None:
    """So far at the price of a running one only while it ran, where that is told; else it is called a bound."""
    lost = resource(
        "lost", installation="here", usd_per_hour=Decimal("3.60"), since_s=0.0, runs=Answer.NO, off_gib=100, **since
    )
    owned = {provider: seen(lost)["aws"]}
    found = find_orphans(ledger.runs(), owned, installation="here", now_s=1000.0, rules=Rules(billing=read_rules().billing))
    assert stray_sentences(found) == (f"{provider}: instance i-lost of run lost, in no ledger: {costs}",)


@pytest.mark.parametrize(
    ("provider", "changes", "costs"),
    [
        ("aws", {"region": "us-east-1"}, "$0.0110 an hour, $8.00 a month"),
        ("aws", {"region": "sa-east-1"}, "$0.0208 an hour, $15.20 a month"),
        ("aws", {"region": "sa-east-1", "sold_as": "gp3"}, "$0.0208 an hour, $15.20 a month"),
        ("aws", {"region": "mars-north-1"}, "at a price that is not known"),
        ("aws", {"region": "us-east-1", "sold_as": "io2"}, "at a price that is not known"),
        ("gcp", {"region": "us-central1"}, "$0.0137 an hour, $10.00 a month"),
        ("gcp", {"region": "us-central1", "sold_as": "hyperdisk-balanced"}, "$0.0110 an hour, $8.00 a month"),
    ],
)
def test_a_disk_is_priced_by_its_region_and_kind_or_not_at_all(
    ledger: Ledger, provider: str, changes: dict[str, Any], costs: str
) -> None:
    """One price stood for all of a provider's. A wrong one is worse than none."""
    lost = Resource(kind="volume", id="v-1", run_id="lost", installation="here", name="models", size_gib=100, **changes)
    owned = {provider: seen(lost)["aws"]}
    found = find_orphans(ledger.runs(), owned, installation="here", now_s=1000.0, rules=read_rules())
    [said] = stray_sentences(found)
    assert said.endswith(f": 100 GiB: {costs}")


def test_a_box_of_the_ledger_that_is_switched_off_is_named_with_what_it_costs_on(run_id: str, ledger: Ledger) -> None:
    """`ls --orphans` has its run in a table, whose dollars are those of a machine that runs."""
    box = resource(run_id, usd_per_hour=Decimal("3.60"), runs=Answer.NO, off_gib=100)
    found = find_orphans(ledger.runs(), seen(box), installation="here", now_s=1000.0, rules=Rules(billing=read_rules().billing))
    its_disk = "it is off, and its disk of 100 GiB is billed: $0.0110 an hour, $8.00 a month"
    assert off_sentences(found) == (f"aws: instance i-{run_id} of run {run_id}: {its_disk}; `rentune down {run_id}` ends it.",)
    assert off_sentences(orphans(ledger, seen(msgspec.structs.replace(box, runs=Answer.YES)))) == ()


@pytest.mark.parametrize(
    "text", ["", "about a dollar", "NaN", "sNaN", "-1", "-0", "Infinity", "1e999999", "1e-999999", "9" * 200, "0." + "1" * 200]
)
def test_a_price_that_somebodys_own_hand_wrote_on_a_tag_is_none(text: str) -> None:
    found = tagged_resource("instance", "i-1", "", {PRICE_TAG: text}, bills=True, made_at="2026-11-26T10:00:00Z")
    assert (found.usd_per_hour, found.since_s) == (None, 1795687200.0)


ODD = (
    "",
    "../runs/x",
    "a b",
    "r1; rm -rf ~",
    "$(reboot)",
    "-rf",
    "r1\nNo orphans.",
    "\x1b[2J\x1b]0;x\x07",
    "r\u202e1",
    "\ud800",
)


@pytest.mark.parametrize("tag", ODD)
def test_what_no_run_can_be_called_is_nobodys_and_stands_in_no_command(tag: str, ledger: Ledger) -> None:
    """Anybody may write a tag. It is text that no terminal obeys, and never what to type; 3 for ever would tell nothing."""
    box = resource(tag, installation="there", deadline_at_s=1.0, owner=tag, name=None, region=tag)
    found = orphans(ledger, seen(box))
    assert found.nothing
    [told] = other_sentences(found)
    assert told.isprintable()
    assert "rentune down" not in told
    assert "no command here ends it, only the console of AWS EC2 does" in told
    [kept] = kept_sentences(orphans(ledger, {"aws": Owned(resources=(), kept=(box,), complete=Answer.YES)}))
    assert kept.isprintable()
    assert "rentune down" not in kept
    assert msgspec.json.encode(found)


def test_what_was_rented_from_here_and_lost_its_name_is_told_until_somebody_ends_it(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tag was changed by hand: it bills, so it is 3, with where to end it, and no command that could not."""
    box = resource("changed by hand", installation="here", usd_per_hour=Decimal(1), runs=Answer.YES)
    found = find_orphans({}, seen(box), installation="here", now_s=1000.0)
    let_every_look_find(monkeypatch, lambda: found)
    for words in (["ls", "--orphans"], ["down", "--orphans"]):
        assert call(words) == Exit.STILL_BILLS
        told = capsys.readouterr().out
        assert "'changed by hand' is no run's id" in told
        assert "only the console of AWS EC2 does" in told
        assert "rentune down changed" not in told
        assert call([*words, "--json"]) == Exit.STILL_BILLS
        assert "changed by hand" in capsys.readouterr().out


def test_a_provider_that_cannot_be_asked_is_named(ledger: Ledger) -> None:
    """Not seeing anything is not the same as there being nothing."""
    found = find_orphans(
        {}, {"aws": Owned(resources=(), complete=Answer.UNKNOWN, message="no credentials")}, installation=None, now_s=0.0
    )
    assert found.unseen == {"aws": "no credentials"}
    assert not found.nothing


@pytest.mark.parametrize("words", [["ls", "--orphans"], ["down", "--orphans"]])
@pytest.mark.fault("F23", tier="code")
def test_a_damaged_ledger_is_not_a_clean_look(
    run_id: str, ledger: Ledger, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The line may have been the only sign of a box: code 3, and its number."""
    ledger.append(Ended(run_id=run_id, at_s=1.0, teardown=Teardown.destroyed(run_id, "")))
    with ledger.path.open("ab") as file:
        file.write(b'{"kind":"op\n')
    assert call(words) == Exit.STILL_BILLS
    assert "line 3 of" in capsys.readouterr().err
    assert call(["ls"]) == Exit.OK
    assert "Line 3 of" in capsys.readouterr().err


def test_a_run_in_other_hands_is_left_alone_and_named(
    run_id: str, ledger: Ledger, other_process: psutil.Process, capsys: pytest.CaptureFixture[str]
) -> None:
    """`down --orphans` does not pass over in silence what goes on billing."""
    line = Controlled(
        run_id=run_id, at_s=1.0, pid=other_process.pid, process_started_s=other_process.create_time(), boot_id=boot_id()
    )
    ledger.append(line)
    assert call(["down", "--orphans"]) == Exit.OK
    said = f"1 run is controlled by process {other_process.pid} and left alone; to end it: rentune down {run_id}.\n"
    assert capsys.readouterr().out.startswith(said)


@pytest.mark.fault("F23", tier="code")
def test_down_takes_the_id_of_a_box_that_is_in_no_ledger(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """What `ls --orphans` names is ended by its name; going on with it is not offered."""
    folder = boxes_folder(places) / "20260101-000000-aaaa"
    folder.mkdir(parents=True)
    assert call(["ls", "--orphans"]) == Exit.STILL_BILLS
    assert "rentune resume" not in capsys.readouterr().out
    assert call(["down", "20260101-000000-aaaa"]) == Exit.OK
    assert not folder.exists()


def test_an_id_that_nobody_knows_is_refused_as_down_alone_refuses_it(
    places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped id must not read as an end; where somebody could not be asked it is not known to be mistyped."""
    assert call(["down", "nope"]) == call(["down", "--orphans", "nope"]) == Exit.REFUSED
    assert "carries the tag of 'nope'" in capsys.readouterr().err
    places.home.mkdir(parents=True, exist_ok=True)
    places.ledger.write_text('{"kind":"op\n')
    assert call(["down", "--orphans", "nope"]) == Exit.STILL_BILLS


def test_what_a_providers_list_shows_decides_who_is_asked_and_what_is_ours(run_id: str, ledger: Ledger) -> None:
    """The boxes of this home always, whatever the ledger says; an account may be shared, also one of a later version."""
    assert providers_to_ask(()) == ("local",)
    assert providers_to_ask(ledger.runs().values()) == ("local",)
    assert providers_to_ask((), reached=("runpod",)) == ("local", "runpod")
    assert [lists_of(name) for name in ("local", "host", "aws", "a cloud of tomorrow")] == [
        Lists.THIS_HOME,
        Lists.ONE_RUN,
        Lists.ACCOUNT,
        Lists.ACCOUNT,
    ]


def test_a_host_of_the_users_is_asked_for_each_run_that_is_not_ended(run_id: str, places: Places, ledger: Ledger) -> None:
    """Only the run's own papers say where it is; one that can't be reached is named with its run."""
    opened = ledger.runs()[run_id].opened
    ledger.append(msgspec.structs.replace(opened, run_id="on-a-host", provider="host"))
    found = look_for_orphans(places, CLOCKS)
    assert found.unseen == {"host of on-a-host": "The provider host needs an address."}
    ledger.append(Ended(run_id="on-a-host", at_s=1.0, teardown=Teardown.destroyed("on-a-host", "")))
    assert look_for_orphans(places, CLOCKS).unseen == {}


def test_one_provider_whose_answer_breaks_hides_no_other(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a vendor's library raises, nothing was seen there: unknown, with its words."""
    make = make_provisioner

    def made(provider: str, *, places: Places) -> Provisioner:
        if provider == "runpod":
            raise RuntimeError("no such attribute")
        return make(provider, places=places)

    monkeypatch.setattr("provision.charge.ownerless.looking.make_provisioner", made)
    monkeypatch.setattr("provision.charge.ownerless.looking.clouds_in_reach", lambda _: ("runpod",))
    assert look_for_orphans(places, CLOCKS).unseen == {"runpod": "it could not be asked (RuntimeError: no such attribute)"}


@pytest.mark.parametrize("words", [["ls", "--orphans"], ["down", "--orphans"], ["down", "--volumes", "models"]])
def test_a_cloud_that_nobody_here_can_ask_is_named_and_is_no_all_clear(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the text and in JSON. Who rents at one cloud alone does not end with 3 for ever for the others."""
    monkeypatch.setattr("provision.charge.ownerless.looking.clouds_in_reach", lambda _: ())
    assert call(words) == Exit.OK
    told = " ".join(capsys.readouterr().out.split())
    assert f"(`rentune doctor`): {', '.join(CLOUDS)}." in told
    assert call([*words, "--json"]) == Exit.OK
    told = capsys.readouterr().out
    assert all(cloud in told for cloud in CLOUDS)


def test_a_cloud_that_the_ledger_knows_must_be_asked(run_id: str, ledger: Ledger) -> None:
    """Without its credentials nobody could look, which is no all clear; nor is it counted among those that nobody knows."""
    opened = ledger.runs()[run_id].opened
    ledger.append(msgspec.structs.replace(opened, run_id="at-a-cloud", provider="runpod"))
    asked = providers_to_ask(ledger.runs().values())
    found = find_orphans(
        ledger.runs(),
        {name: Owned(resources=(), complete=Answer.UNKNOWN) for name in asked},
        installation=None,
        now_s=1.0,
    )
    assert "runpod" in found.unseen
    assert "runpod" not in found.unasked
    assert set(found.unasked) == set(CLOUDS) - {"runpod"}
