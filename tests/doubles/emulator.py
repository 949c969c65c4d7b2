"""The cloud behind a plugin double, on loopback: moto's server for AWS, with every validation that it offers switched on;
our own fake cloud for the others.

With `machines` a real one stands behind each instance (tests/doubles/hosting/machines.py); that needs root on Linux.
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

from tests.doubles.clouds import CLOUDS, Row
from tests.doubles.world.control import Control

ROOT: Final = Path(__file__).parents[2]
STRICT: Final = {
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "1",
    "MOTO_ENABLE_AMI_VALIDATION": "1",
    "MOTO_ENABLE_KEYPAIR_VALIDATION": "1",
}
# Of mounts and processes, so that the kernel ends the machines when their host ends, however it does.
NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
START_S: Final = 60.0
END_S: Final = 20.0


@dataclass(frozen=True)
class Emulator:
    url: str
    cloud: str = "aws"

    @property
    def row(self) -> Row:
        return CLOUDS[self.cloud]

    @property
    def environment(self) -> dict[str, str]:
        """What SDKs and the double need to reach it, and nothing else."""
        return self.row.variables(self.url)

    @property
    def control(self) -> Control:
        """A hand on our own fake cloud; moto has none."""
        return Control(self.url)

    def reset(self) -> None:
        request = urllib.request.Request(f"{self.url}{self.row.reset}", method="POST")
        with urllib.request.urlopen(request, timeout=START_S) as answer:
            assert answer.status == 200


@contextmanager
def started(cloud: str = "aws", *, machines: bool = False) -> Iterator[Emulator]:
    """A server of its own on a free port, ended with the block, or with this process if that ends first.

    Raises RuntimeError with its last words when it ends before it has answered.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as errors:
        server = subprocess.Popen(
            _command(CLOUDS[cloud], port, machines=machines),
            cwd=ROOT,
            env={**os.environ, **STRICT},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            emulator = Emulator(f"http://127.0.0.1:{port}", cloud)
            _await(emulator, server, errors)
            yield emulator
        finally:
            _end(server, orderly=machines)
            errors.seek(0)
            sys.stderr.write(errors.read().decode(errors="replace"))


def _command(row: Row, port: int, *, machines: bool) -> list[str]:
    python = [sys.executable, "-W", "ignore", "-m"]
    return [*NAMESPACES, *python, *row.serve_machines(port)] if machines else [*python, *row.serve(port)]


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
