"""Alerts: a webhook on loopback and a command hear what happens to a run, and none of them can hold it up or break it."""

from __future__ import annotations

import dataclasses
import json
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planner.asking.request import Budget
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Attempted, Created, Ended, Tried
from provision.account.receipt.value import Ending
from provision.charge.controller import this_process
from provision.charge.driving import drive
from provision.charge.ends.ending import end
from provision.charge.ends.verdicts import RunEnd
from provision.charge.guard import SENTINEL
from provision.charge.ownerless.orphans import find_orphans
from provision.charge.rings.bell import Bell, read_targets
from provision.charge.rings.bell import bell as ring
from provision.charge.rings.budget import passed, read_told
from provision.charge.rings.knell import How, ended_and_told, tell_end
from provision.cli import call
from provision.commands.run import _checked_alerts
from provision.errors import BadInput, ControlLost, Exit, MissingPart, OwnEnded, ProvisionError, Reason, Scope
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.home.processes import living
from provision.prepare.inputs import find_base
from provision.prepare.opening import Agreed, open_run
from provision.seam import Box, Resource, Teardown
from provision.walk.books import read_receipt
from provision.walk.driven import Run, read_run
from provision.walk.edges import Edges
from provision.watch import alerts
from provision.watch.alerts import Alert, Post, Undelivered, read_target, target_of
from remote.contract import Event, Phase
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Failing, Paper
from tests.doubles.services.webhook import Heard, Letters, webhook
from tests.provision.account.receipts import outcome_of, receipt_of
from tests.provision.plans import attempted, tiny_files, tiny_plan
from tests.provision.rigs import await_true

AT_ONCE = (0.0,)
ALERT = Alert(
    kind="started",
    run_id="20261126-040000-a1b2",
    at_s=1_795_665_600.0,
    text="Run 20261126-040000-a1b2 begins.",
    model="7b",
    provider="aws",
    region="eu-central-1",
    instance_type="g5.xlarge",
    spent_usd=Decimal(0),
    max_usd=Decimal("12.50"),
    deadline_at_s=1_795_669_200.0,
)


def post(*targets: str, told: Callable[[str], None] = lambda _: None) -> Post:
    return Post(map(target_of, targets), told=told, pauses_s=AT_ONCE)


def test_a_program_that_may_not_be_executed_is_named_as_that(tmp_path: Path) -> None:
    """It is a file of this machine, so its path is no secret; and what to type stands beside it."""
    program = tmp_path / "tell me"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(BadInput, match="is there, and may not be executed") as refused:
        target_of(shlex.quote(str(program)))
    assert refused.value.hint == f"chmod +x {shlex.quote(str(program))}"


# ── delivery ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_webhook_gets_the_alert_as_json() -> None:
    """Dollars as text, so that no cent is lost."""
    with webhook(Heard()) as heard:
        office = post(heard.url)
        office.send(ALERT)
        office.close()
    assert heard.types == {"application/json"}
    assert msgspec.convert(heard.bodies[0], Alert) == ALERT
    assert heard.bodies[0]["max_usd"] == "12.50"


def test_a_command_gets_the_same_on_its_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none of the variables that hold secrets."""
    monkeypatch.setenv("HF_TOKEN", "hf_thistokenisnobodysbusiness")
    out = tmp_path / "heard out"
    code = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read() + str(dict(os.environ)))"
    office = post(f"{sys.executable} -c '{code}' '{out}'")
    office.send(ALERT)
    office.close()
    said = out.read_text()
    assert said.startswith(msgspec.json.encode(ALERT).decode())
    assert "PATH" in said
    assert "nobodysbusiness" not in said


def test_a_target_may_stand_in_a_file(tmp_path: Path, places: Places) -> None:
    """Its address is a key, and the list of processes is everybody's; whatever has no @ before it is the target itself."""
    (file := tmp_path / "target").write_text("\n  https://hooks.example/T0/a-key \n\n")
    assert _checked_alerts(places, (f"@{file}",)) == ("https://hooks.example/T0/a-key",)
    assert read_target("mail -s run me@example.org") == "mail -s run me@example.org"


