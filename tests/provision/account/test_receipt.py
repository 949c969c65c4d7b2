"""What was planned beside what was metered, and every dollar on a line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.plan import Plan
from planner.strategy.words import describe
from provision.account.bill import usd_so_far
from provision.account.ledger import Ledger
from provision.account.lines import Ended
from provision.account.receipt.calibration import calibrations
from provision.account.receipt.judged import compare
from provision.account.receipt.reckoning import exit_code, with_open_books
from provision.account.receipt.value import Receipt
from provision.errors import Exit
from provision.report.tables import bill_table, headline
from provision.seam import Box
from remote.contract import Doubt, EndReason, Evaluation, Measured, Outcome, Reached, Streaming
from tests.provision.account.receipts import GONE, OPENED_AT_S, outcome_of, receipt_of, run_state
from tests.provision.plans import FREE, attempted, rental, tiny_plan


def test_a_worked_example(plan: Plan) -> None:
    """100 s on the bill at 3.60 $/h, 80 s of them in phases: 8 cents of work, 2 of idling."""
    state = run_state(
        plan,
        rentals=(
            rental(
                plan,
                started_at_s=OPENED_AT_S,
                ended_at_s=OPENED_AT_S + 100,
                phase_s={"create": 5.0, "boot": 4.0, "teardown": 6.0},
            ),
        ),
    )
    receipt = receipt_of(plan, state, outcome_of())
    metered = {line.name: line.metered_usd for line in receipt.bill}
    assert metered == {
        "compute": Decimal("0.0800"),
        "idle": Decimal("0.0200"),
        "disk": Decimal("0.0000"),
        "address": Decimal("0.0000"),
        "egress": Decimal("0.0000"),
        "failed attempts": Decimal("0.0000"),
    }
    assert (receipt.metered_usd, receipt.planned_usd) == (Decimal("0.1000"), Decimal("0.0160"))
    assert (receipt.exit_code, receipt.trained, receipt.span.billed_s) == (0, True, 100.0)


def test_the_making_of_a_box_is_on_the_bill_and_in_no_plan(plan: Plan) -> None:
    """Asked for at 0, made at 20, there at 30, gone at 100, and the trainer at it for 70 s: 80 s billed, none of them idle."""
    at_s = [OPENED_AT_S + each for each in (20, 30, 100)]
    box = rental(plan, started_at_s=at_s[0], up_at_s=at_s[1], ended_at_s=at_s[2], phase_s={"create": 30.0})
    receipt = receipt_of(plan, run_state(plan, rentals=(box,)), outcome_of())
    metered = {line.name: line.metered_usd for line in receipt.bill}
    assert (metered["compute"], metered["idle"]) == (Decimal("0.0800"), Decimal(0))
    assert (receipt.span.billed_s, receipt.span.making_s) == (80.0, 10.0)
    assert "10.0 s of that were before the box ran: billed from its making, and in no plan." in str(bill_table(receipt).note)


@pytest.mark.parametrize(
    "outcome", [None, outcome_of(measured=Measured(peak_ram_bytes=500), adapter=())], ids=["gone", "stopped"]
)
def test_what_a_stopped_trainer_did_not_add_up_was_heard(plan: Plan, outcome: Outcome | None) -> None:
    """Its own words come first."""
    heard = Measured(steps=2, tokens=200, step_s=0.5, peak_ram_bytes=400)
    receipt = receipt_of(plan, run_state(plan), outcome, heard=heard, interrupted=True)
    metered = {figure.name: figure.metered for figure in receipt.figures}
    assert (metered["optimizer steps"], metered["tokens computed"], metered["optimizer step"]) == (2, 200, 0.5)
    assert metered["RAM"] == (500 if outcome else 400)


def test_checkpoints_that_came_home_are_on_the_bill(plan: Plan) -> None:
    """At 10 cents a GB, of which one is free: 2 GB from the box that was taken away, 3 from the next."""
    sold = msgspec.structs.replace(FREE, egress_usd_per_gb=Decimal("0.10"), egress_free_gb=1)
    boxes = [
        rental(plan, billing=sold, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S, sent_bytes=gb * 10**9) for gb in (2, 3)
    ]
    state = run_state(plan, rentals=tuple(boxes))
    metered = {line.name: line.metered_usd for line in receipt_of(plan, state, outcome_of()).bill}
    assert metered["egress"] == Decimal("0.4000")
    elsewhere = msgspec.structs.replace(boxes[1], billing=msgspec.structs.replace(sold, provider="another"))
    assert usd_so_far(run_state(plan, rentals=(boxes[0], elsewhere)), now_s=OPENED_AT_S) == Decimal("0.1") + Decimal("0.2")


def test_an_attempt_that_never_became_a_box_is_on_its_own_line(plan: Plan) -> None:
    """The first `up` took 50 s and failed, the second box lived for 100 s."""
    rentals = (
        rental(plan, up_at_s=None, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S + 50),
        rental(plan, started_at_s=OPENED_AT_S + 50, ended_at_s=OPENED_AT_S + 150),
    )
    receipt = receipt_of(plan, run_state(plan, rentals=rentals), outcome_of())
    metered = {line.name: line.metered_usd for line in receipt.bill}
    assert metered["failed attempts"] == Decimal("0.0500")
    assert receipt.metered_usd == Decimal("0.1500")


def test_what_the_provider_declined_costs_nothing(plan: Plan) -> None:
    """It was heard, and no box was seen then or at the end; one that the end names did bill. A call cut off tells nothing."""
    asked = {"started_at_s": OPENED_AT_S, "up_at_s": None, "ended_at_s": OPENED_AT_S + 50}
    for fields, usd in (
        ({"phase_s": {"create": 50.0}}, Decimal("0.0000")),
        ({"phase_s": {"create": 50.0}, "shown": True}, Decimal("0.0500")),
        ({}, Decimal("0.0500")),
    ):
        rentals = (rental(plan, **asked, **fields), rental(plan, started_at_s=OPENED_AT_S + 50, ended_at_s=OPENED_AT_S + 150))
        metered = {line.name: line.metered_usd for line in receipt_of(plan, run_state(plan, rentals=rentals)).bill}
        assert metered["failed attempts"] == usd


def test_each_attempt_is_billed_at_its_own_price_and_under_its_own_rule(plan: Plan) -> None:
    """100 s at 3.60 $/h, then 100 s at 7.20 $/h by the minute with a GiB at 73 $ a month: 10, 24 and a third of a cent."""
    dear = msgspec.structs.replace(plan.offer, usd_per_hour=Decimal("7.20"), region="there")
    by_minute = msgspec.structs.replace(FREE, increment_s=60, disk_usd_per_gib_month=Decimal(73))
    rentals = (
        rental(plan, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S + 100),
        rental(plan, offer=dear, billing=by_minute, disk_gib=1, started_at_s=OPENED_AT_S + 100, ended_at_s=OPENED_AT_S + 200),
    )
    receipt = receipt_of(plan, run_state(plan, rentals=rentals))
    metered = {line.name: line.metered_usd for line in receipt.bill}
    assert (metered["failed attempts"], metered["compute"] + metered["idle"]) == (Decimal("0.1000"), Decimal("0.2400"))
    assert metered["disk"] == Decimal("0.0033")
    assert [(each.offer, each.usd) for each in receipt.tries] == [
        ("local/here/this-machine/on_demand", Decimal("0.1000")),
        ("local/there/this-machine/on_demand", Decimal("0.2433")),
    ]
    assert receipt.usd_per_hour == Decimal("7.20")


def test_seconds_on_a_failed_box_do_not_fill_the_idle_time_of_the_next(plan: Plan) -> None:
    """The first never answered for 50 s; of the second's 100 s the trainer used 70, and the controller 10."""
    rentals = (
        rental(plan, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S + 50, phase_s={"boot": 50.0}),
        rental(plan, started_at_s=OPENED_AT_S + 50, ended_at_s=OPENED_AT_S + 150, phase_s={"boot": 4.0, "teardown": 6.0}),
    )
    receipt = receipt_of(plan, run_state(plan, rentals=rentals, phase_s={"boot": 54.0, "teardown": 6.0}), outcome_of())
    metered = {line.name: line.metered_usd for line in receipt.bill}
    assert metered["compute"] == Decimal("0.0800")
    assert metered["idle"] == Decimal("0.0200")
    assert metered["failed attempts"] == Decimal("0.0500")


