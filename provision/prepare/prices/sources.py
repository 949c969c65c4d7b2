"""Who sells what gpuhunt knows the prices of: in its public files, or only by asking. By our name of each, with its own."""

from __future__ import annotations

import datetime as dt
from typing import Final

import msgspec

RELEASED: Final = dt.date(2026, 10, 20)  # derived: gpuhunt 0.1.34, by the times in its wheel; a later one is no older

PUBLISHED: Final = {
    "aws": "aws",
    "azure": "azure",
    "cloudrift": "cloudrift",
    "gcp": "gcp",
    "lambda": "lambdalabs",
    "nebius": "nebius",
    "oci": "oci",
    "runpod": "runpod",
    "verda": "verda",
}


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that is asked live: gpuhunt's name of it, variables without which it can't be, and those read beside."""

    theirs: str
    needed: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    priced_on: dt.date | None = None  # where only the machines are asked for, and gpuhunt itself carries the prices


# gpuhunt 0.1.34, `from_env` of each. Daytona is left out: it rents sandboxes, which no SSH reaches.
LIVE: Final = {
    "crusoe": Live(theirs="crusoe", needed=("CRUSOE_ACCESS_KEY", "CRUSOE_SECRET_KEY", "CRUSOE_PROJECT_ID"), priced_on=RELEASED),
    "digitalocean": Live(theirs="digitalocean", needed=("DIGITAL_OCEAN_API_KEY",), also=("DIGITAL_OCEAN_API_URL",)),
    "hotaisle": Live(theirs="hotaisle", needed=("HOTAISLE_API_KEY", "HOTAISLE_TEAM_HANDLE")),
    "jarvislabs": Live(theirs="jarvislabs", needed=("JL_API_KEY",), also=("JARVISLABS_API_URL",)),
    "lium": Live(theirs="lium"),
    "seeweb": Live(theirs="seeweb", needed=("SEEWEB_API_TOKEN",)),
    "vast": Live(theirs="vastai"),
    "vultr": Live(theirs="vultr", also=("VULTR_API_KEY",)),
}
