"""Kernels that are made on the box need a C compiler: it is put there where the box is rented, and told where it can't be."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from provision.aboard.compiler import ensure_compiler
from provision.aboard.readers import ensure_readers
from provision.errors import ProvisionError
from provision.seam import Box
from provision.ssh import Shell
from remote.contract import Strategy

pytestmark = pytest.mark.box

FUSED = Strategy(method="lora", rank=4, kernels="fused")
APT = """#!/bin/sh
echo "$@" >> {asked}
case " $* " in *" install "*) {then} ;; esac
"""
PYTHON = """#!/bin/sh
case "$2" in *version_info*) echo python3.11-dev ;; *) echo {headers} ;; esac
"""
COMPILERS = ("gcc", "clang")


class Machine:
    """A box whose PATH has these commands, and an interpreter that says where its headers are."""

    def __init__(self, shell: Shell, box: Box, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.box = msgspec.structs.replace(box, folder=f"{box.folder}/{folder.name}", shares_files=False)
        self.shell, self.folder, self.asked = shell, folder, folder / "asked"
        self.said: list[str] = []
        self.has_headers = folder / "include/Python.h"
        self.has_headers.parent.mkdir()
        (folder / "bin").mkdir()
        self.command("apt-get", APT.format(asked=self.asked, then="exit 100"))
        self.command("sudo", '#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n')
        self.command("python", PYTHON.format(headers=self.has_headers.parent))
        for found in Path("/usr/bin").iterdir():
            if found.name not in COMPILERS and not (folder / "bin" / found.name).exists():
                (folder / "bin" / found.name).symlink_to(found)
        plain_run, plain_script = shell.run, shell.script
        path = f"{folder}/bin"
        monkeypatch.setattr(shell, "run", lambda command, **more: plain_run(f"CC=; PATH={path}; {command}", **more))
        monkeypatch.setattr(
            shell, "script", lambda script, settings, **more: plain_script(script, {**settings, "PATH": path, "CC": ""}, **more)
        )

    def command(self, name: str, text: str) -> None:
        place = self.folder / "bin" / name
        place.write_text(text)
        place.chmod(place.stat().st_mode | stat.S_IXUSR)

    def installs(self) -> None:
        """From here on apt-get brings what it is asked for."""
        brings = f"/bin/ln -sf /bin/true {self.folder}/bin/gcc; /usr/bin/touch {self.has_headers}"
        self.command("apt-get", APT.format(asked=self.asked, then=brings))

    def ensured(self, strategy: Strategy = FUSED, *, ours: bool = True, shares_files: bool = False) -> bool:
        box = msgspec.structs.replace(self.box, ours=ours, shares_files=shares_files)
        return ensure_compiler(self.shell, box, strategy, f"{self.folder}/bin/python", progress=self.said.append)


@pytest.fixture
def machine(shell: Shell, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(shell, box, tmp_path, monkeypatch)


def test_a_rented_box_without_one_gets_it_with_the_headers_of_its_interpreter(machine: Machine) -> None:
    machine.installs()
    assert machine.ensured()
    update, install = machine.asked.read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith("install --no-install-recommends gcc libc6-dev python3.11-dev")
    assert machine.ensured()
    assert len(machine.asked.read_text().splitlines()) == 2, "what is there is not installed again"


def test_what_is_there_is_not_asked_for(machine: Machine) -> None:
    machine.has_headers.touch()
    machine.installs()
    assert machine.ensured()
    assert machine.asked.read_text().splitlines()[1].endswith(" gcc libc6-dev")


def test_a_box_that_can_t_get_one_is_told_and_goes_on(machine: Machine) -> None:
    assert not machine.ensured()
    assert machine.said[-1].startswith(f"{machine.box.host} has no C compiler: its blocks are computed eagerly")


@pytest.mark.parametrize(("ours", "shares_files"), [(False, False), (True, True)])
def test_a_machine_that_stays_is_left_as_it_is(machine: Machine, *, ours: bool, shares_files: bool) -> None:
    machine.installs()
    assert not machine.ensured(ours=ours, shares_files=shares_files)
    assert not machine.asked.exists()
    assert "has no C compiler" in machine.said[-1]


def test_eager_kernels_ask_for_nothing(machine: Machine) -> None:
    assert machine.ensured(msgspec.structs.replace(FUSED, kernels="eager"))
    assert machine.said == []


def test_what_reads_a_base_that_others_packed_wants_one_and_is_nothing_without(machine: Machine) -> None:
    """It is published as sources alone, so the run ends before its trainer begins."""
    over = msgspec.structs.replace(FUSED, kernels="eager", quant="hqq_int4")
    with pytest.raises(
        ProvisionError, match="has no C compiler with Python's headers, and what reads a base in hqq"
    ) as refused:
        ensure_readers(machine.shell, machine.box, over, f"{machine.folder}/bin/python", progress=machine.said.append)
    assert refused.value.hint == "sudo apt-get install gcc libc6-dev python3-dev"
    assert machine.asked.read_text().splitlines()[0].endswith(" update")
    assert machine.said[0] == "installing a C compiler for what reads a base in hqq"
