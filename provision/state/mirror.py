"""A ledger whose lines of one run stand in its book in the store as well, and no line without the right to write it.

Each line goes to the store first, over the version that was seen last, together with the papers as they are by then. Where the
store can't be reached, or gives no answer, nobody knows whether another machine has the run: that ends nothing. Lines are kept
here, nobody waits for it again, and the beat sends them once it comes through. Only what would buy a box waits: its line has to
stand there first. Whatever is sent goes by one thread apart, so that a Ctrl-C need not wait for an answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from provision.account.ledger import Around, Elsewhere, Ledger, unattended
from provision.account.lines import AnyLine, Attempted, Created
from provision.errors import ControlLost, StoreFailed
from provision.home.places import Places
from provision.seam import Resource
from provision.state import results
from provision.state.book import BEAT_S, Book, BookInHand, Holder, book_name, read_book, require_genuine, signed, take
from provision.state.intake import papers_name, take_in
from provision.state.link import Link, write_link
from provision.state.papers import pack
from provision.state.seal import name_of, seal
from provision.store.bucket import Bucket
from provision.words import Note
from remote.contract import Outcome

LINE_S: Final = 10.0  # assumed: the papers of a long run, 1 MB packed, at 100 kB/s; an act waits no longer for its line
AGAIN_S: Final = 5.0  # assumed: between two tries to write what has to stand in the store


@dataclass(frozen=True)
class Seat:
    """A run's place in a store, and who takes it."""

    run_id: str
    link: Link
    holder: Holder


