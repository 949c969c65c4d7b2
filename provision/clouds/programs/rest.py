"""A vendor's REST API, for what a program asks the cloud itself: JSON, a bearer token, pages, and a no as one sentence.

For the clouds whose account is one list without regions: what a token may see is seen with one look.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from catalogs.hardware import ANYWHERE
from planner.units import KIB, MIB
from provision.clouds.programs.clocks import Heard
from provision.errors import NoCredentials, ProvisionError
from provision.exchange import opener
from provision.seam import Answer, Owned, Resource

Json = dict[str, Any]

EVERYWHERE: Final = (ANYWHERE,)  # where to look: one look sees all
TIMEOUT_S: Final = 10.0  # assumed: of silence
ANSWER_S: Final = 30.0  # assumed: for all of an answer, beside that silence; a page of a list is there in one
LINES_S: Final = 30.0  # assumed: as long is an answer read that has no end
ANSWER_BYTES: Final = 32 * MIB  # assumed: a page of the longest list has a tenth
PAGES: Final = 200  # assumed: no account has ten thousand machines, so a longer list is none
LOOKS: Final = 3  # assumed: a list that changes at each of them is being emptied by somebody
PAUSES_S: Final = (0.5, 1.0, 2.0)  # assumed: before each further try of what was too much, or failed at the cloud
PASSING: Final = frozenset({429, 500, 502, 503, 504})  # assumed: a later try may be answered otherwise
REPEATABLE: Final = frozenset({"GET", "DELETE"})  # a second POST could buy a second box
ABSENT: Final = 404  # source=RFC 9110, section 15.5.5
DECLINED: Final = 300  # derived (RFC 9110, section 15): from here on a status is a no, and no redirect is followed
PIECE_BYTES: Final = 64 * KIB  # assumed: as much as a connection has at once
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Here(urllib.request.HTTPRedirectHandler):
    """A token goes nowhere but where it was sent."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """One account. Every method raises ProvisionError where the cloud declines or does not answer."""

    cloud: str  # its name for people
    url: str
    token: str
    next_page: Callable[[Json], bool]  # whether the answer to a list names one
    reason: Callable[[Json], str]  # what the body of an error says
    total: Callable[[Json], int | None] = lambda _: None  # of rows on all pages, as an answer tells it; None = it does not
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    heard: Heard = msgspec.field(default_factory=Heard)
    timeout_s: float = TIMEOUT_S

    def __repr__(self) -> str:
        """Without the token."""
        return f"{type(self).__name__}({self.cloud} at {self.url})"

    def ask(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        """The body of the answer; empty where there is none."""
        status, answer = self._answer(method, path, body, query)
        if status >= DECLINED:
            raise ProvisionError(f"{self.cloud} declined {method} {path}: {self._reason(status, answer)}")
        return answer

    def find(self, path: str) -> Json | None:
        """One thing; None where there is none."""
        status, answer = self._answer("GET", path, None, {})
        if status >= DECLINED and status != ABSENT:
            raise ProvisionError(f"{self.cloud} declined GET {path}: {self._reason(status, answer)}")
        return None if status == ABSENT else answer

    def delete(self, path: str) -> None:
        """What is gone already is fine."""
        status, answer = self._answer("DELETE", path, None, {})
        if status >= DECLINED and status != ABSENT:
            raise ProvisionError(f"{self.cloud} declined to delete {path}: {self._reason(status, answer)}")

    def rows(self, path: str, name: str, **query: str) -> Iterator[Json]:
        """Every row of a list whose pages have numbers. One that something left or joined meanwhile is read anew: behind what
        is gone each row moves up, the first of a page to the end of the one before, which was read already.
        """
        for _ in range(LOOKS):
            read, totals = list[Json](), set[int | None]()
            try:
                for answer in self.pages(path, lambda _, number: {"page": str(number)}, **query, page="1", per_page="50"):
                    read.extend(self.listed(answer, path, name))
                    totals.add(self.total(answer))
            except ProvisionError:
                yield from read  # what was seen is there, though the rest could not be
                raise
            if len(totals) == 1:
                yield from read
                return
        yield from read
        raise ProvisionError(f"{self.cloud}'s list {path} changed each time that it was read.")

    def pages(self, path: str, behind: Callable[[Json, int], dict[str, str]], **query: str) -> Iterator[Json]:
        """Every page of a list; `behind` tells what asks for the one that comes after an answer, and has this number."""
        asked = query
        for number in range(2, PAGES + 2):
            answer = self.ask("GET", path, None, **asked)
            yield answer
            if not self.next_page(answer):
                return
            asked = query | behind(answer, number)
        raise ProvisionError(f"{self.cloud}'s list {path} has no end.")

    def listed(self, answer: Json, path: str, name: str) -> list[Json]:
        """What of an answer is a list: whatever else is there can't be read, and so is not an empty one."""
        rows = answer.get(name)
        if not isinstance(rows, list):
            raise ProvisionError(f"{self.cloud} answered GET {path} with no {name}.")
        return rows

    def _reason(self, status: int, answer: Json) -> str:
        try:
            return self.reason(answer)
        except (KeyError, TypeError):
            return f"HTTP status {status}"

    def _answer(self, method: str, path: str, body: Json | None, query: Mapping[str, str]) -> tuple[int, Json]:
        for pause_s in PAUSES_S:
            status, answer = self._send(method, path, body, query)
            if status not in PASSING or method not in REPEATABLE:
                return status, answer
            self.sleep(pause_s)
        return self._send(method, path, body, query)

    def _send(self, method: str, path: str, body: Json | None, query: Mapping[str, str]) -> tuple[int, Json]:
        try:
            with self._answered(method, path, body, query) as answer:
                self.heard.note(answer.headers["Date"], now_s=self.clock())
                return int(answer.status), _read(_whole(answer))
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
            why = getattr(error, "reason", error)
            raise ProvisionError(f"{self.cloud} did not answer {method} {path}: {why}") from None

    def _answered(self, method: str, path: str, body: Json | None, query: Mapping[str, str]) -> Any:
        """The answer, a no as well."""
        try:
            return self._open(method, path, body, query, silence_s=self.timeout_s, within_s=self.timeout_s + ANSWER_S)
        except urllib.error.HTTPError as error:
            return error

    def lines(self, path: str, *, silence_s: float, **query: str) -> Iterator[bytes]:
        """The lines of an answer that has no end, until none has come for so long, or it was heard long enough; none at all
        where it is declined.
        """
        num_bytes = 0
        with (
            suppress(OSError, http.client.HTTPException),  # URLError and timeouts are among them
            self._open("GET", path, None, query, silence_s=silence_s, within_s=LINES_S) as answer,
        ):
            while num_bytes < ANSWER_BYTES and (line := answer.readline(ANSWER_BYTES)):
                num_bytes += len(line)
                yield line

    def _open(
        self, method: str, path: str, body: Json | None, query: Mapping[str, str], *, silence_s: float, within_s: float
    ) -> Any:
        url = f"{checked_url(self.cloud, self.url)}{path}?{urllib.parse.urlencode(query)}".removesuffix("?")
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", "User-Agent": "rentune"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - by checked_url
        return opener(Here, within_s=within_s, steady=self.steady).open(request, timeout=silence_s)


