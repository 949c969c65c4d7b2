"""What a rented machine is told at its first boot: cloud-config as pure text.

The order is the promise. First the deadline is armed: a systemd timer on the wall clock that survives reboots, a limit
by uptime beside it against a wrong clock, neither of which needs the network, a credential or a daemon of ours. A
machine whose timer can't be armed powers off at once. Then the host key that we made, the client key, and apt's own
timers off, because they would hold the package lock in the middle of our set-up (SkyPilot does the same, in `bootcmd`).

Power-off ends the bill only where the cloud terminates a machine that shuts itself down; the program asks for that.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Final

import msgspec

from provision.errors import Refused

FORCE_AFTER_S: Final = 120  # assumed: longer than an orderly shutdown; then without asking anybody
UPTIME_MARGIN_S: Final = 300  # assumed: how much later than the wall clock the uptime limit strikes

SERVICE: Final = "rentune-deadline.service"
TIMER: Final = "rentune-deadline.timer"
APT_UNITS: Final = ("apt-daily.timer", "apt-daily-upgrade.timer", "apt-daily.service", "apt-daily-upgrade.service")


class FirstBoot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the text depends on."""

    user: str
    folder: str  # of ours on the machine
    public_key: str  # of the per-run client key
    host_key_private: str  # OpenSSH PEM; good for the first contact only
    host_key_public: str  # "ssh-ed25519 AAAA…"
    deadline_at_s: float  # wall clock
    now_s: float


def render_user_data(boot: FirstBoot) -> str:
    """The cloud-config document. JSON below the first line: YAML reads it, and nothing in it needs escaping by hand.

    Raises Refused when the deadline is not in the future.
    """
    if boot.deadline_at_s <= boot.now_s:
        raise Refused("The deadline is already over.", hint="Give the run more hours or a higher --max-cost.")
    document = {
        "bootcmd": [["sh", "-c", render_deadline(boot)], ["sh", "-c", render_quiet_apt()]],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": boot.host_key_private, "ed25519_public": boot.host_key_public},
        "ssh_authorized_keys": [boot.public_key.strip()],
        "ssh_pwauth": False,
        "disable_root": True,
        "package_update": False,
        "package_upgrade": False,
        "runcmd": [["install", "-d", "-m", "0700", "-o", boot.user, "-g", boot.user, boot.folder]],
    }
    return "#cloud-config\n" + json.dumps(document, indent=1) + "\n"


def render_deadline(boot: FirstBoot) -> str:
    """The shell script that arms the deadline; it runs at every boot, before the network, and changes nothing twice."""
    deadline_s = math.floor(boot.deadline_at_s)
    uptime_s = math.ceil(boot.deadline_at_s - boot.now_s) + UPTIME_MARGIN_S
    return f"""set -u
units=/etc/systemd/system
cat > "$units/{SERVICE}" <<'UNIT'
{_service_unit()}UNIT
cat > "$units/{TIMER}" <<'UNIT'
{_timer_unit(deadline_s, uptime_s)}UNIT
if [ "$(date +%s)" -ge {deadline_s} ]; then systemctl --no-block poweroff; exit 0; fi
systemctl daemon-reload && systemctl enable {TIMER} && systemctl start {TIMER} && systemctl is-active {TIMER} && exit 0
systemctl --no-block poweroff || poweroff -f
"""


def _service_unit() -> str:
    # Without default dependencies the unit is not stopped by the shutdown it asks for, so its second step can force it.
    return f"""[Unit]
Description=The run's deadline: power off
DefaultDependencies=no
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=-/bin/systemctl --no-block poweroff
ExecStart=-/bin/sleep {FORCE_AFTER_S}
ExecStart=/bin/systemctl poweroff --force --force
"""


def _timer_unit(deadline_s: int, uptime_s: int) -> str:
    # Persistent: a deadline that passed while the machine was down strikes as soon as it is up again.
    return f"""[Unit]
Description=The run's deadline, by wall clock and by uptime
[Timer]
OnCalendar={dt.datetime.fromtimestamp(deadline_s, dt.UTC):%Y-%m-%d %H:%M:%S} UTC
Persistent=true
OnBootSec={uptime_s}
AccuracySec=1s
Unit={SERVICE}
[Install]
WantedBy=timers.target
"""


def render_quiet_apt() -> str:
    """Stop apt's own timers for this machine's short life; a machine without apt is none the worse."""
    return f"systemctl mask --now {' '.join(APT_UNITS)} || true\n"
