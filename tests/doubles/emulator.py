"""moto's server as the cloud behind a plugin double, on loopback, with every validation it offers switched on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

STRICT: Final = {
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "1",
    "MOTO_ENABLE_AMI_VALIDATION": "1",
    "MOTO_ENABLE_KEYPAIR_VALIDATION": "1",
}
START_S: Final = 60.0


@dataclass(frozen=True)
class Emulator:
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 and the double need to reach it, and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-account",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def reset(self) -> None:
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            assert answer.status == 200


@contextmanager
def started() -> Iterator[Emulator]:
    """A server of its own on a free port, ended with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(
        command, env={**os.environ, **STRICT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        emulator = Emulator(f"http://127.0.0.1:{port}")
        _await(emulator)
        yield emulator
    finally:
        server.kill()
        server.wait()


def _await(emulator: Emulator) -> None:
    ends_at_s = time.monotonic() + START_S
    while True:
        try:
            return emulator.reset()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > ends_at_s:
                raise
            time.sleep(0.05)
