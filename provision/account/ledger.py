"""The account book of runs: append-only JSON lines, fsynced, the first one written before the first dollar.

What was rented, what bills, where and since when is folded from it alone, so nothing else need be there to end a run. How
far a trainer came, and why it ended, its run's directory tells. A line of a kind that this version does not know is kept and
skipped; one that can't be read at all is skipped and named, for it may have opened a run. Writers take a file lock for the
moment of the append, so several runs may share one ledger.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from catalogs.hardware import Billing, Offer
from provision.errors import BadInput, Reason, Scope
from provision.places import HOME_VARIABLE, require_folder
from provision.provisioner import Box, Teardown
from provision.whole import sync_folder
from remote.contract import Phase

LineT = TypeVar("LineT")
LEDGER_VERSION = 1
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what the decoder says of damaged bytes


class Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every line carries."""

    run_id: str
    at_s: float  # wall clock, Unix
    ledger_version: int = LEDGER_VERSION


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
    deadline_at_s: float
    tags: dict[str, str]
    versions: dict[str, str]  # rentune, provider SDKs: an old stack needs its own plugin
    folder: str  # the run directory, for a person who reads the ledger without us
    keep_box_on_failure: bool = False
    overruled: tuple[str, ...] = ()  # keys of the user's own policy that this run set aside
    dearer: bool = False  # whether an offer may take the place of the plan's at a much higher price


class Controlled(Line, frozen=True, kw_only=True, tag="controlled"):
    """A process took charge of the run: pid, and the boot and start time that make the pid mean something."""

    pid: int
    process_started_s: float
    boot_id: str
    detached: bool = False
    ending: bool = False  # it took charge only to end the run: nobody needs to ask it to


class Attempted(Line, frozen=True, kw_only=True, tag="attempted"):
    """A box is about to be asked for: from here on one may bill, at the price and under the rule that are frozen here."""

    offer: Offer
    billing: Billing
    disk_gib: int
    deadline_at_s: float  # of this box; the run's from now on


class Tried(Line, frozen=True, kw_only=True, tag="tried"):
    """The last attempt came to nothing, and nothing of it is left; another may follow."""

    offer: str  # its key
    reason: Reason
    scope: Scope
    zone: str | None = None  # which one, where that is the scope
    message: str
    took_s: float
    usd: Decimal  # what the run has cost so far


class Created(Line, frozen=True, kw_only=True, tag="created"):
    """The provisioner returned a box; its resource ids are in it."""

    box: Box


class PhaseStarted(Line, frozen=True, kw_only=True, tag="phase_started"):
    """The controller entered a phase."""

    phase: str


class PhaseEnded(Line, frozen=True, kw_only=True, tag="phase_ended"):
    """The controller left a phase. What the trainer did between "start" and "fetch" is metered by its own events."""

    phase: str
    duration_s: float
    ok: bool


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


AnyLine = Opened | Controlled | Attempted | PhaseStarted | Created | PhaseEnded | Ended | Tried | Billed
KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyLine))


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of any version has."""

    kind: str
    run_id: str


class Rental(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of time for which a box of this run may have been billed, from an attempt to its clean teardown."""

    offer: Offer
    billing: Billing
    disk_gib: int
    asked_at_s: float
    started_at_s: float  # when the provider said that the box runs; until it does, when it was asked
    created: bool = False  # whether the provider said that the box runs
    ended_at_s: float | None = None  # None = not known to have ended
    shown: bool = False  # whether its end named something that bills
    tried: Tried | None = None  # why it came to nothing, where another attempt may follow
    phase_s: dict[str, float] = {}  # by the controller's clock, of what it did on this box

    @property
    def bought(self) -> bool:
        """Whether it is billed. Not where the provider's answer was heard, and neither it nor the end showed a box."""
        answered = Phase.CREATE.value in self.phase_s
        return self.created or self.shown or self.ended_at_s is None or not answered


