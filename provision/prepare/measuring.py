"""One real step on this machine's GPU: the trainer's own, in a process of its own. Nothing is rented or downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from shutil import which
from typing import Any, Final

from provision.errors import MissingPart, Refused, TrainingFailed
from provision.redact import without_secrets
from remote.contract import CAPABILITIES, Strategy, Task, decode, encode
from remote.measured import Device, StepAsked, StepMeasured

NEEDED: Final = ("torch", "transformers", "peft")
LIMIT_S: Final = 900  # assumed: random weights of the largest model that a card holds are there in a minute


def measure_here(config: dict[str, Any], strategy: Strategy, task: Task) -> StepMeasured:
    """What a step takes on this machine's GPU. Raises Refused without one, or for what the trainer can't do; MissingPart."""
    if missing := CAPABILITIES.missing(strategy, task):
        raise Refused(f"--measure runs the trainer's own step, which has no {missing[0]} yet.", hint="leave --measure out")
    if not _has_gpu():
        raise Refused("This machine has no NVIDIA GPU to measure on.", hint="leave --measure out, the estimate needs none")
    if absent := [name for name in NEEDED if find_spec(name) is None]:
        raise MissingPart(f"Measuring needs {', '.join(absent)}.", hint="make setup-box in the checkout")
    return run_step(config, strategy, "cuda")


def run_step(config: dict[str, Any], strategy: Strategy, device: Device) -> StepMeasured:
    """The step in a process of its own, since a CUDA context stays as long as its process. Raises TrainingFailed."""
    asked = encode(StepAsked(config=config, strategy=strategy, device=device))
    try:
        command, own = [sys.executable, "-m", "remote.measure"], without_secrets(os.environ)
        done = subprocess.run(command, env=own, input=asked, capture_output=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise TrainingFailed(f"The step did not end within {LIMIT_S // 60} minutes.", hint="a smaller model") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise TrainingFailed(f"The step failed: {said[-1] if said else 'without a word'}.", hint="leave --measure out")
    return decode(done.stdout.splitlines()[-1], StepMeasured)


def _has_gpu() -> bool:
    """Whether the driver names a card."""
    if which("nvidia-smi") is None:
        return False
    command, own = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], without_secrets(os.environ)
    asked = subprocess.run(command, env=own, capture_output=True, check=False)
    return asked.returncode == 0 and bool(asked.stdout.strip())
