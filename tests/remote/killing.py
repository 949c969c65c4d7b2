"""A trainer that is killed again and again at moments that chance chooses, and started again each time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from remote.checkpoints.checkpoint import MAKING
from remote.contract import (
    CHECKPOINT_DIR,
    EVENTS_FILE,
    OUTCOME_FILE,
    Evaluation,
    Loop,
    Outcome,
    decode,
    parse_event,
)
from tests.remote.conftest import LOOP, STRATEGY, lay_out, questions, spec_of

# Saved every other step: in seconds a fast machine would save a few times in all.
LONG: Final[Loop] = msgspec.structs.replace(LOOP, max_steps=160, evaluations=7, checkpoint_every="2 steps")
EVENTS: Final = 40  # at most so many events of one start are waited for; a run of `LONG` tells some 250
JITTER_S: Final = 0.03  # beside the event that chance has chosen
LOOK_S: Final = 0.0005  # a save of this small job takes some milliseconds


class Kill(NamedTuple):
    """Where one found the trainer."""

    phase: str
    step: int  # the last that it had told of
    in_save: bool  # a checkpoint was half written


def job_to_kill(folder: Path, *, loop: Loop = LONG) -> Path:
    """The smallest real job, with dropout, so that random numbers matter; the path of its job.json."""
    strategy = msgspec.structs.replace(STRATEGY, dropout=0.1)
    return lay_out(folder, spec_of(folder.name, strategy, loop), questions(100))


def killed(job: Path, chance: random.Random, *, in_save: bool) -> Kill | None:
    """Start it, and SIGKILL it at some event or, `in_save`, within some save; None where it came to its end before that."""
    seen, wanted = _num_events(job), chance.randint(1, EVENTS)
    with subprocess.Popen([sys.executable, "-m", "remote", str(job)], stderr=subprocess.DEVNULL) as process:
        for _ in _until_ended(process):
            if _num_events(job) - seen < wanted or (in_save and not _stopped_in_save(process, job)):
                continue
            time.sleep(0 if in_save else chance.uniform(0, JITTER_S))
            process.send_signal(signal.SIGKILL)
            break
        if process.wait() != -signal.SIGKILL:
            return None
    events = [event for line in job.with_name(EVENTS_FILE).read_bytes().splitlines() if (event := parse_event(line))]
    steps = [event.data["step"] for event in events if event.kind == "step"]
    return Kill(events[-1].phase, max(steps, default=0), _saves(job))


def finished(job: Path) -> tuple[str, Evaluation | None]:
    """Start it and let it come to its end: the hash of its weights, and how they were judged."""
    subprocess.run([sys.executable, "-m", "remote", str(job)], stderr=subprocess.DEVNULL, check=True)
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    return next(file.sha256 for file in outcome.adapter if file.path == "adapter_model.safetensors"), outcome.after


def _saves(job: Path) -> bool:
    return (job.parent / CHECKPOINT_DIR / MAKING).exists()


def _stopped_in_save(process: subprocess.Popen[bytes], job: Path) -> bool:
    """Held within a save, to be killed there: on a fast machine a save that was seen is over before a signal arrives."""
    if not _saves(job):
        return False
    process.send_signal(signal.SIGSTOP)
    stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    if stopped is not None and stopped.si_code == os.CLD_STOPPED and _saves(job):
        return True
    process.send_signal(signal.SIGCONT)
    return False


def _until_ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    while process.poll() is None:
        time.sleep(LOOK_S)
        yield


def _num_events(job: Path) -> int:
    events = job.with_name(EVENTS_FILE)
    return events.read_bytes().count(b"\n") if events.exists() else 0
