"""The base from the hub, whole. A hub that is busy is waited for as long as it asks, within a bound: the box is paid meanwhile.

huggingface_hub itself gives up at the first refusal of a first request, and waits without end at the later ones (2.4).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from remote.ends import bad_job, first_line

BUSY: Final = frozenset({429, 503})  # too many requests; not now
PATIENCE_S: Final = 600.0  # assumed: two of the five-minute windows in which the hub counts requests
UNTOLD_S: Final = 30.0  # assumed: where it does not say how long
LEAST_S: Final = 1.0  # assumed: "at once" is a second, or a hub that goes on saying so is asked without end
WORDS: Final = ("*.json", "*.model", "*.jinja", "*.txt")  # all that is small, a tokenizer among it
WANTED: Final = ("*.safetensors", *WORDS)

log = logging.getLogger(__name__)


class Busy(Exception):
    """The hub asks to be asked again after so long."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the hub is busy for {wait_s:.0f} s")
        self.wait_s = wait_s


def fetch(
    location: str, revision: str | None, *, only: Sequence[str] = WANTED, pause: Callable[[float], object] = time.sleep
) -> str:
    """The folder with those of its files that `only` names.

    Raises Ended (bad job) where they can't be had, or not within the patience of ten minutes.
    """
    waited_s = 0.0
    while True:
        try:
            return _fetched(location, revision, only)
        except Exception as error:  # the hub client raises a tree of its own, and network errors below it
            busy = _busy(error)
            if busy is None:
                raise bad_job(f"the base model {location!r} can't be fetched: {first_line(error)}") from error
            if waited_s + busy.wait_s > PATIENCE_S:
                raise bad_job(
                    f"the hub has had too many requests and gives {location!r} only in {busy.wait_s / 60:.0f} min, "
                    "which is too long for a box that is paid; run it again later, or with a token in HF_TOKEN: it may ask more"
                ) from error
        log.warning("%s is asked for again in %.0f s: the hub has had too many requests", location, busy.wait_s)
        pause(busy.wait_s)
        waited_s += busy.wait_s


def held_bytes(location: str) -> int:
    """Bytes of this model's files, of whichever commits, in the hub client's cache: half of one is none."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=location, repo_type="model"), "blobs")
    return sum(file.stat().st_size for file in blobs.glob("*") if file.suffix != ".incomplete")


def _fetched(location: str, revision: str | None, only: Sequence[str]) -> str:
    from huggingface_hub import get_session, snapshot_download

    hooks = get_session().event_hooks
    if _hear not in hooks["response"]:
        get_session().event_hooks = {**hooks, "response": [*hooks["response"], _hear]}
    return str(snapshot_download(location, revision=revision, allow_patterns=list(only)))


def _hear(response: Any) -> None:
    """Before the client can wait by itself."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined] # it is exported late

    if response.status_code not in BUSY:
        return
    window = parse_ratelimit_headers(response.headers)
    told = response.headers.get("Retry-After", "")  # seconds; a date is no number, and then we choose
    wait_s = float(window.reset_in_seconds) if window else float(told) if told.isdecimal() else UNTOLD_S
    raise Busy(max(LEAST_S, wait_s))


def _busy(error: BaseException | None) -> Busy | None:
    """The hub's wish below whatever the client has made of it."""
    while error is not None and not isinstance(error, Busy):
        error = error.__cause__ or error.__context__
    return error
