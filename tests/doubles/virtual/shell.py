"""The line to a virtual box."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from provision.aboard import detached, job
from provision.aboard.marks import LEASE_ENDED_FILE
from provision.aboard.renewal import FETCHED_FILE
from provision.aboard.ship import STACK_MARK, stack_hash
from provision.errors import ConnectionFailed, TransferFailed
from provision.seam import Box
from provision.ssh import WAITS, Completed, Waits
from remote.contract import (
    CHECKPOINT_DIR,
    JOB_FILE,
    OUTCOME_FILE,
    PROGRESS_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    JobSpec,
    checkpoint_name,
    checkpoint_step,
    decode,
    encode,
)
from tests.doubles.virtual.cloud import HOME
from tests.doubles.virtual.lives import Life
from tests.doubles.virtual.outside import Outside
from tests.doubles.virtual.trainer import ADAPTER, WEIGHTS, Job
from tests.doubles.world.core import Thing

COMMAND_S: Final = 0.5
TRANSFER_S: Final = 10.0
QUIET_S: Final = 60.0  # between two looks at a trainer that says nothing
RETRY_S: Final = 10.0
HELD: Final = {ADAPTER.path: WEIGHTS, WEIGHTS_FILE: b"", STATE_FILE: b"", PROGRESS_FILE: b"{}"}  # by their names on the box


class VirtualShell:
    """A Shell to a machine of `Outside`. It knows what the controller sends, and nothing else: other commands fail the test."""

    def __init__(
        self, outside: Outside, life: Life, box: Box, *, patience_s: float, ends_at_s: float, while_silent: Callable[[], object]
    ) -> None:
        self.box = box
        self.outside = outside
        self.life = life
        self.patience_s = patience_s
        self.ends_at_s = ends_at_s
        self.while_silent = while_silent

    @classmethod
    def connector(cls, outside: Outside, life: Life) -> Callable[..., Any]:
        """What stands for `Shell.connect`."""

        def connect(
            box: Box,
            *,
            key: object,
            deadline_s: float,
            waits: Waits = WAITS,
        ) -> VirtualShell:
            shell = cls(
                outside,
                life,
                box,
                patience_s=waits.patience_s,
                ends_at_s=outside.now_s + waits.lifetime_s,
                while_silent=waits.while_silent,
            )
            shell._reach(deadline_s)
            return shell

        return connect

    # ── what the product calls ─────────────────────────────────────────────────────────────────────────────────────

    def run(self, command: str, *, timeout_s: float = 60.0, stdin: bytes | None = None) -> Completed:
        if f"; head -c {job.MOST_OUTCOME_BYTES} {shlex.quote(f'{HOME}/job/{OUTCOME_FILE}')}; " in command:
            return self._done(lambda its: encode(its.outcome).decode() if its.outcome else "")
        if f"| tail -n {job.LAST_EVENTS}" in command:
            return self._done(lambda its: its.events.decode())
        if command == "date +%s":
            return self._done(lambda _: f"{self.outside.now_s:.0f}\n")
        if f": > {FETCHED_FILE}" in command:
            return self._done(lambda its: its.brought_home(self.outside.now_s))
        if command == f"[ -e {HOME}/{LEASE_ENDED_FILE} ]":
            told = self._done(lambda its: "" if its.lease_ended_at_s is None else "ended")
            return Completed(rc=int(not told.out), out="", err="")
        if CHECKPOINT_DIR in command:  # which there are, and whether one is there
            return self._done(lambda its: checkpoint_name(its.saved_s) if its.saved_s else "")
        if STACK_MARK in command:
            return self._done(lambda _: stack_hash())
        if JOB_FILE in command:
            spec = decode(stdin or b"", JobSpec)
            return self._done(lambda its: its.told(spec))
        assert "tar -xf" in command, command
        return self._done(lambda _: "")

    def script(self, script: str, variables: Mapping[str, str], *, timeout_s: float = 60.0) -> Completed:
        deeds: dict[str, Callable[[Job], str]] = {
            job.READ_LOG: lambda _: "",
            detached.STATE: lambda its: its.words,
            detached.START: lambda its: its.start(self.outside.now_s),
            detached.STOP: lambda its: its.stop(self.outside.now_s),
        }
        return self._done(deeds[script])

    def put(self, local: Path, remote: str, *, progress: object = None) -> str:
        step = checkpoint_step(Path(remote).parent.name)
        self._done(lambda its: "" if step is None else its.given(step), TRANSFER_S)
        return "0" * 64

    def put_tree(self, local: Path, remote: str, *, leave_out: object = None) -> None:
        self._done(lambda _: "", TRANSFER_S)

    def get(
        self, remote: str, local: Path, *, sha256: str | None = None, num_bytes: int | None = None, progress: object = None
    ) -> str:
        self._done(lambda _: "", TRANSFER_S)
        if (held := HELD.get(remote.rpartition("/")[2])) is None:
            raise TransferFailed(f"{remote} is not there.")
        if remote.endswith(ADAPTER.path):  # a fetch that was cut off goes on where it stood; a checkpoint's two bytes are none
            self.outside.sent_bytes += len(held)
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(held)
        return hashlib.sha256(held).hexdigest()

    def follow(self, remote: str, local: Path, *, alive: Callable[[], bool], tell: object = None) -> Iterator[bytes]:
        local.touch()
        while True:
            there = self._job(COMMAND_S).events
            fresh = there[local.stat().st_size :]
            with local.open("ab") as mirror:
                mirror.write(fresh)
            yield from fresh.splitlines()
            if not fresh and not alive():
                return
            self._sleep(0.0 if fresh else QUIET_S)

    def close(self) -> None:
        pass

    def __enter__(self) -> VirtualShell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── the line ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _done(self, deed: Callable[[Job], str], takes_s: float = COMMAND_S) -> Completed:
        """Carry it out, unless it gets lost on its way; or carry it out, and lose the answer."""
        job = self._job(takes_s)
        fate = self.outside.rng.random()
        if fate < self.outside.lost_answers / 2:
            raise ConnectionFailed(f"{self.box.host}: the line was cut.")
        said = deed(job)
        self.life.tick()
        if fate < self.outside.lost_answers:
            raise ConnectionFailed(f"{self.box.host}: the line was cut.")
        return Completed(rc=0, out=said, err="")

    def _job(self, takes_s: float) -> Job:
        self._sleep(takes_s)
        job: Job = self._reach(self.patience_s).details["job"]
        return job

    def _reach(self, patience_s: float) -> Thing:
        ends_at_s = min(self.outside.now_s + patience_s, self.ends_at_s)
        while (machine := self.outside.answers(self.box.host)) is None:
            if self.outside.now_s + RETRY_S >= ends_at_s:
                raise ConnectionFailed(f"{self.box.host} does not answer.")
            self.while_silent()
            self._sleep(RETRY_S)
        return machine

    def _sleep(self, duration_s: float) -> None:
        self.life.tick()
        self.outside.pass_time(duration_s)
