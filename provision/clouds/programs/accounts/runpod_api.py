"""RunPod's REST API, version 2, as far as pods go; version 1 was retired in November 2026.

Read in its OpenAPI document (docs.runpod.io/api-reference-v2) and, where that is silent, in what others have recorded of the
live service (2026-08 to 2026-11): lists come in pages, a pod without a disk size is refused, and "RUNNING" is said before
there is an address. Nothing here was tried on the live service.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Final

from provision.clouds.programs.rest import Api, Json, token_of

KEY_VARIABLE: Final = "RUNPOD_API_KEY"
URL_VARIABLE: Final = "RUNPOD_REST_URL"
URL: Final = "https://api.runpod.io/v2"
TIMEOUT_S: Final = 60.0  # assumed: a machine is looked for while a pod is created
PER_PAGE: Final = "1000"  # the most that RunPod gives
SILENCE_S: Final = 3.0  # assumed: then the log has been shown so far
GONE: Final = "TERMINATED"

# What the answer says -> our words; the first that matches wins. As others recorded it, 2026-08 to 2026-11, but for the text
# about an unknown GPU type, which is assumed.
NO_CAPACITY: Final = "no machine of this kind is free"
TOO_POOR: Final = "the account's balance is too low to rent a pod"
BAD_KEY: Final = f"the key in {KEY_VARIABLE} is not known or does not allow it"
UNKNOWN_GPU: Final = "it does not know this type of GPU"
REASONS: Final[tuple[tuple[str, str], ...]] = (
    ("no longer any instances available", NO_CAPACITY),
    ("no instances currently available", NO_CAPACITY),
    ("does not have the resources", NO_CAPACITY),
    ("balance is too low", TOO_POOR),
    ("unauthorized", BAD_KEY),
    ("forbidden", BAD_KEY),
    ("gpu type", UNKNOWN_GPU),
)


def connect(environment: Mapping[str, str]) -> Api:
    """The account of the key in the environment. Raises ProvisionError without one."""
    return Api(
        cloud="RunPod",
        url=environment.get(URL_VARIABLE, URL).rstrip("/"),
        token=token_of("RunPod", environment, (KEY_VARIABLE,)),
        next_page=lambda answer: bool((answer.get("pagination") or {}).get("hasNextPage")),
        reason=_reason,
        timeout_s=TIMEOUT_S,
    )


def _reason(problem: Json) -> str:
    """Of a problem document (RFC 9457)."""
    said = ": ".join(map(str, filter(None, (problem["title"], problem.get("detail"), *problem.get("errors", ())))))
    return next((words for needle, words in REASONS if needle in said.lower()), said)


def pods(api: Api) -> Iterator[Json]:
    """All pods of the account that are not gone, whoever made them. Raises ProvisionError."""
    for page in api.pages("/pods", lambda page, _: {"cursor": page["pagination"]["nextCursor"]}, limit=PER_PAGE):
        yield from (pod for pod in api.listed(page, "/pods", "pods") if pod["status"] != GONE)


def find(api: Api, id: str) -> Json | None:
    """One pod as it is now; None when it is gone. Raises ProvisionError."""
    pod = api.find(path_of(id))
    return None if pod is None or pod["status"] == GONE else pod


def log(api: Api, id: str) -> str:
    """The last lines that the container wrote. RunPod streams them without an end, as events."""
    lines = api.lines(f"{path_of(id)}/logs", silence_s=SILENCE_S, source="container", tail="500")
    events = (json.loads(line.removeprefix(b"data:")) for line in lines if line.startswith(b"data:"))
    return "\n".join(event["line"] for event in events)


def volumes(api: Api) -> list[Json]:
    """All network volumes of the account; RunPod gives them on one page. Raises ProvisionError."""
    return api.listed(api.ask("GET", "/network-volumes"), "/network-volumes", "networkVolumes")


def volume_path(id: str) -> str:
    """Where a network volume is asked for."""
    return f"/network-volumes/{urllib.parse.quote(id, safe='')}"


def path_of(id: str) -> str:
    """Where a pod is asked for."""
    return f"/pods/{urllib.parse.quote(id, safe='')}"
