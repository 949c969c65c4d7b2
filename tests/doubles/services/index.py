"""A double of a package index: one tiny wheel, served on loopback as PEP 503 has it, and altered when a test says so."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

NAME = "rentune-tiny"
WHEEL = "rentune_tiny-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: rentune-tiny\nVersion: 1.0\n"
TAGS = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Index:
    """The folder that is served."""

    def __init__(self, folder: Path) -> None:
        self._page = folder / "simple" / NAME
        self._page.mkdir(parents=True)
        (self._page / "index.html").write_text(f'<!DOCTYPE html><a href="{WHEEL}">{WHEEL}</a>')

    def offer(self, code: str) -> str:
        """Let the package be a module of this text; returns the wheel's hex sha256."""
        info = "rentune_tiny-1.0.dist-info"
        files = {"rentune_tiny.py": code, f"{info}/METADATA": METADATA, f"{info}/WHEEL": TAGS}
        with zipfile.ZipFile(self._page / WHEEL, "w") as wheel:
            for name, text in files.items():
                wheel.writestr(zipfile.ZipInfo(name), text)  # of no day: the same text has the same hash
            wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "".join(map(_recorded, files, files.values())))
        return hashlib.sha256((self._page / WHEEL).read_bytes()).hexdigest()


def _recorded(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    return f"{name},sha256={digest},{len(text)}\n"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_: Any) -> None:
        return


@contextmanager
def served(folder: Path) -> Iterator[tuple[Index, str]]:
    """The index and its address."""
    index = Index(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield index, f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
