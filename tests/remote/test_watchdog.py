"""A step that hangs is cut, and only one that does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import remote
from remote.contract import EVENTS_FILE, EXIT_CODES, OUTCOME_FILE, EndReason, Outcome, decode
from remote.watchdog import FACTOR, Watchdog
from tests.remote.conftest import MakeJob

TICK_S = 0.005
BESIDE = Path(remote.__file__).parents[1]  # the folder that holds the package


class Cut:
    """Hears of the one cut."""

    def __init__(self) -> None:
        self.heard = threading.Event()
        self.said: list[tuple[float, float]] = []

    def __call__(self, silent_s: float, longest_s: float) -> None:
        self.said.append((silent_s, longest_s))
        self.heard.set()


def test_silence_beyond_the_limit_is_cut_once() -> None:
    cut = Cut()
    with Watchdog(cut, least_s=0.05, tick_s=TICK_S).awake() as watchdog, watchdog.watching():
        assert cut.heard.wait(10)
        time.sleep(0.1)
    ((silent_s, longest_s),) = cut.said
    assert silent_s > 0.05
    assert longest_s == 0


def test_work_that_beats_or_is_not_watched_is_left_alone() -> None:
    cut = Cut()
    with Watchdog(cut, least_s=0.5, tick_s=TICK_S).awake() as watchdog:
        time.sleep(0.6)
        with watchdog.watching():
            for _ in range(12):
                time.sleep(0.05)
                watchdog.beat()
    assert cut.said == []


@pytest.mark.parametrize(("planned_step_s", "limit_s"), [(None, 300.0), (1.0, 300.0), (60.0, 1_200.0)])
def test_a_step_may_take_many_times_what_was_planned(planned_step_s: float | None, limit_s: float) -> None:
    assert Watchdog(Cut(), planned_step_s=planned_step_s).limit_s == limit_s


def test_a_step_may_take_many_times_as_long_as_the_slowest_before_it() -> None:
    with Watchdog(Cut(), least_s=0.1, tick_s=TICK_S).awake() as watchdog:
        with watchdog.watching():
            time.sleep(0.08)
        assert FACTOR * 0.02 < watchdog.limit_s <= FACTOR * 0.081


# A trainer whose third step waits for what never comes.
HANGS = """
import sys, time
from remote import watchdog
from remote.training import fitting
from remote.__main__ import main

real, made = fitting.step, []

class Quick(watchdog.Watchdog):
    def __init__(self, hung, **more):
        super().__init__(hung, **{**more, "planned_step_s": None, "least_s": 2.0, "tick_s": 0.05})

def step(*asked, **how):
    made.append(1)
    if len(made) == 5:  # two of the probe, two of the training
        time.sleep(1_000)
    return real(*asked, **how)

import remote.__main__ as door
door.Watchdog, fitting.step = Quick, step
sys.exit(main([sys.argv[1]]))
"""


@pytest.mark.torch
def test_a_trainer_that_hangs_ends_with_a_word_of_where_and_a_checkpoint(make_job: MakeJob) -> None:
    job = make_job()
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(job)],
        cwd=BESIDE,
        env=os.environ | {"PYTHONPATH": str(BESIDE)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    assert done.returncode == EXIT_CODES[EndReason.STALLED]
    assert outcome.reason is EndReason.STALLED
    assert "during train nothing went on for" in outcome.message
    assert "in step" in done.stderr
    assert b'"kind":"ended"' in job.with_name(EVENTS_FILE).read_bytes()


def test_a_process_that_was_stopped_for_a_while_has_not_hung() -> None:
    """By the clock it was silent for far longer than the limit."""
    asleep = (
        "import time; from remote.watchdog import Watchdog\n"
        "with Watchdog(lambda *_: print('cut', flush=True), least_s=1.0, tick_s=0.01).awake() as dog, dog.watching():\n"
        "    print('on', flush=True); time.sleep(0.5)\n"
        "    time.sleep(0.1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", asleep], cwd=BESIDE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == ""