def test_what_was_trained_on_a_box_that_was_lost_does_not_fill_the_idle_time_of_the_next(plan: Plan) -> None:
    """The outcome tells of 60 s of training on both; on the last box there were 20, and its boot took 10 of 100 s."""
    rentals = (
        rental(plan, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S + 50),
        rental(plan, started_at_s=OPENED_AT_S + 50, ended_at_s=OPENED_AT_S + 150, phase_s={"boot": 10.0}),
    )
    receipt = receipt_of(plan, run_state(plan, rentals=rentals), outcome_of(), last_phase_s={"train": 20.0})
    metered = {line.name: line.metered_usd for line in receipt.bill}
    assert (metered["compute"], metered["idle"]) == (Decimal("0.0300"), Decimal("0.0700"))
    assert {figure.name: figure.metered for figure in receipt.phases}["train"] == 60.0


def test_the_billing_rule_at_launch_decides(plan: Plan) -> None:
    """Whole minutes and at least ten of them: 100 s cost 600 s."""
    billing = msgspec.structs.replace(FREE, increment_s=60, minimum_s=600)
    rentals = (rental(plan, billing=billing, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S + 100),)
    assert receipt_of(plan, run_state(plan, rentals=rentals), outcome_of()).metered_usd == Decimal("0.6000")


