"""What somebody is told of a run who does not look at it: a JSON body for a webhook, or on a command's standard input.

Each target has a thread of its own with a bounded time for every try, so no run waits for one or fails with it. What can't
be delivered is told once. An alert holds no secret and nothing of the data; of a webhook's address, which often is a key,
only the host is ever shown.
"""

from __future__ import annotations

import http.client
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Literal, Protocol

import msgspec

from planner.units import KIB
from provision.errors import BadInput
from provision.exchange import opener, within
from provision.redact import redact, without_secrets

ALERT_VERSION: Final = 1
TRY_S: Final = 10.0  # assumed: a webhook answers within one second, a command may send an e-mail
PAUSES_S: Final = (0.0, 2.0, 8.0)  # assumed: before each try
CLOSE_S: Final = 15.0  # assumed: for what is not delivered when the run is over; nobody waits longer for a prompt
KEYED: Final = re.compile(r"[/?#=]")  # what follows may be a key
SCHEMES: Final = ("http://", "https://")
NAMES_FILE: Final = "@"  # so begins what names the file that holds a target: a convention of curl's, among others
MOST_TARGET_BYTES: Final = 64 * KIB  # assumed: no address and no command is longer

Kind = Literal["started", "probed", "crashed", "budget", "spot_notice", "moved", "let_go", "finished", "still_bills"]

