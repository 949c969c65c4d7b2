"""A deadline that came before there was a result: where the time went, what is saved, what to type."""

from __future__ import annotations

from typing import Any

import pytest

from planner.plan import Plan
from provision.aboard import ship
from provision.account.ledger import Ledger
from provision.errors import ConnectionFailed, ProvisionError
from provision.home.places import Places
from provision.walk.driven import read_run
from provision.walk.edges import Edges
from provision.walk.job.patience import TOO_LATE
from provision.walk.job.training import _ensured_environment
from remote.contract import EndReason, Outcome
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.account.receipts import OPENED_AT_S, outcome_of, receipt_of, run_state
from tests.provision.plans import attempted, rental


@pytest.mark.parametrize("outcome", [None, outcome_of(reason=EndReason.DEADLINE, adapter=())], ids=["no word", "no step"])
@pytest.mark.parametrize("kept", [None, "/home/me/runs/r/checkpoints/step-00000040"])
def test_the_phase_that_took_the_time_is_named_and_what_is_saved(plan: Plan, outcome: Outcome | None, kept: str | None) -> None:
    died = rental(plan, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S + 900)
    state = run_state(plan, rentals=(died,), phase_s={"boot": 20.0, "environment": 700.0})
    receipt = receipt_of(plan, state, outcome, message="Too late.", adapter_folder=None, checkpoint_folder=kept)
    assert "Most of its time went to environment: 11 min 40 s of 15 min 00 s." in receipt.ending.message
    assert receipt.ending.message.endswith(
        f"Its last checkpoint is at home: {kept}" if kept else "Nothing that it learned is saved."
    )


def test_nothing_of_that_is_said_of_a_result_nor_of_a_run_that_was_stopped(plan: Plan) -> None:
    died = rental(plan, started_at_s=OPENED_AT_S, ended_at_s=OPENED_AT_S + 900)
    saved = receipt_of(plan, run_state(plan, rentals=(died,)), outcome_of(reason=EndReason.DEADLINE))
    stopped = receipt_of(plan, run_state(plan, rentals=(died,)), None, interrupted=True)
    assert not any("Most of its time" in receipt.ending.message for receipt in (saved, stopped))


def test_a_build_that_the_deadline_has_ended_is_told_as_that(
    run_id: str, places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as a fault of the packages: what helps is more time, and the limit to raise is named."""

    def killed(*_: Any, **__: Any) -> str:
        raise ProvisionError("The environment could not be built on here (killed): Downloading torch")

    monkeypatch.setattr(ship, "ensure_environment", killed)
    held: Any = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: Paper()), ledger=ledger)
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=1e12))
    with pytest.raises(ProvisionError, match="Downloading torch"):
        _ensured_environment(held, None, None)  # type: ignore[arg-type]
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=2.0))
    with pytest.raises(ConnectionFailed) as late:
        _ensured_environment(held, None, None)  # type: ignore[arg-type]
    assert late.value.message == TOO_LATE
    assert "after the start: run it again with" in str(late.value.hint)
