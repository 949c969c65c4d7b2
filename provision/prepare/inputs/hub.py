"""Which commit of a base on the hub is trained, and what its weights must hash to: asked once, before anything is rented."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Final

import msgspec

from catalogs.user_file import MIB
from provision.errors import BadInput, HubSilent, Refused
from provision.exchange import opener
from provision.prepare.inputs import ENDPOINT, TOKEN, BaseModel, hub_secrets

HUB: Final = "https://huggingface.co"
NEWEST: Final = "main"  # the branch that the hub makes for every model
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
TIMEOUT_S: Final = 10.0  # assumed: for all of an answer
ANSWER_BYTES: Final = 32 * MIB  # assumed: of the longest list of files a hundredth
WEIGHTS: Final = ".safetensors"  # no other weights are fetched: remote/bases/base.py


class _Lfs(msgspec.Struct, frozen=True):
    sha256: str


class _File(msgspec.Struct, frozen=True):
    rfilename: str
    lfs: _Lfs | None = None  # small files lie in git itself, which has no SHA-256 of them


class _Model(msgspec.Struct, frozen=True):
    """What the hub says of one revision: https://huggingface.co/docs/hub/api, read 2026-11."""

    sha: str
    siblings: tuple[_File, ...] = ()


class SameHost(urllib.request.HTTPRedirectHandler):
    """A renamed model is followed to its new name; a token goes nowhere but where it was sent."""

    def redirect_request(self, request: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(request.full_url).netloc:
            return None
        return super().redirect_request(request, fp, code, msg, headers, newurl)


def pinned(base: BaseModel, revision: str | None, environment: Mapping[str, str]) -> BaseModel:
    """The base with the commit that `revision` (a commit, tag or branch; None = the newest) is now, and the hub's SHA-256 of
    its weights.

    A base at home is what it is. Raises Refused where the hub does not know it or has no weights that may be loaded, HubSilent
    where it does not answer; a whole commit needs no answer. BadInput for a revision of what does not come from the hub.
    """
    if base.hub_id is None:
        if revision is not None:
            raise BadInput(f"{base.path} does not come from the hub and has no revisions.", hint="Leave --revision out.")
        return base
    endpoint = (environment.get(ENDPOINT) or HUB).rstrip("/")
    located = msgspec.structs.replace(base, endpoint=endpoint if endpoint != HUB else None)
    try:
        model = _asked(located, revision or NEWEST, endpoint, environment)
    except _Silent as error:
        if revision is not None and COMMIT.fullmatch(revision):
            return msgspec.structs.replace(located, revision=revision)
        raise HubSilent(
            f"The hub did not say which commit of {base.hub_id} to train: {error}.",
            hint="Try again, or name the commit: --revision followed by its 40 characters.",
        ) from None
    weights = [file for file in model.siblings if file.rfilename.endswith(WEIGHTS)]
    if not weights:
        raise Refused(
            f"{base.hub_id} has no safetensors weights at {revision or NEWEST}, and no others are loaded: they may hold code.",
            hint="Name a revision that has them (--revision), or another copy of the model.",
        )
    sha256 = {file.rfilename: file.lfs.sha256 for file in weights if file.lfs is not None}
    return msgspec.structs.replace(located, revision=model.sha, sha256=sha256)


class _Silent(Exception):
    """The hub did not answer, or not as it does."""


def _asked(base: BaseModel, revision: str, endpoint: str, environment: Mapping[str, str]) -> _Model:
    path = f"/api/models/{base.hub_id}/revision/{urllib.parse.quote(revision, safe='')}?blobs=true"
    token = hub_secrets(base, environment).get(TOKEN)
    headers = {"User-Agent": "rentune"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(endpoint + path, headers=headers)  # noqa: S310 - the user's own endpoint
    try:
        with opener(SameHost, within_s=TIMEOUT_S).open(request, timeout=TIMEOUT_S) as answer:
            return msgspec.json.decode(answer.read(ANSWER_BYTES), type=_Model)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in NO:
            raise Refused(
                f"The hub has no {base.hub_id} at {revision} for you: {NO[error.code]}.",
                hint=f"See {endpoint}/{base.hub_id}; a private or gated one needs {TOKEN}=… of somebody who may read it.",
            ) from None
        raise _Silent(f"it answered with status {error.code}") from None
    except (OSError, HTTPException, ValueError, RecursionError, msgspec.DecodeError) as error:
        raise _Silent(str(getattr(error, "reason", error))) from None


NO: Final = {401: "it does not know you", 403: "you may not read it", 404: "it is not there"}  # source=RFC 9110, section 15.5
