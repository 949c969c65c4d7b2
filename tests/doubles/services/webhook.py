"""Who is told of a run: a webhook's server on loopback, and a real command beside it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Heard:
    """A webhook's server: what was posted to it, and how it answers."""

    def __init__(self, status: int = 200, *, silent: bool = False, slow_kind: str | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.types: set[str | None] = set()
        self.status = status
        self.silent = silent
        self.slow_kind = slow_kind
        self.released = threading.Event()
        self.url = ""

    def kinds(self) -> list[str]:
        return [body["kind"] for body in self.bodies]


@contextmanager
def webhook(heard: Heard) -> Iterator[Heard]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if heard.silent or json.loads(body)["kind"] == heard.slow_kind:
                heard.released.wait()
            heard.types.add(self.headers["Content-Type"])
            heard.bodies.append(json.loads(body))
            self.send_response(heard.status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard.url = f"http://127.0.0.1:{server.server_port}/services/T0/B0/a-key-in-the-path"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield heard
    finally:
        heard.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Letters:
    """A command that keeps each alert it is handed as a file of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.command = f"sh -c 'cat > {folder}/$$'"

    def bodies(self) -> list[dict[str, Any]]:
        """In the order in which things happened."""
        read = [json.loads(letter.read_bytes()) for letter in self._folder.iterdir()]
        return sorted(read, key=lambda body: float(body["at_s"]))
