"""The trainer is started once, whatever becomes of the answers: what it runs from is not written over while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from provision.aboard import detached
from provision.errors import ConnectionFailed
from provision.ssh import Completed
from tests.doubles.virtual.shell import VirtualShell
from tests.faults.drawn.schedule import Stage
from tests.faults.drawn.test_schedule import CALM


class Line(VirtualShell):
    """It loses the first answer that a box gives to the start of its trainer, or the command before it arrives."""

    said: list[str]
    arrives: bool

    def run(self, command: str, *, timeout_s: float = 60.0, stdin: bytes | None = None) -> Completed:
        if "tar -xf" in command:
            self.said.append("package")
        return super().run(command, timeout_s=timeout_s, stdin=stdin)

    def script(self, script: str, variables: Mapping[str, str], *, timeout_s: float = 60.0) -> Completed:
        if script != detached.START or "start" in self.said:
            return super().script(script, variables, timeout_s=timeout_s)
        self.said.append("start")
        if self.arrives:
            super().script(script, variables, timeout_s=timeout_s)
        raise ConnectionFailed("The line was cut.")


@pytest.mark.parametrize(("arrives", "sent"), [(True, ["package", "start"]), (False, ["package", "start", "package"])])
def test_a_trainer_whose_start_was_not_answered_gets_no_other_package(
    arrives: bool, sent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It imports as it goes on; and what is secret would be written again for nobody to remove."""
    said: list[str] = []
    monkeypatch.setattr(Line, "said", said, raising=False)
    monkeypatch.setattr(Line, "arrives", arrives, raising=False)
    monkeypatch.setattr("tests.faults.drawn.schedule.VirtualShell", Line)
    stage = Stage.set(CALM, tmp_path)
    stage.send(CALM.controllers[0])
    assert said == sent
    assert stage.trained
