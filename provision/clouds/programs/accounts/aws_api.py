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

from provision.clouds.programs.accounts.aws_chain import Chain, ChainSilent
from provision.clouds.programs.clocks import Heard
from provision.errors import NoCredentials, ProvisionError
from provision.exchange import within

TIMEOUT_S: Final = 10.0  # assumed: of silence
ANSWER_S: Final = 30.0  # assumed: for all of an answer, as in `rest`
RETRIES: Final = 4  # assumed: botocore's standard mode, with backoff


def connect(region: str, environment: Mapping[str, str], service: str = "ec2") -> Any:
    """A client of a service; credentials and endpoint as in `environment`, else wherever AWS's own chain finds them.

    Raises what botocore does, ChainSilent among it.
    """
    endpoint = environment.get(f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}") or environment.get("AWS_ENDPOINT_URL")
    config = botocore.config.Config(
        connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"mode": "standard", "total_max_attempts": RETRIES}
    )
    with _ONE_AT_A_TIME:
        session, chain = _session(*(environment.get(f"AWS_{name}") for name in _CREDENTIALS))
        chain.require()
        client = session.client(service, region_name=region, endpoint_url=endpoint, config=config)
    endpoint_of_it = vars(client)["_endpoint"]  # as botocore names it; the one place where it sends
    endpoint_of_it.http_session = _InTime(endpoint_of_it.http_session)
    return client


class _InTime:
    """Sends as the session does, each answer whole by its time or not at all: botocore's own limit is one of silence.

    A read that is given up goes on unheard. So does the end of a thing, which is wanted in any case; ordered is by the engine
    alone.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        """An answer. Raises what botocore takes for one that did not come, and tries again."""
        try:
            return within(ANSWER_S, lambda: self._session.send(request))
        except TimeoutError as error:
            raise botocore.exceptions.ReadTimeoutError(endpoint_url=request.url, error=error) from error

    def close(self) -> None:
        """Of the session."""
        self._session.close()


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
def _session(key_id: str | None, secret: str | None, token: str | None, profile: str | None) -> tuple[Any, Chain]:
    session = boto3.session.Session(key_id, secret, token, profile_name=profile)
    return session, Chain(session)


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
    if isinstance(error, ChainSilent):
        return str(error)
    if isinstance(error, botocore.exceptions.ClientError):
        return f"{error.response['Error'].get('Code', '')} {error.response['Error'].get('Message', '')}".strip()
    return type(error).__name__
