"""What a ledger's lines say, a kind each. A line of a kind that this version does not know is kept and skipped."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, get_args

import msgspec

from catalogs.hardware import Billing, Offer
from provision.errors import Reason, Scope
from provision.seam import Box, Teardown

LEDGER_VERSION = 1
LAST_MOMENT_S: Final = 253_402_300_799.0  # derived: the end of the year 9999, the last that a date can show
MOST_USD: Final = Decimal(10**9)  # assumed: no run costs more, and no hour does
MOST_GIB: Final = 10**6  # assumed: no disk is larger
MOST_BYTES: Final = MOST_GIB * 2**30  # derived: what lies on the largest
Moment = Annotated[float, msgspec.Meta(ge=0.0, le=LAST_MOMENT_S)]  # wall clock, Unix
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what the decoder says of damaged bytes


class Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every line carries. `taking` and `number`: of a run that several machines may write about, its place among their
    lines; 0 where one file's own order says it.
    """

    run_id: str
    at_s: Moment
    taking: int = 0  # how often charge of the run had been taken by then
    number: int = 0  # among the run's lines, as far as its writer knew them; from 1
    ledger_version: int = LEDGER_VERSION


def _require_dollars(*amounts: Decimal | None) -> None:
    """Raises ValueError, which the decoder makes its own: with an endless sum nothing can be reckoned, of any run."""
    if not all(usd is None or (usd.is_finite() and abs(usd) <= MOST_USD) for usd in amounts):
        raise ValueError(f"dollars beyond {MOST_USD:,}, or none at all")


def _prices(billing: Billing) -> tuple[Decimal | None, ...]:
    of_bytes = billing.disk_usd_per_gib_month, billing.volume_usd_per_gib_month, billing.egress_usd_per_gb
    return *of_bytes, billing.address_usd_per_hour, billing.spot_address_usd_per_hour


class Opened(Line, frozen=True, kw_only=True, tag="opened"):
    """Intent: what was agreed to, written and fsynced before any provider is called."""

    owner: str
    provider: str
    region: str
    instance_type: str
    model: str
    usd_per_hour: Decimal
    billing: Billing
    max_usd: Decimal | None
    deadline_at_s: Moment
    tags: dict[str, str]
    versions: dict[str, str]  # rentune, provider SDKs: an old stack needs its own plugin
    folder: str  # the run directory, for a person who reads the ledger without us
    keep_box_on_failure: bool = False
    lease_s: Annotated[float, msgspec.Meta(gt=0)] | None = None  # after so long without a renewal its box ends itself
    overruled: tuple[str, ...] = ()  # keys of the user's own policy that this run set aside
    dearer: bool = False  # whether an offer may take the place of the plan's at a much higher price

    def __post_init__(self) -> None:
        _require_dollars(self.usd_per_hour, self.max_usd, *_prices(self.billing))


class Controlled(Line, frozen=True, kw_only=True, tag="controlled"):
    """A process took charge of the run: pid, and the boot and start that make the pid mean something."""

    pid: int
    process_started_s: float  # wall clock, Unix, as the clock stood then
    boot_id: str
    start_ticks: int | None = None  # the same after boot, which setting the clock does not move; None in older lines
    machine: str | None = None  # which computer, as `home.processes.machine_id` has it; None in older lines
    detached: bool = False
    ending: bool = False  # it took charge only to end the run: nobody needs to ask it to


class Attempted(Line, frozen=True, kw_only=True, tag="attempted"):
    """A box is about to be asked for: from here on one may bill, at the price and under the rule that are frozen here."""

    offer: Offer
    billing: Billing
    disk_gib: Annotated[int, msgspec.Meta(ge=0, le=MOST_GIB)]
    volume_gib: Annotated[int, msgspec.Meta(ge=0, le=MOST_GIB)] = 0  # of a disk beside it that is kept
    deadline_at_s: Moment  # of this box; the run's from now on
    more_time: str | None = None  # what would have moved it: "a larger --max-cost"; None in older lines
    account: str | None = None  # whose it is rented in, as the provisioner names it; None = not known, and in older lines

    def __post_init__(self) -> None:
        _require_dollars(self.offer.usd_per_hour, *_prices(self.billing))


class Tried(Line, frozen=True, kw_only=True, tag="tried"):
    """The last attempt came to nothing, and nothing of it is left; another may follow."""

    offer: str  # its key
    reason: Reason
    scope: Scope | None  # None = nothing is ruled out: the same offer is as good as before
    zone: str | None = None  # which one, where that is the scope
    message: str
    took_s: float
    usd: Decimal  # what the run has cost so far

    def __post_init__(self) -> None:
        _require_dollars(self.usd)


class Created(Line, frozen=True, kw_only=True, tag="created"):
    """The provisioner returned a box; its resource ids are in it."""

    box: Box


class PhaseStarted(Line, frozen=True, kw_only=True, tag="phase_started"):
    """The controller entered a phase."""

    phase: str


class PhaseEnded(Line, frozen=True, kw_only=True, tag="phase_ended"):
    """The controller left a phase. What the trainer does meanwhile is metered by its own events."""

    phase: str
    duration_s: float
    ok: bool


class Sent(Line, frozen=True, kw_only=True, tag="sent"):
    """Checkpoints left the last box, for home or for object storage: what leaves a provider is billed by most."""

    num_bytes: Annotated[int, msgspec.Meta(ge=0, le=MOST_BYTES)]
    seq: int | None = None  # of the trainer's event that told of it; None = they came home


class Late(Line, frozen=True, kw_only=True, tag="late"):
    """What an order brought only once another machine had the run, seen to be gone: a rental of this run was longer than who
    ended it could see. It names that rental by its offer and when it was asked for.
    """

    offer: str  # its key
    asked_at_s: Moment
    from_s: Moment | None  # when its provider made it; None = it does not tell
    until_s: Moment
    ids: tuple[str, ...]  # of what billed
    usd: Decimal  # for a person who reads the ledger; what a receipt sums is reckoned from the rental

    def __post_init__(self) -> None:
        _require_dollars(self.usd)


class Ended(Line, frozen=True, kw_only=True, tag="ended"):
    teardown: Teardown


class Billed(Line, frozen=True, kw_only=True, tag="billed"):
    """The receipt's figures that `report --since` adds up."""

    exit_code: int
    trained: bool
    planned_usd: Decimal
    metered_usd: Decimal
    wall_s: float
    phase_s: dict[str, float] = {}  # of controller and trainer together

    def __post_init__(self) -> None:
        _require_dollars(self.planned_usd, self.metered_usd)


AnyLine = Opened | Controlled | Attempted | PhaseStarted | Created | PhaseEnded | Sent | Late | Ended | Tried | Billed
KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyLine))


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of any version has."""

    kind: str
    run_id: str
    taking: int = 0
    number: int = 0