@pytest.mark.parametrize(
    ("held", "says"),
    [
        pytest.param(None, r"can't be read \(FileNotFoundError\)", id="nothing"),
        pytest.param("", "has 0 lines", id="empty"),
        pytest.param("https://hooks.example/T0/a-key\nmail me\n", "has 2 lines", id="two"),
    ],
)
def test_a_file_that_holds_no_one_target_is_refused_and_nothing_of_it_shown(
    tmp_path: Path, held: str | None, says: str
) -> None:
    file = tmp_path / "target"
    if held is not None:
        file.write_text(held)
    with pytest.raises(BadInput, match=says) as caught:
        read_target(f"@{file}")
    assert "a-key" not in str(caught.value)


def test_what_is_neither_is_refused_before_anything_is_rented() -> None:
    for text in ("", "no-such-program --now", "'unclosed"):
        with pytest.raises(BadInput, match="The alert"):
            target_of(text)


@pytest.mark.parametrize("text", ["http://[", "https://", "https:///path", "http://h:port/", "http://h:99999/"])
def test_an_address_without_a_host_that_can_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="names no host"):
        target_of(text)


def test_a_scheme_is_read_in_any_case() -> None:
    assert target_of("HTTPS://Hooks.example/a-key").name == "the webhook at hooks.example"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("htps://hooks.example/a-key", "'htps:…'"),
        ("hooks.example/services/a-key", "'hooks.example…'"),
        ("me:a-key@hooks.example/", "'hooks.example…'"),
        ("no-such-program --token a-key", "'no-such-program…'"),
        ("TOKEN=a-key curl", "'TOKEN…'"),
        ("curl 'a-key", "'curl…'"),
    ],
)
def test_of_a_mistyped_target_no_key_is_shown(text: str, shown: str) -> None:
    with pytest.raises(BadInput) as refused:
        target_of(text)
    assert shown in str(refused.value)
    assert "a-key" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("status", [302, 404, 500])
def test_what_is_not_delivered_is_told_once_and_without_the_address(status: int) -> None:
    """A webhook's path is often its key; a redirect leads where nobody wanted it to go."""
    told: list[str] = []
    with webhook(Heard(status)) as heard:
        office = post(heard.url, told=told.append)
        for _ in range(3):
            office.send(ALERT)
        office.close()
    assert len(heard.bodies) == 3
    assert told == [
        f"An alert did not reach the webhook at 127.0.0.1: it answered {status}. The run goes on; no more is said of this."
    ]


def test_an_alert_is_tried_again() -> None:
    """That a box may still bill is worth more than one try."""
    told: list[str] = []
    with webhook(Heard(503)) as heard:
        office = Post([target_of(heard.url)], told=told.append, pauses_s=(0.0, 0.0, 0.0))
        office.send(ALERT)
        office.close()
    assert len(heard.bodies) == 3
    assert len(told) == 1


@pytest.mark.parametrize("target", ["http://127.0.0.1:9/", "false"])
def test_a_target_that_takes_nothing_is_told(target: str) -> None:
    told: list[str] = []
    office = post(target, told=told.append)
    office.send(ALERT)
    office.close()
    assert len(told) == 1


def test_a_target_that_never_answers_holds_up_nobody() -> None:
    """Neither who sends, nor the other target; at the end it is waited for so long and no longer."""
    with webhook(Heard(silent=True)) as deaf, webhook(Heard()) as heard:
        office = post(deaf.url, heard.url)
        began_s = time.monotonic()
        for _ in range(100):
            office.send(ALERT)
        assert time.monotonic() - began_s < 1
        await_true(lambda: len(heard.bodies) == 100)
        began_s = time.monotonic()
        office.close(patience_s=0.5)
        assert time.monotonic() - began_s < 5
        assert deaf.bodies == []


