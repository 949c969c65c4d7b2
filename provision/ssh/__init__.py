"""The SSH client, and the only room that imports paramiko: one connection per box, every wait bounded.

connect.py   address × pinned key × identity -> an authenticated transport; known keys of hosts
channel.py   one command on one transport
line.py      what transfer, trees and follow need of a connection
shell.py     Shell: the connection that reconnects; run, put, get, put_tree, follow
transfer.py  files in pieces over several channels, sha256 on both sides
trees.py     folders as tar streams
follow.py    a growing file, line by line, across cuts
hostkey.py   the key that travelled in user data is replaced over the first pinned connection
"""

from provision.ssh.connect import Identity, fetch_host_key, fingerprint, read_known_keys
from provision.ssh.hostkey import replace_host_key
from provision.ssh.shell import WAITS, Completed, Shell, Waits
from provision.ssh.transfer import Progress

__all__ = [
    "WAITS",
    "Completed",
    "Identity",
    "Progress",
    "Shell",
    "Waits",
    "fetch_host_key",
    "fingerprint",
    "read_known_keys",
    "replace_host_key",
]