def test_what_it_has_cost_so_far_is_what_its_receipt_would_say(plan: Plan) -> None:
    """Minimum, rounding and disk included, also while the box still runs."""
    billing = msgspec.structs.replace(FREE, increment_s=60, minimum_s=600, disk_usd_per_gib_month=Decimal(100))
    state = run_state(plan, rentals=(rental(plan, billing=billing, disk_gib=50, started_at_s=OPENED_AT_S),))
    so_far = usd_so_far(state, now_s=OPENED_AT_S + 110)
    assert so_far == receipt_of(plan, state).metered_usd
    assert so_far > Decimal("0.6")


@given(
    price=st.decimals(min_value=0, max_value=100, places=4),
    lengths_s=st.lists(st.floats(min_value=0, max_value=1e6), min_size=0, max_size=4),
    busy_s=st.floats(min_value=0, max_value=1e6),
)
def test_the_lines_sum_to_the_total(price: Decimal, lengths_s: list[float], busy_s: float) -> None:
    """Whatever happened: total = billed seconds × price, to the rounding of the lines."""
    plan = tiny_plan(Path("/model"), Path("/data"), usd_per_hour=price)
    rentals = tuple(rental(plan, started_at_s=0.0, ended_at_s=length_s, phase_s={"fetch": busy_s}) for length_s in lengths_s)
    receipt = receipt_of(plan, run_state(plan, rentals=rentals))
    assert receipt.metered_usd == sum(line.metered_usd for line in receipt.bill)
    exact = Decimal(str(receipt.span.billed_s)) * price / 3600
    assert abs(receipt.metered_usd - exact) <= Decimal("0.0002")
    assert all(line.metered_usd >= 0 for line in receipt.bill)


@pytest.mark.parametrize(
    ("trained", "gone", "interrupted", "code"),
    [
        (True, True, False, Exit.OK),
        (False, True, False, Exit.FAILED),
        (True, True, True, Exit.INTERRUPTED),
        (True, False, False, Exit.STILL_BILLS),
        (False, False, True, Exit.STILL_BILLS),
    ],
)
def test_what_still_bills_outweighs_all_else(trained: bool, gone: bool, interrupted: bool, code: Exit) -> None:
    """Zero means trained and gone, and nothing less."""
    assert exit_code(trained=trained, gone=gone, interrupted=interrupted) == code


