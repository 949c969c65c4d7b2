"""A local box per test module, and a rig per kind of provisioner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.direct.local import local_offer
from provision.provisioner import Box
from provision.ssh import Shell
from tests.provision.rigs import Rig, rig_of


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig for local boxes, shared by a module's tests."""
    with rig_of("local box in a PID namespace", tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.fixture(scope="module")
def box(rig: Rig) -> Box:
    """A local box that runs."""
    return rig.provisioner.up(local_offer(), rig.launch())


@pytest.fixture(scope="module")
def shared_shell(rig: Rig, box: Box) -> Iterator[Shell]:
    with rig.connect(box) as shell:
        yield shell


@pytest.fixture
def shell(shared_shell: Shell) -> Shell:
    """A connection to the box; tests that break one open their own."""
    return shared_shell


@pytest.fixture
def place(box: Box, tmp_path: Path) -> str:
    """A folder on the box that no other test uses."""
    folder = Path(box.folder) / tmp_path.name
    folder.mkdir()
    return str(folder)
