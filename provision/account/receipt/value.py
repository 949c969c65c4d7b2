"""`Receipt`: the account of a finished run, what was planned beside what was metered, line by line."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from planner.asking.request import OWN_MACHINES
from planner.plan import Range
from provision.account.bill import LineName
from provision.account.upkeep import Upkeep
from provision.errors import Reason, Scope
from provision.seam import Resource, Teardown
from remote.contract import Confusion, Doubt, EndReason, Reached, RowsRead, Sample

RECEIPT_VERSION = 2  # since 2 in parts: ending, adapter, learning, base, span, left
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


# That its lease had ended, and nothing followed it; that its deadline had come, and its trainer had left no outcome.
EndedBy = Literal["lease", "deadline"]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How it came to its end."""

    reason: EndReason | None = None  # the trainer's own; None without its outcome
    result_made: bool = False  # whether the trainer came to a result, at home or not
    ended_by: EndedBy | None = None  # what took the box, where that is why there is no result
    left_open: bool = False  # whether its books are open still, for `resume`
    message: str = ""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """A trainer that was killed, or whose box was rebooted, and the one that was started in its place."""

    rebooted: bool = False
    steps_lost: int = 0  # that were taken, and taken again
    phase: str | None = None  # that was cut off; None = it was between two
    cut_off_s: float = 0.0  # of that phase: no phase's seconds hold them


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """The result, at home."""

    folder: str
    size_bytes: int
    in_part: bool = False  # whether it is that of a training which its deadline cut short
    doubts: tuple[Doubt, ...] = ()  # why, whole as it is, it may be of no use


class Learning(msgspec.Struct, frozen=True, kw_only=True):
    """What its trainer's outcome says of rows and figures; of a run without one, nothing."""

    reached: Reached | None = None  # how far the training came; None without a result
    loss: LossChange | None = None
    metrics: dict[str, MetricChange] = {}  # of a classification: accuracy, macro_f1, auc, as far as its rows tell them
    classes: tuple[str, ...] = ()  # of a classification, in the order of the numbers in `confusion`
    confusion: Confusion = ()  # of its held-out rows, by the result
    train_rows: RowsRead | None = None  # what became of the rows
    held_out_rows: RowsRead | None = None  # likewise; None also where none were held out
    samples: tuple[Sample, ...] = ()
    held_out_twins: int = 0  # held-out rows that say word for word what is learned
    lone_classes: tuple[str, ...] = ()  # of a classification: those of a single row, of which none is held out


class BaseUsed(msgspec.Struct, frozen=True, kw_only=True):
    """What it began from."""

    revision: str | None = None  # of a base from the hub: the commit that was trained
    sha256: dict[str, str] = {}  # likewise: weight file → hex, as the box had it
    fetched_bytes: int | None = None  # likewise: what the last box had to fetch; 0 = all of it lay there
    began_with: str | None = None  # the earlier adapter, or checkpoint, whose weights were its first
    random: bool = False  # whether its weights were random, since it was a configuration alone


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """When it was, and how much of that was billed."""

    started_at_s: float
    ended_at_s: float
    wall_s: float
    billed_s: float
    making_s: float = 0.0  # of those, before its boxes ran: a plan leaves all of that out


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives it, and may go on billing."""

    kept: tuple[Resource, ...] = ()  # disks that outlive their boxes, as was asked
    kept_usd_per_month: Decimal | None = Decimal(0)  # what those cost; None = it is not known
    costs_on: dict[str, Upkeep] = {}  # by id, of those and of what the teardown did not see gone


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the report shows, and all that is left of a run but its adapter and its log."""

    run_id: str
    model: str
    offer: str
    strategy: str  # that was carried out, in a few words
    as_planned: bool = True  # the trainer steps down where memory runs out, and up where it is free
    usd_per_hour: Decimal
    exit_code: int
    ending: Ending
    adapter: Adapter | None = None  # None = no result is at home
    learning: Learning = Learning()
    base: BaseUsed = BaseUsed()
    span: Span
    figures: tuple[Figure, ...]
    phases: tuple[Figure, ...]  # named by Phase, in order
    bill: tuple[BillLine, ...]
    tries: tuple[Try, ...] = ()  # every attempt, in order
    restarts: tuple[Restart, ...] = ()  # likewise, of its trainers on a box that went on
    teardown: Teardown | None  # None = not torn down
    left: Left = Left()
    tags: dict[str, str]
    versions: dict[str, str]
    schema_version: int = RECEIPT_VERSION

    @property
    def trained(self) -> bool:
        """Whether a result is at home."""
        return self.adapter is not None

    @property
    def adapter_folder(self) -> str | None:
        """Where that is."""
        return None if self.adapter is None else self.adapter.folder

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Why it may be of no use."""
        return () if self.adapter is None else self.adapter.doubts

    @property
    def in_part(self) -> bool:
        """Whether that is the result of a training that its deadline cut short."""
        return self.adapter is not None and self.adapter.in_part

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
