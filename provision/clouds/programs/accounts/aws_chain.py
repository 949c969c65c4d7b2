"""Whoever AWS's own chain asks for credentials (profiles, single sign-on, a role, a container, the machine): in time, or not.

botocore limits the silence of each exchange, and nothing as a whole: an address that drips holds a command for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import botocore.credentials
import botocore.exceptions

from provision.exchange import within

T = TypeVar("T")

CHAIN_S: Final = 60.0  # assumed: within it a person types the code of a second factor; machines answer in a second
QUIET_S: Final = 60.0  # assumed: so long whoever was silent is not asked again, as a look asks for each region


class ChainSilent(botocore.exceptions.BotoCoreError):  # type: ignore[misc] # botocore's types are not followed
    """Nobody knows whether there are credentials."""

    fmt = "wherever credentials come from (a profile, single sign-on, a role, the machine's metadata) did not answer in time"


class Chain:
    """What a session's credentials come from."""

    def __init__(self, session: Any, steady: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._steady = steady
        self._quiet_until_s = -QUIET_S

    def require(self) -> None:
        """Find the credentials, if there are any, and let each renewal of them end in time as well. Raises ChainSilent."""
        found = self.asked(self._session.get_credentials)
        if isinstance(found, botocore.credentials.RefreshableCredentials):
            vars(vars(self._session)["_session"])["_credentials"] = _InTime(found, self)  # as botocore names it

    def asked(self, act: Callable[[], T]) -> T:
        """What `act` finds. Raises ChainSilent where that takes too long, and at once for a while after it did."""
        if self._steady() < self._quiet_until_s:
            raise ChainSilent
        try:
            return within(CHAIN_S, act)
        except TimeoutError:
            self._quiet_until_s = self._steady() + QUIET_S
            raise ChainSilent from None


class _InTime:
    """Credentials that are renewed when they are asked for."""

    def __init__(self, credentials: Any, chain: Chain) -> None:
        self._credentials = credentials
        self._chain = chain

    def get_frozen_credentials(self) -> Any:
        """As botocore asks for them before each request."""
        return self._chain.asked(self._credentials.get_frozen_credentials)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)
