"""The account of a finished run: what was planned beside what was metered, line by line. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from planner.asking.request import OWN_MACHINES
from planner.plan import Plan, Range
from planner.strategy.words import describe
from provision.account.bill import LINES, LineName, bill, billed_s, costs_on, kept_usd_per_month, rental_usd, rounded
from provision.account.closing import AtHome, Closing, Told
from provision.account.earlier import RANDOM, STEP, STEPS
from provision.account.last_words import deadline_came, ending_of, too_late, where_time_went, with_what_is_left
from provision.account.runs import Rental, RunState, Standing
from provision.account.upkeep import Upkeep
from provision.errors import Exit, Reason, Scope
from provision.seam import Resource, Teardown
from remote.contract import Doubt, EndReason, Evaluation, Measured, Phase, Reached, RowsRead, Sample, Strategy

RECEIPT_VERSION = 1
Unit = Literal["bytes", "s", "tokens/s", "steps", "tokens", "parameters", "kWh"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity, planned and metered. None = the plan or the meter has no such figure."""

    name: str
    unit: Unit
    planned: Range | None
    metered: float | None

    @property
    def error(self) -> float | None:
        """(metered − planned) / planned, or None where one of them is missing or the plan said zero."""
        if self.planned is None or self.metered is None or self.planned.p50 == 0:
            return None
        return (self.metered - self.planned.p50) / self.planned.p50


class BillLine(msgspec.Struct, frozen=True, kw_only=True):
    name: LineName
    planned_usd: Decimal
    metered_usd: Decimal


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to get a box and to train on it."""

    offer: str
    usd_per_hour: Decimal
    billed_s: float
    usd: Decimal  # compute and disk
    reason: Reason | None  # why it came to nothing; None = it was the last one, and the receipt tells the rest
    scope: Scope | None
    message: str


class LossChange(msgspec.Struct, frozen=True, kw_only=True):
    """Held-out loss before and after, row by row on the same rows."""

    before: float
    after: float
    num_rows: int
    mean_drop: float  # mean over rows of (before − after); positive = better
    standard_error: float  # of `mean_drop`: s / √n over the paired differences

    @property
    def significant(self) -> bool:
        """Whether the loss fell by more than three standard errors."""
        return self.mean_drop > 3 * self.standard_error


class MetricChange(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a classification on held-out rows, a share of 1: of the base and of the result."""

    before: float
    after: float


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the report shows, and all that is left of a run but its adapter and its log."""

    run_id: str
    model: str
    offer: str
    strategy: str  # that was carried out, in a few words
    as_planned: bool = (
        True  # whether the trainer carried out the planned one; it steps down where memory runs out, and up where it is free
    )
    usd_per_hour: Decimal
    trained: bool
    in_part: bool = False  # whether what it trained is the result of a training that its deadline cut short
    doubts: tuple[Doubt, ...] = ()  # why the result, whole as it is, may be of no use
    exit_code: int
    reason: EndReason | None  # the trainer's own; None without its outcome
    reached: Reached | None = None  # how far the training came; None without a result
    result_made: bool = False  # whether the trainer came to a result, at home or not
    ended_by_deadline: bool = False  # the deadline took the box, and its trainer had left no outcome
    message: str
    figures: tuple[Figure, ...]
    phases: tuple[Figure, ...]  # named by Phase, in order
    bill: tuple[BillLine, ...]
    billed_s: float
    making_s: float = 0.0  # of those, before its boxes ran: a plan leaves all of that out
    wall_s: float
    started_at_s: float
    ended_at_s: float
    loss: LossChange | None
    metrics: dict[str, MetricChange] = {}  # of a classification: accuracy, macro_f1, auc, as far as its rows tell them
    train_rows: RowsRead | None = None  # what became of the rows; None without the trainer's outcome
    held_out_rows: RowsRead | None = None  # likewise; None also where none were held out
    samples: tuple[Sample, ...]
    adapter_bytes: int
    adapter_folder: str | None
    teardown: Teardown | None  # None = not torn down
    tags: dict[str, str]
    versions: dict[str, str]
    base_revision: str | None = None  # of a base from the hub: the commit that was trained
    base_sha256: dict[str, str] = {}  # likewise: weight file → hex, as the box had it
    base_fetched_bytes: int | None = None  # likewise: what the last box had to fetch; 0 = all of it lay there
    began_with: str | None = None  # the earlier adapter, or checkpoint, with whose weights it began
    random_base: bool = False  # whether it began from random weights, since its base was a configuration alone
    tries: tuple[Try, ...] = ()  # every attempt, in order
    kept: tuple[Resource, ...] = ()  # disks that outlive their boxes, as was asked
    kept_usd_per_month: Decimal | None = Decimal(0)  # what those cost; None = it is not known
    costs_on: dict[str, Upkeep] = {}  # by id, of those and of what the teardown did not see gone
    schema_version: int = RECEIPT_VERSION

    @property
    def assumed(self) -> bool:
        """Whether its dollars are those of a price that was made up: a machine of one's own has no other."""
        return self.offer.partition("/")[0] in OWN_MACHINES

    @property
    def planned_usd(self) -> Decimal:
        return sum((line.planned_usd for line in self.bill), Decimal(0))

    @property
    def metered_usd(self) -> Decimal:
        return sum((line.metered_usd for line in self.bill), Decimal(0))


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


