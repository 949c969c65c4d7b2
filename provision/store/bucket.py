"""A prefix in a bucket: `s3://bucket/prefix`, `gs://…`, `az://…`, with writes that happen on a condition or not at all.

The only caller of obstore. Endpoint and credentials are the library's own: the usual AWS_*, GOOGLE_* and AZURE_* variables,
or the role of the machine. No box ever has them: it gets signed addresses, each good for one name and for so long.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from provision.errors import BadInput, MissingPart, Refused, StoreFailed
from provision.extras import install_command
from provision.words import seconds_words

if TYPE_CHECKING:
    from obstore import PutResult, UpdateVersion

SCHEMES: Final = ("s3", "gs", "az")
ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
URL: Final = re.compile(rf"(?:{'|'.join(SCHEMES)})://[^/\s?#]+(?:/[^\s?#]*)?")
T = TypeVar("T")
QUESTION_S: Final = 10.0  # assumed: a book, or the names below a folder; somebody waits for it
PIECE_BYTES: Final = 4 * 2**20  # assumed: what a line that is cut loses at most
REQUEST_S: Final = 60.0  # assumed: a piece of a file, 5 MB, at 85 kB/s
TIMING: Final = re.compile(r",? (?:in [\d.]+\w*s\b|after \d+ retries\b|max_retries: \d+|retry_timeout: [\d.]+\w*s\b)")
RETRY_S: Final = 10.0  # assumed: a hiccup is over by then; what lasts longer is told, and tried again by whoever asked
RETRIES: Final = 3  # assumed likewise
PIECES_AT_ONCE: Final = 3  # assumed: a home's line is full by then, and no piece takes too long
PROOF: Final = "conditions"  # the name that shows whether conditions are kept


class Version(NamedTuple):
    """What tells one writing of a name from the next. Of S3 it is a hash: the same bytes again are the same version."""

    e_tag: str | None
    version: str | None


class Stored(NamedTuple):
    """What lies under a name, and since when by the store's own clock."""

    data: bytes
    version: Version
    written_at_s: float