@dataclass(frozen=True)
class Pace:
    """How often a holder is heard, how long a line may take, and by which clock."""

    beat_s: float = BEAT_S
    line_s: float = LINE_S
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class MirroredLedger(Ledger):
    """The ledger of one run whose state lies in object storage. Nothing is asked of the store outside `charge`."""

    def __init__(
        self, places: Places, seat: Seat, *, note: Note, around: Around = unattended, pace: Pace | None = None
    ) -> None:
        super().__init__(places.ledger, around=around)
        self._places, self._seat, self._note, self._pace = places, seat, note, pace or Pace()
        self._bucket = Bucket(seat.link.url)  # for results, which take long
        self._book_bucket = Bucket(seat.link.url, request_s=self._pace.line_s)
        self._one_at_a_time = threading.RLock()
        self._mirror: Mirror | None = None  # while in charge

    @contextmanager
    def charge(self, *, ending: bool = False) -> Iterator[None]:
        """Hold the run against every other machine for the block; what others have written about it is here by then.

        Raises Refused while another holds it; StoreFailed where nobody can tell, and what `take_in` raises: with `ending` that
        is told and no more, for a person has said that it is to end, or its deadline has.
        """
        try:
            held, book = take(self._book_bucket, self._seat.run_id, self._seat.holder)
        except StoreFailed as error:
            if not ending:
                raise
            self._note(f"{error} The run is ended all the same.")
            with self._written_here_alone():
                yield
            return
        mirror = Mirror(book, self._seat.link, held, self._book_bucket, self._places, self._note)
        if not self._adopted(mirror, ending=ending):
            yield
            return
        over = threading.Event()
        beating = threading.Thread(target=self._beat, args=(over,), name="state", daemon=True)
        self._mirror = mirror
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()
            self._let_go()

    def _adopted(self, mirror: Mirror, *, ending: bool) -> bool:
        """Whether what others have written is here; if not, the run is let go of as it was found. Raises but with `ending`."""
        try:
            mirror.adopt(self._bucket)
        except Exception as error:  # whatever it is, a run that is to end is ended
            mirror.give_back()
            if not ending:
                raise
            self._note(f"{error} The run is ended all the same.")
            return False
        except BaseException:
            mirror.give_back()
            raise
        return True

    def _keep(self, line: AnyLine) -> None:
        """Into the store, then onto this disk. Raises ControlLost, and nothing is written, once another machine has the run."""
        with self._one_at_a_time:
            if line.run_id == self._seat.run_id:
                line = self._numbered_line(line)
                if self._mirror is not None:
                    self._write(self._mirror, line)
            super()._keep(line)

    def append_here(self, line: AnyLine) -> None:
        """In its place among those of the taking that this machine had."""
        with self._one_at_a_time:
            taking, num_lines = self.takings(self._seat.run_id), self.num_lines(self._seat.run_id)
            self._keep_here(msgspec.structs.replace(line, taking=taking, number=num_lines + 1))

    def _numbered_line(self, line: AnyLine) -> AnyLine:
        """The line in its place among all machines': behind what is known of the run here."""
        if self._mirror is None:
            taking, num_lines = self.takings(self._seat.run_id), self.num_lines(self._seat.run_id)
        else:
            taking, num_lines = self._mirror.book.takings, len(self._mirror.book.lines)
        return msgspec.structs.replace(line, taking=taking, number=num_lines + 1)

    def require_charge(self) -> None:
        """Before an act that no line precedes. Raises ControlLost."""
        with self._one_at_a_time:
            if self._mirror is not None:
                self._mirror.send_unless_away()

    def elsewhere(self) -> Elsewhere:
        """Raises StoreFailed, and Refused where somebody without the run's key has written the book."""
        book, _ = read_book(self._book_bucket, book_name(self._seat.run_id))
        require_genuine(book, self._seat.link.key)
        return Elsewhere(
            here=self._seat.holder.home,
            holder=book.holder.home if book.holder else None,
            known=frozenset(resource.id for raw in book.lines for resource in self._resources_in(bytes(raw))),
        )

    def _resources_in(self, raw: bytes) -> tuple[Resource, ...]:
        """Those of the box that a line tells of. Raises StoreFailed for a line that can't be read: it may tell of one."""
        line = self._line_of(raw)
        if line is None:
            raise StoreFailed(f"A line of the book of run {self._seat.run_id} is of a newer version of rentune, or damaged.")
        return line.box.resources if isinstance(line, Created) else ()

    def put_away(self, outcome: Outcome, adapter: Path) -> None:
        """Put a result that is whole at home into the store, too. What fails is told: the result is at home."""
        if self._mirror is not None and (error := self._mirror.try_to_send()) is not None:
            self._note(f"The result is at home, and could not be stored with the state as well: {error}")
            return
        self._note(f"The result is at home; storing it in {self._bucket.url} as well.")
        try:
            results.put_away(self._bucket, self._seat.link.key, self._seat.run_id, outcome, adapter)
        except (StoreFailed, OSError) as error:
            self._note(f"The result is at home, and could not be stored with the state as well: {error}")

    def _write(self, mirror: Mirror, line: AnyLine) -> None:
        """What buys waits for the store until the box's deadline: raises StoreFailed then, and it is as if never said."""
        before = mirror.book
        mirror.book = msgspec.structs.replace(before, lines=(*before.lines, msgspec.Raw(msgspec.json.encode(line))))
        try:
            if not isinstance(line, Attempted):
                mirror.send_unless_away()
                return
            while (error := mirror.try_to_send()) is not None:
                if self._pace.clock() >= line.deadline_at_s:
                    raise error
                self._pace.sleep(AGAIN_S)
        except BaseException:  # a Ctrl-C too: what was never asked for must not stand there as rented
            mirror.book = before
            raise

    def _beat(self, over: threading.Event) -> None:
        """Say now and then that this machine lives, and find out when another has the run."""
        while not over.wait(self._pace.beat_s):
            try:
                if (mirror := self._mirror) is not None:
                    mirror.try_to_send(with_papers=False)
            except ControlLost as error:
                self._note(str(error))
                return

    def _let_go(self) -> None:
        """The last lines and papers, and nobody's name: another machine need not wait then."""
        with self._one_at_a_time:
            mirror, self._mirror = self._mirror, None
            if mirror is None:
                return
            if mirror.lost is not None:
                mirror.close()
                return
            mirror.book = msgspec.structs.replace(mirror.book, holder=None)
            try:
                sent = self._last_sent(mirror)
            except ControlLost as error:
                self._note(str(error))
            else:
                if not sent:
                    state = self.runs().get(self._seat.run_id)
                    self._note(unsent_words(self._seat.run_id, is_closed=state is None or state.billed is not None))
            finally:
                mirror.close()

    @contextmanager
    def _written_here_alone(self) -> Iterator[None]:
        """Around what ends a run without the store: that other machines don't know of its lines is told."""
        before = self.num_lines(self._seat.run_id)
        try:
            yield
        finally:
            if self.num_lines(self._seat.run_id) > before:
                self._note(unsent_words(self._seat.run_id))

    def leave(self) -> None:
        """The lines so far, and nobody's name, by one try that is waited for so long as a line is. What was being written when
        the process was told to go may be among them, as after a kill.
        """
        mirror, self._mirror = self._mirror, None  # no beat says that it lives
        if mirror is not None and mirror.lost is None:
            mirror.leave(self._pace.line_s)

    def _last_sent(self, mirror: Mirror) -> bool:
        """Whether the last lines came through. Where the store says no it is asked three times: a hiccup is over by then.

        One that gives no answer has used the time up with the first try.
        """
        left_s = self._pace.line_s + AGAIN_S
        while left_s > 0:
            began_s = time.monotonic()
            if mirror.try_to_send() is None:
                return True
            left_s -= time.monotonic() - began_s + AGAIN_S
            if left_s > 0:
                self._pace.sleep(AGAIN_S)
        return False


def unsent_words(run_id: str, *, is_closed: bool = True) -> str:
    """For whoever wonders why other machines do not know how a run stands. One that may go on is not to be ended for it."""
    command = "down" if is_closed else "resume"
    return f"The last lines of run {run_id} are here alone: rentune {command} {run_id} sends them."


