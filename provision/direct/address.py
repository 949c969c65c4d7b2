"""How a host of the user's is reached: what was typed, filled up from their ~/.ssh/config, as `ssh` does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from catalogs.user_file import expanded
from provision.errors import BadInput
from provision.home.installation import user_name

WRITTEN = re.compile(
    r"(?:(?P<user>\w[\w.+$-]*)@)?(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>\w[\w.-]*))(?::(?P<port>\d{1,5}))?"
)
SSH_PORT = 22
JUMPS = ("proxyjump", "proxycommand")


class Address(msgspec.Struct, frozen=True):
    """Where the host answers, as whom, and with which of the user's keys (none: the usual ones)."""

    user: str
    host: str
    port: int
    identities: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """The address as it is shown: without the usual port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != SSH_PORT else "")

    @property
    def command(self) -> str:
        """The `ssh` command by which a person would reach the address."""
        port = f"-p {self.port} " if self.port != SSH_PORT else ""
        return f"ssh {port}{self.user}@{self.host}"


def address_of(user_at_host: str, *, config: Path | None = None) -> Address:
    """The address of `[user@]host[:port]`; an IPv6 address with a port stands in brackets.

    `config`: an ssh_config whose HostName, User, Port and IdentityFile hold for what was not typed (None: ~/.ssh/config).
    Raises BadInput for what is no address, without a user's name, and for a host that is reached through another one.
    """
    typed = WRITTEN.fullmatch(user_at_host.strip())
    if not typed:
        raise _no_address(user_at_host)
    host = str(typed["ipv6"] or typed["host"])
    said = _configured(host, config or expanded("~/.ssh/config"))
    port = int(typed["port"] or said.get("port", SSH_PORT))
    if not 0 < port < 65536:
        raise _no_address(user_at_host)
    jump = next((said[key] for key in JUMPS if said.get(key, "none") != "none"), None)
    if jump is not None:
        raise BadInput(
            f"{host} is reached through another host ({jump}), by your ~/.ssh/config; rentune goes straight to a host.",
            hint=f"Open the way yourself, for example: ssh -L 2222:localhost:22 {host}; then --host user@localhost:2222",
        )
    user = typed["user"] or said.get("user") or user_name()
    if user is None:
        raise BadInput(
            f"As whom to log in at {host} is not said, and nobody here knows what you are called.",
            hint=f"USER@{host}",
            place=("where", "host"),
        )
    return Address(
        user=user,
        host=said.get("hostname", host),
        port=port,
        identities=tuple(map(Path, said.get("identityfile", ()))),
    )


def _no_address(user_at_host: str) -> BadInput:
    return BadInput(f"{user_at_host!r} is not an address.", hint="user@address, or user@address:port", place=("where", "host"))


def _configured(host: str, config: Path) -> dict[str, Any]:
    """What the user's ssh_config says of a host; nothing where there is none. Raises BadInput for one that can't be read."""
    if not config.exists():
        return {}
    from provision.ssh.connect import read_config  # SSH's packages are loaded only where there is something to read

    return read_config(config, host)