class Bucket:
    """Names below one prefix. Every method raises StoreFailed where the store can't be asked, or says no."""

    def __init__(self, url: str, *, environment: Mapping[str, str] = os.environ, request_s: float = REQUEST_S) -> None:
        """Nothing is asked yet; `request_s` is the limit of each answer. Raises BadInput for what is no such address,
        MissingPart without the library.
        """
        self.url = url.rstrip("/")
        self._request_s, self._question_s = request_s, min(request_s, QUESTION_S)
        self._store = _opened(self.url, environment, request_s)
        self._questions = _opened(self.url, environment, self._question_s)  # what is answered in a few bytes, or not at all

    def get(self, name: str) -> Stored | None:
        """What lies there; None where nothing does."""
        import obstore

        def ask() -> Stored | None:
            try:
                found = obstore.get(self._store, name)
            except FileNotFoundError:
                return None
            meta = found.meta
            return Stored(bytes(found.bytes()), Version(meta["e_tag"], meta["version"]), meta["last_modified"].timestamp())

        return self._answer(ask)

    def put(self, name: str, data: bytes | Path) -> None:
        """Write it, whatever lies there. A file goes in pieces, and appears as a whole."""
        import obstore

        self._answer(lambda: obstore.put(self._store, name, data, max_concurrency=PIECES_AT_ONCE))

    def put_new(self, name: str, data: bytes) -> Version | None:
        """Write it where nothing lies; None where something does. A few bytes: it is waited for as a question is."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def ask() -> Version | None:
            try:
                return _version(obstore.put(self._questions, name, data, mode="create", use_multipart=False))
            except AlreadyExistsError:
                return None

        return self._answer(ask, within_s=self._question_s)

    def put_over(self, name: str, data: bytes, version: Version) -> Version | None:
        """Write it over this version of it; None where another lies there, or nothing.

        After a line that was cut it may be one's own writing that lies there: whoever can't bear that reads it.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        def ask() -> Version | None:
            try:
                return _version(obstore.put(self._store, name, data, mode=_only_over(version), use_multipart=False))
            except PreconditionError:
                return None

        return self._answer(ask)

    def names(self, prefix: str = "") -> tuple[str, ...]:
        """Every name that begins with these folders."""
        import obstore

        def ask() -> tuple[str, ...]:
            return tuple(each["path"] for page in obstore.list(self._questions, prefix or None) for each in page)

        return self._answer(ask, within_s=self._question_s)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """The last parts of the folders that lie directly below this one."""
        import obstore

        def ask() -> tuple[str, ...]:
            below = obstore.list_with_delimiter(self._questions, prefix)["common_prefixes"]
            return tuple(each.rstrip("/").rpartition("/")[2] for each in below)

        return self._answer(ask, within_s=self._question_s)

    def fetch(self, name: str, path: Path) -> bool:
        """Bring what lies there into a file, piece by piece, each with a time limit of its own; whether anything does.

        A file that is there is gone on with where it ends: by its hash whoever asks sees whether both parts are of one thing.
        Raises StoreFailed also where it is written over meanwhile, and OSError of the file.
        """
        there = self._size(name)
        if there is None:
            return False
        size, e_tag = there
        with path.open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
            while (begin := file.seek(0, os.SEEK_END)) < size:
                piece, its_tag = self._piece(name, begin, min(begin + PIECE_BYTES, size))
                if its_tag != e_tag:
                    raise StoreFailed(f"{self.url}/{name} was written over while it came home.")
                file.write(piece)
                file.flush()
        return True

    def _size(self, name: str) -> tuple[int, str | None] | None:
        """Bytes of what lies there, and its version; None where nothing does."""
        import obstore

        def ask() -> tuple[int, str | None] | None:
            try:
                meta = obstore.head(self._questions, name)
            except FileNotFoundError:
                return None
            return meta["size"], meta["e_tag"]

        return self._answer(ask, within_s=self._question_s)

    def _piece(self, name: str, begin: int, end: int) -> tuple[bytes, str | None]:
        """Bytes from `begin` to before `end`, and the version that they are of."""
        import obstore

        def ask() -> tuple[bytes, str | None]:
            try:
                found = obstore.get(self._store, name, options={"range": (begin, end)})
            except FileNotFoundError:
                raise StoreFailed(f"{self.url}/{name} was removed while it came home.") from None
            return bytes(found.bytes()), found.meta["e_tag"]

        return self._answer(ask)

    def delete(self, names: Iterable[str]) -> None:
        """Remove them; what is not there already is no failure."""
        import obstore

        def ask() -> None:
            for name in names:
                try:
                    obstore.delete(self._store, name)
                except FileNotFoundError:
                    continue

        self._answer(ask)

    def signed_put(self, name: str, *, valid_s: float) -> str:
        """An address to which whoever holds it may PUT this one name for so long. It is a secret.

        The PUT must name a content type that is no form's (`application/octet-stream`).
        """
        import obstore

        with self._asked(self._request_s):  # asks nobody
            return obstore.sign(self._store, "PUT", name, timedelta(seconds=valid_s))

    def require_conditions(self) -> None:
        """Raises Refused where the store writes although the condition of a write does not hold.

        Some that speak S3 pass conditions over in silence, so they are tried: on a name of its own, which stays.
        """
        self.put_new(PROOF, _anything())
        kept_new = self.put_new(PROOF, _anything()) is None
        seen = self.get(PROOF)
        moved_on = seen is not None and self.put_over(PROOF, _anything(), seen.version) is not None
        kept_over = not moved_on or seen is None or self.put_over(PROOF, _anything(), seen.version) is None
        if not kept_new or not kept_over:
            raise Refused(
                f"{self.url} does not keep the conditions of a write, so two machines could hold one run.",
                hint="Use a store that knows If-Match and If-None-Match, as S3, Google Cloud Storage and Azure do.",
            )

    def _answer(self, ask: Callable[[], T], *, within_s: float | None = None) -> T:
        """What the store says. Waited for apart from whoever is to hear Ctrl-C: an answer that comes after that is nobody's.

        `within_s`: the limit of each request; None = this bucket's.
        """
        answer = Future[T]()

        def wait() -> None:
            try:
                answer.set_result(ask())
            except BaseException as error:  # noqa: BLE001 - told to whoever asked
                answer.set_exception(error)

        with self._asked(self._request_s if within_s is None else within_s):
            threading.Thread(target=wait, name="store", daemon=True).start()
            return answer.result()

    @contextmanager
    def _asked(self, request_s: float) -> Iterator[None]:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        began_s = time.monotonic()
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreFailed(
                f"{self.url} does not let these credentials in: {_words(error)}.", hint="Look at your cloud's variables."
            ) from None
        except FileNotFoundError:
            raise StoreFailed(f"{self.url}: there is no such bucket.", hint="Make it first.") from None
        except (BaseError, ValueError) as error:
            silent = time.monotonic() - began_s >= request_s
            why = f"it gave no answer within {seconds_words(request_s)}" if silent else _words(error)
            raise StoreFailed(f"{self.url} can't be reached: {why}.", hint="Try again once the store answers.") from None


def checked_url(text: str) -> str:
    """The address of a prefix, without a slash at its end. Raises BadInput."""
    if not URL.fullmatch(text):
        raise BadInput(
            f"{text!r} is no place in object storage.", hint="s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
        )
    return text.rstrip("/")


def _opened(url: str, environment: Mapping[str, str], request_s: float) -> Any:
    """The library's store. Plain HTTP is spoken only to an endpoint that a variable names so."""
    checked_url(url)
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise MissingPart("Object storage needs the package obstore.", hint=install_command("state")) from None
    named = next((environment[name] for name in ENDPOINTS if environment.get(name)), "")
    try:
        return from_url(
            url,
            client_options={"timeout": timedelta(seconds=request_s), "allow_http": named.startswith("http://")},
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=min(RETRY_S, request_s))},
        )
    except (BaseError, ValueError) as error:
        raise BadInput(f"{url} can't be opened: {_words(error)}.", hint="Look at your cloud's variables.") from None


def _only_over(version: Version) -> UpdateVersion:
    """The condition, of what the store tells versions by: the library takes no blank."""
    return {name: value for name, value in version._asdict().items() if value is not None}  # type: ignore[return-value]


def _anything() -> bytes:
    return secrets.token_bytes(16)


def _version(written: PutResult) -> Version:
    return Version(written["e_tag"], written["version"])


def _words(error: Exception) -> str:
    """The library's sentence without its trail, nor how long it took: the same trouble is told by the same words."""
    first = TIMING.sub("", str(error).strip().partition("\n")[0])
    return " ".join(first.split()).removesuffix(".")
