"""A run's way into the store and out of it: given a book there when it is opened, brought to another home, listed."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from planner.asking.request import LOCAL
from provision.account.ledger import Around, Ledger, unattended
from provision.account.lines import UNREADABLE, AnyLine
from provision.account.naming import LEAST_LETTERS, fitting
from provision.account.runs import RunState, fold
from provision.errors import BadInput, Refused, StoreFailed
from provision.home.installation import installation_id, known_installation
from provision.home.places import Places
from provision.state.book import (
    RUNS,
    Book,
    Holder,
    book_name,
    is_heard,
    new_book,
    read_book,
    require_free,
    require_genuine,
    signed,
)
from provision.state.intake import papers_name, take_in, take_papers
from provision.state.link import Link, is_damaged, read_link, write_link
from provision.state.mirror import MirroredLedger, Seat
from provision.state.papers import pack
from provision.state.seal import locked, name_of, new_key, require_passphrase, seal, unlocked
from provision.store.bucket import QUESTION_S, Bucket
from provision.words import Note

PASSPHRASE: Final = "RENTUNE_STATE_PASSPHRASE"  # noqa: S105 - a variable's name


def ledger_of(run_id: str, places: Places, *, note: Note, around: Around = unattended) -> Ledger:
    """The ledger as this run's controller writes it: mirrored where its state lies in object storage.

    Raises MissingPart where that can't be spoken to here, Refused where the run's own file about it is damaged.
    """
    link = read_link(places.run(run_id))
    if link is None:
        return Ledger(places.ledger, around=around)
    return MirroredLedger(places, Seat(run_id, link, this_holder(places)), note=note, around=around)


def this_holder(places: Places) -> Holder:
    """Who this process is, of this state folder, for one taking."""
    return Holder(
        token=secrets.token_hex(16),
        home=installation_id(places),
        machine=socket.gethostname(),
        pid=os.getpid(),
        since_s=time.time(),
    )


class Place:
    """Where state is to lie, checked before anything is opened. Raises BadInput, MissingPart, Refused or StoreFailed."""

    def __init__(self, url: str, environment: Mapping[str, str] = os.environ) -> None:
        self.bucket = Bucket(url, environment=environment, request_s=QUESTION_S)
        self._passphrase = require_passphrase(environment.get(PASSPHRASE), variable=PASSPHRASE)
        self.bucket.require_conditions()

    def publish(self, run_id: str, places: Places) -> None:
        """Give a run that was just opened its book and its papers there. Raises StoreFailed, Refused, OSError."""
        folder, key = places.run(run_id), new_key()
        packed = pack(folder)
        name = name_of(key, packed)
        self.bucket.put(papers_name(run_id, name), seal(key, packed, run_id=run_id))
        lines = tuple(map(msgspec.Raw, Ledger(places.ledger).raw_lines(run_id)))
        book = Book(run_id=run_id, lock=locked(key, self._passphrase), lines=lines, papers=name)
        new_book(self.bucket, signed(book, key))
        write_link(folder, Link(url=self.bucket.url, key=key, papers=name))


def bring(name: str, url: str, places: Places, *, environment: Mapping[str, str] = os.environ) -> str:
    """Lay a run of the store out in this home, where it is not yet; its id. Nobody is in charge of it by that.

    Raises BadInput where no run is meant, or several; Refused while another machine has it, and for a wrong passphrase;
    StoreFailed.
    """
    bucket = Bucket(url, environment=environment, request_s=QUESTION_S)
    run_id = _find(bucket, name)
    if run_id in Ledger(places.ledger).runs() and not is_damaged(places.run(run_id)):
        refresh(run_id, places, environment=environment)
        return run_id
    passphrase = require_passphrase(environment.get(PASSPHRASE), variable=PASSPHRASE)
    book, stored = read_book(bucket, book_name(run_id))
    require_free(bucket, book, stored, home=known_installation(places))
    key = unlocked(book.lock, passphrase, variable=PASSPHRASE)
    _require_reachable(book)
    take_in(book, Link(url=bucket.url, key=key), Bucket(url, environment=environment), places)
    return run_id


def refresh(run_id: str, places: Places, *, environment: Mapping[str, str] = os.environ) -> None:
    """What other machines have written of a run that is here comes here. Nothing where its state lies here alone.

    Raises as `take_in` does.
    """
    if (link := read_link(places.run(run_id))) is not None:
        book, _ = read_book(Bucket(link.url, environment=environment, request_s=QUESTION_S), book_name(run_id))
        take_in(book, link, Bucket(link.url, environment=environment), places)


def seen_book(run_id: str, link: Link, *, environment: Mapping[str, str] = os.environ) -> tuple[Book, bool]:
    """A run's book as the store has it now, and whether its holder was heard of lately. Nothing comes here by that.

    Raises StoreFailed, MissingPart, and Refused where somebody without the run's key has written it.
    """
    bucket = Bucket(link.url, environment=environment, request_s=QUESTION_S)
    book, stored = read_book(bucket, book_name(run_id))
    require_genuine(book, link.key)
    return book, is_heard(bucket, book, stored)


def refresh_papers(run_id: str, places: Places, *, environment: Mapping[str, str] = os.environ) -> None:
    """As `refresh`, but for the result: it may be large, and whoever wants to read how a run went does not ask for it."""
    if (link := read_link(places.run(run_id))) is not None:
        book, _ = read_book(Bucket(link.url, environment=environment, request_s=QUESTION_S), book_name(run_id))
        take_papers(book, link, Bucket(link.url, environment=environment), places)


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """One run as its book has it, and who is in charge of it and was heard of lately.

    `num_unsent`: lines of this home that the book has not, for the store gave no answer; the state has them.
    """

    state: RunState
    holder: Holder | None
    num_unsent: int = 0


def shared_runs(
    url: str, *, ledger: Ledger | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[list[Shared], dict[str, str]]:
    """Every run whose state lies there, oldest first, and why others can't be told, by their id.

    `ledger`: this home's, which may know more than a store that was away. Needs no passphrase: the book is not sealed.
    Raises StoreFailed where nothing can be seen.
    """
    bucket = Bucket(url, environment=environment, request_s=QUESTION_S)
    shared: list[Shared] = []
    unseen: dict[str, str] = {}
    for run_id in sorted(bucket.folders(RUNS)):
        try:
            book, stored = read_book(bucket, book_name(run_id))
            holder = book.holder if is_heard(bucket, book, stored) else None
        except StoreFailed as error:
            unseen[run_id] = str(error)
            continue
        lines = tuple(_decoded(book.lines))
        if len(lines) < len(book.lines):
            unseen[run_id] = "some of its lines can't be read: they are damaged, or of a newer version of rentune"
        if run_id not in fold(lines):
            unseen.setdefault(run_id, "its book has no line that opens it")
            continue
        unsent = _unsent(book, ledger)
        state = fold((*lines, *_decoded(unsent)))[run_id]
        shared.append(Shared(state=state, holder=holder, num_unsent=len(unsent)))
    return shared, unseen


def _find(bucket: Bucket, name: str) -> str:
    matching = fitting(name, bucket.folders(RUNS), least_letters=LEAST_LETTERS)
    if len(matching) != 1:
        what = f"{len(matching)} runs of {bucket.url} fit {name!r}." if matching else f"{bucket.url} has no run {name!r}."
        raise BadInput(what, hint=f"rentune ls --state {shlex.quote(bucket.url)}")
    return matching[0]


def _require_reachable(book: Book) -> None:
    """Raises Refused for a book that tells of no run. A local box is a process of the machine that it was opened on; from
    elsewhere it would look as if it were gone.
    """
    state = _folded(book)
    if state is None:
        raise Refused(
            f"The book of run {book.run_id} has no line that opens it: it is damaged, or of a newer version of rentune."
        )
    if state.provider == LOCAL and not state.over and not Path(state.opened.folder).exists():
        raise Refused(f"The box of run {book.run_id} is on the machine that it was opened on.", hint="Go on with it there.")


def _folded(book: Book) -> RunState | None:
    return fold(_decoded(book.lines)).get(book.run_id)


def _unsent(book: Book, ledger: Ledger | None) -> tuple[bytes, ...]:
    """What this home's ledger says of the run and its book does not."""
    if ledger is None:
        return ()
    there = {bytes(line) for line in book.lines}
    return tuple(line for line in ledger.raw_lines(book.run_id) if line not in there)


def _decoded(lines: Iterable[msgspec.Raw | bytes]) -> Iterator[AnyLine]:
    decoder = msgspec.json.Decoder(AnyLine)
    for line in lines:
        with suppress(*UNREADABLE):
            yield decoder.decode(line)