@pytest.mark.parametrize(
    ("code", "shown"), [(Exit.OK, Exit.FAILED), (Exit.STILL_BILLS, Exit.STILL_BILLS), (Exit.INTERRUPTED, Exit.INTERRUPTED)]
)
def test_open_books_are_no_success(plan: Plan, code: Exit, shown: Exit) -> None:
    """Trained and gone, and nobody can read later what it cost: the code and the message say so."""
    closed = msgspec.structs.replace(receipt_of(plan, run_state(plan), outcome_of()), exit_code=code)
    told = with_open_books(closed, "The books could not be closed: No space left on device.")
    assert (told.exit_code, told.ending.message) == (shown, "Trained. The books could not be closed: No space left on device.")


def test_a_result_that_did_not_come_home_is_none(plan: Plan) -> None:
    """The trainer finished, the adapter was lost with the box: that is no success."""
    receipt = receipt_of(plan, run_state(plan), outcome_of(), adapter_folder=None)
    assert (receipt.trained, receipt.exit_code, receipt.adapter) == (False, Exit.FAILED, None)


@pytest.mark.parametrize(
    ("outcome", "made", "ended_by"),
    [
        (outcome_of(reason=EndReason.DEADLINE), True, None),
        (outcome_of(reason=EndReason.DEADLINE, adapter=()), False, None),
        (None, False, "deadline"),
    ],
    ids=["it was saved in time", "no step was made in time", "the box went first"],
)
def test_a_trainer_that_keeps_a_deadline_is_not_a_box_that_dies_of_it(
    plan: Plan, outcome: Outcome | None, made: bool, ended_by: str | None
) -> None:
    """One may have left a result, which is worth bringing home; the other has left nothing."""
    died = rental(plan, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S + 900)
    receipt = receipt_of(plan, run_state(plan, rentals=(died,)), outcome)
    assert (receipt.ending.result_made, receipt.ending.ended_by) == (made, ended_by)


def test_who_knows_why_there_is_no_result_says_so(plan: Plan) -> None:
    """A fetch that failed is no "trained to the end"; with the adapter at home the trainer's words are enough."""

    def said(adapter_folder: str | None, message: str) -> str:
        return receipt_of(plan, run_state(plan), outcome_of(), adapter_folder=adapter_folder, message=message).ending.message

    assert said(None, "The disk is full.") == "The disk is full. The trainer said: Trained."
    assert said(None, "It ended without a result (crashed): Trained.") == "It ended without a result (crashed): Trained."
    assert said(None, "") == "Trained."
    assert said("/home/me/adapter", "Stopped by the user.") == "Trained."


BOX = Box(run_id="r", provider="local", host="127.0.0.1", port=22, user="me", host_key="ssh-ed25519 A", folder="/box")


@pytest.mark.parametrize(
    ("verdict", "box", "left"),
    [
        ("destroyed", BOX, ". The box and its checkpoints are gone."),
        ("cleaned", BOX, ". Its checkpoints are gone from the host."),
        ("orphaned", BOX, ""),
        ("destroyed", None, ""),
    ],
)
def test_a_run_that_was_stopped_says_what_became_of_its_box(plan: Plan, verdict: Any, box: Box | None, left: str) -> None:
    """The trainer can't know it; where none came up there is nothing to tell, and what may be there is told by its teardown."""
    state = run_state(plan, box=box, teardown=msgspec.structs.replace(GONE, verdict=verdict))
    outcome = outcome_of(reason=EndReason.INTERRUPTED, message="stopped on request after step 3 of 8", adapter=())
    receipt = receipt_of(plan, state, outcome, adapter_folder=None, interrupted=True, message="Stopped by the user.")
    assert receipt.ending.message == f"Stopped by the user. The trainer said: stopped on request after step 3 of 8{left}"


