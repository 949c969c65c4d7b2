"""What files, folders and growing files need of the connection to a box. Shell is one, and offers them in turn."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from provision.seam import Box
from provision.ssh.channel import Completed

if TYPE_CHECKING:
    import paramiko


class Line(Protocol):
    """As Shell has them."""

    @property
    def box(self) -> Box: ...

    @property
    def answer_s(self) -> float: ...

    def session(self) -> AbstractContextManager[paramiko.Channel]: ...

    def run(self, command: str, *, timeout_s: float = 60.0, stdin: bytes | None = None) -> Completed: ...

    def hang_up(self) -> None: ...
