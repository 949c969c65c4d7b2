"""What travels: the trainer package and its environment to the box, inputs to the box, the adapter home."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from provision.provisioner import Box
from remote.contract import Outcome

if TYPE_CHECKING:
    from provision.ssh import Shell

STACK_MARK = "rentune-stack.sha256"  # in an interpreter's prefix: hex sha256 of the requirements it was built from


def stack_hash() -> str:
    """Hex sha256 of remote/requirements.txt: the name of the environment that the box must have."""
    raise NotImplementedError


def ship_package(shell: Shell, box: Box) -> str:
    """Send `remote/` as one archive, unpack it below the box's folder, and return its sha256. Raises TransferFailed."""
    raise NotImplementedError


def ensure_environment(
    shell: Shell, box: Box, *, python: str | None = None, progress: Callable[[str], None] | None = None
) -> str:
    """Path of an interpreter on the box whose stack has the lock's hash: `python`, box.python, a cached one, or built now.

    `progress` gets the build's lines. A build survives a lost connection and is never done twice at once.
    """
    raise NotImplementedError


def ship_inputs(shell: Shell, box: Box, files: Mapping[Path, str]) -> None:
    """Bring files and folders to their place on the box (relative: below the job folder); linked where files are shared."""
    raise NotImplementedError


def fetch_adapter(shell: Shell, box: Box, outcome: Outcome, folder: Path) -> None:
    """Bring the adapter home into `folder`; each file must have its sha256. Files that are there and right are not sent again.

    The adapter's files lie in `<job folder>/<output>/adapter` on the box. Raises TransferFailed.
    """
    raise NotImplementedError
