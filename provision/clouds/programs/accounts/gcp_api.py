"""Google Cloud's Compute Engine API, as far as the lists of a project go, and the credentials it is asked with.

Those are the ones that Google's own tools and the vendor's plugin take: a token in GOOGLE_OAUTH_ACCESS_TOKEN, else a key file
of a service account or what `gcloud auth application-default login` has left.
"""

from __future__ import annotations

import functools
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from provision.clouds.programs.rest import ANSWER_BYTES, ANSWER_S, TIMEOUT_S, Api, Here, Json
from provision.errors import NoCredentials, ProvisionError
from provision.exchange import opener

URL_VARIABLE: Final = "GOOGLE_COMPUTE_CUSTOM_ENDPOINT"  # as the plugin knows it
URL: Final = "https://compute.googleapis.com/compute/v1/"
TOKEN_VARIABLE: Final = "GOOGLE_OAUTH_ACCESS_TOKEN"  # noqa: S105 - its name
FILE_VARIABLES: Final = ("GOOGLE_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS")
FILE: Final = ".config/gcloud/application_default_credentials.json"  # below the home folder
PROJECT_VARIABLES: Final = ("GOOGLE_PROJECT", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT")
SCOPE: Final = "https://www.googleapis.com/auth/compute"
PER_PAGE: Final = "500"  # the most that Google gives
NOTHING_THERE: Final = "NO_RESULTS_ON_PAGE"  # the one warning after which a list is whole

# Resource.kind -> its list below the project, by zones or of all. What bills is ended first.
BILLING: Final = {"instance": "aggregated/instances", "disk": "aggregated/disks"}
LISTS: Final = BILLING | {"firewall": "global/firewalls"}


def connect(environment: Mapping[str, str]) -> Api:
    """Compute Engine, for whoever the credentials are of. Raises NoCredentials without any, ProvisionError where they are
    refused.
    """
    return Api(
        cloud="Google Cloud",
        url=environment.get(URL_VARIABLE, URL),
        token=environment.get(TOKEN_VARIABLE) or _token_of_file(environment),
        next_page=lambda answer: "nextPageToken" in answer,
        reason=lambda answer: f"{answer['error']['errors'][0]['reason']}: {answer['error']['message']}",
    )


def project_of(environment: Mapping[str, str]) -> str:
    """Where everything is rented, and paid. Raises NoCredentials where none is named: nobody can be asked without."""
    for name in PROJECT_VARIABLES:
        if project := environment.get(name):
            return project
    raise NoCredentials("Google Cloud asks for a project.", hint=f"Set {PROJECT_VARIABLES[0]}.")


def rows(api: Api, environment: Mapping[str, str], kind: str, **query: str) -> Iterator[Json]:
    """Every row of the project's list of a kind. Raises ProvisionError, also where a zone did not answer."""
    path = f"/projects/{project_of(environment)}/{LISTS[kind]}"
    for page in api.pages(path, lambda page, _: {"pageToken": page["nextPageToken"]}, **query, maxResults=PER_PAGE):
        if not str(page.get("kind", "")).startswith("compute#"):  # what can't be read is not an empty list
            raise ProvisionError(f"Google Cloud answered GET {path} with no list.")
        yield from _rows_of(page, path)


def _rows_of(page: Json, path: str) -> Iterator[Json]:
    items = page.get("items", [])
    scopes = list(items.values()) if isinstance(items, dict) else [{"rows": items}]
    silent = page.get("unreachables") or [
        scope["warning"]["code"]
        for scope in (page, *scopes)
        if scope.get("warning", {}).get("code", NOTHING_THERE) != NOTHING_THERE
    ]
    if silent:
        raise ProvisionError(f"Google Cloud could not list all of {path}: {', '.join(silent)}.")
    for scope in scopes:
        for name, found in scope.items():
            if name != "warning":
                if not isinstance(found, list):
                    raise ProvisionError(f"Google Cloud answered GET {path} with no list.")
                yield from found


def path_of(row: Mapping[str, Any]) -> str:
    """Where a thing is asked for; without its first stroke this is Pulumi's id of it, too."""
    return f"/projects/{row['selfLink'].partition('/projects/')[2]}"


# ── credentials of a file ──────────────────────────────────────────────────────────────────────────────────────────


def _token_of_file(environment: Mapping[str, str]) -> str:
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials = _credentials(_text(environment))
        if not credentials.valid:  # one lasts an hour, and a teardown asks many times
            credentials.refresh(_exchanged)
    except (GoogleAuthError, ValueError, KeyError) as error:
        raise ProvisionError(f"Google Cloud's credentials could not be used ({type(error).__name__}).") from None
    return str(credentials.token)


class _Answer(msgspec.Struct, frozen=True):
    """As google-auth reads one."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def _exchanged(
    url: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None, **_more: object
) -> _Answer:
    """How google-auth has its questions asked: whole in time, and not on through redirects. Raises its own TransportError."""
    from google.auth.exceptions import TransportError

    asked = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)  # noqa: S310 - of the key file
    try:
        with opener(Here, within_s=ANSWER_S).open(asked, timeout=TIMEOUT_S) as answer:
            return _Answer(answer.status, dict(answer.headers), answer.read(ANSWER_BYTES))
    except urllib.error.HTTPError as refusal:
        with refusal:
            return _Answer(refusal.code, dict(refusal.headers), refusal.read(ANSWER_BYTES))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise TransportError(type(error).__name__) from None


def _text(environment: Mapping[str, str]) -> str:
    """The file's own, or what stands for it in the variable."""
    named = next((environment[name] for name in FILE_VARIABLES if environment.get(name)), None)
    if named and named.lstrip().startswith("{"):
        return named
    path = Path(named) if named else Path(environment.get("HOME", "/nonexistent")) / FILE
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        hint = f"Set {TOKEN_VARIABLE} or {FILE_VARIABLES[1]}, or run: gcloud auth application-default login."
        raise NoCredentials("Google Cloud asks for a token, and no credentials were found.", hint=hint) from None
    except OSError as error:  # they are there, and a later try may read them
        raise ProvisionError(f"Google Cloud's credentials could not be read ({type(error).__name__}).") from None


@functools.cache
def _credentials(text: str) -> Any:
    """By its kind. Raises ValueError for another: its token can be given by hand."""
    from google.oauth2 import credentials, service_account

    info = json.loads(text)
    if info["type"] == "service_account":
        return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
    if info["type"] == "authorized_user":
        return credentials.Credentials.from_authorized_user_info(info)  # with the scopes it was made with
    raise ValueError(info["type"])
