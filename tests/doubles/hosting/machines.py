"""Machines behind an emulated cloud: a tree of namespaces each, with systemd as its first process and a real SSH server.

A machine has mounts, processes, network, host name and control groups of its own, on this computer's kernel. Its disk is
this computer's root filesystem under a layer that is gone with it; the project and the running Python can be read there,
as if the image had brought them. It boots as a cloud's image does: first `tests/doubles/hosting/first_boot.py` with the user
data, then sshd on port 22, and a power-off from inside ends it. A reboot from inside is a new boot of the same disk: another
boot id, the processes and what lay in memory gone, the user data read again; no firmware, no kernel and no other address.

Whoever calls this is root, alone in namespaces of mounts and processes (`hosted.py` beside it): all that is made here lies
in them, and the kernel takes it away with their first process. Only the control groups are removed by hand.
"""

from __future__ import annotations

import ipaddress
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

# For measuring networks (RFC 2544), so no machine of the internet has such an address. Every emulated cloud takes a /24.
NETWORK: Final = ipaddress.IPv4Network("198.18.0.0/15")
SUBNETS: Final = tuple(NETWORK.subnets(new_prefix=24))

ROOT: Final = Path(__file__).parents[3]
IMAGE: Final = Path(__file__).with_name("image")  # what the image has in another form than this computer
WORK: Final = Path("/run/machines")  # a tmpfs of the caller's namespace
VOLUMES: Final = WORK / "volumes"  # a folder each
CONTROL: Final = WORK / "control"  # the mounted tree of control groups
SWITCH: Final = "switch"  # the network namespace that joins the machines
USER_DATA: Final = "var/lib/cloud/instance/user-data.txt"
PROGRAMS: Final = ("unshare", "ip", "setpriv", "sudo", "sshd", "/lib/systemd/systemd")
# Of this computer's units only those that every boot needs; no getty, no clock or kernel setting, nothing it has to serve.
MASKED: Final = (
    "dev-hugepages.mount",
    "getty.target",
    "kmod-static-nodes.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-journald-audit.socket",
    "systemd-modules-load.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-repart.service",
    "systemd-sysctl.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-udevd.service",
    "systemd-update-utmp.service",
)

# From a bare set of namespaces to its first process. /proc/sys and /sys are this computer's, so they can be read only, and the
# devices are nodes of its own, for systemd changes their modes. Its homes stay when it reboots; each boot has an id of its own.
INIT: Final = """set -eu
mount --make-rprivate /
cd "$root"
mount -t proc proc proc
for each in sys sysrq-trigger; do mount --bind proc/$each proc/$each && mount -o remount,bind,ro proc/$each; done
cat proc/sys/kernel/random/uuid > "$own/boot-id"
mount --bind "$own/boot-id" proc/sys/kernel/random/boot_id
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
while read -r node major minor; do mknod -m 666 dev/$node c $major $minor; done << END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
END
mkdir dev/shm dev/pts dev/mqueue
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
touch dev/console && mount --bind "$console" dev/console
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
for folder in root home; do mount --bind "$own/$folder" $folder; done
for folder in $readable; do
  mkdir -p ".$folder" && mount --bind "$folder" ".$folder" && mount -o remount,bind,ro ".$folder"
done
for each in $volumes; do
  folder=".${each%%=*}" && mkdir -p "$folder" && mount --bind "${each#*=}" "$folder"
done
pivot_root . .
umount -l .
exec env {environment} setpriv --bounding-set -sys_time,-sys_module,-sys_rawio chroot . {first}
"""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD: Final = (f"-i container=rentune-test PATH={PATH}", "/lib/systemd/systemd --unit=cloud-init.target")


def lacks() -> str:
    """What keeps machines from booting on this computer, as a sentence; empty when nothing does."""
    if os.geteuid() != 0:
        return "machines behind the emulated cloud need root on Linux (namespaces, mounts, control groups)"
    missing = [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]
    return f"machines behind the emulated cloud need {', '.join(missing)}; install them with: make setup" if missing else ""


