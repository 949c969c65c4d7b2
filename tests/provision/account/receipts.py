"""The receipt of a tiny run by hand: its state, its trainer's outcome, and what is reckoned from them."""

from __future__ import annotations

from typing import Any

import msgspec

from planner.plan import Plan
from provision.account.lines import Opened
from provision.account.receipt.closing import AtHome, Closing, Told
from provision.account.receipt.reckoning import reckon
from provision.account.receipt.value import Receipt
from provision.account.runs import RunState
from provision.seam import Answer, Resource, ResourceEnd, Teardown
from remote.contract import AdapterFile, EndReason, Evaluation, Measured, Outcome

OPENED_AT_S = 1_000_000.0
PARTS = (Told, AtHome, Closing)
GONE = Teardown(
    run_id="r",
    verdict="destroyed",
    resources=(ResourceEnd(resource=Resource(kind="process", id="7"), gone=Answer.YES, at_s=OPENED_AT_S + 100),),
    message="",
)


def run_state(plan: Plan, **changes: Any) -> RunState:
    opened = Opened(
        run_id="r",
        at_s=OPENED_AT_S,
        owner="me",
        provider="local",
        region="here",
        instance_type="this-machine",
        model=plan.request.model,
        usd_per_hour=plan.offer.usd_per_hour,
        billing=plan.billing,
        max_usd=None,
        deadline_at_s=OPENED_AT_S + 900,
        tags={"team": "search"},
        versions={"rentune": "0.1.0"},
        folder="/nowhere",
    )
    state = RunState(run_id="r", opened=opened, deadline_at_s=opened.deadline_at_s, teardown=GONE)
    return msgspec.structs.replace(state, **changes)


def outcome_of(**changes: Any) -> Outcome:
    outcome = Outcome(
        run_id="r",
        reason=EndReason.COMPLETED,
        message="Trained.",
        phase_s={"train": 60.0, "load": 10.0},
        measured=Measured(peak_ram_bytes=700 * 2**20, tokens_per_s=5000.0, step_s=0.05, steps=8, tokens=2048),
        before=Evaluation(step=0, mean_loss=5.0, row_losses=(5.0, 5.1, 4.9)),
        after=Evaluation(step=8, mean_loss=4.0, row_losses=(4.0, 4.2, 3.8)),
        adapter=(AdapterFile(path="adapter_model.safetensors", size_bytes=1000, sha256="00"),),
    )
    return msgspec.structs.replace(outcome, **changes)


def receipt_of(plan: Plan, state: RunState, outcome: Outcome | None = None, **changes: Any) -> Receipt:
    """`changes`: any field of what books are closed with."""
    said: dict[str, Any] = {
        "outcome": outcome,
        "phase_s": outcome.phase_s if outcome else {},
        "adapter_folder": "/home/me/adapter" if outcome else None,
        "at_s": OPENED_AT_S + 110,
        **changes,
    }
    told, home, closing = ({name: said.pop(name) for name in each.__struct_fields__ if name in said} for each in PARTS)
    assert not said
    return reckon(plan, state, Told(**told), home=AtHome(**home), closing=Closing(**closing))