class Standing(StrEnum):
    """Where a run stands towards what bills."""

    OPENED = "opened"  # no box was asked for yet
    ASKED = "asked"  # one was asked for, and may be there
    UP = "up"  # one runs, as far as anybody has seen
    BETWEEN = "between"  # the last attempt came to nothing and left nothing; another may follow
    OVER = "over"  # nothing of it can bill any more


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """One run, folded from its lines in their order."""

    run_id: str
    opened: Opened
    controlled: Controlled | None = None
    box: Box | None = None
    phase: str | None = None  # the one that the controller entered last
    phase_s: dict[str, float] = {}  # by the controller's clock, restarts added up
    rentals: tuple[Rental, ...] = ()
    deadline_at_s: float
    teardown: Teardown | None = None
    billed: Billed | None = None
    goes_on: bool = False  # whether another attempt may follow the last one

    @property
    def ended(self) -> bool:
        """Whether nothing of it can bill any more, as far as anyone has seen."""
        return self.teardown is not None and self.teardown.clean

    @property
    def rental(self) -> Rental | None:
        """The last one; None where no box was asked for yet."""
        return self.rentals[-1] if self.rentals else None

    @property
    def provider(self) -> str:
        """Who has the box, or was asked for it last."""
        return self.rental.offer.provider if self.rental else self.opened.provider

    @property
    def standing(self) -> Standing:
        if self.rental is None:
            return Standing.OVER if self.ended else Standing.OPENED
        if self.rental.ended_at_s is None:
            return Standing.ASKED if self.box is None else Standing.UP
        return Standing.BETWEEN if self.goes_on else Standing.OVER


class Ledger:
    """Append and fold. Opening does nothing; the folder is made at the first append."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._decoder = msgspec.json.Decoder(AnyLine)
        self._header = msgspec.json.Decoder(Header)
        self._folded: tuple[int, dict[str, RunState]] = (0, {})  # by the size of the file, which only grows

    def require_place(self) -> None:
        """Raises BadInput where something else stands in the file's or its folder's place."""
        require_folder(self.path.parent, variable=HOME_VARIABLE)
        if os.path.lexists(self.path) and not self.path.is_file():
            raise BadInput(f"{self.path} is not a file.", hint=f"Move it away, or {HOME_VARIABLE}=FOLDER rentune …")

    def charge(self, *, ending: bool = False) -> AbstractContextManager[None]:  # noqa: ARG002 - one that is shared asks
        """Around whatever acts for a run. A ledger that lies here alone has nobody to ask: the run's lock is enough."""
        return nullcontext()

    def require_charge(self) -> None:
        """Before an act that no line precedes. Raises ControlLost where it is shared, and another machine has the run."""

    def append(self, line: AnyLine) -> None:
        """Write one line and return when the disk has it. A torn last line (power cut) is closed off first.

        Raises OSError when it could not be written in full; then nothing of it is left in the file.
        """
        self._add(lambda: (msgspec.json.encode(line),))

    def copy_in(self, *raw_lines: bytes) -> None:
        """The same of lines as they stand in another ledger, of whatever version, but for those that are here. Raises OSError.

        Two that copy at one moment leave each line once: twice it would be a second rental.
        """

        def missing() -> tuple[bytes, ...]:
            here = set(self._raw_lines())
            return tuple(raw for raw in raw_lines if raw not in here)

        if raw_lines:
            self._add(missing)

    def _add(self, lines: Callable[[], tuple[bytes, ...]]) -> None:
        """Write what `lines` says once nobody else writes."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            text = b"".join(raw + b"\n" for raw in lines())
            try:
                _write_all(descriptor, b"\n" * (torn and bool(text)) + text)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)  # a half line would be told as damage for ever
                raise
        finally:
            os.close(descriptor)
        if size == 0:
            sync_folder(self.path.parent)
            sync_folder(self.path.parent.parent)

    def lines(self) -> Iterator[AnyLine]:
        """Every line that can be read, oldest first. Torn and unknown lines are passed over."""
        return (line for _, line in self._numbered() if line is not None)

    def raw_lines(self, run_id: str) -> tuple[bytes, ...]:
        """One run's lines byte for byte, those of a newer version among them."""
        return tuple(raw for raw in self._raw_lines() if self._run_of(raw) == run_id)

    def _raw_lines(self) -> list[bytes]:
        return self.path.read_bytes().split(b"\n") if self.path.exists() else []

    def _run_of(self, raw: bytes) -> str | None:
        try:
            return self._header.decode(raw).run_id if raw else None
        except UNREADABLE:
            return None

    def unreadable(self) -> tuple[int, ...]:
        """The numbers, from 1, of the lines that are torn or damaged; those of a newer version are not among them."""
        return tuple(number for number, line in self._numbered() if line is None)

    def _numbered(self) -> Iterator[tuple[int, AnyLine | None]]:
        """Each line with its number; None for one that can't be read."""
        if not self.path.exists():
            return
        for number, raw in enumerate(self.path.read_bytes().split(b"\n"), start=1):
            if not raw:
                continue
            try:
                yield number, self._decoder.decode(raw)
            except UNREADABLE:
                if not self._is_newer(raw):
                    yield number, None

    def _is_newer(self, raw: bytes) -> bool:
        try:
            return self._header.decode(raw).kind not in KINDS
        except UNREADABLE:
            return False

    def runs(self) -> dict[str, RunState]:
        """All runs by id, in the order in which they were opened. The file is read again only once it has grown.

        Raises BadInput where something else stands in the file's or its folder's place.
        """
        self.require_place()
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._folded[0]:
            self._folded = (size, fold(self.lines()))
        return dict(self._folded[1])