def reckon(plan: Plan, state: RunState, told: Told, *, home: AtHome, closing: Closing) -> Receipt:
    """The receipt of a run as its ledger, its boxes and its home show it once the controller closes its books.

    The trainer's seconds by phase are the boxes' own; the controller's come from the ledger.
    """
    outcome, interrupted = told.outcome, closing.interrupted
    carried_out = (outcome.strategy if outcome else None) or plan.strategy
    phase_s = _added(state.phase_s, told.phase_s)
    last_s = told.phase_s if told.last_phase_s is None else told.last_phase_s
    adapter_bytes = sum(file.size_bytes for file in outcome.adapter) if outcome and home.adapter_folder else 0
    trained = outcome is not None and outcome.trained and home.adapter_folder is not None
    in_part = trained and outcome is not None and outcome.in_part
    doubts = outcome.doubts if trained and outcome is not None else ()
    said = ending_of(outcome, closing.message, trained=trained)
    if not interrupted and too_late(state, outcome):
        said = f"{said} {where_time_went(state, phase_s, home)}".strip()
    return Receipt(
        run_id=state.run_id,
        model=plan.request.model,
        offer=plan.offer.key,
        strategy=_strategy_words(plan, carried_out),
        as_planned=carried_out == plan.strategy,
        usd_per_hour=state.rental.offer.usd_per_hour if state.rental else state.opened.usd_per_hour,
        trained=trained,
        in_part=in_part,
        doubts=doubts,
        exit_code=exit_code(
            trained=trained,
            in_part=in_part,
            in_doubt=bool(doubts),
            gone=state.standing in (Standing.BETWEEN, Standing.OVER),
            interrupted=interrupted,
        ),
        reason=outcome.reason if outcome else None,
        reached=outcome.reached if outcome else None,
        result_made=outcome is not None and outcome.trained,
        ended_by_deadline=outcome is None and deadline_came(state),
        message=said if trained else with_what_is_left(said, state, home, stopped=interrupted),
        figures=_figures(plan, _completed(outcome.measured, told.heard) if outcome else told.heard),
        phases=_phases(plan, phase_s),
        bill=_bill(plan, state, last_s, adapter_bytes=adapter_bytes, now_s=closing.at_s),
        billed_s=sum(billed_s(rental, now_s=closing.at_s) for rental in state.rentals),
        making_s=sum(rental.making_s for rental in state.rentals if rental.created),
        wall_s=closing.at_s - state.opened.at_s,
        started_at_s=state.opened.at_s,
        ended_at_s=closing.at_s,
        loss=compare(outcome.before, outcome.after) if outcome and outcome.before and outcome.after else None,
        metrics=changes_of(outcome.before, outcome.after) if outcome and outcome.before and outcome.after else {},
        train_rows=outcome.train_rows if outcome else None,
        held_out_rows=outcome.held_out_rows if outcome else None,
        samples=outcome.samples if outcome else (),
        adapter_bytes=adapter_bytes,
        adapter_folder=home.adapter_folder,
        teardown=state.teardown,
        tags=state.opened.tags,
        versions=state.opened.versions | (outcome.versions if outcome else {}),
        base_revision=outcome.base_revision if outcome else None,
        base_sha256=outcome.base_sha256 if outcome else {},
        began_with=plan.request.loop.init_adapter,
        random_base=told.random_base,
        base_fetched_bytes=told.base_fetched_bytes,
        tries=tuple(_try(rental, now_s=closing.at_s) for rental in state.rentals),
        kept=state.kept,
        kept_usd_per_month=kept_usd_per_month(state),
        costs_on=costs_on(state),
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
    return msgspec.structs.replace(receipt, exit_code=code, message=" ".join(filter(None, (receipt.message, trouble))))


def compare(before: Evaluation, after: Evaluation) -> LossChange | None:
    """Paired comparison of two evaluations of the same rows; None when their rows can't be paired."""
    if len(before.row_losses) != len(after.row_losses) or len(before.row_losses) < 2:
        return None
    drops = [old - new for old, new in zip(before.row_losses, after.row_losses, strict=True)]
    return LossChange(
        before=before.mean_loss,
        after=after.mean_loss,
        num_rows=len(drops),
        mean_drop=statistics.fmean(drops),
        standard_error=statistics.stdev(drops) / math.sqrt(len(drops)),
    )


def changes_of(before: Evaluation, after: Evaluation) -> dict[str, MetricChange]:
    """Figure by figure, where both evaluations have it."""
    return {
        name: MetricChange(before=before.metrics[name], after=found)
        for name, found in after.metrics.items()
        if name in before.metrics
    }


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
        "weights": RANDOM if receipt.random_base else "given",
    }
    return tuple(
        Calibration(
            run_id=receipt.run_id,
            at_s=receipt.ended_at_s,
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


def _strategy_words(plan: Plan, carried_out: Strategy) -> str:
    planned = "" if carried_out == plan.strategy else f" (planned was {describe(plan.strategy)})"
    return f"{describe(carried_out)}, {carried_out.seq_len} tokens{planned}"


# ── the parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


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
    told = {field: getattr(added_up, field) or getattr(heard, field) for field in Measured.__struct_fields__}
    return Measured(**told)


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


def _bill(
    plan: Plan, state: RunState, box_phase_s: Mapping[str, float], *, adapter_bytes: int, now_s: float
) -> tuple[BillLine, ...]:
    """The trainer ran on the last box; what the controller did on an earlier one is part of a failed attempt."""
    busy_s = sum(box_phase_s.values()) + (state.rental.busy_s if state.rental else 0.0)
    metered = bill(state.rentals, now_s=now_s, busy_s=busy_s, sent_bytes=adapter_bytes)
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
