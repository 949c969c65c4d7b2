"""Real boxes for tests, one recipe per kind of provisioner. Also a program: a controller that can be killed.

`python -m tests.provision.rigs KIND FOLDER RUN_ID DEADLINE_AT_S` brings a box up, starts a task that would outlive it,
says so, and waits for its end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import pytest

from catalogs.hardware import Offer
from provision.aboard import detached
from provision.aboard.ship import box_marks, job_folder
from provision.clouds.programs import Cloud
from provision.clouds.programs.caller import caller_address
from provision.direct.here import local_offer
from provision.direct.host import ExistingHost, OwnSsh
from provision.direct.local import LocalBox
from provision.direct.server import find_sshd
from provision.home.places import RunFolder
from provision.seam import Answer, Box, Launch, Provisioner
from provision.ssh import Shell, Waits
from provision.ssh.keys import KeyPair, client_key, make_key
from tests.doubles.bench import Bench
from tests.doubles.clouds import CLOUDS
from tests.doubles.world.core import MACHINE

RUN = f"run-{secrets.token_hex(4)}"  # its own in each process: secrets lie in memory by the run, for the whole machine
HOST_PORT_FILE = "host/port"
BENCH_FILE = "bench.json"
HERE = "127.0.0.1/32"
BOOT_S = 60.0  # a machine behind a cloud boots in two seconds, on a busy computer in far more


def local_in_namespace(folder: Path) -> Provisioner:
    return LocalBox(folder / "boxes", folder / "cache", namespace=True)


def local_without(folder: Path) -> Provisioner:
    return LocalBox(folder / "boxes", folder / "cache", namespace=False)


def existing_host(folder: Path) -> Provisioner:
    """The user's host: an SSH server that is not ours, with a home of its own below `folder`."""
    port = (folder / HOST_PORT_FILE).read_text()
    return ExistingHost(
        f"127.0.0.1:{port}",
        own=OwnSsh(known_hosts=(folder / "host/known_hosts",), identities=(folder / "host/user_key",), agent=False),
        patience_s=5.0,
    )


def bench_of(folder: Path) -> Bench:
    return msgspec.json.decode((folder / BENCH_FILE).read_bytes(), type=Bench)


def through_the_engine(folder: Path) -> Provisioner:
    """The real engine, the double of a cloud's plugin, an emulated cloud, and a machine behind each of its instances."""
    provisioner = bench_of(folder).provisioner()
    provisioner.cloud = cast("Cloud", SeenFrom(provisioner.cloud, HERE))
    return provisioner


class SeenFrom:
    """A cloud as it is, that knows the address of this machine without asking the world, which no test may reach."""

    def __init__(self, cloud: Cloud, address: str) -> None:
        self._cloud = cloud
        self._address = address

    def __getattr__(self, name: str) -> object:
        return getattr(self._cloud, name)

    def caller_address(self) -> str | None:
        return self._address if self._cloud.caller_address is caller_address else self._cloud.caller_address()


def folder_is_gone(box: Box) -> bool:
    return not Path(box.folder).exists()


def machine_is_gone(box: Box) -> bool:
    """Folder and all: nothing answers at its address."""
    with socket.socket() as probe:
        probe.settimeout(5.0)
        return probe.connect_ex((box.host, box.port)) != 0


def nothing_runs(rig: Rig) -> bool:
    """No task is listed any more."""
    return not rig.tasks()


def it_is_off(rig: Rig) -> bool:
    """The machine has switched itself off; it is listed and billed as before, until somebody deletes it."""
    machines = bench_of(rig.folder).control.standing(MACHINE)
    return all(machine["off"] for machine in machines) and len(rig.tasks()) == len(machines) > 0


@dataclass(frozen=True)
class Kind:
    """A kind of provisioner, and the answers to what the contract must ask of each kind in its own way."""

    make: Callable[[Path], Provisioner]  # from the rig's folder alone: another process makes it, too
    offer: Callable[[], Offer] = local_offer
    is_gone: Callable[[Box], bool] = folder_is_gone
    task: str = "process"  # the kind of resource that is there for as long as a detached task runs
    life_s: int = 12  # long enough to come up and to start a task on a machine that is busy with other tests
    is_over: Callable[[Rig], bool] = nothing_runs  # what becomes of it at the deadline, with nobody there
    cloud: str | None = None  # the emulated one that it needs
    marks: tuple[pytest.MarkDecorator, ...] = ()


def rented(cloud: str, *, life_s: int = 40, is_over: Callable[[Rig], bool] = nothing_runs) -> Kind:
    """A cloud's row."""
    return Kind(
        through_the_engine,
        offer=lambda: CLOUDS[cloud].offer,
        is_gone=machine_is_gone,
        task="instance",
        life_s=life_s,
        is_over=is_over,
        cloud=cloud,
        marks=(pytest.mark.engine, pytest.mark.root),
    )


