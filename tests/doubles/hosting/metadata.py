"""A double of a machine's metadata server, as far as a spot machine's notice goes.

`python -m tests.doubles.hosting.metadata ADDRESS FOLDER` serves one. It speaks EC2's IMDSv2, with a token that is asked for
first, and Compute Engine's. The machine is taken back once a file `taken` lies in the folder. A request that the real ones
would refuse is refused. What it does not have is every other path.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

PORT: Final = 80  # where the real ones listen
NOTICE_S: Final = {"aws": 120, "gcp": 30}


class MetadataServer(ThreadingHTTPServer):
    """One machine's; `port` 0 = any that is free."""

    def __init__(self, address: str, folder: Path, *, port: int = PORT) -> None:
        super().__init__((address, port), _Handler)
        self.taken = folder / "taken"
        self.tokens: set[str] = set()

    @property
    def host(self) -> str:
        return f"{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_PUT(self) -> None:
        lives_s = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not lives_s.isdigit() or not 1 <= int(lives_s) <= 21600:
            return self._say(400)
        token = secrets.token_urlsafe()
        self.server.tokens.add(token)
        return self._say(200, token)

    def do_GET(self) -> None:
        taken = self.server.taken
        match self.path:
            case "/latest/meta-data/spot/instance-action":
                if self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens:
                    return self._say(401)
                return self._say(200, _action(taken)) if taken.exists() else self._say(404)
            case "/computeMetadata/v1/instance/preempted":
                if self.headers.get("Metadata-Flavor") != "Google":
                    return self._say(403)
                return self._say(200, "TRUE" if taken.exists() else "FALSE")
            case _:
                return self._say(404)

    def _say(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: nobody reads along."""


def _action(taken: Path) -> str:
    """Two minutes from when it was decided, as EC2 writes moments."""
    at = dt.datetime.fromtimestamp(taken.stat().st_mtime + NOTICE_S["aws"], dt.UTC)
    return json.dumps({"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")})


def main(address: str, folder: str) -> None:
    MetadataServer(address, Path(folder)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