def drip(connection: socket.socket) -> None:
    """A header each moment, without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        time.sleep(0.05)
        connection.sendall(b"X: y\r\n")


def put_off(connection: socket.socket) -> None:
    """The interim answer, again and again."""
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("answer", [drip, put_off])
def test_a_try_ends_as_a_whole(answer: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever trickles in, and then its connection is cut."""
    monkeypatch.setattr(alerts, "TRY_S", 0.5)
    cut = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            answer(connection)
        cut.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        began_s = time.monotonic()
        with pytest.raises(Undelivered, match="did not answer"):
            target_of(f"http://127.0.0.1:{server.getsockname()[1]}/").deliver(b"{}")
        assert time.monotonic() - began_s < 3
        assert cut.wait(5)


def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "TRY_S", 0.5)
    noted = tmp_path / "pid"
    with pytest.raises(Undelivered, match="did not end"):
        target_of(f"sh -c 'sleep 60 & echo $! > {noted}; wait'").deliver(b"{}")
    await_true(lambda: living(int(noted.read_text())) is None)


def test_that_a_box_still_bills_waits_for_no_other_alert() -> None:
    """A target that hangs over the last one hears of it all the same."""
    with webhook(Heard(slow_kind="started")) as heard:
        office = post(heard.url)
        for _ in range(3):
            office.send(ALERT)
        office.send(msgspec.structs.replace(ALERT, kind="still_bills"))
        await_true(lambda: heard.kinds() == ["still_bills"])
        heard.released.set()
        office.close()
    assert heard.kinds() == ["still_bills", "started", "started", "started"]


def test_a_secret_in_a_sentence_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-mine")
    with webhook(Heard()) as heard:
        office = post(heard.url)
        office.send(msgspec.structs.replace(ALERT, text="It said a-token-of-mine and AKIAIOSFODNN7EXAMPLE."))
        office.close()
    assert heard.bodies[0]["text"] == "It said [hidden] and [hidden]."


# ── what rings in a run ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return tiny_plan(*tiny_files(tmp_path), budget=Budget(max_usd=Decimal(10)))


def opened(plan: Plan, places: Places, *alerts: str) -> str:
    base = find_base(plan.request.model)
    return open_run(plan, base, places=places, ledger=Ledger(places.ledger), clock=time.time, agreed=Agreed(alerts=alerts))


def held(run_id: str, places: Places) -> Run:
    ledger, provider = Ledger(places.ledger), Failing(ProvisionError("No room."))
    return read_run(run_id, Edges(places, Quiet(), make=lambda _claim: provider), ledger=ledger)


def test_a_run_that_finds_no_machine_rings_twice(plan: Plan, places: Places) -> None:
    """At its start and at its end, with its exit code and what to type; the trainer's and the provider's words stay at home."""
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        drive(run_id, Edges(places, Quiet(), make=lambda _: Failing(ProvisionError("Secret words."))))
    assert heard.kinds() == ["started", "finished"]
    begin, end = heard.bodies
    assert begin["text"] == f"Run {run_id} begins."
    assert (end["exit_code"], end["command"]) == (Exit.FAILED, f"rentune report {run_id}")
    assert "Secret words" not in json.dumps(heard.bodies)


def test_a_box_that_may_still_bill_rings_beside_the_end(plan: Plan, places: Places, tmp_path: Path) -> None:
    """With the command that ends it, at a webhook and at a command alike; it goes past what is queued."""
    provider, letters = Failing(ProvisionError("Unknown outcome."), buys=True), Letters(tmp_path / "letters")
    provider.stubborn = True
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url, letters.command)
        drive(run_id, Edges(places, Quiet(), make=lambda _: provider))
    assert sorted(heard.kinds()) == ["finished", "started", "still_bills"]
    assert sorted(letters.bodies(), key=repr) == sorted(heard.bodies, key=repr)
    [urgent] = [body for body in heard.bodies if body["kind"] == "still_bills"]
    assert urgent["command"] == f"rentune down {run_id}"
    assert urgent["exit_code"] == Exit.STILL_BILLS