def test_a_run_that_was_stopped_says_where_its_last_checkpoint_is(plan: Plan) -> None:
    """Once it has come home; where the adapter has, nobody needs it."""
    state, at = run_state(plan, box=BOX, teardown=GONE), "/home/me/checkpoints/step-00000003"

    def said(adapter_folder: str | None, go_on: str | None = None) -> str:
        told = {
            "adapter_folder": adapter_folder,
            "checkpoint_folder": at,
            "go_on": go_on,
            "interrupted": True,
            "message": "Stopped by the user.",
        }
        return receipt_of(plan, state, None if adapter_folder is None else outcome_of(), **told).ending.message

    assert said(None) == (
        "Stopped by the user. The run is over, so `rentune resume` rents nothing to go on from it; trainable.safetensors has "
        f"the weights that trained, by name. Its last checkpoint is at home: {at}"
    )
    assert said(None, "/home/me/my runs/go-on.yaml") == (
        "Stopped by the user. The run is over, so `rentune resume` rents nothing to go on from it; another run goes on with "
        f"its weights, for what was left: rentune run '/home/me/my runs/go-on.yaml'. Its last checkpoint is at home: {at}"
    )
    assert said("/home/me/adapter", "/home/me/go-on.yaml") == "Trained."


def test_an_orphan_reaches_the_exit_code(plan: Plan) -> None:
    """Trained, but the box is still there."""
    left = msgspec.structs.replace(GONE, verdict="orphaned", command="rentune down r")
    assert receipt_of(plan, run_state(plan, teardown=left), outcome_of()).exit_code == Exit.STILL_BILLS


def test_losses_are_compared_row_by_row() -> None:
    """Differences 1.0, 0.9, 1.1: mean 1, standard error 0.1/√3."""
    before = Evaluation(step=0, mean_loss=5.0, row_losses=(5.0, 5.1, 4.9))
    after = Evaluation(step=8, mean_loss=4.0, row_losses=(4.0, 4.2, 3.8))
    change = compare(before, after)
    assert change is not None
    assert change.mean_drop == pytest.approx(1.0)
    assert change.standard_error == pytest.approx(0.1 / 3**0.5)
    assert change.significant


def test_noise_is_not_called_an_improvement() -> None:
    """The mean fell, but the rows disagree."""
    before = Evaluation(step=0, mean_loss=2.0, row_losses=(1.0, 3.0, 2.0))
    after = Evaluation(step=1, mean_loss=1.9, row_losses=(2.0, 2.0, 1.7))
    change = compare(before, after)
    assert change is not None
    assert not change.significant


def test_evaluations_of_different_rows_are_not_compared() -> None:
    """No pairs, no verdict."""
    assert (
        compare(Evaluation(step=0, mean_loss=1, row_losses=(1.0,)), Evaluation(step=1, mean_loss=1, row_losses=(1.0, 2.0)))
        is None
    )


def test_a_calibration_row_for_each_figure_known_twice(plan: Plan) -> None:
    """Planned and metered stand side by side with the kind of job they belong to."""
    receipt = receipt_of(plan, run_state(plan, phase_s={"boot": 1.5}), outcome_of())
    rows = {row.quantity: row for row in calibrations(plan, receipt)}
    assert (rows["RAM"].predicted, rows["RAM"].measured) == (600 * 2**20, 700 * 2**20)
    assert (rows["boot"].predicted, rows["boot"].measured) == (2.0, 1.5)
    assert rows["train"].key["method"] == "lora"
    assert "evaluate" not in rows


