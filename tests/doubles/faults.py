"""A folder that steers a running plugin: what it was called with, and what it shall do wrong.

`calls.log` gets a line per call: time, pid, moment, operation, type, id. A file `<operation>.<before|after>.<Type>`
strikes at that moment, each time; with `.once` at the end only the first time. It holds one of

    sleep SECONDS · hang · exit CODE · error TEXT · init TEXT (created, but not well)

"after" stands between the cloud's yes and the answer to the engine: there a box exists that nobody has recorded.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Moment = Literal["before", "after"]


class Fault(Exception):
    """What the plugin shall answer instead. `created_but_unwell` keeps the id."""

    def __init__(self, text: str, *, created_but_unwell: bool = False) -> None:
        super().__init__(text)
        self.created_but_unwell = created_but_unwell


@dataclass(frozen=True)
class Faults:
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "calls.log"

    def plant(self, operation: str, moment: Moment, kind: str, deed: str, *, once: bool = False) -> None:
        (self.folder / f"{operation}.{moment}.{kind}{'.once' * once}").write_text(deed)

    def calls(self) -> list[str]:
        """Each call as "moment operation kind id"."""
        if not self.log.exists():
            return []
        return [line.split(maxsplit=2)[2] for line in self.log.read_text().splitlines()]

    def note(self, moment: Moment, operation: str, kind: str, id: str = "") -> None:
        """Log the call, then do what is planted for it."""
        with self.log.open("a") as log:
            log.write(f"{time.time():.3f} {os.getpid()} {moment} {operation} {kind} {id}".rstrip() + "\n")
        for planted in (f"{operation}.{moment}.{kind}.once", f"{operation}.{moment}.{kind}"):
            file = self.folder / planted
            if file.exists():
                deed, _, rest = file.read_text().partition(" ")
                if planted.endswith(".once"):
                    file.unlink()
                _strike(deed, rest)


def _strike(deed: str, rest: str) -> None:
    match deed:
        case "sleep":
            time.sleep(float(rest))
        case "hang":
            threading.Event().wait()
        case "exit":
            os._exit(int(rest))
        case "error":
            raise Fault(rest)
        case "init":
            raise Fault(rest, created_but_unwell=True)
        case _:
            raise ValueError(deed)
