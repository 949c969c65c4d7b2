"""A program that fetches or builds: nothing secret but what fetching needs, and an end, whatever it waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from provision.errors import MissingPart
from provision.redact import without_secrets
from provision.words import seconds_words

PROXIES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})


def for_fetching(environment: Mapping[str, str], *own: str) -> dict[str, str]:
    """The variables of a program that fetches something, and is nobody's to vouch for: of what is secret a proxy's password and
    what begins with the program's `own` names, such as an index's.
    """
    needed = [name for name in environment if name.upper() in PROXIES or name.startswith(own)]
    return without_secrets(environment, but=needed)


def run_bounded(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    within_s: float,
    folder: Path | None = None,
    hear: Callable[[str], object] = lambda _line: None,
) -> subprocess.CompletedProcess[str]:
    """A program and all that it starts, ended after `within_s`, or when we are; each line of its stderr is heard as it comes.

    Raises MissingPart when it could not be started, or did not end in time.
    """
    late = threading.Event()
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise MissingPart(f"{command[0]} can't be started: {error.strerror}.") from None

        def give_up() -> None:
            late.set()
            _end_all(process)

        timer = threading.Timer(within_s, give_up)
        timer.daemon = True
        timer.start()
        err: list[str] = []
        try:
            for line in process.stderr or ():
                err.append(line)
                hear(line)
            code = process.wait()
        except BaseException:
            _end_all(process)
            process.wait()
            raise
        finally:
            timer.cancel()
            if process.stderr:
                process.stderr.close()
        if late.is_set():
            raise MissingPart(f"{Path(command[0]).name} did not end within {seconds_words(within_s)}, and was ended.")
        out.seek(0)
        return subprocess.CompletedProcess(list(command), code, out.read(), "".join(err))


def _end_all(process: subprocess.Popen[str]) -> None:
    """A build starts a compiler for each package."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
