"""From what is known when the books are closed to the receipt. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from planner.plan import Plan, Range
from planner.strategy.words import describe
from provision.account.bill import LINES, LineName, bill, billed_s, costs_on, kept_usd_per_month, rental_usd, rounded
from provision.account.receipt.closing import NOTHING_HEARD, AtHome, Closing, Told
from provision.account.receipt.earlier import STEP, STEPS
from provision.account.receipt.judged import changes_of, compare
from provision.account.receipt.last_words import deadline_came, ending_of, too_late, where_time_went, with_what_is_left
from provision.account.receipt.value import (
    Adapter,
    BaseUsed,
    BillLine,
    Ending,
    Figure,
    Learning,
    Left,
    Receipt,
    Span,
    Try,
    Unit,
)
from provision.account.runs import Rental, RunState, Standing
from provision.errors import Exit
from remote.contract import BY_TWO_SLOTS, Measured, Outcome, Phase, Strategy


def reckon(plan: Plan, state: RunState, told: Told, *, home: AtHome, closing: Closing) -> Receipt:
    """The receipt of a run as its ledger, its boxes and its home show it once the controller closes its books.

    The trainer's seconds by phase are the boxes' own; the controller's come from the ledger.
    """
    outcome = told.outcome
    carried_out = (outcome.strategy if outcome else None) or plan.strategy
    phase_s = _added(state.phase_s, told.phase_s)
    adapter = _adapter(outcome, home)
    sent_bytes = adapter.size_bytes if adapter else 0
    return Receipt(
        run_id=state.run_id,
        model=plan.request.model,
        offer=plan.offer.key,
        strategy=_strategy_words(plan, carried_out),
        as_planned=carried_out == plan.strategy,
        usd_per_hour=state.rental.offer.usd_per_hour if state.rental else state.opened.usd_per_hour,
        exit_code=exit_code(
            trained=adapter is not None,
            in_part=adapter is not None and adapter.in_part,
            in_doubt=adapter is not None and bool(adapter.doubts),
            gone=state.standing in (Standing.BETWEEN, Standing.OVER),
            interrupted=closing.interrupted,
        ),
        ending=_ending(state, outcome, home, closing, phase_s),
        adapter=adapter,
        learning=Learning() if outcome is None else _learning(plan, told, outcome),
        base=_base(plan, told),
        span=_span(state, closing.at_s),
        figures=_figures(plan, _completed(outcome.measured, told.heard) if outcome else told.heard),
        phases=_phases(plan, phase_s),
        bill=_bill(plan, state, told, sent_bytes=sent_bytes, now_s=closing.at_s),
        tries=tuple(_try(rental, now_s=closing.at_s) for rental in state.rentals),
        restarts=told.restarts,
        teardown=state.teardown,
        left=Left(kept=state.kept, kept_usd_per_month=kept_usd_per_month(state), costs_on=costs_on(state)),
        tags=state.opened.tags,
        versions=state.opened.versions | (outcome.versions if outcome else {}),
    )


def exit_code(*, trained: bool, in_part: bool = False, in_doubt: bool = False, gone: bool, interrupted: bool) -> Exit:
    """What still bills outweighs everything else that happened. `in_part`: the deadline cut the training short.
    `in_doubt`: its result may be of no use.
    """
    if not gone:
        return Exit.STILL_BILLS
    if interrupted:
        return Exit.INTERRUPTED
    if not trained:
        return Exit.FAILED
    if in_part:
        return Exit.IN_PART
    return Exit.IN_DOUBT if in_doubt else Exit.OK


def with_open_books(receipt: Receipt, trouble: str) -> Receipt:
    """The receipt of a run whose books could not be closed: a run that has its result has failed in this."""
    code = Exit.FAILED if receipt.exit_code in (Exit.OK, Exit.IN_PART, Exit.IN_DOUBT) else receipt.exit_code
    ending = msgspec.structs.replace(receipt.ending, message=" ".join(filter(None, (receipt.ending.message, trouble))))
    return msgspec.structs.replace(receipt, exit_code=code, ending=ending)


def _strategy_words(plan: Plan, carried_out: Strategy) -> str:
    if carried_out == plan.strategy:
        return f"{describe(carried_out)}, {carried_out.seq_len} tokens"
    passing = carried_out.streaming != plan.strategy.streaming
    now, planned = (f"{describe(each)}{_passing(each) if passing else ''}" for each in (carried_out, plan.strategy))
    return f"{now}, {carried_out.seq_len} tokens (planned was {planned})"


def _passing(strategy: Strategy) -> str:
    """How blocks pass by, where they do."""
    if strategy.offload != "stream":
        return ""
    said = strategy.streaming or BY_TWO_SLOTS
    return f", {said.num_resident_blocks} blocks kept on the card, {said.num_visits} micro-batches a visit"


# ── the parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _adapter(outcome: Outcome | None, home: AtHome) -> Adapter | None:
    if outcome is None or not outcome.trained or home.adapter_folder is None:
        return None
    size_bytes = sum(file.size_bytes for file in outcome.adapter)
    return Adapter(folder=home.adapter_folder, size_bytes=size_bytes, in_part=outcome.in_part, doubts=outcome.doubts)


def _ending(state: RunState, outcome: Outcome | None, home: AtHome, closing: Closing, phase_s: Mapping[str, float]) -> Ending:
    trained = _adapter(outcome, home) is not None
    said = ending_of(outcome, closing.message, trained=trained)
    if not closing.interrupted and too_late(state, outcome):
        said = f"{said} {where_time_went(state, phase_s, home)}".strip()
    return Ending(
        reason=outcome.reason if outcome else None,
        result_made=outcome is not None and outcome.trained,
        ended_by=closing.ended_by or ("deadline" if outcome is None and deadline_came(state) else None),
        message=said if trained else with_what_is_left(said, state, home, stopped=closing.interrupted),
    )


def _learning(plan: Plan, told: Told, outcome: Outcome) -> Learning:
    data = plan.request.data
    lone = tuple(name for name, rows, _ in data.classes if rows == 1) if data.held_out_path is None else ()
    both = (outcome.before, outcome.after) if outcome.before and outcome.after else None
    return Learning(
        reached=outcome.reached,
        loss=compare(*both) if both else None,
        metrics=changes_of(*both) if both else {},
        classes=outcome.classes,
        confusion=both[1].confusion if both else (),
        train_rows=outcome.train_rows,
        held_out_rows=outcome.held_out_rows,
        samples=outcome.samples,
        held_out_twins=told.held_out_twins,
        lone_classes=lone,
    )


def _base(plan: Plan, told: Told) -> BaseUsed:
    return BaseUsed(
        revision=told.outcome.base_revision if told.outcome else None,
        sha256=told.outcome.base_sha256 if told.outcome else {},
        fetched_bytes=told.base_fetched_bytes,
        began_with=plan.request.loop.init_adapter,
        random=told.random_base,
    )


def _span(state: RunState, now_s: float) -> Span:
    return Span(
        started_at_s=state.opened.at_s,
        ended_at_s=now_s,
        wall_s=now_s - state.opened.at_s,
        billed_s=sum(billed_s(rental, now_s=now_s) for rental in state.rentals),
        making_s=sum(rental.making_s for rental in state.rentals if rental.created),
    )


def _figures(plan: Plan, measured: Measured) -> tuple[Figure, ...]:
    vram: tuple[tuple[str, int, int | None], ...] = (
        ("VRAM allocated", plan.vram.allocated_peak_bytes, measured.peak_vram_allocated_bytes),
        ("VRAM reserved", plan.vram.reserved_peak_bytes, measured.peak_vram_reserved_bytes),
        ("VRAM of the process", plan.vram.process_peak_bytes, measured.peak_vram_process_bytes),
    )
    memory = (*(vram if plan.gpu else ()), ("RAM", plan.host.ram_peak_bytes, measured.peak_ram_bytes))
    duration = plan.duration
    rows: tuple[tuple[str, Unit, Range, float | None], ...] = (
        *((name, "bytes", _exactly(planned), metered) for name, planned, metered in memory),
        ("tokens per second", "tokens/s", duration.tokens_per_s, measured.tokens_per_s),
        (STEP, "s", duration.step_s, measured.step_s),
        (STEPS, "steps", _exactly(duration.num_steps), measured.steps or None),
        ("tokens computed", "tokens", _exactly(duration.num_tokens), measured.tokens or None),
        ("energy", "kWh", duration.energy_kwh, measured.energy_kwh),
    )
    figures = (Figure(name=name, unit=unit, planned=planned, metered=metered) for name, unit, planned, metered in rows)
    return tuple(figure for figure in figures if figure.metered is not None or figure.planned != _exactly(0.0))


def _completed(added_up: Measured, heard: Measured) -> Measured:
    """The trainer's own figures; where it was stopped before it had them, what was heard meanwhile."""
    told = msgspec.structs.asdict(added_up)
    silent = (field for field, value in told.items() if value == getattr(NOTHING_HEARD, field))
    return msgspec.structs.replace(added_up, **{field: getattr(heard, field) for field in silent})


