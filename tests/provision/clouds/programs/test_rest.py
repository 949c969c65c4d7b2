"""The REST client against a small server: what is no answer is never taken for one, and a token goes nowhere else."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import pytest

from provision.clouds.programs.rest import ANSWER_BYTES, ANSWER_S, LOOKS, PAGES, PAUSES_S, PIECE_BYTES, Api
from provision.errors import ProvisionError

TOKEN = "a-secret-of-the-account"


class Server(HTTPServer):
    """Answers each request with the next of what it was given, and the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.heard: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """For every method the same."""

    server: Server

    def answer(self) -> None:
        self.server.heard.append(f"{self.command} {self.path} {self.headers['Authorization']}")
        answers = self.server.answers
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server asks for

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def api(server: Server, slept: list[float]) -> Api:
    return Api(
        cloud="Cloudy",
        url=server.url,
        token=TOKEN,
        next_page=lambda answer: bool(answer["more"]),
        reason=lambda answer: str(answer["error"]["code"]),
        sleep=slept.append,
    )


def test_pages_are_read_until_there_is_none(api: Api, server: Server) -> None:
    server.answers = [(200, {}, b'{"things": [{"id": 1}], "more": true}'), (200, {}, b'{"things": [{"id": 2}], "more": false}')]
    assert [row["id"] for row in api.rows("/things", "things", tag="ours")] == [1, 2]
    assert server.heard == [f"GET /things?tag=ours&page={page}&per_page=50 Bearer {TOKEN}" for page in (1, 2)]


def page(*ids: int, total: int, more: bool) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"things": [{"id": id} for id in ids], "total": total, "more": more}).encode()


def counted(api: Api) -> Api:
    """One that tells on each page how many there are."""
    return msgspec.structs.replace(api, total=lambda answer: int(answer["total"]))


def test_a_list_from_which_something_went_while_it_was_read_is_read_anew(api: Api, server: Server) -> None:
    """1 was deleted between two pages: 3 moved from the second to the first, and stood on neither."""
    server.answers = [
        page(1, 2, total=4, more=True),
        page(4, total=3, more=False),
        page(2, 3, total=3, more=True),
        page(4, total=3, more=False),
    ]
    assert [row["id"] for row in counted(api).rows("/things", "things")] == [2, 3, 4]


def test_a_list_that_never_holds_still_is_not_a_whole_one(api: Api, server: Server) -> None:
    """What was seen of it is there all the same."""
    server.answers = [page(1, total=9 - look, more=not look % 2) for look in range(2 * LOOKS)]
    seen: list[int] = []
    with pytest.raises(ProvisionError, match="Cloudy's list /things changed each time that it was read"):
        seen.extend(row["id"] for row in counted(api).rows("/things", "things"))
    assert seen == [1, 1]


def test_what_was_read_before_a_page_failed_is_there(api: Api, server: Server) -> None:
    """A teardown ends it, though it can't know whether that is all."""
    server.answers = [page(1, 2, total=3, more=True), (400, {}, b'{"error": {"code": "no"}}')]
    seen: list[int] = []
    with pytest.raises(ProvisionError, match="declined GET /things: no"):
        seen.extend(row["id"] for row in api.rows("/things", "things"))
    assert seen == [1, 2]


BODIES = {
    "a page": b"<html>Sign in to the network</html>",
    "a list": b"[]",
    "an object": b"{}",
    "nothing": b"",
    "no list": b'{"things": {}}',
    "nested without end": b"[" * 5000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_is_no_list_is_not_an_empty_one(api: Api, server: Server, body: bytes) -> None:
    """A page of a proxy, for one: nothing may seem to be gone because it could not be read."""
    server.answers = [(200, {}, body)]
    with pytest.raises(ProvisionError, match="answered GET /things with no things"):
        list(api.rows("/things", "things"))


def test_a_list_without_an_end_is_no_list(api: Api, server: Server) -> None:
    """Each page names a next one: a teardown that reads on would never come to the box."""
    server.answers = [(200, {}, b'{"things": [], "more": true}')]
    with pytest.raises(ProvisionError, match="Cloudy's list /things has no end"):
        list(api.rows("/things", "things"))
    assert len(server.heard) == PAGES


def test_an_answer_of_any_size_is_no_answer(api: Api, server: Server) -> None:
    server.answers = [(200, {}, b" " * (ANSWER_BYTES + 1))]
    with pytest.raises(ProvisionError, match="Cloudy did not answer GET /things: an answer of more than 32 MiB"):
        api.ask("GET", "/things")


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_only_drips_is_no_answer(api: Api, server: Server, status: int) -> None:
    """Each byte comes in time, the whole never does."""
    ticks = itertools.count(step=ANSWER_S)
    impatient = msgspec.structs.replace(api, steady=lambda: next(ticks))
    server.answers = [(status, {}, b"{" * 3 * PIECE_BYTES)]
    with pytest.raises(ProvisionError, match=f"an answer that was not whole after {ANSWER_S + api.timeout_s:g} s"):
        impatient.ask("POST", "/things")


def test_a_token_follows_no_redirect(api: Api, server: Server) -> None:
    """Not even to the same host: whoever sends it on is not who was asked."""
    server.answers = [(302, {"Location": f"{server.url}/elsewhere"}, b"")]
    with pytest.raises(ProvisionError, match="Cloudy declined GET /things: HTTP status 302"):
        api.ask("GET", "/things")
    assert len(server.heard) == 1


def test_an_answer_that_breaks_off_is_no_answer(api: Api, server: Server) -> None:
    server.answers = [(200, {"Content-Length": "999"}, b'{"things": [')]
    with pytest.raises(ProvisionError, match="did not answer GET /things"):
        api.ask("GET", "/things")


def test_what_may_pass_is_asked_again_with_pauses(api: Api, server: Server, slept: list[float]) -> None:
    server.answers = [(429, {}, b""), (503, {}, b""), (200, {}, b'{"id": 1}')]
    assert api.ask("GET", "/things") == {"id": 1}
    assert slept == [*PAUSES_S[:2]]


def test_what_does_not_pass_is_told_in_the_clouds_words(api: Api, server: Server, slept: list[float]) -> None:
    server.answers = [(500, {}, b'{"error": {"code": "unwell"}}')]
    with pytest.raises(ProvisionError, match="Cloudy declined to delete /things/1: unwell"):
        api.delete("/things/1")
    assert slept == [*PAUSES_S]


def test_an_order_is_sent_once(api: Api, server: Server) -> None:
    """A second could buy a second box."""
    server.answers = [(503, {}, b"")]
    with pytest.raises(ProvisionError, match="HTTP status 503"):
        api.ask("POST", "/things", {"name": "box"})
    assert len(server.heard) == 1


def test_what_is_gone_is_deleted_and_found_to_be_none(api: Api, server: Server) -> None:
    server.answers = [(404, {}, b'{"error": {"code": "not_found"}}')]
    api.delete("/things/1")
    assert api.find("/things/1") is None


def test_nothing_shows_the_token(api: Api) -> None:
    assert TOKEN not in repr(api)