def test_a_run_ends_the_same_with_a_target_that_has_gone(plan: Plan, places: Places) -> None:
    """A command that was there when the run was opened, and is not now: one note, and the same exit code."""
    run_id = opened(plan, places, "no-such-program")
    display = Quiet()
    receipt = drive(run_id, Edges(places, display, make=lambda _: Failing(ProvisionError("No room."))))
    assert receipt.exit_code == Exit.FAILED
    assert [note for note in display.notes if "The run goes on without it." in note]


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        (("probe", {"step_s": 1.25, "planned_step_s": 1.0}), "probed", "the probe measured 1.25 s a step, planned 1.00."),
        (("ended", {"reason": "out_of_memory", "message": "row 7: private"}), "crashed", "without a result (out_of_memory)."),
        (("resumed", {"step": 40, "total_steps": 100}), "crashed", "started again, at step 40 of 100."),
        (("spot_notice", {}), "spot_notice", "the provider takes the spot machine back."),
    ],
)
def test_the_trainers_news(plan: Plan, places: Places, event: tuple[str, dict[str, Any]], kind: str, words: str) -> None:
    """The display hears every event as before; of what may quote the data nothing leaves."""
    with webhook(Heard()) as heard:
        run = held(opened(plan, places, heard.url), places)
        office = post(heard.url)
        bell = Bell(run, office)
        bell.run.display.event(Event(seq=1, kind=event[0], phase=Phase.TRAIN, at_s=0.0, monotonic_s=0.0, data=event[1]))
        bell.run.display.event(Event(seq=2, kind="step", phase=Phase.TRAIN, at_s=0.0, monotonic_s=0.0, data={"step": 1}))
        office.close()
    assert heard.kinds() == [kind]
    assert words in heard.bodies[0]["text"]
    assert "private" not in json.dumps(heard.bodies)


def test_a_run_that_goes_on_elsewhere_says_from_where_to_where(plan: Plan, places: Places) -> None:
    """The first box is no move; the second is, with the reason."""
    first, second = plan.offer, msgspec.structs.replace(plan.offer, region="there")
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        run, office = held(run_id, places), post(heard.url)
        display = Bell(run, office).run.display
        for offer in (first, second):
            run.ledger.append(
                Attempted(run_id=run_id, at_s=0.0, offer=offer, billing=plan.billing, disk_gib=0, deadline_at_s=1e10)
            )
            display.phase("create")
            run.ledger.append(
                Tried(
                    run_id=run_id,
                    at_s=0.0,
                    offer=offer.key,
                    reason=Reason.LOST,
                    scope=Scope.OFFER,
                    message="",
                    took_s=1.0,
                    usd=Decimal(0),
                )
            )
        office.close()
    assert heard.kinds() == ["moved"]
    assert heard.bodies[0]["text"] == f"Run {run_id} goes on from {first.key} (lost) to {second.key}."
    assert heard.bodies[0]["region"] == "there"


def test_news_that_can_not_be_put_into_words_breaks_nothing(plan: Plan, places: Places) -> None:
    """A trainer of another version may say anything."""
    with webhook(Heard()) as heard:
        office = post(heard.url)
        odd = Event(seq=1, kind="probe", phase=Phase.PROBE, at_s=0.0, monotonic_s=0.0, data={"step_s": "soon"})
        Bell(held(opened(plan, places, heard.url), places), office).run.display.event(odd)
        office.close()
    assert heard.bodies == []