def damage(ledger: Ledger) -> str | None:
    """One sentence that names the lines which can't be read; None where every line can be."""
    numbers = ledger.unreadable()
    if not numbers:
        return None
    which = f"line {numbers[0]}" if len(numbers) == 1 else f"lines {', '.join(map(str, numbers))}"
    return f"{which} of {ledger.path} can't be read, so a run may be missing here"


def _write_all(descriptor: int, data: bytes) -> None:
    """A disk that is nearly full takes a part, and says so only when asked to take the rest."""
    while data:
        data = data[os.write(descriptor, data) :]


def fold(lines: Iterable[AnyLine]) -> dict[str, RunState]:
    """Runs by id, in the order in which they were opened."""
    states: dict[str, RunState] = {}
    for line in lines:
        if isinstance(line, Opened):
            states.setdefault(line.run_id, RunState(run_id=line.run_id, opened=line, deadline_at_s=line.deadline_at_s))
        elif state := states.get(line.run_id):
            states[line.run_id] = msgspec.structs.replace(state, **_changes(state, line))
    return states


def _changes(state: RunState, line: AnyLine) -> dict[str, Any]:
    match line:
        case Controlled():
            return {"controlled": line, "billed": None}  # its books are open again
        case Attempted():
            asked = Rental(
                offer=line.offer, billing=line.billing, disk_gib=line.disk_gib, asked_at_s=line.at_s, started_at_s=line.at_s
            )
            rentals = (*state.rentals, asked)
            return {"rentals": rentals, "box": None, "teardown": None, "deadline_at_s": line.deadline_at_s, "goes_on": False}
        case PhaseStarted():
            return {"phase": line.phase}
        case Created():
            return {"box": line.box, "rentals": _with_last(state.rentals, _with_box, line)}
        case PhaseEnded():
            return {"phase_s": _longer(state.phase_s, line), "rentals": _with_last(state.rentals, _with_phase, line)}
        case Ended():
            return {"teardown": line.teardown, "rentals": _after_end(state, line), "goes_on": False}
        case Tried():
            return {"rentals": _with_last(state.rentals, _with_reason, line), "goes_on": True}
        case Billed():
            return {"billed": line}
        case _:
            return {}


def _longer(phase_s: dict[str, float], line: PhaseEnded) -> dict[str, float]:
    return phase_s | {line.phase: phase_s.get(line.phase, 0.0) + line.duration_s}


def _with_last(rentals: tuple[Rental, ...], change: Callable[[Rental, LineT], Rental], line: LineT) -> tuple[Rental, ...]:
    """A line of a rental is of the last one: the one before ended cleanly before another was asked for."""
    return (*rentals[:-1], change(rentals[-1], line)) if rentals else ()


def _with_box(rental: Rental, line: Created) -> Rental:
    if rental.created:
        return rental  # the same box with another host key
    return msgspec.structs.replace(rental, started_at_s=line.at_s, created=True)


def _with_phase(rental: Rental, line: PhaseEnded) -> Rental:
    return msgspec.structs.replace(rental, phase_s=_longer(rental.phase_s, line))


def _after_end(state: RunState, line: Ended) -> tuple[Rental, ...]:
    """A clean verdict ends whatever has not ended; one that takes it back opens the last rental again."""
    if line.teardown.clean:
        ended_at_s = _stopped_billing_s(line, deadline_at_s=state.deadline_at_s)
        return tuple(_with_end(rental, line, ended_at_s) for rental in state.rentals)
    return _with_last(state.rentals, lambda rental, _: msgspec.structs.replace(rental, ended_at_s=None), line)


def _with_end(rental: Rental, line: Ended, ended_at_s: float) -> Rental:
    if rental.ended_at_s is not None:
        return rental
    shown = any(end.resource.bills for end in line.teardown.resources)
    return msgspec.structs.replace(rental, ended_at_s=ended_at_s, shown=shown)


def _with_reason(rental: Rental, line: Tried) -> Rental:
    return msgspec.structs.replace(rental, tried=line)


def _stopped_billing_s(line: Ended, *, deadline_at_s: float) -> float:
    """When the last of what bills had gone: at the end, or earlier where a deadline came before whoever looked.

    A box that nobody here ever saw, and that is not there, was gone by its deadline at the latest.
    """
    unseen_at_s = min(line.at_s, deadline_at_s)
    return max((end.at_s for end in line.teardown.resources if end.resource.bills), default=unseen_at_s)
