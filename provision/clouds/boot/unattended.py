"""The end of a machine for which nobody comes, as shell and systemd units: the idle limit of provision/aboard/renewal.py, and
the lease of provision/aboard/lapse.py where one was asked for.

Only where a power-off ends the bill: elsewhere a machine that is off costs what it did, or stays for ever. It is armed after
the deadline and apart from it, so whatever is wrong here costs no more than the time to the deadline.
"""

from __future__ import annotations

import math
import shlex
from typing import Final

from provision.aboard import lapse
from provision.aboard.renewal import FUNCTIONS

SCRIPT: Final = "/etc/rentune-idle-limit.sh"
BEGAN: Final = "/run/rentune-began"  # the uptime at this boot's first command; a tmpfs, so of this boot
SERVICE: Final = "rentune-idle-limit.service"
TIMER: Final = "rentune-idle-limit.timer"
LOOK_S: Final = 60  # assumed: a minute more does not matter


def render_idle_limit(folder: str, idle_limit_s: float, *, end: str, lease_s: float | None = None) -> str:
    """The shell script that arms it, at every boot. `end` is the unit that powers off."""
    lease, or_lapsed = lease_in_shell(lease_s)
    return f"""\
sed 's/[.].*//' /proc/uptime > {BEGAN}
cat > {SCRIPT} <<'SCRIPT'
box={shlex.quote(folder)} idle_limit_s={math.ceil(idle_limit_s)}
read -r began_s < {BEGAN}
{FUNCTIONS}{lease}[ "${{1:-}}" != end ] || ! {{ is_forsaken{or_lapsed}; }} || systemctl --no-block start {end}
SCRIPT
cat > /etc/systemd/system/{SERVICE} <<'UNIT'
{_service_unit()}UNIT
cat > /etc/systemd/system/{TIMER} <<'UNIT'
{_timer_unit()}UNIT
timeout {LOOK_S} systemctl daemon-reload
timeout {LOOK_S} systemctl start --no-block {TIMER}
"""


def lease_in_shell(lease_s: float | None) -> tuple[str, str]:
    """What of a script knows the lease, and what is asked beside the idle limit; nothing where there is none."""
    return ("", "") if lease_s is None else (f"lease_s={math.ceil(lease_s)}\n{lapse.FUNCTIONS}", " || lease_ends")


def _service_unit() -> str:
    return f"""[Unit]
Description=The run's idle limit: power off where nobody has come
DefaultDependencies=no
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh {SCRIPT} end
"""


def _timer_unit() -> str:
    # No default dependencies, as those of the deadline: `bootcmd` runs before what they would wait for.
    return f"""[Unit]
Description=The run's idle limit, looked at again and again
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
if [ -r {SCRIPT} ]; then set --; lease_s=; . {SCRIPT}; tell_idle_limit "$watched"; [ -z "$lease_s" ] || tell_lease "$watched"
else echo "idle limit|no||nothing ends it early if nobody comes"; fi
"""
