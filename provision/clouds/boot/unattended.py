"""The end of a machine for which nobody comes, as shell and systemd units: the idle limit of provision/aboard/renewal.py, and
the lease of provision/aboard/lease.py where one was asked for.

Only where a power-off ends the bill: elsewhere a machine that is off costs what it did, or stays for ever. It is armed after
the deadline and apart from it, so whatever is wrong here costs no more than the time to the deadline.
"""

from __future__ import annotations

import math
import shlex
from typing import Final

from provision.aboard import lease
from provision.aboard.renewal import FUNCTIONS

NAME: Final = "rentune-unattended"  # of the script and of its units
SCRIPT: Final = f"/etc/{NAME}.sh"
BEGAN: Final = "/run/rentune-began"  # from which uptime on it counts, as of this boot's first command; a tmpfs, so of this boot
SERVICE: Final = f"{NAME}.service"
TIMER: Final = f"{NAME}.timer"
LOOK_S: Final = 60  # assumed: a minute more does not matter


def render_unattended(folder: str, idle_limit_s: float, *, end: str, lease_s: float | None = None) -> str:
    """The shell script that arms both, at every boot; a lease only where there is one. `end` is the unit that powers off. What
    is written beside its place keeps what the boot before had where the disk is full by then.
    """
    functions, or_lease_ends = ("", "") if lease_s is None else (lease_functions(lease_s), " || { lease_ends && await_fetch; }")
    return f"""\
put() {{ cat > "$1.new" && mv "$1.new" "$1"; }}
put {SCRIPT} <<'SCRIPT'
box={shlex.quote(folder)} idle_limit_s={math.ceil(idle_limit_s)}
{FUNCTIONS}{functions}[ "${{1:-}}" != begin ] || echo $(($(up_s) - $(unrenewed_before_s))) > {BEGAN}
read -r began_s < {BEGAN}
[ "${{1:-}}" != end ] || {{ note_unrenewed; ! {{ is_forsaken{or_lease_ends}; }}; }} || systemctl --no-block start {end}
SCRIPT
sh {SCRIPT} begin
put /etc/systemd/system/{SERVICE} <<'UNIT'
{_service_unit()}UNIT
put /etc/systemd/system/{TIMER} <<'UNIT'
{_timer_unit()}UNIT
timeout {LOOK_S} systemctl daemon-reload
timeout {LOOK_S} systemctl start --no-block {TIMER}
"""


def lease_functions(lease_s: float) -> str:
    """What of a script knows the lease, below what knows the idle limit."""
    return f"lease_s={math.ceil(lease_s)}\n{lease.FUNCTIONS}"


def _service_unit() -> str:
    # It waits for a trainer that saves (lease.LEAVING_S): what systemd allows a start elsewhere, 90 s, would cut that off.
    return f"""[Unit]
Description=Power off where nobody has come, or nobody renews the run's lease
DefaultDependencies=no
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh {SCRIPT} end
"""


def _timer_unit() -> str:
    # No default dependencies, as those of the deadline: `bootcmd` runs before what they would wait for.
    return f"""[Unit]
Description=The run's idle limit and its lease, looked at again and again
DefaultDependencies=no
[Timer]
OnActiveSec={LOOK_S}
OnUnitInactiveSec={LOOK_S}
AccuracySec=1s
Unit={SERVICE}
"""


def render_look() -> str:
    """The lines that read it back (provision/aboard/layers.py says what they print)."""
    return f"""\
watched=$(systemctl show --value --property=ActiveState {TIMER} 2> /dev/null)
case "$watched" in active) watched=yes ;; "") watched=unknown ;; *) watched=no ;; esac
if [ -r {SCRIPT} ]; then
  set --; lease_s=; . {SCRIPT}
  tell_idle_limit "$watched"; [ -z "$lease_s" ] || tell_lease "$watched"
else echo "idle limit|no||nothing ends it early if nobody comes"; fi
"""
