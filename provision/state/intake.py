"""What a run's book in the store has and this home has not: taken in, and laid out where it belongs."""

from __future__ import annotations

import msgspec

from provision.account.ledger import Ledger
from provision.errors import StoreFailed
from provision.home.places import Places, RunFolder
from provision.home.whole import write_whole
from provision.state import results
from provision.state.book import RUNS, Book, require_genuine
from provision.state.link import Link, write_link
from provision.state.papers import unpack
from provision.state.seal import unseal
from provision.store.bucket import Bucket
from remote.contract import encode


def take_in(book: Book, link: Link, bucket: Bucket, places: Places) -> Link:
    """Lay out in this home what a book has and it has not: lines, papers, a finished result. The link as it is then.

    Papers that this home has sent itself are not newer than its own. Raises StoreFailed, Refused, TransferFailed, OSError.
    """
    require_genuine(book, link.key)
    folder = places.run(book.run_id)
    link = _unpacked(book, link, bucket, folder)
    if (outcome := results.finished(bucket, link.key, book.run_id)) is not None:
        results.bring(bucket, book.run_id, outcome, folder.adapter)
        write_whole(folder.outcome, encode(outcome))
    return _noted(book, link, places)


def take_papers(book: Book, link: Link, bucket: Bucket, places: Places) -> Link:
    """Lay out in this home the lines and papers that a book has and it has not; no result. The link as it is then."""
    require_genuine(book, link.key)
    return _noted(book, _unpacked(book, link, bucket, places.run(book.run_id)), places)


def _unpacked(book: Book, link: Link, bucket: Bucket, folder: RunFolder) -> Link:
    if book.papers is None or book.papers == link.papers:
        return link
    unpack(read_papers(bucket, link.key, book), folder)
    return msgspec.structs.replace(link, papers=book.papers)


def _noted(book: Book, link: Link, places: Places) -> Link:
    write_link(places.run(book.run_id), link)
    Ledger(places.ledger).copy_in(*(bytes(line) for line in book.lines))
    return link


def read_papers(bucket: Bucket, key: bytes, book: Book) -> bytes:
    """The papers that a book names, packed. Raises StoreFailed where they are not there, Refused where they are damaged."""
    name = papers_name(book.run_id, book.papers or "")
    stored = bucket.get(name)
    if stored is None:
        raise StoreFailed(f"{bucket.url}/{name} is not there.")
    return unseal(key, stored.data, run_id=book.run_id)


def papers_name(run_id: str, name: str) -> str:
    return f"{RUNS}/{run_id}/papers/{name}"
