"""Whoever is asked over HTTP answers in time or not at all, however the answer drips."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import google.oauth2.credentials
import pytest

from provision import exchange, fetching
from provision.clouds.programs import aws, caller, rest
from provision.clouds.programs.accounts import aws_api, aws_chain, gcp_api
from provision.errors import ProvisionError, Refused, StoreFailed
from provision.prepare.inputs import ENDPOINT, BaseModel, hub
from provision.seam import Answer
from provision.store.bucket import Bucket

WITHIN_S = 0.5
DRIP_S = 0.02
SOON_S = 5.0  # a drip of a header line would last for twenty minutes
MODEL_S = 30.0  # likewise; where a machine is busy boto3 reads its model of EC2 for seconds

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
def ends_soon(most_s: float = SOON_S) -> Iterator[None]:
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s < most_s


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


def of_store_s_machine(url: str, patch: pytest.MonkeyPatch) -> None:
    """So it has for the machine's credentials."""
    for name in CHAIN:
        patch.delenv(name, raising=False)
    for name, value in {"AWS_METADATA_ENDPOINT": url, "AWS_REGION": "us-east-1"}.items():
        patch.setenv(name, value)
    with pytest.raises(StoreFailed, match="no answer within"):
        Bucket("s3://bucket/prefix", request_s=WITHIN_S).get("name")


def of_amazon(url: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aws_api, "ANSWER_S", WITHIN_S)
    patch.setattr(aws_api, "RETRIES", 1)
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": url}
    with pytest.raises(ProvisionError, match="AWS did not grant a list: ReadTimeoutError"), aws_api.asked("a list"):
        aws_api.connect("us-east-1", keys).describe_regions()


MACHINE: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
CONTAINER: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
ROLE: Final = "AWS_ENDPOINT_URL_STS"
CHAIN: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED")


@pytest.mark.parametrize("asked", [MACHINE, CONTAINER, ROLE])
def test_where_aws_s_own_chain_finds_credentials_holds_nobody(
    asked: str, slow_headers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it asked again for each region of a look. That is no word on whether there are any."""
    for name in CHAIN:
        monkeypatch.delenv(name, raising=False)
    profiles = tmp_path / "config"
    profiles.write_text(
        "[profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = keys\n"
        "[profile keys]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    told = {asked: slow_headers, "HOME": str(tmp_path), "AWS_CONFIG_FILE": str(profiles), "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(aws_chain, "CHAIN_S", WITHIN_S)
    monkeypatch.setattr(aws_api, "_session", functools.cache(aws_api._session.__wrapped__))
    with ends_soon(MODEL_S):
        looks = [aws.owned("us-east-1", None, {"AWS_PROFILE": "role"} if asked == ROLE else {}) for _ in range(9)]
    for look in looks:
        assert (look.complete, look.asked) == (Answer.UNKNOWN, True)
        assert "did not answer in time" in look.message


def test_whoever_was_silent_with_credentials_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, over = [0.0], threading.Event()
    monkeypatch.setattr(aws_chain, "CHAIN_S", 0.01)
    chain = aws_chain.Chain(None, steady=lambda: now_s[0])
    assert chain.asked(lambda: "found") == "found"
    for act in (over.wait, lambda: "found"):
        with pytest.raises(aws_chain.ChainSilent):
            chain.asked(act)
    over.set()
    now_s[0] = aws_chain.QUIET_S
    assert chain.asked(lambda: "found") == "found"


def of_google(url: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gcp_api, "ANSWER_S", WITHIN_S)
    left = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c", "token_uri": url}
    made = google.oauth2.credentials.Credentials(None, refresh_token="c", token_uri=url, client_id="a", client_secret="b")
    patch.setattr(gcp_api, "_credentials", lambda _text: made)
    with pytest.raises(ProvisionError, match=r"credentials could not be used \(TransportError\)"):
        gcp_api.connect({"GOOGLE_CREDENTIALS": json.dumps(left)})


def test_an_act_without_a_limit_of_its_own_is_left_to_itself_after_a_time() -> None:
    """What it returns or raises in time comes back, and an end that comes later is heard by nobody."""
    over = threading.Event()
    assert exchange.within(SOON_S, lambda: "done") == "done"
    with pytest.raises(ZeroDivisionError):
        exchange.within(SOON_S, lambda: 1 / 0)
    with ends_soon(), pytest.raises(TimeoutError, match=r"not whole after 0\.01 s"):
        exchange.within(0.01, over.wait)
    over.set()


@pytest.mark.parametrize(
    "asked", [of_amazon, of_google, of_cloud, of_log, of_prices, of_caller, of_hub, of_store, of_store_s_machine]
)
def test_whoever_we_ask_holds_nobody_by_slow_headers(
    asked: Callable[[str, pytest.MonkeyPatch], None], slow_headers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ends_soon(MODEL_S):
        asked(slow_headers, monkeypatch)


def test_an_answer_in_time_is_read_as_ever(tmp_path: Path) -> None:
    at_once = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"
    with served(at_once, b"") as url, (tmp_path / "file").open("wb") as file:
        fetching.save(url, file, max_bytes=10, within_s=SOON_S)
    assert (tmp_path / "file").read_bytes() == b"whole"
