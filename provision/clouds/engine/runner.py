"""The process that runs the Pulumi engine: a `PulumiCommand` that survives its parent, its output and its user.

The SDK's own `run` gives the engine pipes and leaves it in our process group. Then a killed controller breaks the
engine's pipe in the middle of a create (a box that nobody recorded), Ctrl-C does the same, an exception in a callback
or one byte that is not UTF-8 loses the output or hangs for ever, and no call has a deadline (pulumi 3.272, `_cmd.py`;
each reproduced on the engine 3.274.1). Here operations write to files and run in a session of their own: whatever
happens to us, the engine finishes the step in flight, records it, frees its lock and ends.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import psutil
from pulumi.automation import CommandResult, PulumiCommand
from pulumi.automation.errors import CommandError, create_command_error
from semver import VersionInfo

from provision.errors import Declined, MissingPart, ProvisionError, Reason, Scope
from provision.home.processes import boot_id, start_of, still_runs, still_runs_by_clock
from provision.home.whole import write_whole
from provision.redact import redact

OPERATIONS: Final = frozenset({"up", "preview", "refresh", "destroy"})  # the rest may print secrets: never to a file
POLL_S: Final = 0.05  # assumed: a look costs microseconds, an operation takes seconds
PATIENCE_S: Final = (60.0, 15.0, 5.0)  # assumed: after the first SIGINT (finish the step), the second (drop it), the kill
SHORT_COMMAND_S: Final = 60.0  # assumed: everything that is no operation; measured 0.1 to 0.5 s
SIGNALS: Final = (signal.SIGINT, signal.SIGINT, signal.SIGKILL)

OnOutput = Callable[[str], Any]
log = logging.getLogger(__name__)


class EngineCommand(PulumiCommand):  # type: ignore[misc] # pulumi's types are not followed
    """Runs `binary` with exactly the environment it is given, below `folder` (0700).

    `deadline_s` bounds each operation. A call that was interrupted, by the deadline or by Ctrl-C, always raises,
    whatever its exit code: a cancelled `destroy` exits 0 with resources left.
    """

    def __init__(
        self,
        binary: Path,
        *,
        environment: Mapping[str, str],
        folder: Path,
        deadline_s: float,
        patience_s: tuple[float, float, float] = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.command = str(binary)
        self.environment = dict(environment)
        self.folder = folder
        self.deadline_s = deadline_s
        self.patience_s = patience_s
        self.clock = clock
        self.version = self._read_version()

    def _read_version(self) -> VersionInfo:
        said = ""
        try:
            said = self.run(["version"], str(self.folder), {}).stdout.strip()
            return VersionInfo.parse(said.removeprefix("v"))
        except (ValueError, CommandError):
            raise MissingPart(f"{self.command} is no Pulumi engine: its version reads {said!r}.") from None

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: OnOutput | None = None,
        on_error: OnOutput | None = None,
    ) -> CommandResult:
        """One command of the CLI. Raises what the SDK's own `run` raises on a code other than 0, or ProvisionError."""
        command = [self.command, "--non-interactive", *args]
        environment = self._environment(additional_env)
        try:
            if args[0] in OPERATIONS:
                result = self._operation(args[0], command, cwd, environment, on_output, on_error)
            else:
                result = self._short(command, cwd, environment)
        except FileNotFoundError as error:
            if error.filename == self.command:
                raise MissingPart(f"There is no engine at {self.command}.", hint="rentune doctor --install") from None
            raise ProvisionError(f"{error.filename} is gone, which the engine works in.") from None
        if result.code != 0:
            raise create_command_error(result)
        return result

    def _environment(self, additional: Mapping[str, str]) -> dict[str, str]:
        own = {"PULUMI_AUTOMATION_API": "true", "PULUMI_SKIP_UPDATE_CHECK": "true"}
        path = os.pathsep.join(filter(None, [str(Path(self.command).parent), self.environment.get("PATH", "")]))
        return {**self.environment, **additional, **own, "PATH": path}

    def _short(self, command: list[str], cwd: str, environment: dict[str, str]) -> CommandResult:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        with process:
            try:
                out, err = process.communicate(timeout=SHORT_COMMAND_S)
            except BaseException as error:
                _kill(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise ProvisionError(f"`pulumi {command[2]}` did not answer within {SHORT_COMMAND_S:.0f} s.") from None
                raise
        return CommandResult(stdout=out.rstrip(), stderr=err.rstrip(), code=process.returncode)

    def _operation(
        self,
        verb: str,
        command: list[str],
        cwd: str,
        environment: dict[str, str],
        on_output: OnOutput | None,
        on_error: OnOutput | None,
    ) -> CommandResult:
        out, err = _fresh_files(self.folder, verb)
        with _create(out) as out_file, _create(err) as err_file:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                start_new_session=True,
            )
        try:
            with out.open("rb") as out_lines, err.open("rb") as err_lines:
                followers = (_Follower(out_lines, on_output), _Follower(err_lines, on_error))
                self._wait(verb, process, followers, pid_file=out.with_suffix(".pid"))
        finally:
            self._clean(out, err)
        return CommandResult(stdout=_text(out), stderr=_text(err), code=process.returncode)

    def _clean(self, *files: Path) -> None:
        """Leave no secret in what the engine said; of what it says after we have died it vouches itself."""
        for file in files:
            said = file.read_text("utf-8", "surrogateescape")
            if (clean := redact(said, environment=self.environment)) != said:
                file.write_text(clean, "utf-8", "surrogateescape")

    def _wait(self, verb: str, process: subprocess.Popen[bytes], followers: Iterable[_Follower], *, pid_file: Path) -> None:
        ends_at_s = self.clock() + self.deadline_s
        try:
            _write_pid(pid_file, process.pid)
            while not _ended(process, POLL_S):
                for follower in followers:
                    follower.follow()
                if self.clock() >= ends_at_s:
                    raise _too_slow(verb, self.deadline_s)
            for follower in followers:
                follower.follow()
        except BaseException:
            self._stop(process)
            raise

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """One SIGINT and patience, a second one, then the kill. A further Ctrl-C skips to the next step."""
        for number, patience_s in zip(SIGNALS, self.patience_s, strict=True):
            if process.poll() is not None:
                return
            process.send_signal(number)
            try:
                _ended(process, patience_s)
            except KeyboardInterrupt:
                continue