def test_a_run_that_stepped_down_from_its_plan_says_so_and_teaches_no_later_plan(plan: Plan) -> None:
    """What it took was of another strategy than the one that was predicted."""
    carried_out = msgspec.structs.replace(plan.strategy, micro_batch_size=1, gradient_checkpointing="non_reentrant")
    outcome = msgspec.structs.replace(outcome_of(), strategy=carried_out)
    receipt = receipt_of(plan, run_state(plan), outcome)
    assert calibrations(plan, receipt) == ()
    assert "batch 1x" in receipt.strategy
    assert f"(planned was {describe(plan.strategy)})" in receipt.strategy
    said = Streaming(num_slots=2, num_resident_blocks=3, num_visits=4, num_blocks_without_recompute=0)
    slow = msgspec.structs.replace(plan.strategy, offload="stream", streaming=said)
    receipt = receipt_of(plan, run_state(plan), msgspec.structs.replace(outcome_of(), strategy=slow))
    assert ", 3 blocks kept on the card, 4 micro-batches a visit, " in receipt.strategy
    as_planned = receipt_of(plan, run_state(plan), msgspec.structs.replace(outcome_of(), strategy=plan.strategy))
    assert "planned was" not in as_planned.strategy
    assert calibrations(plan, as_planned)


def test_a_result_in_doubt_has_a_code_of_its_own_and_what_still_bills_outweighs_it(plan: Plan) -> None:
    """It is whole and at home; whoever chains commands must not take it for a good one."""
    doubt = Doubt(kind="no_better", message="the result is no better than its base")
    receipt = receipt_of(plan, run_state(plan), msgspec.structs.replace(outcome_of(), doubts=(doubt,)))
    assert (receipt.trained, receipt.doubts, receipt.exit_code) == (True, (doubt,), Exit.IN_DOUBT)
    assert "trained and gone, its result in doubt" in headline(receipt)
    assert exit_code(trained=True, in_doubt=True, gone=False, interrupted=False) == Exit.STILL_BILLS
    assert exit_code(trained=True, in_doubt=True, in_part=True, gone=True, interrupted=False) == Exit.IN_PART


def test_a_receipt_reads_back_equal(plan: Plan) -> None:
    """It is a file; nothing may be lost in it."""
    receipt = receipt_of(plan, run_state(plan), outcome_of())
    assert msgspec.json.decode(msgspec.json.encode(receipt), type=Receipt) == receipt


def test_only_a_clean_end_closes_the_bill(plan: Plan, tmp_path: Path) -> None:
    """What an orphaned box costs goes on; all that was rented and not ended is closed by the one line that says it is gone."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(run_state(plan).opened)
    orphaned = msgspec.structs.replace(GONE, verdict="orphaned", resources=())
    for number in range(2):
        ledger.append(attempted("r", plan, at_s=OPENED_AT_S + 10 * number))
        ledger.append(Ended(run_id="r", at_s=OPENED_AT_S + 10 * number + 5, teardown=orphaned))

    def billed_s() -> float:
        return receipt_of(plan, ledger.runs()["r"], at_s=OPENED_AT_S + 500).span.billed_s

    assert billed_s() == 500 + 490
    ledger.append(Ended(run_id="r", at_s=OPENED_AT_S + 200, teardown=GONE))
    assert billed_s() == 100 + 90


@pytest.mark.parametrize(
    ("reason", "step", "in_part", "code"),
    [
        (EndReason.DEADLINE, 31, True, Exit.IN_PART),
        (EndReason.DEADLINE, 60, False, Exit.OK),
        (EndReason.STOPPED_EARLY, 31, False, Exit.OK),
    ],
    ids=["cut short", "all steps made, the last not judged", "no longer better"],
)
def test_a_training_that_its_deadline_cut_short_is_a_result_with_a_code_of_its_own(
    plan: Plan, reason: EndReason, step: int, in_part: bool, code: Exit
) -> None:
    """Nobody's script is to take half a training for a whole one."""
    reached = Reached(step=step, total_steps=60, judged_step=20, weights_step=20)
    receipt = receipt_of(plan, run_state(plan), outcome_of(reason=reason, reached=reached))
    assert (receipt.trained, receipt.in_part, receipt.exit_code) == (True, in_part, code)
