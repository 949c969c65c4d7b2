"""A double of the bucket that gpuhunt publishes in: its layout on loopback, files in its format, and faults.

What gpuhunt 0.1.34 itself wrote lies in tests/golden/gpuhunt. Its package can't be installed beside these tests: it brings a
package "tests" of its own.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

GOLDEN = Path(__file__).parents[2] / "golden" / "gpuhunt"
FIELDS = (
    "instance_name", "location", "price", "cpu", "memory", "gpu_count", "gpu_name", "gpu_memory", "spot", "disk_size",
    "gpu_vendor", "flags", "cpu_arch", "provider_data",
)  # fmt: skip
VERSION = "20261120-7"
Row = dict[str, object]
WAIT_S = 30.0  # of an answer that doesn't come; the test is over before


def row(name: str, location: str, price: float, gpu: str, memory_gb: float, **other: object) -> Row:
    """A machine with one NVIDIA GPU, unless told otherwise."""
    told: Row = {"instance_name": name, "location": location, "price": price, "gpu_name": gpu, "gpu_memory": memory_gb}
    usual: Row = {"cpu": 8, "memory": 32.0, "gpu_count": 1, "spot": False, "disk_size": "", "gpu_vendor": "nvidia"}
    return usual | {"flags": "", "cpu_arch": "x86", "provider_data": "{}"} | told | other


@dataclass
class Bucket:
    """What lies there, and what goes wrong. A fault is a status, or changes the bytes of an archive."""

    version: str = VERSION
    archives: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)  # by gpuhunt's name of a provider
    stalled: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    over: Event = field(default_factory=Event)
    url: str = ""

    def publish(self, provider: str, rows: Iterable[Row]) -> None:
        """A file of these rows."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
        self.publish_text(provider, text.getvalue())

    def publish_text(self, provider: str, text: str, *, name: str | None = None) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name or f"{provider}.csv", text)
        self.archives[provider] = packed.getvalue()

    def damage(self, provider: str, change: Callable[[bytes], bytes]) -> None:
        self.archives[provider] = change(self.archives[provider])


@contextmanager
def published() -> Iterator[Bucket]:
    """A bucket that answers."""
    bucket = Bucket()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Desk", (_Desk,), {"bucket": bucket})) as server:
        bucket.url = f"http://127.0.0.1:{server.server_port}/v3"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield bucket
        finally:
            bucket.over.set()
            server.shutdown()


class _Desk(BaseHTTPRequestHandler):
    bucket: Bucket

    def do_GET(self) -> None:
        bucket = self.bucket
        bucket.asked.append(self.path)
        _, _, provider, *rest = self.path.split("/")
        if provider in bucket.stalled:
            bucket.over.wait(WAIT_S)
        if (status := bucket.statuses.get(provider, 200)) != 200 or provider not in bucket.archives:
            self.send_response(status if status != 200 else 404)
            self.send_header("Retry-After", "90")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = bucket.version.encode() if rest == ["version"] else bucket.archives[provider]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Nothing is printed."""
