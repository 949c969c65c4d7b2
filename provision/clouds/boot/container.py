"""What a rented container is told when it starts: shell as pure text, for clouds that rent containers.

A container has neither cloud-init nor systemd, and its end is not the end of its bill: whoever rents it out may start it
again, or bill what stands still. So it must ask its cloud for the end. How, the cloud's program says in the environment
variable `END_VARIABLE`: shell that defines `can_end`, which is true where the container could ask, and `end_box`, which asks.

The order is the promise, as in provision/clouds/boot/bootstrap.py: first the deadline, by wall clock and, against a wrong one,
by uptime, and the idle limit (provision/aboard/renewal.py); they are watched from a process of its own, and the end is asked
for until it comes. Only then the keys and the SSH server.
A container that could not end itself serves nobody: it never answers, so whoever rented it gives it back.

The text is evaluated by the first process, which starts it over when the container is started over; it lies in an
environment variable, not in a command line, for it holds the one-time host key.
"""

from __future__ import annotations

import math
import shlex
from typing import Final

from provision.aboard import lease
from provision.aboard.renewal import FUNCTIONS
from provision.clouds.boot.bootstrap import FirstBoot, limits_of, require_time
from provision.clouds.boot.unattended import lease_functions

START_VARIABLE: Final = "RENTUNE_START"
END_VARIABLE: Final = "RENTUNE_BOX_END"
ENTRYPOINT: Final = ("/bin/sh", "-c", f'eval "${START_VARIABLE}"')
LOOK_S: Final = 5  # assumed: between two looks at the clock
AGAIN_S: Final = 30  # assumed: between two requests for the end
SSHD_AGAIN_S: Final = 2  # assumed: an SSH server that ended would otherwise take the container with it

# Pid of what watches, the deadline, the uptime from which on nobody came (less what earlier starts had used), the idle limit,
# the box's folder; written anew at each start.
WATCHER: Final = "/run/rentune-watcher"
# Pid of what watches the lease, apart from that: it waits for the trainer's last words, and the deadline must not. The lease.
LEASE_WATCHER: Final = "/run/rentune-lease-watcher"

# Shell, for one who has a lease.
WATCH_LEASE: Final = f"""\
(
  until lease_ends && await_fetch; do sleep {LOOK_S}; done
  while :; do echo "rentune: nobody renewed its lease for $lease_s s"; end_box; sleep {AGAIN_S}; done
) &
echo "$! $lease_s" > {LEASE_WATCHER}
"""

SSHD_OPTIONS: Final = (
    'HostKey="$keys/ssh_host_ed25519_key"',
    'AuthorizedKeysFile="$home/.ssh/authorized_keys"',
    "AuthenticationMethods=publickey",
    "PermitRootLogin=prohibit-password",
)


def render_start(boot: FirstBoot) -> str:
    """The shell text. Its SSH server stays a child of the first process: that one ignores the signals it is sent.

    Raises Refused when the deadline is not in the future.
    """
    require_time(boot)
    deadline_s, uptime_s = limits_of(boot)
    idle_limit_s = 0 if boot.idle_limit_s is None else math.ceil(boot.idle_limit_s)
    or_forsaken = "" if boot.idle_limit_s is None else " || is_forsaken"
    watch_lease = "" if boot.lease_s is None else f"{lease_functions(boot.lease_s)}{WATCH_LEASE}"
    cache = "" if boot.volume is None else f" {shlex.quote(boot.volume.cache)}"
    options = " ".join(f"-o {option}" for option in SSHD_OPTIONS)
    return f"""\
eval "${{{END_VARIABLE}:-}}"
{FUNCTIONS}idle_limit_s={idle_limit_s} box={shlex.quote(boot.folder)}
started_s=$(up_s) began_s=$(($(up_s) - $(unrenewed_before_s)))
over() {{ [ "$(date +%s)" -ge {deadline_s} ] || [ "$(up_s)" -ge $((started_s + {uptime_s})) ]; }}
(
  until over{or_forsaken}; do note_unrenewed; sleep {LOOK_S}; done
  while :; do echo "rentune: the deadline is here, or nobody came for $idle_limit_s s"; end_box; sleep {AGAIN_S}; done
) &
echo "$! {deadline_s} $began_s $idle_limit_s $box" > {WATCHER}
{watch_lease}until can_end; do echo "rentune: it could not end itself, so it serves nobody"; sleep {AGAIN_S}; done
umask 077
keys=/etc/ssh home=/root
mkdir -p /run/sshd "$keys" "$home/.ssh" {shlex.quote(boot.folder)}{cache}
rm -f "$keys"/ssh_host_*
printf '%s\\n' {shlex.quote(boot.host_key_private.strip())} > "$keys/ssh_host_ed25519_key"
printf '%s\\n' {shlex.quote(boot.host_key_public.strip())} > "$keys/ssh_host_ed25519_key.pub"
printf '%s\\n' {shlex.quote(boot.public_key.strip())} > "$home/.ssh/authorized_keys"
while :; do "$(command -v sshd || echo /usr/sbin/sshd)" -D -e {options}; sleep {SSHD_AGAIN_S}; done
"""


def render_look(*, idle_limit: bool) -> str:
    """The script that asks whether the deadline is watched (provision/aboard/layers.py says what it prints), and the idle limit
    where there is one.
    """
    no_limit, limit = ("; tell_idle_limit no", "; tell_idle_limit yes") if idle_limit else ("", "")
    return f"""\
{FUNCTIONS}{lease.FUNCTIONS}read -r pid at_s began_s idle_limit_s box 2> /dev/null < {WATCHER}
lives() {{
  case "$(sed -n 's/^State:[[:space:]]*\\(.\\).*/\\1/p' "/proc/$1/status" 2> /dev/null)" in "" | [ZXTt]) return 1 ;; esac
}}
# One that was stopped by a signal watches nothing either.
if lives "$pid"; then echo "watcher|yes|$((at_s - $(date +%s)))|asks the cloud for the end, again and again"{limit}
else echo "watcher|no||nothing in the container watches the deadline"{no_limit}; fi
[ -r {LEASE_WATCHER} ] || exit 0
read -r pid lease_s < {LEASE_WATCHER}
if lives "$pid"; then tell_lease yes; else tell_lease no; fi
"""