def search_path() -> str:
    """Where programs are looked for: also where an ordinary user's PATH does not lead."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def lay_network() -> ipaddress.IPv4Network:
    """A subnet that no other emulated cloud on this computer has, joined to the switch; we have its first address."""
    _run("ip", "netns", "add", SWITCH)
    subnet, device = next(filter(None, (_joined(number) for number in range(len(SUBNETS)))))
    _run("ip", "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", device)
    _run("ip", "link", "set", device, "up")
    _run("ip", "-n", SWITCH, "link", "add", "lan", "type", "bridge")
    _run("ip", "-n", SWITCH, "link", "set", "uplink", "master", "lan")
    for each in ("lo", "lan", "uplink"):
        _run("ip", "-n", SWITCH, "link", "set", each, "up")
    return subnet


def plug(*, joined: bool) -> None:
    """Pull the cable between the machines and this computer, or put it back: nobody is told, packets are lost."""
    _run("ip", "-n", SWITCH, "link", "set", "uplink", "up" if joined else "down")


def _joined(number: int) -> tuple[ipaddress.IPv4Network, str] | None:
    """The subnet of this number if it is free: the device's name is the lock."""
    device = f"rentune{number}"
    command = ["ip", "link", "add", device, "type", "veth", "peer", "name", "uplink", "netns", SWITCH]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return SUBNETS[number], device
    if "exists" in done.stderr:
        return None
    raise OSError(f"a network of namespaces can't be laid here: {done.stderr.strip()}")


@dataclass(frozen=True)
class Container:
    """A machine that is a container: no boot, but one command as its first process, and a port that leads to its SSH."""

    entrypoint: tuple[str, ...]
    environment: Mapping[str, str]
    port: int  # what comes in there goes to port 22
    volumes: Mapping[str, str] = field(default_factory=dict)  # where it has which, by a name of this emulated cloud


@dataclass
class Machine:
    """One machine that runs, or ran."""

    name: str
    address: str
    told: str | Container
    log: bytearray = field(default_factory=bytearray)
    gone: threading.Event = field(default_factory=threading.Event)  # nothing of it is left here

    @property
    def console(self) -> str:
        """What it has written to its console so far."""
        return self.log.decode(errors="replace")

    def kill(self) -> None:
        """As if the power was cut."""
        (group_of(self.name) / "cgroup.kill").write_text("1")


def boot(
    name: str, address: str, subnet: ipaddress.IPv4Network, told: str | Container, *, ended: Callable[[Machine], None]
) -> Machine:
    """Switch one on, told its user data or what to run; `ended` is called from another thread once all of it is gone."""
    _cable(name, f"{address}/{subnet.prefixlen}")
    _disk(name, told if isinstance(told, str) else "")
    group_of(name).mkdir(parents=True)
    machine = Machine(name, address, told)
    power = _power(machine)
    threading.Thread(target=_live, args=(machine, power, ended), daemon=True).start()
    return machine


class Power(NamedTuple):
    """One boot of a machine: a process outside of it, which ends with it, and it with this; and our end of its console."""

    process: subprocess.Popen[bytes]
    console: int