def test_a_trainer_that_ends_well_is_no_crash(plan: Plan, places: Places) -> None:
    with webhook(Heard()) as heard:
        run = held(opened(plan, places, heard.url), places)
        office = post(heard.url)
        ended = Event(seq=1, kind="ended", phase=Phase.SAVE, at_s=0.0, monotonic_s=0.0, data={"reason": "completed"})
        Bell(run, office).run.display.event(ended)
        office.close()
    assert heard.bodies == []


def test_half_four_fifths_and_all_of_the_budget() -> None:
    """And nothing where there is no limit."""
    assert [len(passed(Decimal(usd), Decimal(10))) for usd in ("4.99", "5", "7.99", "8", "9.99", "10", "11")] == [
        *(0, 1, 1, 2, 2, 3, 3)
    ]
    assert passed(Decimal(10), Decimal(10)) == (50, 80, 100)
    assert passed(Decimal(10), None) == ()


def test_the_budget_rings_by_itself_and_each_share_once(plan: Plan, places: Places, tmp_path: Path) -> None:
    """A clock that runs on at each look passes 50, 80 and 100 percent of $10 at $3.60 an hour: a webhook and a command hear."""
    letters = Letters(tmp_path / "letters")
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        Ledger(places.ledger).append(attempted(run_id, plan, at_s=0.0))
        now_s = 0.0

        def clock() -> float:
            nonlocal now_s
            now_s += 100.0
            return now_s

        run = dataclasses.replace(held(run_id, places), clocks=Clocks(wall=clock))
        office = post(heard.url, letters.command)
        bell = Bell(run, office, look_s=0.001)
        bell.started()
        while heard.kinds().count("budget") < 3:
            time.sleep(0.01)
        bell.stop()
        office.close()
    for bodies in (heard.bodies, letters.bodies()):
        texts = [body["text"] for body in bodies if body["kind"] == "budget"]
        assert texts == [f"Run {run_id} has spent {share} % of its $10.0000." for share in (50, 80, 100)]


def shares_of(bodies: list[dict[str, Any]]) -> list[str]:
    return [body["text"].split(" % ")[0].rpartition(" ")[2] for body in bodies if body["kind"] == "budget"]


def spend(run_id: str, plan: Plan, places: Places, *, hours: float) -> float:
    """A box of $3.60 an hour, of a budget of $10, since the beginning; the moment so many hours later."""
    Ledger(places.ledger).append(attempted(run_id, plan, at_s=0.0, deadline_at_s=1e6))
    return hours * 3600.0


def test_each_share_rings_once_a_run_whoever_is_in_charge(plan: Plan, places: Places) -> None:
    """What was spent while nobody was, whoever resumes the run tells; what was told before is not told again."""
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        for hours, told in ((1.5, ["50"]), (1.6, ["50"]), (2.9, ["50", "80", "100"]), (9.0, ["50", "80", "100"])):
            now_s = spend(run_id, plan, places, hours=hours) if hours == 1.5 else hours * 3600.0
            run = dataclasses.replace(held(run_id, places), clocks=Clocks(wall=partial(float, now_s)))
            office = post(heard.url)
            bell = Bell(run, office, look_s=60.0)
            bell.started()
            await_true(lambda: read_told(run.folder) >= {*map(int, told)})  # noqa: B023 - it is asked in this round
            bell.stop()
            office.close()
            assert shares_of(heard.bodies) == told


def test_what_a_short_run_spends_between_two_looks_rings_before_its_end(plan: Plan, places: Places) -> None:
    """A look comes every 15 seconds; the end is no later than the last of it."""
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        now_s, office = spend(run_id, plan, places, hours=1.5), post(heard.url)
        run = dataclasses.replace(held(run_id, places), clocks=Clocks(wall=lambda: now_s))
        Bell(run, office).finished(receipt_of(plan, run.state, outcome_of(adapter=())))
        office.close()
    assert [kind for kind in heard.kinds() if kind != "still_bills"] == ["budget", "finished"]


