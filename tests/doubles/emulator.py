"""moto's server as the cloud behind a plugin double, on loopback, with every validation it offers switched on.

With `machines` a real one stands behind each instance (tests/doubles/machines.py); that needs root on Linux.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).parents[2]
STRICT: Final = {
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "1",
    "MOTO_ENABLE_AMI_VALIDATION": "1",
    "MOTO_ENABLE_KEYPAIR_VALIDATION": "1",
}
START_S: Final = 60.0
END_S: Final = 20.0


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
def started(*, machines: bool = False) -> Iterator[Emulator]:
    """A server of its own on a free port, ended with the block, or with this process if that ends first.

    Raises RuntimeError with its last words when it ends before it has answered.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as errors:
        server = subprocess.Popen(
            _hosted(port) if machines else _plain(port),
            cwd=ROOT,
            env={**os.environ, **STRICT},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            emulator = Emulator(f"http://127.0.0.1:{port}")
            _await(emulator, server, errors)
            yield emulator
        finally:
            _end(server, orderly=machines)
            errors.seek(0)
            sys.stderr.write(errors.read().decode(errors="replace"))


def _plain(port: int) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def _hosted(port: int) -> list[str]:
    """Namespaces of mounts and processes, so that the kernel ends the machines when their host ends, however it does."""
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*namespaces, sys.executable, "-W", "ignore", "-m", "tests.doubles.hosted", str(port)]


def _end(server: subprocess.Popen[bytes], *, orderly: bool) -> None:
    """A host of machines takes its control groups away once its standard input ends."""
    assert server.stdin
    server.stdin.close()
    if orderly:
        with suppress(subprocess.TimeoutExpired):
            server.wait(END_S)
    server.kill()
    server.wait()


def _await(emulator: Emulator, server: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    ends_at_s = time.monotonic() + START_S
    while True:
        try:
            return emulator.reset()
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() > ends_at_s:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(f"the emulated cloud did not start: {said[-1] if said else 'it said nothing'}") from None
            time.sleep(0.05)
