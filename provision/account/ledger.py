"""The account book of runs: append-only JSON lines, fsynced, the first one written before the first dollar.

What was rented, what bills, where and since when is folded from it alone, so nothing else need be there to end a run. A line
that can't be read at all is skipped and named, for it may have opened a run. Writers take a file lock for the moment of the
append, so several runs may share one ledger.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from provision.account.grown import Grown
from provision.account.lines import KINDS, UNREADABLE, AnyLine, Header
from provision.account.runs import Folding, RunState, fold, fold_on
from provision.errors import BadInput
from provision.home.places import HOME_VARIABLE, require_folder
from provision.home.whole import sync_folder
from provision.words import Note
from remote.contract import Outcome

Around = Callable[[AnyLine], AbstractContextManager[None]]


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's lines say of their places, those of a newer version among them."""

    num_lines: int = 0
    taking: int = 0  # the highest
    last: tuple[int, int] | None = None  # taking and number of the last that has a number; None = none has

    def after(self, line: Header) -> Head:
        """The head once one line more stands."""
        last = self.last
        if line.number and (last is None or (line.taking, line.number) > last):
            last = (line.taking, line.number)
        return Head(num_lines=self.num_lines + 1, taking=max(self.taking, line.taking), last=last)


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """What the book of a run says of it that another machine has taken over."""

    here: str  # the installation whose ledger this is
    holder: str | None  # the one that has it; None = it has let go of it again
    known: frozenset[str]  # by id, all that any box had which stands in the book: whoever has the run can find and end it


@dataclass
class Remembered:
    """The lines of a run that somebody acts for, as they were last seen whole."""

    run_id: str
    there: Grown[tuple[bytes, ...]]  # what the file has of them
    note: Note | None
    raw_lines: tuple[bytes, ...] = ()
    is_told: bool = False

    def lost(self) -> bool:
        """Whether the file has no longer what it had. Raises OSError."""
        there = self.there.look()
        if there is self.raw_lines:
            return False
        if set(self.raw_lines) - set(there):
            return True
        self.raw_lines = there
        return False


def unattended(_line: AnyLine) -> AbstractContextManager[None]:
    """Around a line that nothing happens around."""
    return nullcontext()


