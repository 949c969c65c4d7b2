"""Whoever is asked over HTTP answers in time or not at all, however the answer drips."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provision import exchange, fetching
from provision.clouds.programs import caller, rest
from provision.errors import ProvisionError, Refused, StoreFailed
from provision.prepare.inputs import ENDPOINT, BaseModel, hub
from provision.store.bucket import Bucket

WITHIN_S = 0.5
DRIP_S = 0.02
SOON_S = 5.0  # a drip of a header line would last for twenty minutes

# What is sent at once, and what drips then without an end.
DRIPS = {
    "status line": (b"", b"HTTP/1.1 200 " + b"x" * 60_000),
    "headers": (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x" * 60_000),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 3_000),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" " * 60_000),
    "a refusal's body": (b"HTTP/1.1 500 No\r\nContent-Length: 60000\r\n\r\n", b" " * 60_000),
}


@contextlib.contextmanager
def served(at_once: bytes, drip: bytes) -> Iterator[str]:
    """The address of a server that answers so."""
    over = threading.Event()

    def answer(line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            line.recv(65_536)
            line.sendall(at_once)
            for byte in drip:
                if over.wait(DRIP_S):
                    return
                line.sendall(bytes([byte]))

    def serve() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                line, _ = server.accept()
                answers.append(threading.Thread(target=answer, args=(line,)))
                answers[-1].start()

    answers: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DRIP_S)
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            for thread in (serving, *answers):
                thread.join()


@pytest.fixture(params=DRIPS)
def dripping(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that never comes to the end of it."""
    with served(*DRIPS[request.param]) as url:
        yield url


@pytest.fixture
def slow_headers() -> Iterator[str]:
    with served(*DRIPS["headers"]) as url:
        yield url


@contextlib.contextmanager
def ends_soon() -> Iterator[None]:
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s < SOON_S


def test_what_drips_ends_as_a_whole(dripping: str) -> None:
    """Wherever it drips; each byte comes long before the limit of silence."""
    with ends_soon(), pytest.raises(OSError, match=r"not whole after 0\.5 s|HTTP Error 500"), opened(dripping) as answer:
        answer.read()


@contextlib.contextmanager
def opened(url: str) -> Iterator[Any]:
    with exchange.opener(within_s=WITHIN_S).open(url, timeout=WITHIN_S) as answer:
        yield answer


def test_redirects_have_one_end_together() -> None:
    ticks = itertools.count(step=WITHIN_S / 4)
    opener = exchange.opener(within_s=WITHIN_S, steady=lambda: next(ticks))
    on_and_on = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"
    with served(on_and_on, b"") as url, pytest.raises(OSError, match="not whole"):
        opener.open(url, timeout=WITHIN_S)


def of_cloud(url: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rest, "ANSWER_S", 0.1)
    api = rest.Api(cloud="Cloudy", url=url, token="t", next_page=bool, reason=str, sleep=lambda _s: None, timeout_s=WITHIN_S)
    with pytest.raises(ProvisionError, match="Cloudy did not answer POST /things"):
        api.ask("POST", "/things")


def of_log(url: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rest, "LINES_S", WITHIN_S)
    api = rest.Api(cloud="Cloudy", url=url, token="t", next_page=bool, reason=str)
    assert list(api.lines("/logs", silence_s=WITHIN_S)) == []


def of_prices(url: str, _patch: pytest.MonkeyPatch) -> None:
    with pytest.raises(fetching.NotFetched, match=r"no answer within 0\.5 s"):
        fetching.fetch(url, max_bytes=1000, within_s=WITHIN_S)


def of_caller(url: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(caller, "URL", url)
    patch.setattr(caller, "TIMEOUT_S", WITHIN_S)
    with pytest.raises(ProvisionError, match="public address could not be found out"):
        caller.caller_address()


def of_hub(url: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hub, "TIMEOUT_S", WITHIN_S)
    with pytest.raises(Refused, match="The hub did not say"):
        hub.pinned(BaseModel(kind="hub", hub_id="a/b"), None, {ENDPOINT: url})


def of_store(url: str, patch: pytest.MonkeyPatch) -> None:
    """Its library has a limit for the whole."""
    said = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": url}
    for name, value in (said | {"AWS_ENDPOINT_URL": url}).items():
        patch.setenv(name, value)
    with pytest.raises(StoreFailed, match="no answer within"):
        Bucket("s3://bucket/prefix", request_s=WITHIN_S).get("name")


@pytest.mark.parametrize("asked", [of_cloud, of_log, of_prices, of_caller, of_hub, of_store])
def test_whoever_we_ask_holds_nobody_by_slow_headers(
    asked: Callable[[str, pytest.MonkeyPatch], None], slow_headers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ends_soon():
        asked(slow_headers, monkeypatch)


def test_an_answer_in_time_is_read_as_ever(tmp_path: Path) -> None:
    at_once = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"
    with served(at_once, b"") as url, (tmp_path / "file").open("wb") as file:
        fetching.save(url, file, max_bytes=10, within_s=SOON_S)
    assert (tmp_path / "file").read_bytes() == b"whole"