def _power(machine: Machine) -> Power:
    """From its disk, its network and its control group to its first process: at first, and after each reboot."""
    name, told, group = machine.name, machine.told, group_of(machine.name)
    ours, theirs = pty.openpty()
    namespaces = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child"]
    own = {
        "PATH": os.environ["PATH"],
        "root": str(WORK / name / "root"),
        "own": str(WORK / name / "own"),
        "console": os.ttyname(theirs),
        "readable": " ".join(readable()),
        "volumes": " ".join(_volumes(told)),
    }
    environment, first = SYSTEMD if isinstance(told, str) else _first_of(told, own)
    init = INIT.replace("{environment}", environment).replace("{first}", first)
    command = ["ip", "netns", "exec", name, *namespaces, "sh", "-c", f"hostname {name}\n{init}"]
    beside = "" if isinstance(told, str) else f"ip netns exec {name} {_mapping(told)} & "
    process = subprocess.Popen(
        ["sh", "-c", f"echo $$ > {group}/cgroup.procs && {{ {beside}exec {shlex.join(command)}; }}"],
        env=own if isinstance(told, str) else {**told.environment, **own},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    return Power(process, ours)


def _first_of(container: Container, own: Mapping[str, str]) -> tuple[str, str]:
    """Its environment is that of this command, for a command line can be read by everybody; but for what is ours in it."""
    less = " ".join(f"-u {name}" for name in own if name != "PATH")
    return f"{less} PATH={PATH}", shlex.join(container.entrypoint)


def _volumes(told: str | Container) -> list[str]:
    """Place and folder of each; the folder outlives the machine, and goes with the cloud."""
    if isinstance(told, str):
        return []
    for name in told.volumes.values():
        (VOLUMES / name).mkdir(parents=True, exist_ok=True)
    return [f"{place}={VOLUMES / name}" for place, name in told.volumes.items()]


def _mapping(container: Container) -> str:
    return shlex.join([sys.executable, "-m", "tests.doubles.hosting.mapped", str(container.port), "22"])


def readable() -> list[str]:
    """What the image has of the project: its files, and the Python that runs now with what is installed there."""
    return list(dict.fromkeys(str(Path(each).resolve()) for each in (sys.base_prefix, ROOT, sys.prefix)))


def _cable(name: str, address: str) -> None:
    port = name[-10:]
    _run("ip", "netns", "add", name)
    _run("ip", "-n", SWITCH, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
    _run("ip", "-n", SWITCH, "link", "set", port, "master", "lan", "up")
    _run("ip", "-n", name, "address", "add", address, "dev", "eth0")
    for each in ("lo", "eth0"):
        _run("ip", "-n", name, "link", "set", each, "up")


def _disk(name: str, user_data: str) -> None:
    """The root filesystem of this computer, writable, made over into an image that has never booted."""
    upper, work, root, own = (WORK / name / each for each in ("upper", "work", "root", "own"))
    for layer in (upper, work, root, own / "root", own / "home"):
        layer.mkdir(parents=True)
    _run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", str(root))
    for each in ("etc/systemd/system", "etc/systemd/user", "etc/ssh", "var/log/journal"):
        shutil.rmtree(root / each, ignore_errors=True)
    shutil.copytree(IMAGE, root, dirs_exist_ok=True)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    first_boot = f"[Service]\nWorkingDirectory={ROOT}\nEnvironment=PYTHON={sys.executable}\n"
    for unit in ("cloud-init", "cloud-final"):
        _write(root / f"etc/systemd/system/{unit}.service.d/here.conf", first_boot)
    _write(root / "etc/machine-id", "")
    _write(root / "etc/hostname", f"{name}\n")
    _write(root / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
    _write(root / "etc/resolv.conf", "")
    _write(root / USER_DATA, user_data)


def _live(machine: Machine, power: Power, ended: Callable[[Machine], None]) -> None:
    """One boot after the other, until a power-off or the end of its cloud; then take away what is left."""
    while _outcome(machine, power) == -signal.SIGHUP:  # how a kernel ends the first process of namespaces that reboot
        power = _power(machine)
    group = group_of(machine.name)
    machine.kill()  # what stood beside a container
    while "populated 1" in (group / "cgroup.events").read_text():
        time.sleep(0.01)
    _run("umount", "--lazy", str(WORK / machine.name / "root"))
    _run("ip", "netns", "delete", machine.name)
    shutil.rmtree(WORK / machine.name)
    remove_groups(group)
    ended(machine)
    machine.gone.set()


def _outcome(machine: Machine, power: Power) -> int:
    """Keep what it says, and return how it ended."""
    with suppress(OSError):  # how a terminal says that nobody holds its other end any more
        while read := os.read(power.console, 65536):
            machine.log.extend(read)
    os.close(power.console)
    return power.process.wait()


def group_of(name: str = "") -> Path:
    """A machine's control group, below that of this emulated cloud, which has its number from its network's."""
    return CONTROL / f"rentune-test-{Path('/run/netns', SWITCH).stat().st_ino}" / name


def remove_groups(top: Path) -> None:
    """Remove a tree of control groups without processes."""
    for folder in (*_folders(top), top):
        with suppress(OSError):
            folder.rmdir()


def _folders(top: Path) -> Iterator[Path]:
    for name, folders, _ in os.walk(top, topdown=False):
        yield from (Path(name) / each for each in folders)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"`{shlex.join(command)}` failed: {done.stderr.strip()}")
