"""Somebody else, of whom a ledger's line may tell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest


@pytest.fixture
def other_process() -> Iterator[psutil.Process]:
    """A process of somebody else that goes on until it is ended."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()
