"""What a run teaches: a row for each figure that was planned and metered."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from planner.asking.request import OWN_MACHINES
from planner.plan import Plan
from provision.account.receipt.earlier import RANDOM, STEP
from provision.account.receipt.value import Receipt, Unit
from provision.account.runs import RunState


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `calibration.jsonl`: what was predicted for this kind of job, and what came."""

    run_id: str
    at_s: float
    key: dict[str, str]  # model, method, quant, micro_batch_size, seq_len, gpu, provider, …
    quantity: str
    unit: Unit
    predicted: float
    measured: float
    versions: dict[str, str]
    learned: float = 1.0  # the factor within `predicted` that earlier rows taught
    shared: bool = False  # whether other runs were on that machine meanwhile, so that its seconds teach no later plan
    schema_version: int = 1


def was_shared(run_id: str, runs: Iterable[RunState], *, now_s: float) -> bool:
    """Whether another run held the machine while this one did, where it is one of the user's own: both take longer then."""
    by_id = {state.run_id: state for state in runs}
    own = by_id.get(run_id)
    if own is None or own.rental is None or own.rental.offer.provider not in OWN_MACHINES:
        return False
    begins_s, ends_s = own.rental.started_at_s, own.rental.ended_at_s or now_s
    return any(
        rental.offer.key == own.rental.offer.key
        and rental.started_at_s < ends_s
        and begins_s < (now_s if rental.ended_at_s is None else rental.ended_at_s)
        for state in by_id.values()
        if state is not own
        for rental in state.rentals
    )


def calibrations(plan: Plan, receipt: Receipt, *, shared: bool = False) -> tuple[Calibration, ...]:
    """A row for every figure and phase that was both planned and metered. None of a run that stepped down from its plan,
    for lack of memory: the prediction was of something else. `shared`: as `was_shared` tells.
    """
    if not receipt.as_planned:
        return ()
    chosen = plan.strategy
    key = {
        "model": plan.request.model,
        "method": chosen.method,
        "rank": str(chosen.rank),
        "quant": chosen.quant,
        "optimizer": chosen.optimizer,
        "micro_batch_size": str(chosen.micro_batch_size),
        "seq_len": str(chosen.seq_len),
        "gradient_checkpointing": chosen.gradient_checkpointing,
        "gpu": plan.gpu.name if plan.gpu else "cpu",
        "num_gpus": str(chosen.num_gpus),
        "provider": plan.offer.provider,
        "instance_type": plan.offer.instance_type,
        "weights": RANDOM if receipt.base.random else "given",
    }
    return tuple(
        Calibration(
            run_id=receipt.run_id,
            at_s=receipt.span.ended_at_s,
            key=key,
            quantity=figure.name,
            unit=figure.unit,
            predicted=figure.planned.p50,
            measured=figure.metered,
            versions=receipt.versions | plan.versions,  # of the release that predicted
            learned=plan.duration.learned if figure.name == STEP else 1.0,
            shared=shared,
        )
        for figure in (*receipt.figures, *receipt.phases)
        if figure.planned is not None and figure.metered is not None
    )