class Mirror:
    """The book of a run in charge as it should be, and how it gets there. `lost`: why nothing is written any more."""

    def __init__(self, book: Book, link: Link, held: BookInHand, bucket: Bucket, places: Places, note: Note) -> None:
        self.book = book
        self.lost: ControlLost | None = None
        self._link, self._held, self._bucket, self._places, self._note = link, held, bucket, places, note
        self._papers = book.papers
        self._is_away = False
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._sending = threading.Lock()  # held by the threads that send, never by the one that answers signals

    def adopt(self, bucket: Bucket) -> None:
        """What others have written comes here; lines that are new there go with the next writing. `bucket` waits for a result
        as long as that takes. Raises as `take_in` does.
        """
        there = {bytes(line) for line in self.book.lines}
        here = Ledger(self._places.ledger).raw_lines(self.book.run_id)
        unsent = tuple(msgspec.Raw(line) for line in here if line not in there)
        self._link = take_in(self.book, self._link, bucket, self._places)
        # Nobody signs how often a book was taken; its lines are, and none is of a later taking than this.
        takings = max(self.book.takings, 1 + Ledger(self._places.ledger).takings(self.book.run_id))
        self.book = msgspec.structs.replace(self.book, lines=(*self.book.lines, *unsent), takings=takings)

    def give_back(self) -> None:
        """Let go of a run that could not be taken up: the book as it was found, and nobody's name in it."""
        with suppress(StoreFailed, ControlLost):  # after its term another machine may take it all the same
            self._held.write(msgspec.structs.replace(self.book, holder=None))
        self.close()

    def leave(self, patience_s: float) -> None:
        """Nobody's name into the book, after what is being sent. A signal is answered by it, which may have come in the midst
        of anything: no lock is waited for that this thread may hold, so the sender is not asked.
        """
        self.book = msgspec.structs.replace(self.book, holder=None)
        sending = threading.Thread(target=self._send_and_forget, name="leave", daemon=True)
        sending.start()
        sending.join(patience_s)

    def _send_and_forget(self) -> None:
        with suppress(ControlLost):
            self._send(with_papers=False)

    def close(self) -> None:
        """Nothing is sent any more. What is under way gets its answer, or none."""
        self._sender.shutdown(wait=False)

    def send_unless_away(self) -> None:
        """Papers and book, where the store gave an answer the last time; else the beat finds out. Raises ControlLost."""
        if self.lost is not None:
            raise self.lost
        if not self._is_away:
            self.try_to_send()

    def try_to_send(self, *, with_papers: bool = True) -> StoreFailed | None:
        """Papers, then the book, after what is being sent. Where the store can't be reached that is told, once, and returned.

        Raises ControlLost. Whoever is interrupted meanwhile leaves it to be sent.
        """
        return self._sender.submit(self._send, with_papers=with_papers).result()

    def _send(self, *, with_papers: bool) -> StoreFailed | None:
        with self._sending:
            return self._send_alone(with_papers=with_papers)

    def _send_alone(self, *, with_papers: bool) -> StoreFailed | None:
        if self.lost is not None:
            raise self.lost
        try:
            if with_papers:
                self._send_papers()
            self._held.write(signed(msgspec.structs.replace(self.book, papers=self._papers), self._link.key))
        except ControlLost as error:
            self.lost = error
            raise
        except Exception as error:  # noqa: BLE001 - a paper that can't be read, a fault of ours: that ends no run, either
            return self._away(error)
        if self._is_away:
            self._note(f"{self._bucket.url} can be reached again, and has all of the run's lines.")
        self._is_away = False
        self._note_sent()
        return None

    def _away(self, error: Exception) -> StoreFailed:
        failed = error if isinstance(error, StoreFailed) else StoreFailed(f"{self._bucket.url} was not written to: {error!r}.")
        if not self._is_away:
            self._note(f"{failed} The run goes on; its state is sent as soon as it can be.")
        self._is_away = True
        return failed

    def _send_papers(self) -> None:
        packed = pack(self._places.run(self.book.run_id))
        name = name_of(self._link.key, packed)
        if name != self._papers:
            self._bucket.put(papers_name(self.book.run_id, name), seal(self._link.key, packed, run_id=self.book.run_id))
            self._papers = name

    def _note_sent(self) -> None:
        """Which papers this home has sent; those before are in no book any more."""
        old, new = self._link.papers, self._papers
        if old == new:
            return
        self._link = msgspec.structs.replace(self._link, papers=new)
        with suppress(OSError):  # a full disk: whoever takes the run up here then reads the same papers once more
            write_link(self._places.run(self.book.run_id), self._link)
        if old is not None:
            with suppress(StoreFailed):  # sealed, and nobody's any more
                self._bucket.delete([papers_name(self.book.run_id, old)])
