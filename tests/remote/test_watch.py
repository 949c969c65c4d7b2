"""When to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from remote.contract import EndReason
from remote.ends import Ended
from remote.watch import SAVES_IN_RESERVE, Watch


def test_without_a_deadline_there_is_always_time() -> None:
    Watch().check(needed_s=1e9)


def test_the_next_piece_of_work_must_end_before_the_reserve_begins() -> None:
    watch = Watch(deadline_at_s=1000.0, reserve_s=50.0, clock=lambda: 900.0)
    watch.check(needed_s=49.0)
    with pytest.raises(Ended) as caught:
        watch.check(needed_s=51.0)
    assert caught.value.reason == EndReason.DEADLINE


def test_a_slow_disk_makes_the_reserve_longer() -> None:
    watch = Watch(deadline_at_s=1000.0, reserve_s=50.0, clock=lambda: 900.0)
    watch.saved_in(10.0)
    assert watch.left_s() == 50.0 - 10.0 * SAVES_IN_RESERVE


def test_being_asked_stops_at_the_next_look() -> None:
    watch = Watch()
    watch.ask()
    with pytest.raises(Ended) as caught:
        watch.check()
    assert caught.value.reason == EndReason.INTERRUPTED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_and_a_hang_up_does_not(number: signal.Signals) -> None:
    code = (
        "import os, signal; from remote.watch import Watch; watch = Watch(); watch.listen()\n"
        f"os.kill(os.getpid(), signal.SIGHUP); watch.check(); os.kill(os.getpid(), {int(number)}); watch.check()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert "stopped on request" in ran.stderr