def test_an_end_without_a_result_names_the_lease_that_it_was_of(plan: Plan, places: Places) -> None:
    with webhook(Heard()) as heard:
        run, office = held(opened(plan, places, heard.url), places), post(heard.url)
        receipt = receipt_of(plan, run.state, outcome_of(adapter=()))
        for ended_by in (None, "lease"):
            Bell(run, office).finished(msgspec.structs.replace(receipt, ending=Ending(ended_by=ended_by)))
        office.close()
    told = [each["text"] for each in heard.bodies if each["kind"] == "finished"]
    assert [" ended without a result, as its lease had ended (exit " in text for text in told] == [False, True]


def test_a_run_that_is_left_open_is_told_as_that_and_what_goes_on_with_it(plan: Plan, places: Places) -> None:
    """It has ended for nobody: what it learned lies in a store that could not be asked."""
    with webhook(Heard()) as heard:
        run, office = held(opened(plan, places, heard.url), places), post(heard.url)
        receipt = receipt_of(plan, run.state, outcome_of(adapter=()))
        Bell(run, office).finished(msgspec.structs.replace(receipt, ending=Ending(left_open=True)))
        office.close()
    assert heard.kinds() == ["let_go"]
    assert heard.bodies[0]["command"] == f"rentune resume {run.run_id}"


# ── what rings where a run is ended in its controller's place ──────────────────────────────────────────────────────


def rented(plan: Plan, places: Places, url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Paper]:
    """A run whose controller has died, and its box at a provider in memory, which every command asks."""
    run_id, paper = opened(plan, places, url), Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    Ledger(places.ledger).append(attempted(run_id, plan, at_s=time.time() - 2 * 3600.0))
    monkeypatch.setattr("provision.walk.edges.provisioner_of_run", lambda *_, **__: paper)
    return run_id, paper


BOX = Box(run_id="r", provider="aws", host="h", port=22, user="u", host_key="ssh-ed25519 AAAA", folder="/box")


def tried_for(reason: Reason, run_id: str, *, at_s: float) -> Tried:
    why = "Its lease ended, and the box itself: no renewal had reached it for 60 min 00 s."
    return Tried(run_id=run_id, at_s=at_s, offer="x", reason=reason, scope=None, message=why, took_s=1.0, usd=Decimal(0))


@pytest.mark.parametrize("words", [("down",), ("down", "--orphans")])
def test_what_down_ends_rings_with_its_end_and_its_budget(
    words: tuple[str, ...], plan: Plan, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is told of the run by alerts alone would believe that it goes on, and bills."""
    with webhook(Heard()) as heard:
        run_id, _ = rented(plan, places, heard.url, monkeypatch)
        assert call([*words, run_id] if words == ("down",) else [*words]) == Exit.OK
        assert call(["down", run_id]) == Exit.OK
    assert heard.kinds() == ["budget", "finished"], "nothing rings twice"
    assert heard.bodies[-1]["text"] == f"Run {run_id} was ended by `down`; its box is gone."
    assert heard.bodies[-1]["exit_code"] == Ledger(places.ledger).runs()[run_id].billed.exit_code  # type: ignore[union-attr]


@pytest.mark.parametrize("words", ["resumed", "gone"])
@pytest.mark.parametrize("how", How)
def test_whoever_ends_a_run_in_its_controllers_place_names_the_lease_that_ended_its_box(
    how: How, words: str, plan: Plan, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller that was there again had written it down, or nobody was, and the box is gone. What was left later is not."""
    leased = msgspec.structs.replace(plan.request.budget, lease_hours=1.0)
    plan = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=leased))
    with webhook(Heard()) as heard:
        run_id, paper = rented(plan, places, heard.url, monkeypatch)
        paper.boxes.clear()
        ledger, now_s = Ledger(places.ledger), time.time()
        ledger.append(Created(run_id=run_id, at_s=now_s - 7000.0, box=BOX))
        if words == "resumed":
            ledger.append(Ended(run_id=run_id, at_s=now_s - 60.0, teardown=Teardown.destroyed(run_id, "")))
            ledger.append(tried_for(Reason.LEASE, run_id, at_s=now_s - 50.0))
        state, edges = ledger.runs()[run_id], Edges(places, Quiet())
        teardown = end(run_id, edges)
        tell_end(teardown, state, places.run(run_id), how=how, note=lambda _: None, at_s=now_s)
    receipt = read_receipt(places.run(run_id))
    assert receipt is not None
    assert receipt.ending.ended_by == "lease"
    assert (f"{how}, as its lease had ended; its box is gone." in heard.bodies[-1]["text"]) == (how is not How.AGAIN)


