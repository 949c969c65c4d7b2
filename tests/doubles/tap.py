"""Runs a command where nothing but loopback is real, and writes down whom else it tried to reach.

    unshare --net python -m tests.doubles.tap OUT.json COMMAND…     as root

Every address there is belongs to loopback, where nobody listens; names that are asked for count by name.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

EVERY_PROTOCOL: Final = 0x0003
IPV4: Final = 0x0800
TCP, UDP, DNS = 6, 17, 53
SYN, SYN_AND_ACK = 0x02, 0x12  # the first packet of a call; answers have both
NETWORK: Final = (("link", "set", "lo", "up"), ("route", "add", "local", "default", "dev", "lo"))
LAST_S: Final = 0.2  # for what is on its way when the command ends


def listen(seen: set[str]) -> None:
    """Every packet of IPv4."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY_PROTOCOL)) as ear:
        while True:
            packet, (_, protocol, *_) = ear.recvfrom(65_536)
            if protocol == IPV4 and (whom := reached(packet)):
                seen.add(whom)


def reached(packet: bytes) -> str | None:
    """Whom a packet is for: a name that is asked for, or an address and a port; None for loopback and what is no call."""
    start = (packet[0] & 0x0F) * 4
    target, protocol = ipaddress.ip_address(packet[16:20]), packet[9]
    is_call = protocol == UDP or (protocol == TCP and packet[start + 13] & SYN_AND_ACK == SYN)
    if not is_call:
        return None
    (port,) = struct.unpack_from("!H", packet, start + 2)
    if protocol == UDP and port == DNS:
        return asked_name(packet[start + 8 :])
    return None if target.is_loopback else f"{target}:{port}"


def asked_name(query: bytes) -> str:
    """The first name of a DNS query."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    return ".".join(labels)


def main(out: str, command: list[str]) -> int:
    for words in NETWORK:
        subprocess.run(["ip", *words], check=True)
    seen: set[str] = set()
    threading.Thread(target=listen, args=(seen,), daemon=True).start()
    time.sleep(LAST_S)
    code = subprocess.run(command, check=False).returncode
    time.sleep(LAST_S)
    Path(out).write_text(json.dumps(sorted(seen)))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
