"""One line on where and with what a figure was measured, which opens every result file, and the folder of those files."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).with_name("results")  # where each benchmark writes what it found
PACKAGES = ("rentune", "click", "msgspec", "torch", "transformers", "peft", "paramiko")


def describe_machine() -> str:
    """Date, processor, cores and versions, in words."""
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - one read
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    date = dt.datetime.now(dt.UTC).date().isoformat()
    machine = f"{os.cpu_count()} {platform.machine()} cores ({model})"
    return f"Measured {date} on a virtual machine with {machine}, Linux; {', '.join(versions)}."
