"""HTTP exchanges that end in time: the limit of a socket is one of silence, and begins anew with each byte that drips in."""

from __future__ import annotations

import http.client
import io
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Never, TypeVar

T = TypeVar("T")

END_S: Final = 0.001  # derived: the shortest that is no limit of zero, which a socket takes for "do not wait"


def opener(*handlers: Any, within_s: float, steady: Callable[[], float] = time.monotonic) -> urllib.request.OpenerDirector:
    """What opens addresses with these handlers, each answer and whatever it leads to whole `within_s` seconds from now, or a
    TimeoutError. What is slow at the system's resolver is not ours to end.
    """
    until = _Until(within_s, steady)
    return urllib.request.build_opener(_Http(until), _Https(until), *handlers)


def within(seconds: float, act: Callable[[], T]) -> T:
    """What `act` returns or raises in that time; else a TimeoutError. For a library that has no limit of its own for the whole
    of an exchange: it goes on by itself then, and nobody hears its end, so it must be a question, a message, or an end that
    is wanted in any case. Never an order.
    """
    done: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            value = act()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.put(partial(_raise, error))
        else:
            done.put(lambda: value)

    threading.Thread(target=run, name="exchange", daemon=True).start()
    try:
        outcome = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"an answer that was not whole after {seconds:g} s") from None
    return outcome()


def _raise(error: BaseException) -> Never:
    raise error


class _Until:
    """The moment at which an exchange is over."""

    def __init__(self, within_s: float, steady: Callable[[], float]) -> None:
        self._within_s = within_s
        self._at_s = steady() + within_s
        self._steady = steady

    def limit_s(self, silence_s: float | None) -> float:
        """Seconds that the next wait may take. Raises TimeoutError where none are left."""
        left_s = self._at_s - self._steady()
        if left_s <= 0:
            raise TimeoutError(f"an answer that was not whole after {self._within_s:g} s")
        return max(END_S, left_s if silence_s is None else min(left_s, silence_s))


class _Timed(urllib.request.AbstractHTTPHandler):
    """Gives each connection the same end."""

    def __init__(self, until: _Until) -> None:
        super().__init__()
        self._until = until

    def do_open(self, http_class: Any, req: urllib.request.Request, **arguments: Any) -> http.client.HTTPResponse:
        def make(*where: Any, **settings: Any) -> Any:
            return _ended(http_class(*where, **settings), self._until)

        return super().do_open(make, req, **arguments)


class _Http(_Timed, urllib.request.HTTPHandler): ...


class _Https(_Timed, urllib.request.HTTPSHandler): ...


def _ended(connection: http.client.HTTPConnection, until: _Until) -> http.client.HTTPConnection:
    """The same, which connects, shakes hands and is answered before that."""

    def connect(address: tuple[str, int], timeout: float | None, *_source: Any, **_more: Any) -> socket.socket:
        met: OSError | None = None
        for *_, (host, port, *_) in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            try:
                made = socket.create_connection((str(host), int(port)), timeout=until.limit_s(timeout))
            except OSError as error:
                met = error
                continue
            try:
                made.settimeout(until.limit_s(timeout))  # for the handshake, and for what is sent
            except TimeoutError:
                made.close()
                raise
            return made
        raise met or OSError("its name has no address")

    def answered(sock: socket.socket, *arguments: Any, **settings: Any) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(_Readable(sock, until), *arguments, **settings)  # type: ignore[arg-type]  # makes a file

    vars(connection)["_create_connection"] = connect  # as `http.client` names it
    connection.response_class = answered  # type: ignore[assignment]  # whatever makes one will do
    return connection


class _Readable:
    """What a response asks of a socket: a file to read."""

    def __init__(self, sock: socket.socket, until: _Until) -> None:
        self._sock, self._until = sock, until

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Bytes(self._sock, self._until))


class _Bytes(io.RawIOBase):
    """The bytes of a socket: each wait is as long as is left, and no longer than its silence may last."""

    def __init__(self, sock: socket.socket, until: _Until) -> None:
        self._sock, self._until = sock, until
        self._silence_s = sock.gettimeout()
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._until.limit_s(self._silence_s))
        try:
            return self._file.readinto(buffer)
        except TimeoutError:
            self._until.limit_s(None)  # in these words where all of the time is over
            raise

    def close(self) -> None:
        self._file.close()
        super().close()