class Ledger:
    """Append and fold. Opening does nothing; the folder is made at the first append.

    `around`: entered before each line is written, and left once it is.
    """

    def __init__(self, path: Path, *, around: Around = unattended) -> None:
        self.path = path
        self._around = around
        self._decoder = msgspec.json.Decoder(AnyLine)
        self._header = msgspec.json.Decoder(Header)
        self._runs = Grown(path, Folding(), self._folded_on)
        self._heads = Grown(path, dict[str, Head](), self._heads_with)
        self._remembered: Remembered | None = None

    def require_place(self) -> None:
        """Raises BadInput where something else stands in the file's or its folder's place."""
        require_folder(self.path.parent, variable=HOME_VARIABLE)
        if os.path.lexists(self.path) and not self.path.is_file():
            raise BadInput(f"{self.path} is not a file.", hint=f"Move it away, or {HOME_VARIABLE}=FOLDER rentune …")

    def remember(self, run_id: str, note: Note | None = None) -> None:
        """Know a run's lines from now on, whatever becomes of the file: one that has lost some gets them again, and `note`
        hears of it once. For whoever acts for the run: what it has rented is not forgotten with a file.
        """
        if self._remembered is None or self._remembered.run_id != run_id:
            self._remembered = Remembered(
                run_id, Grown(self.path, tuple[bytes, ...](), partial(self._lines_with, run_id)), note
            )
        self._remembered.note = self._remembered.note or note
        self._give_back()

    def _give_back(self) -> bool:
        """Write what the file has lost of the run that is remembered; whether all of it is there then."""
        known = self._remembered
        if known is None:
            return True
        try:
            if not known.lost():
                return True
            self.copy_in(*dict.fromkeys(known.raw_lines))
            whole = not known.lost()
        except OSError:
            return False
        if known.note is not None and not known.is_told:
            known.is_told = True
            with suppress(OSError):  # nobody reads along any more
                known.note(f"{self.path} had lost run {known.run_id}: what is known of it was written there again.")
        return whole

    def charge(self, *, ending: bool = False) -> AbstractContextManager[None]:  # noqa: ARG002 - one that is shared asks
        """Around whatever acts for a run. A ledger that lies here alone has nobody to ask: the run's lock is enough."""
        return nullcontext()

    def leave(self) -> None:
        """Of a process that ends at once, in the midst of `charge`: where the run is shared, another machine need not wait."""

    def require_charge(self) -> None:
        """Before an act that no line precedes. Raises ControlLost where it is shared, and another machine has the run."""

    def elsewhere(self) -> Elsewhere | None:
        """What the book says that was taken over; None where nobody else can have it. Raises RentuneError where that can't be
        seen.
        """
        return None

    def put_away(self, outcome: Outcome, adapter: Path) -> None:
        """Keep a result that is whole in this folder where the run's state lies, too. Of one that lies here alone nowhere."""

    def append(self, line: AnyLine) -> None:
        """Write one line and return when the disk has it. A torn last line (power cut) is closed off first.

        Raises OSError when it could not be written in full; then nothing of it is left in the file.
        """
        self._give_back()  # before the line is numbered: its place is behind theirs
        with self._around(line):
            self._keep(line)

    def append_here(self, line: AnyLine) -> None:
        """Write a line of a run that another machine has: into this file alone. Its book gets it with what this home writes
        there next. Raises OSError.
        """
        self._keep_here(line)

    def _keep(self, line: AnyLine) -> None:
        self._keep_here(line)

    def _keep_here(self, line: AnyLine) -> None:
        written: list[bytes] = []

        def placed() -> tuple[bytes, ...]:
            written[:] = [msgspec.json.encode(self._in_its_place(line))]
            return tuple(written)

        self._add(placed)
        if self._remembered is not None and self._remembered.run_id == line.run_id:
            self._remembered.raw_lines += tuple(written)  # the file may be gone again before anybody looks

    def _in_its_place(self, line: AnyLine) -> AnyLine:
        """Of a run whose state is shared the lines are numbered; one without a number would count as older than all of them."""
        if line.number:
            return line
        last = self._head(line.run_id).last
        return line if last is None else msgspec.structs.replace(line, taking=last[0], number=last[1] + 1)

    def copy_in(self, *raw_lines: bytes) -> None:
        """Append lines as they stand in another ledger, of whatever version, but for those that are here. Raises OSError.

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
        heads = ((raw, self._head_of(raw)) for raw in self._raw_lines() if raw)
        return tuple(raw for raw, head in heads if head is not None and head.run_id == run_id)

    def num_lines(self, run_id: str) -> int:
        """How many `raw_lines` there are."""
        return self._head(run_id).num_lines

    def takings(self, run_id: str) -> int:
        """How often charge of a run had been taken when the last of its lines here was written."""
        return self._head(run_id).taking

    def _head(self, run_id: str) -> Head:
        return self._heads.look().get(run_id, Head())

    def _folded_on(self, folding: Folding, raw_lines: Sequence[bytes]) -> Folding | None:
        return fold_on(folding, [line for line in map(self._line_of, raw_lines) if line is not None])

    def _heads_with(self, heads: dict[str, Head], raw_lines: Sequence[bytes]) -> dict[str, Head]:
        heads = dict(heads)
        for head in filter(None, map(self._head_of, raw_lines)):
            heads[head.run_id] = heads.get(head.run_id, Head()).after(head)
        return heads

    def _lines_with(self, run_id: str, known: tuple[bytes, ...], raw_lines: Sequence[bytes]) -> tuple[bytes, ...]:
        heads = ((raw, self._head_of(raw)) for raw in raw_lines)
        return (*known, *(raw for raw, head in heads if head is not None and head.run_id == run_id))

    def _line_of(self, raw: bytes) -> AnyLine | None:
        """None for one that is torn, damaged, or of a kind that this version does not know."""
        try:
            line: AnyLine = self._decoder.decode(raw)
        except UNREADABLE:
            return None
        return line

    def _head_of(self, raw: bytes) -> Header | None:
        """Of a line of whatever version; None for one that is torn or damaged."""
        try:
            return self._header.decode(raw)
        except UNREADABLE:
            return None

    def _raw_lines(self) -> list[bytes]:
        return self.path.read_bytes().split(b"\n") if self.path.exists() else []

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
            line = self._line_of(raw)
            if line is not None or not self._is_newer(raw):
                yield number, line

    def _is_newer(self, raw: bytes) -> bool:
        head = self._head_of(raw)
        return head is not None and head.kind not in KINDS

    def runs(self) -> dict[str, RunState]:
        """All runs by id, in the order in which they were opened. Of a file that has grown what is new alone is read.

        Raises BadInput where something else stands in the file's or its folder's place. A run that is remembered is there
        all the same, as it was last seen.
        """
        if self._remembered is None or self._give_back():
            self.require_place()
            return dict(self._runs.look().states)
        return fold(filter(None, map(self._line_of, self._remembered.raw_lines)))


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
