"""A new host key, made by the box itself, over the first pinned connection.

The key that let us in travelled in user data, which the provider's API shows to whoever may read it. So it is good for
one login: the box makes another, we pin that, and the first is gone.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

import msgspec

from provision.errors import ConnectionFailed, WrongHostKey
from provision.provisioner import Box
from provision.ssh.shell import Shell

RELOADS = 20  # assumed: sshd has read its keys again after five seconds
RELOAD_S = 0.25  # derived: five seconds in all
HOST_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key"  # where cloud images keep it

# The listener is the uppermost sshd above this shell; SIGHUP makes it read its keys again, with or without systemd.
REPLACE = """set -e
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
as_root rm -f "$key.new" "$key.new.pub"
as_root ssh-keygen -q -t ed25519 -N '' -C '' -f "$key.new"
as_root cat "$key.new.pub"
as_root mv "$key.new.pub" "$key.pub"
as_root mv "$key.new" "$key"
up=$$
while [ "$up" -gt 1 ]; do
  case "$(cat /proc/$up/comm)" in sshd*) listener=$up ;; esac
  up=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$up/status)
done
as_root kill -HUP "$listener"
"""


def replace_host_key(
    shell: Shell, box: Box, *, key_file: str = HOST_KEY_FILE, sleep: Callable[[float], None] = time.sleep
) -> Box:
    """Have the box make a new host key over this pinned connection, pin it, and return the Box that carries it.

    Returns `box` as it is unless `box.replace_host_key`. Write the new Box to the ledger (a second Created line).
    """
    if not box.replace_host_key:
        return box
    done = shell.run(f"key={shlex.quote(key_file)}\n{REPLACE}")
    if done.rc != 0:
        raise ConnectionFailed(f"{box.host} could not make a new host key: {done.err.strip()}")
    renewed = msgspec.structs.replace(box, host_key=" ".join(done.out.split()[:2]), replace_host_key=False)
    shell.repin(renewed)
    for _ in range(RELOADS):
        try:
            shell.run("true")
            return renewed
        except WrongHostKey:  # still the old one
            sleep(RELOAD_S)
    raise ConnectionFailed(f"{box.host} made a new host key and still answers with the old one.")
