"""A double of where Pulumi's releases lie: an archive and the list of its makers' hashes, served on loopback."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from provision.clouds.engine.release import SUMS
from provision.clouds.engine.where import VERSION

ARCHIVE = f"pulumi-v{VERSION}-linux-x64.tar.gz"


class Releases:
    """The folder that is served, and where."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    def publish(self, files: Mapping[str, str | tarfile.TarInfo], *, listed: str | None = None) -> None:
        """These programs, or whatever a member says that it is, in an archive. `listed`: the hash on the list, else its own."""
        with tarfile.open(self.folder / ARCHIVE, "w:gz") as archive:
            for name, content in files.items():
                if isinstance(content, tarfile.TarInfo):
                    archive.addfile(content)
                else:
                    member = tarfile.TarInfo(name)
                    member.size = len(content.encode())
                    archive.addfile(member, io.BytesIO(content.encode()))
        own = hashlib.sha256((self.folder / ARCHIVE).read_bytes()).hexdigest()
        (self.folder / SUMS).write_text(f"{'0' * 64}  pulumi-v{VERSION}-darwin-arm64.tar.gz\n{listed or own}  {ARCHIVE}\n")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_: Any) -> None:
        return


@contextmanager
def served(folder: Path) -> Iterator[Releases]:
    """An empty place for releases."""
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Releases(folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
