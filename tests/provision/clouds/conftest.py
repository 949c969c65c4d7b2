"""An emulated cloud for a module's tests: the one that the module names as its `CLOUD`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.emulator import Emulator, started


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with started(request.module.CLOUD) as emulator:
        yield emulator


@pytest.fixture
def reached(running: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """Emptied; whoever asks it finds it where the engine would have told them, in their environment."""
    running.reset()
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return running