# Past the queue, as a target that hangs must not keep them waiting: each minute costs, or the machine will be off in one.
URGENT: Final[frozenset[Kind]] = frozenset({"still_bills", "let_go"})


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a run."""

    kind: Kind
    run_id: str
    at_s: float
    text: str  # one sentence for a person
    model: str | None = None  # None, here and of the others: its ledger is lost, and no tag tells it
    provider: str
    region: str
    instance_type: str | None = None
    spent_usd: Decimal | None
    max_usd: Decimal | None = None
    deadline_at_s: float | None
    exit_code: int | None = None  # of a run that is over
    command: str | None = None  # what to type
    schema_version: int = ALERT_VERSION


class Target(Protocol):
    """Where alerts go."""

    name: str  # how a person is told of it; never the whole of a webhook's address

    def deliver(self, body: bytes) -> None:
        """Hand over one alert. Raises Undelivered."""
        ...


class Undelivered(Exception):
    """`str(error)` is the reason, in words that can be shown."""


def read_target(said: str) -> str:
    """What a command line says, or the one line of the file that it names with an @: an address often is a key, and everybody
    on a computer sees the words of a command. Raises BadInput where no such line can be read.
    """
    if not said.startswith(NAMES_FILE):
        return said
    path = Path(said.removeprefix(NAMES_FILE)).expanduser()
    try:
        with path.open() as file:
            lines = file.read(MOST_TARGET_BYTES).splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"The alert's file {path} can't be read ({type(error).__name__}).") from None
    match [line.strip() for line in lines if line.strip()]:
        case [target]:
            return target
        case found:
            raise BadInput(f"The alert's file {path} has {len(found)} lines.", hint="One: an address, or a command.")


def target_of(text: str) -> Target:
    """An address of a webhook, or a command and its words as a shell would part them. Raises BadInput."""
    if text.lower().startswith(SCHEMES):
        return _Webhook(text)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadInput(f"The alert {_shown(text)!r} is no command: {error}.") from None
    if words and shutil.which(words[0]) is None and Path(words[0]).is_file():
        raise BadInput(
            f"The alert's program {words[0]} is there, and may not be executed.", hint=f"chmod +x {shlex.quote(words[0])}"
        )
    if not words or shutil.which(words[0]) is None:
        raise BadInput(
            f"The alert {_shown(text)!r} is neither a webhook's address nor a command that is here.",
            hint="https://… or a program",
        )
    return _Command(words)


def _shown(text: str) -> str:
    """As much of what was mistyped as can hold no key: neither a path, nor a password, nor what follows the first word."""
    words = text.split(maxsplit=1)
    first = words[0].rpartition("@")[2] if words else ""
    head = KEYED.split(first, maxsplit=1)[0]
    return head if head == text else f"{head}…"


class _Webhook:
    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            host, _ = parts.hostname, parts.port  # a port that is no number is told only to who asks for it
        except ValueError:
            host = None
        if not host:
            raise BadInput("The address of an alert's webhook names no host that can be read.", hint="https://HOST/…")
        self._url = url
        self.name = f"the webhook at {host}"

    def deliver(self, body: bytes) -> None:
        """A try ends as a whole, its name looked up as well: for that no library here has a limit."""
        try:
            reason = within(TRY_S, lambda: _post(self._url, body))
        except TimeoutError:
            reason = _silent_words()
        if reason is not None:
            raise Undelivered(reason)


def _silent_words() -> str:
    return f"it did not answer within {TRY_S:.0f} s"


def _post(url: str, body: bytes) -> str | None:
    """Why it was not taken; None where it was."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - SCHEMES
    try:
        with opener(_NoRedirect, within_s=TRY_S).open(request, timeout=TRY_S):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered {error.code}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return _silent_words()
        return getattr(reason, "strerror", None) or type(reason).__name__


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Somewhere else is not where the user wanted it to go."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Command:
    def __init__(self, words: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
        self._words = words
        self._environment = without_secrets(environment)
        self.name = f"the command {Path(words[0]).name}"

    def deliver(self, body: bytes) -> None:
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise Undelivered(error.strerror or type(error).__name__) from None
        with process:
            try:
                process.communicate(body, timeout=TRY_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # what it started as well
                raise Undelivered(f"it did not end within {TRY_S:.0f} s") from None
        if process.returncode != 0:
            raise Undelivered(f"it ended with {process.returncode}")


class Post:
    """Hands each alert to every target, and returns at once. `told` gets a sentence for each target that takes none."""

    def __init__(
        self, targets: Iterable[Target], *, told: Callable[[str], None], pauses_s: tuple[float, ...] = PAUSES_S
    ) -> None:
        self._targets, self._told, self._pauses_s = tuple(targets), told, pauses_s
        self._lines = self._new_lines()
        self._past: list[_Line] = []  # those of what was urgent

    @property
    def has_targets(self) -> bool:
        return bool(self._targets)

    def send(self, alert: Alert) -> None:
        """Queue it; what is urgent goes past the queue."""
        body = msgspec.json.encode(msgspec.structs.replace(alert, text=redact(alert.text)))
        lines = self._lines
        if alert.kind in URGENT:
            lines = self._new_lines()
            self._past = [*self._past, *lines]
        for line in lines:
            line.queue.put(body)

    def close(self, *, patience_s: float = CLOSE_S) -> None:
        """Wait so long for what is queued. Ctrl-C ends the waiting."""
        ends_at_s = time.monotonic() + patience_s
        lines = [*self._past, *self._lines]
        for line in lines:
            line.queue.put(None)
        try:
            for line in lines:
                line.thread.join(max(0.0, ends_at_s - time.monotonic()))
        except KeyboardInterrupt:
            return

    def _new_lines(self) -> list[_Line]:
        return [_Line(target, self._told, self._pauses_s) for target in self._targets]


class _Line:
    """The way to one target."""

    def __init__(self, target: Target, told: Callable[[str], None], pauses_s: tuple[float, ...]) -> None:
        self.queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._target = target
        self._told = told
        self._pauses_s = pauses_s
        self._has_failed = False
        self.thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while (body := self.queue.get()) is not None:
            self._deliver(body)

    def _deliver(self, body: bytes) -> None:
        reason = ""
        for pause_s in self._pauses_s:
            time.sleep(pause_s)
            try:
                return self._target.deliver(body)
            except Undelivered as error:
                reason = str(error)
        if not self._has_failed:
            self._has_failed = True
            self._told(f"An alert did not reach {self._target.name}: {reason}. The run goes on; no more is said of this.")
        return None
