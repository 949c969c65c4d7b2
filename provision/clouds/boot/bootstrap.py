"""What a rented machine is told at its first boot: cloud-config as pure text.

The order is the promise. First the deadline is armed: a systemd timer on the wall clock that survives reboots, a limit
by uptime beside it against a wrong clock, neither of which needs the network, a credential or a daemon of ours. A
machine whose timer can't be armed powers off at once. Then the host key that we made, the client key, and apt's own
timers off, because they would hold the package lock in the middle of our set-up (SkyPilot does the same, in `bootcmd`).

`bootcmd` runs while systemd still holds the rest of the boot back: on Ubuntu cloud-init's network stage comes before
sysinit.target, and by default a timer comes after it. To wait there for such a unit is to wait for oneself (the hang of
canonical/cloud-init, issue 7052). So our units have no default dependencies, nothing waits for a job, and whatever is
asked of systemd has an end.

Power-off ends the bill only where the cloud terminates a machine that shuts itself down; the program asks for that.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Final

import msgspec

from provision.clouds.boot import unattended
from provision.clouds.boot.driver_unit import DriverOrder, render_driver
from provision.clouds.boot.unattended import render_unattended
from provision.errors import Refused
from provision.seam import Ends

FORCE_AFTER_S: Final = 120  # assumed: longer than an orderly shutdown; then without asking anybody
ASK_S: Final = 20  # assumed: far longer than systemd takes to answer, far shorter than a boot that hangs may bill
DEVICE_S: Final = 300  # assumed: a volume is attached within a minute of its machine's start
UPTIME_MARGIN_S: Final = 300  # assumed: how much later than the wall clock the uptime limit strikes

SERVICE: Final = "rentune-deadline.service"
TIMER: Final = "rentune-deadline.timer"
POWER_OFF: Final = f"{{ timeout {ASK_S} systemctl --no-block poweroff || poweroff -f; }}"
APT_UNITS: Final = ("apt-daily.timer", "apt-daily-upgrade.timer", "apt-daily.service", "apt-daily-upgrade.service")


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that was there before the machine, or outlives it."""

    device: str | None  # paths, with *; None = the cloud mounts it
    mount: str
    cache: str  # the folder on it for what is dear to make again; it is there once the disk is mounted
    fresh: bool  # nothing is on it yet; of any other nothing is ever formatted


class FirstBoot(Ends, frozen=True, kw_only=True):
    """Everything that the text depends on. Raises Refused for a lease where there is no idle limit: on a machine that is rented
    both end by the same way out, and where that ends no bill there is neither.
    """

    user: str
    folder: str  # of ours on the machine
    public_key: str  # of the per-run client key
    host_key_private: str  # OpenSSH PEM; good for the first contact only
    host_key_public: str  # "ssh-ed25519 AAAA…"
    now_s: float
    volume: Volume | None = None
    driver_order: DriverOrder | None = None  # what to see to where the image may have none that fits

    def __post_init__(self) -> None:
        if self.lease_s is not None and self.idle_limit_s is None:
            raise Refused("A lease ends no bill there before the deadline.", hint="Another --provider, or no lease.")


def render_user_data(boot: FirstBoot) -> str:
    """The cloud-config document. JSON below the first line: YAML reads it, and nothing in it needs escaping by hand.

    Raises Refused when the deadline is not in the future.
    """
    require_time(boot)
    document = {
        "bootcmd": [["sh", "-c", text] for text in (render_deadline(boot), *_unattended(boot), render_quiet_apt())],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": boot.host_key_private, "ed25519_public": boot.host_key_public},
        "users": [
            {
                "name": boot.user,  # named, for not every image has a user beside root
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "lock_passwd": True,
                "ssh_authorized_keys": [boot.public_key.strip()],
            }
        ],
        "ssh_pwauth": False,
        "disable_root": True,
        "package_update": False,
        "package_upgrade": False,
        "runcmd": [
            ["sh", "-c", render_last_check()],
            ["install", "-d", "-m", "0700", "-o", boot.user, "-g", boot.user, boot.folder],
            *(
                [] if boot.driver_order is None else [["sh", "-c", render_driver(boot.driver_order)]]
            ),  # before a volume is waited for
            *([] if boot.volume is None else [["sh", "-c", render_mount(boot.volume, boot.user)]]),
        ],
    }
    return "#cloud-config\n" + json.dumps(document, indent=1) + "\n"


def _unattended(boot: FirstBoot) -> tuple[str, ...]:
    if boot.idle_limit_s is None:
        return ()
    return (render_unattended(boot.folder, boot.idle_limit_s, end=SERVICE, lease_s=boot.lease_s),)


def require_time(boot: FirstBoot) -> None:
    """Raises Refused when the deadline is not in the future: what would end at once is not rented."""
    if boot.deadline_at_s <= boot.now_s:
        raise Refused("The deadline is already over.", hint="Give the run more hours or a higher --max-cost.")