def _exactly(value: float) -> Range:
    return Range(p10=value, p50=value, p90=value)


def _added(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {name: first.get(name, 0.0) + second.get(name, 0.0) for name in (*first, *second)}


def _phases(plan: Plan, phase_s: Mapping[str, float]) -> tuple[Figure, ...]:
    planned = plan.duration.phase_s
    known = [phase.value for phase in Phase]
    named = [name for name in known if name in planned or name in phase_s] + [name for name in phase_s if name not in known]
    figures = (Figure(name=name, unit="s", planned=planned.get(name), metered=phase_s.get(name)) for name in named)
    return tuple(figure for figure in figures if figure.metered is not None or figure.planned != _exactly(0.0))


def _try(rental: Rental, *, now_s: float) -> Try:
    tried = rental.tried
    return Try(
        offer=rental.offer.key,
        usd_per_hour=rental.offer.usd_per_hour,
        billed_s=billed_s(rental, now_s=now_s),
        usd=rental_usd(rental, now_s=now_s),
        reason=tried.reason if tried else None,
        scope=tried.scope if tried else None,
        message=tried.message if tried else "",
    )


def _bill(plan: Plan, state: RunState, told: Told, *, sent_bytes: int, now_s: float) -> tuple[BillLine, ...]:
    """The trainer ran on the last box; what the controller did on an earlier one is part of a failed attempt."""
    last_s = told.phase_s if told.last_phase_s is None else told.last_phase_s
    busy_s = sum(last_s.values()) + (state.rental.busy_s if state.rental else 0.0)
    metered = bill(state.rentals, now_s=now_s, busy_s=busy_s, sent_bytes=sent_bytes)
    cost = plan.cost
    planned: dict[LineName, float] = {
        "compute": cost.compute_usd.p50 + cost.setup_usd.p50,
        "idle": 0.0,
        "disk": cost.disk_usd.p50,
        "address": cost.address_usd.p50,
        "egress": cost.egress_usd.p50,
        "failed attempts": cost.rework_usd.p50,
    }
    return tuple(
        BillLine(name=name, planned_usd=rounded(Decimal(str(planned[name]))), metered_usd=metered[name]) for name in LINES
    )
