"""The local box: an SSH server of our own on loopback, ended by a reaper that outlives the controller."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from catalogs.hardware import Offer
from provision.provisioner import Box, Launch, Owned, Teardown


def local_offer(*, usd_per_hour: Decimal = Decimal(0)) -> Offer:
    """This machine as an offer: its cores and RAM, no GPU; a made-up price rehearses the bill."""
    raise NotImplementedError


class LocalBox:
    """Provisioner "local". `root` holds a folder per box; `cache` outlives them (stacks, converted bases)."""

    name = "local"

    def __init__(self, root: Path, cache: Path, *, namespace: bool | None = None) -> None:
        """`namespace`: run inside a bubblewrap PID namespace; None = where bwrap works."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        raise NotImplementedError

    def destroy(self, launch: Launch) -> Teardown:
        raise NotImplementedError

    def owned(self, tag: str | None = None) -> Owned:
        raise NotImplementedError

    def console(self, launch: Launch) -> str:
        raise NotImplementedError
