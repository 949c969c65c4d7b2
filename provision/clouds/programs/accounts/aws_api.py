"""How AWS is asked: a client of one of its services, and what it declines as one sentence."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import boto3
import botocore.config
import botocore.exceptions

from provision.clouds.programs.clocks import Heard
from provision.errors import NoCredentials, ProvisionError

TIMEOUT_S: Final = 10.0  # assumed
RETRIES: Final = 4  # assumed: botocore's standard mode, with backoff


def connect(region: str, environment: Mapping[str, str], service: str = "ec2") -> Any:
    """A client of a service; credentials and endpoint as in `environment`, else wherever AWS's own chain finds them."""
    endpoint = environment.get(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}") or environment.get("AWS_ENDPOINT_URL")
    config = botocore.config.Config(
        connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"mode": "standard", "total_max_attempts": RETRIES}
    )
    with _ONE_AT_A_TIME:
        session = _session(*(environment.get(f"AWS_{name}") for name in _CREDENTIALS))
        return session.client(service, region_name=region, endpoint_url=endpoint, config=config)


def heard_by(client: Any) -> Heard:
    """What the client's answers will have told of the time."""
    heard = Heard()

    def note(http_response: Any, **_: Any) -> None:
        heard.note(http_response.headers.get("Date"), now_s=time.time())

    client.meta.events.register("after-call", note)
    return heard


_ONE_AT_A_TIME: Final = threading.Lock()  # boto3 makes clients safely in one thread only; using them is safe in any
_CREDENTIALS: Final = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE")


@functools.cache  # a session parses EC2's model once, 0.4 s; a client of every region is then quick
def _session(key_id: str | None, secret: str | None, token: str | None, profile: str | None) -> Any:
    return boto3.session.Session(key_id, secret, token, profile_name=profile)


# What boto3 raises where AWS's own chain has found no credentials: nobody was asked, and no later try has any.
NOBODY: Final = (botocore.exceptions.NoCredentialsError, botocore.exceptions.ProfileNotFound)


@contextmanager
def asked(what: str) -> Iterator[None]:
    """Turns what boto3 raises into one sentence. Raises ProvisionError; NoCredentials where there are none."""
    try:
        yield
    except NOBODY as error:
        hint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        raise NoCredentials(f"AWS did not grant {what}: {reason_of(error)}", hint=hint) from None
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise ProvisionError(f"AWS did not grant {what}: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """The code and message of a ClientError; the class's name for the rest, whose text may hold an endpoint or a path."""
    if isinstance(error, botocore.exceptions.ClientError):
        return f"{error.response['Error'].get('Code', '')} {error.response['Error'].get('Message', '')}".strip()
    return type(error).__name__