def _whole(answer: Any) -> bytes:
    """All of an answer's bytes. Raises OSError where they do not end."""
    text = bytearray()
    while piece := answer.read1(PIECE_BYTES):
        text += piece
        if len(text) > ANSWER_BYTES:
            raise OSError(f"an answer of more than {ANSWER_BYTES // MIB} MiB")
    if answer.length:  # of what was announced, as far as it was: a connection that breaks off ends like one that is over
        raise OSError(f"an answer that broke off {answer.length} bytes before its end")
    return bytes(text)


def _read(text: bytes) -> Json:
    try:
        read = json.loads(text or b"{}")
    except (ValueError, RecursionError):  # a proxy's page, for one
        return {}
    return read if isinstance(read, dict) else {}


def checked_url(cloud: str, url: str) -> str:
    """The URL, once it is seen to be safe. Raises ProvisionError where a token would travel in the clear."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return url.rstrip("/")
    raise ProvisionError(f"{cloud} is only asked over https, not at {url}.")


def token_of(cloud: str, environment: Mapping[str, str], names: Iterable[str]) -> str:
    """The first that is set. Raises NoCredentials where none is."""
    for name in names:
        if token := environment.get(name):
            return token
    raise NoCredentials(f"{cloud} asks for a token.", hint=f"Set {' or '.join(names)}.")


def as_owned(reach: Callable[[], Api], look: Callable[[Api], Iterable[Resource]]) -> Owned:
    """What a look has found, also before the cloud did not let us see the rest: all of it is unknown then."""
    found, message, heard, asked = list[Resource](), "", Heard(), True
    try:
        api = reach()
        heard = api.heard
        found.extend(look(api))
    except NoCredentials as error:
        message, asked = error.in_full, False
    except ProvisionError as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 - an answer that can't be read is not an empty one, and hides nothing read before
        message = f"its answer could not be read ({type(error).__name__}: {error})"
    ending, kept = (tuple(each for each in found if (each.name is not None) is named) for named in (False, True))
    complete = Answer.UNKNOWN if message else Answer.YES
    return Owned(resources=ending, complete=complete, message=message, kept=kept, ahead_s=heard.ahead_s, asked=asked)