class _Follower:
    """Hands each complete new line of a file to a callback, whose own errors end only the following."""

    def __init__(self, lines: IO[bytes], callback: OnOutput | None) -> None:
        self.lines = lines
        self.callback = callback
        self.rest = b""

    def follow(self) -> None:
        if self.callback is None:
            return
        *complete, self.rest = (self.rest + self.lines.read()).split(b"\n")
        for line in complete:
            try:
                self.callback(line.decode("utf-8", "replace").rstrip())
            except Exception:
                log.warning("a progress callback failed; the engine goes on", exc_info=True)
                self.callback = None
                return


def _too_slow(verb: str, deadline_s: float) -> Declined:
    """Another offer may come sooner: where a cloud has no room, some let one wait instead of saying so."""
    said = f"The engine did not finish `{verb}` within {deadline_s:.0f} s and was stopped."
    return Declined(said, reason=Reason.CAPACITY, scope=Scope.OFFER)


def _ended(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def _fresh_files(folder: Path, verb: str) -> tuple[Path, Path]:
    for number in itertools.count(1):
        out, err = folder / f"{number:03d}-{verb}.out", folder / f"{number:03d}-{verb}.err"
        if not out.exists():
            return out, err
    raise AssertionError


def _create(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _text(path: Path) -> str:
    return "\n".join(line.rstrip() for line in path.read_bytes().decode("utf-8", "replace").split("\n")).rstrip()


# ── an engine that outlived its controller ─────────────────────────────────────────────────────────────────────────


def _write_pid(path: Path, pid: int) -> None:
    start_ticks = start_of(pid)
    if start_ticks is not None:  # else it has already ended
        write_whole(path, json.dumps({"pid": pid, "boot_id": boot_id(), "start_ticks": start_ticks}).encode())


def living_engines(folder: Path) -> list[psutil.Process]:
    """The engines that controllers of this run noted and that still run; a reused pid is told apart by its start."""
    noted = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.pid"))]
    return [process for note in noted if (process := _noted(note)) is not None]


def _noted(note: Mapping[str, Any]) -> psutil.Process | None:
    if "start_ticks" not in note:  # written before 2026-11-26
        return still_runs_by_clock(note["pid"], note["started_s"])
    return still_runs(note["pid"], note["start_ticks"]) if note["boot_id"] == boot_id() else None


def outwait(engine: psutil.Process, *, patience_s: tuple[float, float, float] = PATIENCE_S) -> None:
    """Let an engine that outlived its controller end by itself, then ask it to, then make it."""
    for number, wait_s in zip((None, *SIGNALS), (patience_s[0], *patience_s), strict=True):
        try:
            if number is not None:
                engine.send_signal(number)
            engine.wait(wait_s)
        except psutil.NoSuchProcess:
            return
        except psutil.TimeoutExpired:
            continue
        return