@pytest.mark.parametrize("words", [("down",), ("down", "--orphans")])
def test_what_down_could_not_end_rings_each_time(
    words: tuple[str, ...], plan: Plan, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that finishes it."""
    with webhook(Heard()) as heard:
        run_id, paper = rented(plan, places, heard.url, monkeypatch)
        paper.stubborn = True
        for _ in range(2):
            assert call([*words, run_id] if words == ("down",) else [*words]) == Exit.STILL_BILLS
    assert sorted(heard.kinds()) == ["budget", "still_bills", "still_bills"]
    urgent = next(body for body in heard.bodies if body["kind"] == "still_bills")
    assert (urgent["command"], urgent["exit_code"]) == (f"rentune down {run_id}", Exit.STILL_BILLS)


def test_what_stops_down_itself_rings_where_a_box_may_live(plan: Plan, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is missing here, and somebody who would not wait: nobody has seen the box gone."""

    def missing(*_: object, **__: object) -> Paper:
        raise MissingPart("The SDK is not installed.")

    with webhook(Heard()) as heard:
        run_id, paper = rented(plan, places, heard.url, monkeypatch)
        monkeypatch.setattr("provision.walk.edges.provisioner_of_run", missing)
        assert call(["down", run_id]) == Exit.STILL_BILLS

        def cut_off(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("provision.walk.edges.provisioner_of_run", lambda *_, **__: paper)
        monkeypatch.setattr("provision.charge.ends.ending.end_with_books", cut_off)
        assert call(["down", run_id]) == Exit.STILL_BILLS
    assert heard.kinds().count("still_bills") == 2


def test_what_its_own_controller_has_ended_and_told_down_does_not_tell_again(plan: Plan, places: Places) -> None:
    """`down` asked it to stop, and waited."""
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        other = msgspec.structs.replace(this_process(run_id, at_s=1.0), pid=1)
        gone = Teardown.destroyed(run_id, "")

        def by_its_controller() -> RunEnd:
            for line in (other, Ended(run_id=run_id, at_s=2.0, teardown=gone)):
                Ledger(places.ledger).append(line)
            return RunEnd(gone)

        assert ended_and_told(run_id, by_its_controller, Edges(places, Quiet())).teardown == gone
    assert heard.bodies == []


def test_what_a_run_that_is_over_had_left_rings_once_it_is_ended(
    plan: Plan, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told that its box is gone hears that something of it was there, and billed."""
    with webhook(Heard()) as heard:
        run_id, paper = rented(plan, places, heard.url, monkeypatch)
        assert call(["down", run_id]) == Exit.OK
        paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
        left = find_orphans(Ledger(places.ledger).runs(), {"aws": paper.owned()}, installation=None, now_s=time.time())
        monkeypatch.setattr("provision.commands.ending.look_for_orphans", lambda *_, **_edges: left)
        assert call(["down", "--orphans"]) == Exit.OK
    assert heard.kinds() == ["budget", "finished", "finished"]
    assert heard.bodies[-1]["text"] == f"Run {run_id} had left something at its provider, which was ended; its box is gone."


def test_who_is_cut_off_while_a_run_is_driven_tells_what_may_bill(plan: Plan, places: Places) -> None:
    """A second Ctrl-C: with a box that was asked for, and with none."""
    for bills, kind in ((True, "still_bills"), (False, "finished")):
        with webhook(Heard()) as heard:
            run_id = opened(plan, places, heard.url)
            if bills:
                Ledger(places.ledger).append(attempted(run_id, plan, at_s=time.time()))
            run = held(run_id, places)

            def cut_off(run: Run = run) -> None:
                with ring(run) as ringing:
                    ringing.started()
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                cut_off()
        assert sorted(heard.kinds()) == sorted([kind, "started"])


@pytest.mark.parametrize(("bills", "kind"), [(True, "still_bills"), (False, "moved")])
def test_what_an_overtaken_controller_had_ordered_rings_where_it_was_ordered(
    plan: Plan, places: Places, bills: bool, kind: str
) -> None:
    """Whoever has the run now does not know of it. What else becomes of the run rings there."""
    for error, kinds in (
        (OwnEnded("An order came too late.", bills=bills, hint="rentune ls"), [kind]),
        (ControlLost("Lost."), []),
    ):
        with webhook(Heard()) as heard:
            run_id = opened(plan, places, heard.url)
            run = held(run_id, places)

            def lost(run: Run = run, error: ControlLost = error) -> None:
                with ring(run):
                    raise error

            with pytest.raises(ControlLost):
                lost()
        assert heard.kinds() == kinds
        assert [body["text"] for body in heard.bodies] == [str(error)] * len(kinds)
        assert [body["command"] for body in heard.bodies] == [f"rentune down {run_id}" if bills else "rentune ls"] * len(kinds)


def test_the_supervisor_of_a_detached_run_tells_the_same(plan: Plan, places: Places) -> None:
    """In a process of its own; this one finds at once that the data have gone."""
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        Path(plan.request.data.path or "").unlink()
        done = subprocess.run([sys.executable, "-m", "provision.charge.supervise", run_id], capture_output=True, check=False)
    assert done.returncode == Exit.FAILED
    assert heard.kinds() == ["started", "finished"]


def test_who_ends_a_run_in_its_controllers_place_tells_it(plan: Plan, places: Places) -> None:
    """Nobody else can: the controller is dead, and its user believes that the run goes on."""
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        Ledger(places.ledger).append(attempted(run_id, at_s=1.0, deadline_at_s=2.0))
        assert subprocess.run([*SENTINEL, run_id], check=False, timeout=60).returncode == 0
    assert heard.kinds() == ["finished"]
    assert "in its controller's place; its box is gone" in heard.bodies[0]["text"]


def test_and_that_its_box_is_not_seen_to_be_gone(plan: Plan, places: Places) -> None:
    """With the command that finishes it."""
    with webhook(Heard()) as heard:
        run_id = opened(plan, places, heard.url)
        state = Ledger(places.ledger).runs()[run_id]
        unseen = Teardown(run_id=run_id, verdict="unknown", resources=(), message="", command=f"rentune down {run_id}")
        tell_end(unseen, state, places.run(run_id), how=How.DEADLINE, note=lambda _: None, at_s=0.0)
    assert heard.kinds() == ["still_bills"]
    assert heard.bodies[0]["command"] == f"rentune down {run_id}"


def test_whom_a_run_tells_lies_in_its_folder_for_its_owner_alone(plan: Plan, places: Places) -> None:
    """A supervisor, and whoever resumes the run, tell the same; nothing else of the run names the address."""
    secret = "https://hooks.slack.com/services/T0/B0/a-key"
    folder = places.run(opened(plan, places, secret))
    assert read_targets(folder) == (secret,)
    assert folder.alerts.stat().st_mode & 0o077 == 0
    others = [path for path in [*folder.root.rglob("*"), places.ledger] if path.is_file() and path != folder.alerts]
    assert [path for path in others if b"a-key" in path.read_bytes()] == []
