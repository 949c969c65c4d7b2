"""What somebody is told of a run who does not look at it: a JSON body for a webhook, or on a command's standard input.

Each target has a thread of its own with a bounded time for every try, so no run waits for one or fails with it. What can't
be delivered is told once. An alert holds no secret and nothing of the data; of a webhook's address, which often is a key,
only the host is ever shown.
"""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
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

from provision.errors import BadInput
from provision.redact import redact, without_secrets

ALERT_VERSION: Final = 1
TRY_S: Final = 10.0  # assumed: a webhook answers within one second, a command may send an e-mail
PAUSES_S: Final = (0.0, 2.0, 8.0)  # assumed: before each try
CLOSE_S: Final = 15.0  # assumed: for what is not delivered when the run is over; nobody waits longer for a prompt
SCHEMES: Final = ("http://", "https://")

Kind = Literal["started", "probed", "crashed", "budget", "spot_notice", "moved", "finished", "still_bills"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a run."""

    kind: Kind
    run_id: str
    at_s: float
    text: str  # one sentence for a person
    model: str
    provider: str
    region: str
    instance_type: str
    spent_usd: Decimal
    max_usd: Decimal | None
    deadline_at_s: float
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


def target_of(text: str) -> Target:
    """An address of a webhook, or a command and its words as a shell would part them. Raises BadInput."""
    if text.startswith(SCHEMES):
        return _Webhook(text)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BadInput(f"The alert {text!r} is no command: {error}.") from None
    if not words or shutil.which(words[0]) is None:
        raise BadInput(
            f"The alert {text!r} is neither a webhook's address nor a command that is here.", hint="https://… or a program"
        )
    return _Command(words)


class _Webhook:
    def __init__(self, url: str) -> None:
        self._url = url
        self.name = f"the webhook at {urllib.parse.urlsplit(url).hostname}"

    def deliver(self, body: bytes) -> None:
        request = urllib.request.Request(self._url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - SCHEMES
        try:
            with _OPENER.open(request, timeout=TRY_S):
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise Undelivered(f"it answered {error.code}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Undelivered(getattr(reason, "strerror", None) or type(reason).__name__) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Somewhere else is not where the user wanted it to go."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER: Final = urllib.request.build_opener(_NoRedirect)


class _Command:
    def __init__(self, words: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
        self._words = words
        self._environment = without_secrets(environment)
        self.name = f"the command {Path(words[0]).name}"

    def deliver(self, body: bytes) -> None:
        try:
            done = subprocess.run(
                self._words,
                input=body,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                timeout=TRY_S,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Undelivered(f"it did not end within {TRY_S:.0f} s") from None
        except OSError as error:
            raise Undelivered(error.strerror or type(error).__name__) from None
        if done.returncode != 0:
            raise Undelivered(f"it ended with {done.returncode}")


class Post:
    """Hands each alert to every target, and returns at once. `told` gets a sentence for each target that takes none."""

    def __init__(
        self, targets: Iterable[Target], *, told: Callable[[str], None], pauses_s: tuple[float, ...] = PAUSES_S
    ) -> None:
        self._lines = [_Line(target, told, pauses_s) for target in targets]

    @property
    def has_targets(self) -> bool:
        return bool(self._lines)

    def send(self, alert: Alert) -> None:
        """Queue it."""
        body = msgspec.json.encode(msgspec.structs.replace(alert, text=redact(alert.text)))
        for line in self._lines:
            line.queue.put(body)

    def close(self, *, patience_s: float = CLOSE_S) -> None:
        """Wait so long for what is queued. Ctrl-C ends the waiting."""
        ends_at_s = time.monotonic() + patience_s
        for line in self._lines:
            line.queue.put(None)
        try:
            for line in self._lines:
                line.thread.join(max(0.0, ends_at_s - time.monotonic()))
        except KeyboardInterrupt:
            return


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
