"""How a rented machine's first boot puts in NVIDIA's driver where its image has none, or one that is too old.

The packages are those of Ubuntu's own archive for servers: the branch's userland without DKMS, and the kernel's modules as
Ubuntu built and signed them for the very kernel that runs; where the archive has none for it, they are built on the machine.
Both are loaded at once, so nothing boots again. It runs as a unit of systemd behind the end of cloud-init: SSH is open by
then, the deadline armed. It begins anew at each boot, and does nothing where a driver that is new enough answers.
"""

from __future__ import annotations

import datetime as dt
import shlex
from typing import Final

import msgspec

from provision.aboard.driver_wait import INSTALL_S, LOG, MARK, READY, SAYS
from remote.machine.drivers import Capability, least_driver, unfit_card

LOCK_S: Final = 120  # assumed: between two tries, as long as an image's own first upgrade may hold the package manager
PAUSE_S: Final = 10  # assumed: between two tries, for what was in the way for a moment
TRIES: Final = INSTALL_S // (LOCK_S + PAUSE_S)  # derived: as many as wait for the lock in vain within the limit
TRY_S: Final = INSTALL_S * 2 // 3  # derived: one that hangs leaves half as long for another
SCRIPT: Final = "/etc/rentune-driver.sh"
SERVICE: Final = "rentune-driver.service"
INSTALLED: Final = "/var/lib/rentune-driver"  # there once a boot of ours has put one in: each later boot loads it
ASK_S: Final = 20  # assumed: as provision/clouds/boot/bootstrap.py


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """One branch of NVIDIA's driver as Ubuntu packages it for servers, with its open modules: torch has no code for the cards
    before Turing, which those do not drive.
    """

    number: int
    releases: tuple[str, ...]  # of Ubuntu, whose archive has it
    put_in_when: str  # which fact makes it the one to put in
    source: str
    as_of: dt.date

    @property
    def modules(self) -> str:
        """How the names of the packages with its kernel modules end."""
        return f"{self.number}-server-open"

    @property
    def tools(self) -> str:
        """Of those with its programs."""
        return f"{self.number}-server"


_SOURCE: Final = "packages.ubuntu.com, nvidia-graphics-drivers-{0}-server; NVIDIA: open modules from Turing on"
BRANCHES: Final = (  # derived: each from its source; the oldest that torch and the card need is put in, so they stand by age
    Branch(
        number=580,
        releases=("22.04", "24.04"),
        put_in_when="the lock's torch is of CUDA 13 and no card needs more: of every card it has code for, today",
        source=_SOURCE.format(580),
        as_of=dt.date(2026, 11, 28),
    ),
    Branch(
        number=595,
        releases=("24.04",),
        put_in_when="a later lock's torch needs a newer one than 580, as by its next CUDA, or a card to come does",
        source=_SOURCE.format(595),
        as_of=dt.date(2026, 11, 28),
    ),
)


class DriverOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a first boot is to see to."""

    branch: Branch  # is put in
    least_branch: int  # where one at least as new answers, nothing is


def driver_for(capability: Capability) -> DriverOrder | None:
    """What to put in for a card that is to be trained on; None where torch has no code for it, or no branch is new enough."""
    if unfit_card(capability) is not None:
        return None
    least = least_driver(capability)
    branch = next((each for each in BRANCHES if each.number >= least), None)
    return None if branch is None else DriverOrder(branch=branch, least_branch=least)


def render_driver(order: DriverOrder) -> str:
    """The shell script that arms it: the unit, begun now, and at each boot that follows."""
    return f"""set -u
cat > {SCRIPT} <<'SCRIPT'
{_settings(order)}{INSTALL}SCRIPT
cat > /etc/systemd/system/{SERVICE} <<'UNIT'
{_unit()}UNIT
for act in daemon-reload "enable {SERVICE}" "start --no-block {SERVICE}"; do timeout {ASK_S} systemctl $act; done
"""


def _settings(order: DriverOrder) -> str:
    branch = order.branch
    values = {
        "branch": branch.number,
        "modules": branch.modules,
        "tools": branch.tools,
        "releases": " ".join(branch.releases),
        "least": order.least_branch,
        "mark": MARK,
        "log": LOG,
        "ready": READY,
        "says": SAYS,
        "limit_s": INSTALL_S,
        "installed": INSTALLED,
        "lock_s": LOCK_S,
        "pause_s": PAUSE_S,
        "try_s": TRY_S,
        "tries": TRIES,
    }
    return " ".join(f"{name}={shlex.quote(str(value))}" for name, value in values.items()) + "\n"


def _unit() -> str:
    return f"""[Unit]
