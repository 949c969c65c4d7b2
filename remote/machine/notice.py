"""The notice that a provider gives before it takes a spot machine back, asked of the machine's own metadata server.

Only the machine itself reaches that server, one hop away, and no credential of anybody's is needed. A thread beside the
training asks. A server that is silent, refuses, or says what is not known here has given no notice.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from remote.contract import NoticeFrom

SERVER: Final = "http://169.254.169.254"  # link-local, the same at both
TIMEOUT_S: Final = 2.0  # assumed: it is one hop away
ABSENT: Final = 404
GCP_NOTICE_S: Final = 30.0  # docs.cloud.google.com, "Spot VMs", preemption process (recalled, 2026-11)
TOKEN_S: Final = 21600  # the longest that IMDSv2 gives; each look asks for its own


@dataclass(frozen=True, kw_only=True)
class Notice:
    """The machine will be taken away."""

    action: str  # what becomes of it, in the provider's word
    left_s: float  # until then


@dataclass(frozen=True, kw_only=True)
class Source:
    """How one provider tells it: where its own tools look for the server, how often to ask, and how."""

    server_of: Callable[[Mapping[str, str]], str]
    look_s: float
    ask: Callable[[str], Notice | None]


def _ask_aws(server: str) -> Notice | None:
    """IMDSv2: a token first, then the action, which is not there until there is one."""
    token = _read(server, "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}, method="PUT")
    said = _read(server, "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token or ""})
    if said is None:
        return None
    told = json.loads(said)
    left_s = dt.datetime.fromisoformat(told["time"]).timestamp() - time.time()
    return Notice(action=str(told["action"]), left_s=max(0.0, left_s))


def _ask_gcp(server: str) -> Notice | None:
    said = _read(server, "/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return Notice(action="preempted", left_s=GCP_NOTICE_S) if said == "TRUE" else None


def _read(server: str, path: str, headers: dict[str, str], *, method: str = "GET") -> str | None:
    """The body; None where there is nothing. No proxy comes in between: it would ask for another machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{server}{path}", headers=headers, method=method)  # noqa: S310 - http, to this very machine
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == ABSENT:
            return None
        raise


# AWS asks for a look every five seconds of the two minutes that it gives (docs.aws.amazon.com, "Spot Instance interruption
# notices", 2026-11). The variables are those of the providers' own tools.
SOURCES: Final[dict[NoticeFrom, Source]] = {
    "aws": Source(
        server_of=lambda variables: variables.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", SERVER).rstrip("/"),
        look_s=5.0,
        ask=_ask_aws,
    ),
    "gcp": Source(
        server_of=lambda variables: f"http://{variables['GCE_METADATA_HOST']}" if "GCE_METADATA_HOST" in variables else SERVER,
        look_s=1.0,
        ask=_ask_gcp,
    ),
}


def await_notice(
    source: Source, *, environment: Mapping[str, str] = os.environ, sleep: Callable[[float], None] = time.sleep
) -> Notice:
    """Return once the provider has given it."""
    server = source.server_of(environment)
    while True:
        with suppress(OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            if (notice := source.ask(server)) is not None:
                return notice
        sleep(source.look_s)


def listen(provider: NoticeFrom, announce: Callable[[Notice], None]) -> None:
    """Call `announce` from a thread of its own, once, as soon as there is a notice."""
    threading.Thread(target=lambda: announce(await_notice(SOURCES[provider])), name="notice", daemon=True).start()