# Every kind that the contract holds for. A new provider adds a row.
KINDS: dict[str, Kind] = {
    "local box in a PID namespace": Kind(local_in_namespace),
    "local box without namespace": Kind(local_without),
    "existing host": Kind(existing_host),
    "AWS through the engine": rented("aws"),
    "Hetzner through the engine": rented("hetzner", is_over=it_is_off),
    "DigitalOcean through the engine": rented("digitalocean", is_over=it_is_off),
    "Google Cloud through the engine": rented("gcp", life_s=70),  # it takes no limit below 30 s
    "RunPod through the engine": rented("runpod"),
}


@dataclass(frozen=True)
class Rig:
    """A provisioner, and what a run needs beside it."""

    kind: str
    folder: Path

    @property
    def row(self) -> Kind:
        return KINDS[self.kind]

    @property
    def provisioner(self) -> Provisioner:
        return self.row.make(self.folder)

    def up(self, launch: Launch | None = None) -> Box:
        """A box of the kind's own offer."""
        return self.provisioner.up(self.row.offer(), launch or self.launch())

    def tasks(self, run_id: str = RUN) -> list[str]:
        """What the provisioner lists of a task that runs on the box."""
        owned = self.provisioner.owned(self.launch(run_id=run_id))
        assert owned.complete is Answer.YES
        return [resource.id for resource in owned.resources if resource.kind == self.row.task]

    def key(self, run_id: str = RUN) -> KeyPair:
        return client_key(RunFolder(self.folder / "runs" / run_id).keys, run_id=run_id)

    def launch(self, *, run_id: str = RUN, deadline_at_s: float | None = None) -> Launch:
        return Launch(
            run_id=run_id,
            owner="tester",
            folder=self.folder / "runs" / run_id,
            public_key=self.key(run_id).public,
            deadline_at_s=time.time() + 120 if deadline_at_s is None else deadline_at_s,
            allow_from=CLOUDS[self.row.cloud].allow_from if self.row.cloud else ("127.0.0.1/32",),
            account=self.provisioner.account(),
        )

    def connect(self, box: Box, **options: float) -> Shell:
        return Shell.connect(box, key=self.key().private, deadline_s=BOOT_S, waits=Waits(**options))  # type: ignore[arg-type]


@contextlib.contextmanager
def rig_of(kind: str, folder: Path, bench: Bench | None = None) -> Iterator[Rig]:
    """The rig, and its end: whatever a test has left is ended. `bench`: for the kinds that need one."""
    with contextlib.ExitStack() as held:
        if KINDS[kind].make is existing_host:
            held.enter_context(users_sshd(folder / "host"))
        rig = Rig(kind, folder)
        if bench:  # its emulated cloud ends the rest
            (folder / BENCH_FILE).write_bytes(msgspec.json.encode(bench))
        else:
            held.callback(lambda: rig.provisioner.destroy(rig.launch()))
        yield rig


@contextlib.contextmanager
def users_sshd(folder: Path, *, keys_file: str = ".ssh/authorized_keys") -> Iterator[None]:
    """A plain SSH server with `folder` as everybody's home; admits `folder/user_key`, known in `folder/known_hosts`, and who
    else stands in its `keys_file`.
    """
    (folder / ".ssh").mkdir(parents=True)
    admitted = make_key(folder / "user_key", comment="user")
    (folder / keys_file).write_text(f"{admitted.public}")  # without a last newline: people do that
    host_key = make_key(folder / "host_key", comment="host")
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/{keys_file}\n"
        "AuthenticationMethods publickey\nUsePAM no\nStrictModes no\nPidFile none\nMaxSessions 64\n"
        f"SetEnv HOME={folder} SHLVL=1\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    server = subprocess.Popen([find_sshd(), "-D", "-e", "-f", str(config), "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        (folder / "port").write_text(str(port))
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key.public}\n")
        await_true(lambda: _listens(port))
        yield
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_true(question: Callable[[], object], *, patience_s: float = 30.0) -> None:
    """Ask until the answer is yes."""
    ends_at_s = time.monotonic() + patience_s
    while not question():
        assert time.monotonic() < ends_at_s, "it never became true"
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(kind: str, folder: str, run_id: str, deadline_at_s: str) -> None:
    rig = Rig(kind, Path(folder))
    launch = rig.launch(run_id=run_id, deadline_at_s=float(deadline_at_s))
    box = rig.up(launch)
    with Shell.connect(box, key=rig.key(run_id).private, deadline_s=BOOT_S) as shell:
        detached.start(shell, job_folder(box), "exec sleep 1000", box_marks(box))
        print("up", flush=True)  # noqa: T201 (the test reads it)
        time.sleep(1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