Description=The run's NVIDIA driver
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
TimeoutStartSec={INSTALL_S}
ExecStart=/bin/sh {SCRIPT}
ExecStopPost=/bin/sh {SCRIPT} over
[Install]
WantedBy=multi-user.target
"""


# What systemd runs, behind the settings. Cards behind an NVSwitch compute nothing without its manager, of the same version.
INSTALL: Final = """\
set -u
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
exec >> "$log" 2>&1
say() { echo "$says$*"; }
why() { sed -n 's/^E: /: /p' "$log" | tail -n 1; }
end() { say "$*"; echo "$*" > "$mark.part"; mv "$mark.part" "$mark"; exit 0; }
if [ "${1:-}" = over ]; then
  [ -s "$mark" ] || end "it was stopped after at most $limit_s s, at: $(tail -n 1 "$log")"
  exit 0
fi
rm -f "$mark"; : > "$log"; chmod 0644 "$log"
answers() {
  timeout 60 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null | sed -n '1s/[.].*//p'
}
look() { there=$(answers); case "$there" in *[!0-9]*) there= ;; esac; }
fits() { [ -n "$there" ] && [ "$there" -ge "$least" ]; }
load() {
  modprobe nvidia && modprobe nvidia_uvm || return 1
  [ ! -e /dev/nvidia-uvm ] || return 0
  at=$(awk '$2 == "nvidia-uvm" { print $1 }' /proc/devices)
  mknod -m 666 /dev/nvidia-uvm c "$at" 0
}
apt() {
  for try in $(seq "$tries"); do
    timeout "$try_s" apt-get --yes --quiet --no-install-recommends \\
      -o DPkg::Lock::Timeout="$lock_s" -o Acquire::Retries=3 "$@" && return
    say "apt-get $1 came to nothing at try $try"
    sleep "$pause_s"; dpkg --configure -a
  done
  return 1
}
has() { apt-cache show "$1" > /dev/null 2>&1; }
nvidia_packages() {
  dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | awk '
    $1 != "ii" || /container/ { next }
    $2 ~ /^(lib|linux-modules-|linux-objects-|linux-signatures-)?nvidia-/ || $2 ~ /^cuda-drivers/ { print $2 }'
}
clear_old() {
  old_driver=${there:-that does not answer}
  say "the driver $old_driver is not of branch $least or newer, and is taken out"
  systemctl stop nvidia-persistenced nvidia-fabricmanager nvidia-dcgm 2> /dev/null
  [ ! -x /usr/bin/nvidia-uninstall ] || nvidia-uninstall --silent
  packages=$(nvidia_packages)
  [ -z "$packages" ] || apt purge $packages || end "the driver $old_driver could not be taken out$(why)"
  for each in nvidia_uvm nvidia_drm nvidia_modeset nvidia_peermem nvidia; do
    [ ! -d "/sys/module/$each" ] || modprobe -r "$each"
  done
  [ ! -d /sys/module/nvidia ] || end "the driver $old_driver is in use and could not be unloaded"
}
has_switch() {
  for each in /sys/bus/pci/devices/*; do
    [ "$(cat "$each/vendor" "$each/class" 2> /dev/null | tr '\\n' ' ')" != "0x10de 0x068000 " ] || return 0
  done
  return 1
}
say "looking for a driver of branch $least or newer"
for try in 1 2 3 4 5 6; do
  look
  if fits; then [ ! -e "$installed" ] || load; end "$ready $there"; fi
  [ -z "$there" ] && command -v nvidia-smi > /dev/null || break
  sleep 5
done
. /etc/os-release
case " $releases " in *" $VERSION_ID "*) ;; *) end "$NAME $VERSION_ID is none of Ubuntu $releases" ;; esac
[ -z "$there$(nvidia_packages)" ] || clear_old
say "fetching Ubuntu's list of packages"
apt update || end "apt-get update came to nothing$(why)"
kernel=$(uname -r)
kernel_modules="linux-modules-nvidia-$modules-$kernel"
has "$kernel_modules" || kernel_modules="nvidia-dkms-$modules linux-headers-$kernel"
fabric=
! has_switch || fabric="nvidia-fabricmanager-$branch"
say "installing $modules for the kernel $kernel: $kernel_modules"
apt install $kernel_modules "nvidia-headless-no-dkms-$modules" "nvidia-utils-$tools" $fabric ||
  end "apt-get could not install $modules$(why)"
: > "$installed"
load || end "the kernel $kernel did not load the modules of $modules"
[ -z "$fabric" ] || systemctl enable --now nvidia-fabricmanager || end "its fabric manager did not start"
look
fits || end "$modules is installed, and the driver that answers is ${there:-none}"
end "$ready $there"
"""
