"""Under which address the world sees this machine."""

from __future__ import annotations

import http.client
import ipaddress
from typing import Final

from provision.errors import ProvisionError
from provision.exchange import opener

URL: Final = "https://checkip.amazonaws.com"  # AWS's own; answers with the caller's address and a newline, without an account
TIMEOUT_S: Final = 10.0  # assumed


def caller_address() -> str:
    """The address that AWS sees this machine under, as one CIDR. Raises ProvisionError."""
    try:
        with opener(within_s=TIMEOUT_S).open(URL, timeout=TIMEOUT_S) as answer:
            address = ipaddress.ip_address(answer.read(64).decode("ascii", "replace").strip())
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise ProvisionError(
            f"This machine's public address could not be found out: {why}.", hint="Give it with --allow-from ADDRESS/32."
        ) from None
    return str(ipaddress.ip_network(address))
