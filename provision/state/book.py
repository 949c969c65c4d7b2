"""A run's book in the store: who holds the run, its ledger's lines, and which papers are the newest.

One object, and every change of it is written over the version that was seen last, or not at all. So whoever was overtaken
writes nothing, however slow it was, and acts no more: before each act stands a line in this book.

**Whose clock.** A holder that is silent for longer than its term may be overtaken. Both times, of its last writing and of now,
are the store's own: clocks of the machines are never compared. A holder that was asleep meanwhile finds out at its next line.
"""

from __future__ import annotations

import hmac
import secrets
import shlex
from typing import Annotated, Final

import msgspec

from provision.errors import ControlLost, HeldElsewhere, Refused, StoreFailed
from provision.state.seal import Lock, name_of
from provision.store.bucket import Bucket, Stored, Version
from remote.contract import decode

RUNS: Final = "runs"
TERM_S: Final = 90.0  # assumed: four beats may be lost in a bad minute, and nobody waits much longer to take a run over
BEAT_S: Final = 20.0  # assumed: a request of a few kB, 180 an hour
LONGEST_TERM_S: Final = 3600.0  # assumed: no version of ours is silent for longer; a book may not lock a run up for ever
GRAIN_S: Final = 1.0  # derived: S3 tells whole seconds
TRIES: Final = 3  # assumed: of a write whose answer was lost; the second finds out


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who is in charge. `token` is of this one taking; `home` of the state folder, where a lock of its own lets one in."""

    token: str
    home: str
    machine: str
    pid: int
    since_s: float  # its own wall clock, for a person to read
    term_s: Annotated[float, msgspec.Meta(ge=0.0, le=LONGEST_TERM_S)] = TERM_S


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """`beat` grows with each writing: the same bytes twice would be the same version. `takings`: how often it was taken."""

    run_id: str
    lock: Lock
    lines: tuple[msgspec.Raw, ...]
    papers: str | None = None
    holder: Holder | None = None
    beat: int = 0
    takings: int = 0
    signature: str = ""  # of lines and papers, by the run's key: they say whose host the run's data go to
    book_version: int = 1


def take(bucket: Bucket, run_id: str, holder: Holder) -> tuple[BookInHand, Book]:
    """Become the holder of a run's book; the book as it is then.

    Raises HeldElsewhere while another machine holds it, StoreFailed where nobody can tell.
    """
    book, stored = read_book(bucket, book_name(run_id))
    require_free(bucket, book, stored, home=holder.home)
    held = BookInHand(bucket, holder, version=stored.version, beat=book.beat)
    taken = msgspec.structs.replace(book, holder=holder, takings=book.takings + 1)
    try:
        held.write(taken)
    except ControlLost as error:
        raise HeldElsewhere(f"{error}") from None
    return held, taken


class BookInHand:
    """One run's book in the hand of one taking. Not for two threads at once."""

    def __init__(self, bucket: Bucket, holder: Holder, *, version: Version, beat: int) -> None:
        """`version`: of the book that was seen last; `beat`: how often it had been written by then."""
        self._bucket, self._holder = bucket, holder
        self._version, self._beat = version, beat

    def write(self, book: Book) -> None:
        """Write it over what was seen last. Raises ControlLost where somebody else has written, StoreFailed."""
        self._beat += 1
        data = msgspec.json.encode(msgspec.structs.replace(book, beat=self._beat))
        for _ in range(TRIES):
            written = self._bucket.put_over(book_name(book.run_id), data, self._version)
            if written is None:
                written = self._ours(book.run_id, data)
            if written is not None:
                self._version = written
                return
        raise StoreFailed(f"{self._bucket.url} did not take a line of run {book.run_id}.")

    def _ours(self, run_id: str, data: bytes) -> Version | None:
        """After a write was refused: what lies there may be an earlier writing of ours whose answer was lost.

        The version where it is the very same; None where it is to be written again. Raises ControlLost where it is not ours.
        """
        there, stored = read_book(self._bucket, book_name(run_id))
        if stored.data == data:
            return stored.version
        if there.holder is None or there.holder.token != self._holder.token:
            who = _who(there.holder) if there.holder else "another machine, which has let it go again"
            raise ControlLost(
                f"Run {run_id} was taken over from {who}, and is left to it.",
                hint=f"rentune ls --state {shlex.quote(self._bucket.url)}",
            )
        self._version = stored.version
        return None


def signed(book: Book, key: bytes) -> Book:
    """The book as whoever has the run's key says it."""
    return msgspec.structs.replace(book, signature=_signature(book, key))


def require_genuine(book: Book, key: bytes) -> None:
    """Raises Refused where lines or papers are not those that somebody with the run's key has written."""
    if not hmac.compare_digest(book.signature, _signature(book, key)):
        raise Refused(
            f"The state of run {book.run_id} was changed by somebody who has not its key; nothing of it is believed.",
            hint="Look at who may write to that bucket. What is rented is found by its tag: rentune ls --orphans",
        )


def _signature(book: Book, key: bytes) -> str:
    return name_of(key, msgspec.json.encode((book.run_id, book.papers, book.lines)))


def require_free(bucket: Bucket, book: Book, stored: Stored, *, home: str | None) -> None:
    """Raises HeldElsewhere while another state folder than `home` holds the run, and was heard of within its term."""
    if book.holder is not None and book.holder.home != home and is_heard(bucket, book, stored):
        raise HeldElsewhere(f"Run {book.run_id} is controlled from {_who(book.holder)}.", hint=_how_to_go_on(book.holder))


def new_book(bucket: Bucket, book: Book) -> None:
    """The first writing of a run. Raises Refused where the store has that run already, StoreFailed."""
    if bucket.put_new(book_name(book.run_id), msgspec.json.encode(book)) is None:
        raise Refused(
            f"{bucket.url} has a run {book.run_id} already.", hint="Type the same once more: each run gets a name of its own."
        )


def read_book(bucket: Bucket, name: str) -> tuple[Book, Stored]:
    """Raises StoreFailed also where there is none, or one that can't be read: who holds the run is not known then."""
    stored = bucket.get(name)
    if stored is None:
        raise StoreFailed(f"{bucket.url}/{name} is not there.")
    try:
        book = decode(stored.data, Book)
    except msgspec.DecodeError:
        raise StoreFailed(f"{bucket.url}/{name} can't be read: it is damaged, or of a newer version of rentune.") from None
    if book_name(book.run_id) != name:
        raise StoreFailed(f"{bucket.url}/{name} is the book of another run, {book.run_id!r}.")
    return book, stored


def book_name(run_id: str) -> str:
    return f"{RUNS}/{run_id}/book.json"


def now_s(bucket: Bucket, run_id: str) -> float:
    """The store's own clock: when something that was written this moment was written."""
    asked = f"{RUNS}/{run_id}/asked"
    bucket.put(asked, secrets.token_bytes(16))
    stored = bucket.get(asked)
    if stored is None:
        raise StoreFailed(f"{bucket.url} forgets what is written there.")
    return stored.written_at_s


def is_heard(bucket: Bucket, book: Book, stored: Stored) -> bool:
    """Whether its holder, if it has one, has written something within its term, by the store's clock."""
    return book.holder is not None and now_s(bucket, book.run_id) - stored.written_at_s <= book.holder.term_s + GRAIN_S


def _who(holder: Holder) -> str:
    return f"{holder.machine} (process {holder.pid})"


def _how_to_go_on(holder: Holder) -> str:
    return f"End it there; or try again {holder.term_s:.0f} s after that machine was last heard of."
