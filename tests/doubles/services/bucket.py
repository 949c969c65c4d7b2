"""Object storage on loopback: moto's S3, behind a front of ours that can go away and can forget the conditions of a write.

A double in three ways. S3 keeps a condition and its write together; moto looks first and writes later, so here one request is
answered at a time. Signed addresses moto lets in whatever they say, so the front looks at them as S3 documents it: at their
signature, which is of one name and one method, and at their end. And who signs nothing at all is shut out by the front as well.
"""

from __future__ import annotations

import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from werkzeug.serving import WSGIRequestHandler, make_server

from tests.doubles.services.signed import refused

BUCKET: Final = "rentune-test"
SECRET: Final = "testing-only"
CONDITIONS: Final = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class Storage:
    """A server, its one bucket, and a hand on it."""

    url: str  # of the server
    away: bool = False  # it answers nobody
    hangs: bool = False  # it takes every question, and answers none
    forgetful: bool = False  # it passes conditions over in silence, as some that speak S3 do
    answers_to_lose: int = 0  # so many writes are done, and nobody is told
    most_bytes: int | None = None  # no answer with more comes to its end; None = each does
    gets_left: int | None = None  # so many files, or pieces of them, are given out yet; None = all
    missing: str | None = None  # a name that is listed, and is not there
    ahead_s: float = 0.0  # of this machine's clock
    requests: list[str] = field(default_factory=list)  # method and path of each
    given_bytes: int = 0  # of files, in all

    def be_well(self) -> None:
        """As at the start: there, and true to its conditions."""
        self.away = self.hangs = self.forgetful = False
        self.answers_to_lose = 0
        self.most_bytes = self.gets_left = self.missing = None
        self.ahead_s = 0.0

    @property
    def place(self) -> str:
        return f"s3://{BUCKET}/team/runs"

    @property
    def variables(self) -> dict[str, str]:
        """What leads obstore there, as a person would set it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


class _Front:
    def __init__(self, moto: Application, storage: Storage) -> None:
        self._moto, self._storage = moto, storage
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self._storage.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        while self._storage.hangs:
            time.sleep(0.05)
        if self._storage.away:
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        if why := refused(environ, secret=SECRET, now_s=time.time() + self._storage.ahead_s):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [why.encode()]
        if self._storage.forgetful:
            environ = {name: value for name, value in environ.items() if name not in CONDITIONS}
        if self._storage.missing is not None and environ["PATH_INFO"].endswith(self._storage.missing):
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        with self._one_at_a_time:
            answer = list(self._moto(environ, start_response if not self._loses(environ) else _unheard))
        if self._loses(environ):
            self._storage.answers_to_lose -= 1
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        return self._as_far_as_it_comes(environ, answer)

    def _as_far_as_it_comes(self, environ: dict[str, Any], answer: list[bytes]) -> Iterable[bytes]:
        """A line that is cut in the midst of it: fewer bytes come than were announced."""
        if environ["REQUEST_METHOD"] != "GET" or environ["QUERY_STRING"]:
            return answer
        whole, most_bytes = b"".join(answer), self._storage.most_bytes
        self._storage.given_bytes += len(whole)
        if self._storage.gets_left is not None:
            self._storage.gets_left -= 1
            most_bytes = most_bytes if self._storage.gets_left >= 0 else 0
        return [whole] if most_bytes is None or len(whole) <= most_bytes else [whole[:most_bytes]]

    def _loses(self, environ: dict[str, Any]) -> bool:
        return self._storage.answers_to_lose > 0 and environ["REQUEST_METHOD"] == "PUT"


def _unheard(*_: Any) -> None:
    """Where an answer goes that is lost."""


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Nobody reads it."""


@contextmanager
def storage() -> Iterator[Storage]:
    """A server of its own with an empty bucket, ended with the block."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    made = Storage("")
    front = _Front(DomainDispatcherApplication(create_backend_app), made)
    server = make_server("127.0.0.1", 0, front, threaded=True, request_handler=_Silent)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, name="storage", daemon=True)
    thread.start()
    try:
        names = {"aws_access_key_id": "testing", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        urllib.request.urlopen(urllib.request.Request(f"{made.url}/moto-api/reset", method="POST")).close()
        boto3.client("s3", endpoint_url=made.url, **names).create_bucket(Bucket=BUCKET)
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":  # a process of its own, which a test can freeze: says where, and ends with its standard input
    with storage() as here:
        print(here.url, flush=True)  # noqa: T201
        sys.stdin.read()
