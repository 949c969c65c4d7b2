"""The machines behind an emulated cloud: made to be what it says, and it is told when one ends by itself.

An emulator that has them is the first process of namespaces of its own (tests/doubles/emulator.py sees to that).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from tests.doubles.hosting.machines import CONTROL, Container, Machine, boot, group_of, lay_network, remove_groups, search_path

END_S: Final = 10.0


class Hosts:
    """Every machine of one emulated cloud, whose lock is held by whoever calls."""

    def __init__(self, lock: threading.Lock, ended: Callable[[str], None]) -> None:
        """`ended` is told the name of a machine whose power is off, from another thread and with the lock held."""
        os.environ["PATH"] = search_path()
        for what, where in (("tmpfs", Path("/run")), ("cgroup2", CONTROL)):  # places that nobody outside sees
            where.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", what, what, str(where)], check=True)
        self.subnet = lay_network()
        remove_groups(group_of())  # of a cloud that was killed: the number of its network is given again
        self.addresses = (str(address) for address in list(self.subnet.hosts())[1:])
        self.machines: dict[str, Machine] = {}  # those that run
        self.past: dict[str, Machine] = {}  # what was on their console is shown for a while
        self.lock = lock
        self.tell = ended

    def find(self, name: str) -> Machine | None:
        return self.machines.get(name) or self.past.get(name)

    def follow(self, running: Collection[str], switch_on: Callable[[str], tuple[str, str | Container]]) -> None:
        """Cut the power of those that shall not run; start those that do not yet, by their address and what they are told."""
        for name in self.machines.keys() - set(running):
            self.past[name] = self.machines.pop(name)
            self.past[name].kill()
        for name in set(running) - self.machines.keys():
            address, told = switch_on(name)
            self.machines[name] = boot(name, address, self.subnet, told, ended=self._ended)

    def _ended(self, machine: Machine) -> None:
        with self.lock:
            self.past[machine.name] = self.machines.pop(machine.name, machine)
            self.tell(machine.name)

    def end(self) -> None:
        """Nothing of them stays: processes and mounts end with this process, the control groups here."""
        with self.lock:
            running = [self.machines.pop(name) for name in list(self.machines)]
        for machine in running:
            machine.kill()
            machine.gone.wait(END_S)
        remove_groups(group_of())


def end_with_starter(end: Callable[[], None]) -> None:
    """Once standard input ends, and so whoever started this is done or gone, everything does."""

    def wait() -> None:
        sys.stdin.buffer.read()
        end()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
