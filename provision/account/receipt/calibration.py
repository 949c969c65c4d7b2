"""What a run teaches: a row for each figure that was planned and metered."""

from __future__ import annotations

import msgspec

from planner.plan import Plan
from provision.account.receipt.earlier import RANDOM, STEP
from provision.account.receipt.value import Receipt, Unit


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
    schema_version: int = 1


def calibrations(plan: Plan, receipt: Receipt) -> tuple[Calibration, ...]:
    """A row for every figure and phase that was both planned and metered. None of a run that stepped down from its plan,
    for lack of memory: the prediction was of something else.
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
        )
        for figure in (*receipt.figures, *receipt.phases)
        if figure.planned is not None and figure.metered is not None
    )
