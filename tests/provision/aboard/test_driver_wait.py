"""Set-up waits for the driver that a first boot sees to: until it is there, comes to nothing, or takes too long."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from provision.aboard import driver_wait
from provision.aboard.driver_wait import LOOK_S, await_driver
from provision.errors import Declined, Reason, Scope
from provision.home.clocks import Clocks
from provision.seam import Box
from provision.ssh import Completed

BOX = Box(run_id="r1", provider="digitalocean", host="203.0.113.9", port=22, user="me", host_key="ssh-ed25519 A", folder="/box")


@dataclass
class Line:
    """Runs what it is sent here, where the machine's two files are; time passes only when somebody sleeps."""

    folder: Path
    later: Mapping[float, Mapping[str, str]] = field(default_factory=dict)  # seconds -> what the boot has written by then
    box: Box = BOX
    now_s: float = 0.0

    def script(self, script: str, variables: Mapping[str, str], *, timeout_s: float) -> Completed:
        for at_s, files in self.later.items():
            for name, text in files.items() if at_s <= self.now_s else ():
                (self.folder / name).write_text(text)
        done = subprocess.run(["sh"], input=script, env=dict(variables), capture_output=True, text=True, check=False)
        return Completed(rc=done.returncode, out=done.stdout, err=done.stderr)

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(driver_wait, "MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(driver_wait, "LOG", str(tmp_path / "log"))
    return Line(tmp_path)


def awaited(line: Line, *, wait_s: float = 60.0) -> list[str]:
    told: list[str] = []
    clocks = Clocks(wall=lambda: line.now_s, steady=lambda: line.now_s, sleep=line.sleep)
    await_driver(cast("Any", line), ends_at_s=wait_s, wait_s=wait_s, clocks=clocks, tell=told.append)
    return told


def test_one_that_is_there_is_waited_for_no_longer(line: Line) -> None:
    line.later = {0.0: {"mark": "ready 580\n", "log": "rentune: ready 580\n"}}
    assert awaited(line) == []
    assert line.now_s == 0.0


def test_what_the_boot_says_meanwhile_is_told_once(line: Line) -> None:
    """Its own words; hundreds of lines of the package manager are not."""
    first = "rentune: looking for a driver of branch 580 or newer\n"
    second = f"{first}rentune: fetching Ubuntu's list of packages\nGet:1 noble InRelease\n"
    line.later = {2 * LOOK_S: {"log": first}, 4 * LOOK_S: {"log": second}, 8 * LOOK_S: {"mark": "ready 580\n"}}
    assert awaited(line) == [
        "Its first boot sees to the NVIDIA driver: looking for a driver of branch 580 or newer",
        "Its first boot sees to the NVIDIA driver: fetching Ubuntu's list of packages",
    ]
    assert line.now_s == 8 * LOOK_S


@pytest.mark.fault("F11", tier="code")
def test_one_that_came_to_nothing_rules_the_offer_out(line: Line) -> None:
    """In one sentence, which names the machine and what its boot said."""
    line.later = {0.0: {"mark": "apt-get could not install 580-server-open: No room.\n"}}
    with pytest.raises(Declined) as caught:
        awaited(line)
    assert str(caught.value) == (
        "203.0.113.9 has no NVIDIA driver that the trainer's torch runs with, and none could be installed: "
        "apt-get could not install 580-server-open: No room."
    )
    assert (caught.value.reason, caught.value.scope) == (Reason.HOST, Scope.OFFER)


@pytest.mark.fault("F11", tier="code")
def test_one_that_takes_too_long_is_given_up_with_what_was_said_last(line: Line) -> None:
    """After its own deadline; a boot that never said a word too."""
    with pytest.raises(Declined, match=r"its first boot was not through with it after 1 min 00 s\.$"):
        awaited(line)
    assert line.now_s == 60.0
    line.later = {0.0: {"log": "rentune: fetching Ubuntu's list of packages\n"}}
    with pytest.raises(Declined, match=r"after 1 min 00 s; last it said: fetching Ubuntu's list of packages\.$"):
        awaited(line)