def limits_of(boot: FirstBoot) -> tuple[int, int]:
    """The deadline in seconds since the epoch, and the uptime in seconds that bounds it where the clock is wrong."""
    return math.floor(boot.deadline_at_s), math.ceil(boot.deadline_at_s - boot.now_s) + UPTIME_MARGIN_S


def render_deadline(boot: FirstBoot) -> str:
    """The shell script that arms the deadline; it runs at every boot, before the network, and changes nothing twice. A disk
    that is full by then keeps the units of the boot before: each is written beside its place.
    """
    deadline_s, uptime_s = limits_of(boot)
    ask = f"timeout {ASK_S} systemctl"
    return f"""set -u
units=/etc/systemd/system
put() {{ cat > "$units/$1.new" && mv "$units/$1.new" "$units/$1"; }}
put {SERVICE} <<'UNIT'
{_service_unit()}UNIT
put {TIMER} <<'UNIT'
{_timer_unit(deadline_s, uptime_s)}UNIT
if [ "$(date +%s)" -ge {deadline_s} ]; then {POWER_OFF}; exit 0; fi
armed() {{
  {ask} daemon-reload && {ask} enable {TIMER} && {ask} start --no-block {TIMER} || return 1
  for second in $(seq {ASK_S}); do {ask} is-active {TIMER} && return 0; sleep 1; done
  return 1
}}
armed || {POWER_OFF}
"""


def render_last_check() -> str:
    """Once more at the end of the first boot, when everything else that may have undone the timer has happened."""
    return f"timeout {ASK_S} systemctl is-active {TIMER} || {POWER_OFF}\n"


def render_mount(volume: Volume, user: str) -> str:
    """The shell script that mounts a kept volume once it is attached. A disk with partitions is the machine's own, and so are
    they: udev links each beside its disk, under the disk's name and `-part1`, which the same pattern takes in.

    Only a fresh one is formatted, and only where blkid finds nothing at all on it (its code 2): what is kept is never lost to
    a look that failed.
    """
    form = 'blkid -p "$device" > /dev/null 2>&1; [ $? -ne 2 ] || mkfs.ext4 -q "$device"' if volume.fresh else ":"
    return f"""set -u
found() {{
  for device in {volume.device}; do
    [ -b "$device" ] && [ "$(lsblk -nro TYPE "$device")" = disk ] && return 0
  done
  return 1
}}
for second in $(seq {DEVICE_S}); do ! found || break; sleep 1; done
found || {{ echo "rentune: the volume has not come"; exit 1; }}
{form}
mkdir -p {volume.mount}
echo "UUID=$(blkid -s UUID -o value "$device") {volume.mount} ext4 nofail 0 2" >> /etc/fstab
mount "$device" {volume.mount} && install -d -m 0700 -o {user} -g {user} {volume.cache}
"""


def render_look(*, idle_limit: bool) -> str:
    """The script that reads the deadline back from systemd (provision/aboard/layers.py says what it prints), and the idle limit
    where there is one.
    """
    return _deadline_look() + (unattended.render_look() if idle_limit else "")


def _deadline_look() -> str:
    return f"""export LC_ALL=C TZ=UTC
as_root=; [ "$(id -u)" = 0 ] || as_root="sudo -n"
of_timer() {{ timeout {ASK_S} $as_root systemctl show --value --property="$1" {TIMER} 2> /dev/null; }}
now_s=$(date +%s) up_s=$(sed 's/[.].*//' /proc/uptime)
armed=no words="systemd has no such timer that waits"
if ! state=$(of_timer SubState); then armed=unknown words="systemd does not answer"
elif [ "$state" != waiting ]; then :
elif [ "$(of_timer UnitFileState)" != enabled ]; then words="it waits, and a reboot would forget it"
else armed=yes words="systemd waits for it, after a reboot too"; fi
at_s=$(date -d "$(of_timer NextElapseUSecRealtime)" +%s 2> /dev/null) || at_s=
[ -n "$at_s" ] || [ "$armed" != yes ] || {{ armed=no words="it strikes at no time of day"; }}
echo "timer|$armed|${{at_s:+$((at_s - now_s))}}|$words"
limit=$(of_timer NextElapseUSecMonotonic)
limit_us=$(systemd-analyze timespan "$limit" 2> /dev/null | sed -n '2s/.*: *//p')
case "$armed:$limit" in
  unknown:*) echo "limit by uptime|unknown||$words" ;;
  *: | *:0 | *:infinity) echo "limit by uptime|no||nothing bounds it where the clock is wrong" ;;
  *) echo "limit by uptime|yes|${{limit_us:+$((limit_us / 1000000 - up_s))}}|bounds it where the clock is wrong" ;;
esac
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
    # No default dependencies: see above. Persistent: a deadline that passed while the machine was down strikes at its boot.
    return f"""[Unit]
Description=The run's deadline, by wall clock and by uptime
DefaultDependencies=no
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
    return f"timeout {ASK_S} systemctl mask --now --no-block {' '.join(APT_UNITS)} || true\n"
