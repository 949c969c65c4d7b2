"""How a box mounts a volume that is kept: waits for it, formats it once, and never what may hold something.

The script runs as it is; the disk is a block device without a driver, so the commands that would read it are stand-ins that
say what they were asked.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Final

import msgspec
import pytest

from provision.clouds.boot.bootstrap import Volume, render_mount, render_user_data
from provision.clouds.boot.container import render_start
from tests.provision.clouds.boot.test_bootstrap import BOOT, parsed

pytestmark = pytest.mark.root  # a device is made
NODE: Final = os.makedev(7, 250)  # of a kind that is nowhere in use
EMPTY, HELD, DAMAGED = 2, 0, 8  # what blkid ends with (its manual): nothing found, something found, could not look
PLAY: Final = """#!/bin/sh
echo "$(basename "$0") $*" >> {said}
"""


class Box:
    """A folder that stands for a machine: its devices, its file systems' table, and commands that note what they are asked."""

    def __init__(self, root: Path) -> None:
        self.root, self.said = root, root / "said"
        for name in ("mount", "mkfs.ext4", "install", "sleep"):
            self.play(name)
        self.play("lsblk", f"[ $2 = TYPE ] && cat {root}/types.$(basename $3)")
        self.blkid(EMPTY)

    def play(self, name: str, then: str = "") -> None:
        script = self.root / name
        script.write_text(PLAY.format(said=self.said) + then + "\n")
        script.chmod(0o755)

    def blkid(self, rc: int) -> None:
        self.play("blkid", f'[ "$1" != -p ] || exit {rc}; echo 1234-abcd')

    def plug(self, name: str, *, parts: int = 0) -> None:
        """As udev shows it: each partition has a link beside its disk's."""
        self.link(name, "disk", *["part"] * parts)
        for number in range(1, parts + 1):
            self.link(f"{name}-part{number}", "part")

    def link(self, name: str, *types: str) -> None:
        os.mknod(self.root / name, stat.S_IFBLK | 0o600, NODE)
        (self.root / f"types.{name}").write_text("".join(f"{type}\n" for type in types))

    def mount(self, *, fresh: bool) -> int:
        volume = Volume(
            device=f"{self.root}/nvme-vol* {self.root}/xvdf",
            mount=f"{self.root}/kept",
            cache=f"{self.root}/kept/cache",
            fresh=fresh,
        )
        script = render_mount(volume, "ubuntu").replace("/etc/fstab", f"{self.root}/fstab")
        environment = {"PATH": f"{self.root}:{os.environ['PATH']}"}
        return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=False).returncode

    def asked(self, command: str) -> list[str]:
        return [line for line in self.said.read_text().splitlines() if line.split()[0] == command]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_fresh_volume_is_formatted_mounted_and_given_to_the_user(box: Box) -> None:
    """By its own id in the table too, so that a reboot has it again; the folder says that it is there."""
    box.plug("nvme-vol1")
    assert box.mount(fresh=True) == 0
    assert box.asked("mkfs.ext4") == [f"mkfs.ext4 -q {box.root}/nvme-vol1"]
    assert box.asked("mount") == [f"mount {box.root}/nvme-vol1 {box.root}/kept"]
    assert box.asked("install") == [f"install -d -m 0700 -o ubuntu -g ubuntu {box.root}/kept/cache"]
    assert (box.root / "fstab").read_text() == f"UUID=1234-abcd {box.root}/kept ext4 nofail 0 2\n"


@pytest.mark.parametrize("found", [EMPTY, HELD, DAMAGED])
def test_one_that_was_there_is_never_formatted(box: Box, found: int) -> None:
    box.plug("nvme-vol1")
    box.blkid(found)
    box.mount(fresh=False)
    assert box.asked("mkfs.ext4") == []


@pytest.mark.parametrize("found", [HELD, DAMAGED])
def test_a_fresh_one_on_which_something_may_be_is_not_formatted_either(box: Box, found: int) -> None:
    box.plug("nvme-vol1")
    box.blkid(found)
    box.mount(fresh=True)
    assert box.asked("mkfs.ext4") == []


def test_the_machine_s_own_disk_is_none(box: Box) -> None:
    """It has the same kind of name, and partitions, which have it too."""
    box.plug("nvme-vol0", parts=3)
    box.plug("nvme-vol1")
    assert box.mount(fresh=True) == 0
    assert box.asked("mount") == [f"mount {box.root}/nvme-vol1 {box.root}/kept"]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_partition_of_the_machine_s_own_disk_is_not_taken_for_a_volume_that_is_not_there_yet(box: Box, fresh: bool) -> None:
    box.plug("nvme-vol0", parts=3)
    assert box.mount(fresh=fresh) == 1
    assert len(box.asked("sleep")) == 300
    assert (box.asked("mkfs.ext4"), box.asked("mount")) == ([], [])


def test_the_volume_is_waited_for_until_it_is_attached(box: Box) -> None:
    """However long the machine's own disk has been there."""
    box.plug("nvme-vol0", parts=1)
    box.plug("nvme-vol1")
    (box.root / "nvme-vol1").rename(box.root / "not-yet")
    box.play("sleep", f"[ ! -e {box.root}/not-yet ] || mv {box.root}/not-yet {box.root}/nvme-vol1")
    assert box.mount(fresh=False) == 0
    assert len(box.asked("sleep")) == 1
    assert box.asked("mount") == [f"mount {box.root}/nvme-vol1 {box.root}/kept"]


def test_one_that_does_not_come_is_said_and_nothing_is_touched(box: Box) -> None:
    """It was waited for; the folder that would say so is not there."""
    assert box.mount(fresh=True) == 1
    assert len(box.asked("sleep")) == 300
    assert not (box.root / "kept").exists()


def test_cloud_init_mounts_it_last_and_a_container_has_it_from_its_cloud() -> None:
    """Whatever is wrong with it finds the deadline armed, and SSH open."""
    volume = Volume(device="/dev/disk/by-id/kept", mount="/mnt/rentune", cache="/mnt/rentune/cache", fresh=True)
    boot = msgspec.structs.replace(BOOT, volume=volume)
    assert parsed(render_user_data(boot))["runcmd"][-1] == ["sh", "-c", render_mount(volume, "ubuntu")]
    assert "mount" not in str(parsed(render_user_data(BOOT))["runcmd"])
    assert re.search(r"^mkdir -p .* /mnt/rentune/cache$", render_start(boot), re.MULTILINE)
    assert "/mnt/rentune" not in render_start(BOOT)
