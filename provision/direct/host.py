"""A host that the user already has: reached, used below one folder, cleaned; never powered off, never destroyed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from catalogs.hardware import Offer
from provision.provisioner import Box, Launch, Owned, Teardown


class ExistingHost:
    """Provisioner "host" for `user@address[:port]`.

    The host key must be known: from `known_hosts`, or pinned by `host_key` ("ssh-ed25519 AAAA…" or "SHA256:…"), or
    confirmed by `confirm(fingerprint)`. `up` logs in once as the user (their identities, their agent) to admit the run's
    own key until the deadline; everything after uses that key.
    """

    name = "host"

    def __init__(
        self,
        user_at_host: str,
        *,
        known_hosts: tuple[Path, ...] = (),
        identities: tuple[Path, ...] = (),
        agent: bool = True,
        host_key: str | None = None,
        confirm: Callable[[str], bool] | None = None,
        patience_s: float = 30.0,
    ) -> None:
        """Empty `known_hosts` and `identities` mean the usual files in ~/.ssh."""

    def fetch_offer(self, *, usd_per_hour: Decimal = Decimal(0)) -> Offer:
        """The host as an offer: cores, RAM and GPUs as it reports them."""
        raise NotImplementedError

    def up(self, offer: Offer, launch: Launch) -> Box:
        raise NotImplementedError

    def destroy(self, launch: Launch) -> Teardown:
        raise NotImplementedError

    def owned(self, tag: str | None = None) -> Owned:
        raise NotImplementedError

    def console(self, launch: Launch) -> str:
        raise NotImplementedError
