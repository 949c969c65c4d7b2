"""A new host key, made by the box itself, over the first pinned connection.

The key that let us in travelled in user data, which the provider's API shows to whoever may read it. So it is good for
one login: the box makes another, we pin that, and the first is gone.

The coming key is written down before the box takes it, and until it is seen to answer with that either is accepted: else an
answer that is lost, or a controller that dies, would leave a box that only a dead key is known of.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

import msgspec

from provision.errors import Declined, Reason, Scope, WrongHostKey
from provision.seam import Box
from provision.ssh.shell import Shell

RELOADS = 20  # assumed: sshd has read its keys again after five seconds
RELOAD_S = 0.25  # derived: five seconds in all
HOST_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key"  # where cloud images keep it

AS_ROOT = """set -e
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
is_coming() { as_root test -e "$1" && [ "$(as_root ssh-keygen -y -f "$1" | cut -d ' ' -f 1-2)" = "$coming" ]; }
"""

# Made beside the one in use, once: what was written down stays the coming one, in place or not yet.
MAKE = """if is_coming "$key" || is_coming "$key.new"; then echo "$coming"; exit; fi
as_root rm -f "$key.new" "$key.new.pub"
as_root ssh-keygen -q -t ed25519 -N '' -C '' -f "$key.new"
as_root cat "$key.new.pub"
"""

# May be cut off anywhere and come again. The listener is the uppermost sshd above this shell; SIGHUP makes it read its keys
# again, with or without systemd.
TAKE = """is_coming "$key" || { is_coming "$key.new" && as_root mv "$key.new" "$key"; }
if as_root test -e "$key.new.pub"; then as_root mv "$key.new.pub" "$key.pub"; fi
up=$$
while [ "$up" -gt 1 ]; do
  case "$(cat /proc/$up/comm)" in sshd*) listener=$up ;; esac
  up=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$up/status)
done
as_root kill -HUP "$listener"
"""


def replace_host_key(
    shell: Shell,
    box: Box,
    write_down: Callable[[Box], object],
    *,
    key_file: str = HOST_KEY_FILE,
    sleep: Callable[[float], None] = time.sleep,
) -> Box:
    """Have the box make a new host key over this pinned connection, pin it, and return the Box that carries it.

    `write_down`: called with the Box that has a coming key beside its own, and again once that is its own. Bears being
    repeated with the Box that was written down last. Returns `box` as it is unless `box.replace_host_key`. Raises
    ConnectionFailed where the line was cut, Declined where the box can't do it: another may.
    """
    if not box.replace_host_key:
        return box
    coming = " ".join(_told(shell, box, MAKE, box.coming_host_key or "", key_file).split()[:2])
    box = msgspec.structs.replace(box, coming_host_key=coming)
    write_down(box)
    shell.expect(box)
    _told(shell, box, TAKE, coming, key_file)
    renewed = msgspec.structs.replace(box, host_key=coming, coming_host_key=None, replace_host_key=False)
    shell.expect(renewed)
    try:
        _require_new(shell, sleep)
    except BaseException:
        shell.expect(box)  # it may be asked again, and answers with either
        raise
    write_down(renewed)
    return renewed


def _told(shell: Shell, box: Box, script: str, coming: str, key_file: str) -> str:
    done = shell.run(f"key={shlex.quote(key_file)}\ncoming={shlex.quote(coming)}\n{AS_ROOT}{script}")
    if done.rc != 0:
        raise _declined(f"{box.host} could not make a new host key: {done.err.strip()}")
    return done.out


def _require_new(shell: Shell, sleep: Callable[[float], None]) -> None:
    """Raises Declined where it goes on answering with the old one."""
    shell.hang_up()
    for _ in range(RELOADS):
        try:
            shell.run("true")
            return
        except WrongHostKey:  # still the old one
            sleep(RELOAD_S)
    raise _declined(f"{shell.box.host} made a new host key and still answers with the old one.")


def _declined(message: str) -> Declined:
    return Declined(message, reason=Reason.HOST, scope=Scope.OFFER)
