"""What a first boot does about NVIDIA's driver. The script runs as it is; the package manager, the kernel and the card are
stand-ins that note what they are asked.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import msgspec
import pytest

from provision.aboard.driver_wait import INSTALL_S, LOG, MARK, WAIT_S
from provision.clouds.boot.bootstrap import Volume, render_deadline, render_mount, render_user_data
from provision.clouds.boot.driver_unit import (
    BRANCHES,
    INSTALLED,
    LOCK_S,
    PAUSE_S,
    SCRIPT,
    SERVICE,
    TRIES,
    TRY_S,
    DriverOrder,
    driver_for,
    render_driver,
)
from remote.machine.drivers import (
    LEAST_CAPABILITY,
    LEAST_FOR_CARD,
    LEAST_FOR_CUDA,
    TORCH_CUDA,
    Capability,
    dotted,
    least_driver,
)
from tests.provision.clouds.boot.test_bootstrap import BOOT, parsed

HOPPER: Final = (9, 0)
KERNEL: Final = "6.8.0-1021-aws"
SIGNED: Final = f"linux-modules-nvidia-580-server-open-{KERNEL}"
USERLAND: Final = "nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server"
UBUNTU: Final = 'NAME="Ubuntu"\nVERSION_ID="24.04"\n'
PLAY: Final = """#!/bin/sh
printf '%s\n' "$(basename "$0") $*" >> {said}
"""
MOST_USER_DATA_BYTES: Final = 16 * 1024  # source=EC2's user guide, "Run commands at launch": before it is encoded


def driver() -> DriverOrder:
    found = driver_for(HOPPER)
    assert found is not None
    return found


class Machine:
    """A folder that stands for one: an Ubuntu whose card answers with the driver in `card`, if any."""

    def __init__(self, root: Path) -> None:
        self.root, self.said = root, root / "said"
        self.said.touch()
        (root / "bin").mkdir()
        (root / "os-release").write_text(UBUNTU)
        self.play("nvidia-smi", f"[ -s {root}/card ] || exit 9; cat {root}/card")
        self.play("apt-get", self.installs("580.173.02"))
        self.play("apt-cache", f'case "$2" in {SIGNED} | nvidia-*) ;; *) exit 100 ;; esac')
        self.play("uname", f"echo {KERNEL}")
        for name in ("modprobe", "mknod", "dpkg", "dpkg-query", "systemctl", "sleep"):
            self.play(name)

    def installs(self, version: str) -> str:
        return f'case " $* " in *" install "*) echo {version} > {self.root}/card ;; *" purge "*) : > {self.root}/card ;; esac'

    def play(self, name: str, then: str = "") -> None:
        script = self.root / "bin" / name
        script.write_text(PLAY.format(said=self.said) + then + "\n")
        script.chmod(0o755)

    def here(self, text: str) -> str:
        """The same text with the machine's places in this folder."""
        places = {
            MARK: "mark",
            LOG: "log",
            "/etc/os-release": "os-release",
            INSTALLED: "installed",
            "/sys/bus/pci/devices": "pci",
            "/sys/module": "modules",
            "/dev/nvidia-uvm": "uvm",
            SCRIPT: "script",
            "/etc/systemd/system": "units",
        }
        for place, name in sorted(places.items(), key=lambda each: -len(each[0])):
            text = text.replace(place, str(self.root / name))
        return text

    def boot(self, *how: str) -> str:
        """What the boot comes to."""
        text = self.here(render_driver(driver()))
        (self.root / "units").mkdir(exist_ok=True)
        environment = {"PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        subprocess.run(["sh", "-c", text], env=environment, check=True)
        done = subprocess.run(["sh", self.root / "script", *how], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return (self.root / "mark").read_text().removesuffix("\n")

    def asked(self, command: str) -> list[str]:
        return [line for line in self.said.read_text().splitlines() if line.split()[0] == command]

    def installed(self) -> list[str]:
        """The packages of each `apt-get install`."""
        return [line.split(" install ")[1] for line in self.asked("apt-get") if " install " in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_whose_driver_fits_is_left_as_it_is(machine: Machine) -> None:
    (machine.root / "card").write_text("580.65.06\n580.65.06\n")
    assert machine.boot() == "ready 580"
    assert machine.asked("apt-get") == machine.asked("modprobe") == []


def test_one_that_has_none_gets_ubuntus_own_and_no_second_boot(machine: Machine) -> None:
    """The modules that Ubuntu signed for the kernel that runs; loaded at once, with the node that CUDA opens."""
    assert machine.boot() == "ready 580"
    assert machine.installed() == [f"{SIGNED} {USERLAND}"]
    assert machine.asked("modprobe") == ["modprobe nvidia", "modprobe nvidia_uvm"]
    assert [line.split()[-3] for line in machine.asked("mknod")] == [f"{machine.root}/uvm"]
    assert not [line for line in machine.asked("systemctl") if "reboot" in line]


def test_a_second_boot_finds_it_and_installs_nothing_again(machine: Machine) -> None:
    machine.boot()
    machine.said.write_text("")
    assert machine.boot() == "ready 580"
    assert machine.asked("apt-get") == []
    assert machine.asked("modprobe") == ["modprobe nvidia", "modprobe nvidia_uvm"]


def test_where_ubuntu_has_no_modules_for_the_kernel_they_are_built_there(machine: Machine) -> None:
    machine.play("apt-cache", f'[ "$2" != {SIGNED} ] || exit 100')
    assert machine.boot() == "ready 580"
    assert machine.installed() == [f"nvidia-dkms-580-server-open linux-headers-{KERNEL} {USERLAND}"]


@pytest.mark.fault("F11", tier="code")
def test_an_old_driver_is_taken_out_before_the_new_one_comes(machine: Machine) -> None:
    """Its packages and its modules: two branches side by side answer to nobody. A container's tools are none of it."""
    (machine.root / "card").write_text("535.183.01\n")
    names = ("nvidia-driver-535", "libnvidia-compute-535", "nvidia-container-toolkit", "libnvidia-container1", "bash")
    machine.play("dpkg-query", f"for each in {' '.join(names)}; do echo ii $each; done; echo rc nvidia-utils-470")
    loaded = machine.root / "modules/nvidia"
    loaded.mkdir(parents=True)
    machine.play("modprobe", f'[ "$1 $2" != "-r nvidia" ] || rmdir {loaded}')
    assert machine.boot() == "ready 580"
    purged, *_ = [line for line in machine.asked("apt-get") if " purge " in line]
    assert purged.endswith(" purge nvidia-driver-535 libnvidia-compute-535")
    assert "modprobe -r nvidia" in machine.asked("modprobe")
    assert machine.installed() == [f"{SIGNED} {USERLAND}"]
    assert "the driver 535 is not of branch 580 or newer, and is taken out" in (machine.root / "log").read_text()


@pytest.mark.fault("F11", tier="code")
def test_an_old_driver_that_is_in_use_is_said_to_be(machine: Machine) -> None:
    (machine.root / "card").write_text("535.183.01\n")
    (machine.root / "modules/nvidia").mkdir(parents=True)
    assert machine.boot() == "the driver 535 is in use and could not be unloaded"
    assert machine.installed() == []


@pytest.mark.fault("F11", tier="code")
def test_a_package_manager_that_is_locked_is_asked_again(machine: Machine) -> None:
    """It waits for the lock itself, and is asked anew where that was not long enough."""
    tries = machine.root / "tries"
    locked = f'echo x >> {tries}; [ "$(wc -l < {tries})" -gt 2 ] || {{ echo "E: Could not get lock" >&2; exit 100; }}\n'
    machine.play("apt-get", locked + machine.installs("580.173.02"))
    assert machine.boot() == "ready 580"
    assert all(f"-o DPkg::Lock::Timeout={LOCK_S} " in line for line in machine.asked("apt-get"))
    assert machine.asked("sleep").count(f"sleep {PAUSE_S}") == 2


@pytest.mark.fault("F11", tier="code")
@pytest.mark.parametrize(
    ("name", "plays", "says"),
    [
        ("apt-get", 'echo "E: Unable to fetch some archives" >&2; exit 100', "apt-get update came to nothing: Unable to fetch"),
        (
            "apt-get",
            'case "$*" in *" install "*) echo "E: No room" >&2; exit 100 ;; esac',
            "could not install 580-server-open: No room",
        ),
        ("apt-get", "", "580-server-open is installed, and the driver that answers is none"),
        ("modprobe", "exit 1", f"the kernel {KERNEL} did not load the modules of 580-server-open"),
    ],
    ids=["no archive", "no room", "no card", "no module"],
)
def test_what_came_to_nothing_is_one_sentence(machine: Machine, name: str, plays: str, says: str) -> None:
    machine.play(name, plays)
    assert says in machine.boot()


def test_what_is_no_ubuntu_of_the_table_is_left_alone(machine: Machine) -> None:
    (machine.root / "os-release").write_text('NAME="Debian GNU/Linux"\nVERSION_ID="12"\n')
    assert machine.boot() == "Debian GNU/Linux 12 is none of Ubuntu 22.04 24.04"
    assert machine.asked("apt-get") == []


def test_cards_behind_a_switch_get_its_manager_too(machine: Machine) -> None:
    """Of the same branch; without it they compute nothing."""
    for name, device in {
        "card": ("0x10de", "0x030200"),
        "switch": ("0x10de", "0x068000"),
        "disk": ("0x1af4", "0x068000"),
    }.items():
        (machine.root / "pci" / name).mkdir(parents=True)
        for file, value in zip(("vendor", "class"), device, strict=True):
            (machine.root / "pci" / name / file).write_text(f"{value}\n")
    assert machine.boot() == "ready 580"
    assert machine.installed() == [f"{SIGNED} {USERLAND} nvidia-fabricmanager-580"]
    assert "systemctl enable --now nvidia-fabricmanager" in machine.asked("systemctl")


def test_what_systemd_stops_is_told_as_well(machine: Machine) -> None:
    """After its limit, by the very script; where it has ended by itself nothing is written over."""
    (machine.root / "log").write_text("rentune: fetching Ubuntu's list of packages\n")
    stopped = f"it was stopped after at most {INSTALL_S} s, at: rentune: fetching Ubuntu's list of packages"
    assert machine.boot("over") == stopped
    (machine.root / "mark").write_text("ready 580\n")
    assert machine.boot("over") == "ready 580"


def test_it_runs_behind_the_boot_within_a_limit_and_systemd_finds_no_fault(machine: Machine) -> None:
    """SSH does not wait for it; whoever sets up waits a little longer than it may take."""
    machine.boot()
    assert machine.asked("systemctl")[:3] == [
        "systemctl daemon-reload",
        f"systemctl enable {SERVICE}",
        f"systemctl start --no-block {SERVICE}",
    ]
    unit = machine.root / "units" / SERVICE
    assert f"\nTimeoutStartSec={INSTALL_S}\n" in unit.read_text()
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if "rentune" in line] == []
    assert WAIT_S > INSTALL_S


def test_it_comes_once_the_deadline_is_armed_and_before_a_volume_is_waited_for() -> None:
    """And nowhere where nothing is to be seen to; EC2 takes all of it."""
    volume = Volume(device="/dev/disk/by-id/kept", mount="/mnt/rentune", cache="/mnt/rentune/cache", fresh=True)
    boot = msgspec.structs.replace(BOOT, driver_order=driver(), volume=volume, idle_limit_s=3600.0)
    text = render_user_data(boot)
    document = parsed(text)
    assert document["bootcmd"][0] == ["sh", "-c", render_deadline(boot)]
    assert document["runcmd"][-2:] == [["sh", "-c", render_driver(driver())], ["sh", "-c", render_mount(volume, "ubuntu")]]
    assert "nvidia" not in render_user_data(BOOT)
    assert len(text.encode()) + 1024 < MOST_USER_DATA_BYTES  # its keys are short ones


@pytest.mark.parametrize("capability", LEAST_FOR_CARD, ids=dotted)
def test_every_card_that_torch_has_code_for_has_a_row(capability: Capability) -> None:
    """The oldest branch that is new enough; an older one that answers there would not do."""
    order = driver_for(capability)
    assert (order is not None) == (capability >= LEAST_CAPABILITY)
    if order is not None:
        assert order.least_branch == least_driver(capability)
        assert order.branch.number == min(each.number for each in BRANCHES if each.number >= order.least_branch)


@pytest.mark.parametrize("place", range(len(BRANCHES)), ids=lambda place: str(BRANCHES[place].number))
def test_a_lock_whose_torch_needs_a_newer_branch_wakes_the_next_row(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one more than the row before has; and past the last row nothing is put in."""
    before = [each.number for each in BRANCHES[:place]]
    monkeypatch.setitem(LEAST_FOR_CUDA, TORCH_CUDA[0], max(before, default=0) + 1)
    assert driver().branch == BRANCHES[place]
    monkeypatch.setitem(LEAST_FOR_CUDA, TORCH_CUDA[0], BRANCHES[-1].number + 1)
    assert driver_for(HOPPER) is None


def test_the_rows_stand_by_age_and_say_when_they_are_put_in() -> None:
    numbers = [each.number for each in BRANCHES]
    assert numbers == sorted(set(numbers))
    assert all(each.source and each.releases and each.put_in_when for each in BRANCHES)


def test_the_package_manager_has_tries_enough_within_the_limit() -> None:
    """So many that wait for the lock in vain all come to their end; one that hangs leaves time for another."""
    assert 2 <= TRIES <= INSTALL_S / (LOCK_S + PAUSE_S)
    assert LOCK_S < TRY_S < INSTALL_S - LOCK_S
