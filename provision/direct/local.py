"""The local box: an SSH server of our own on loopback, ended by a reaper (`reaper.py`) that outlives the controller."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import psutil

from catalogs.hardware import Offer
from planner.asking.request import LOCAL
from provision.aboard.job import forget_secrets
from provision.aboard.lease import lease_layer
from provision.aboard.marks import marks
from provision.aboard.renewal import IDLE_LIMIT_S, idle_layer, idle_s, unrenewed_s
from provision.aboard.ship import stack_is_here
from provision.direct.limits import limit_name, remove_limit
from provision.direct.processes import SERVER_FOLDER, find_marked
from provision.direct.reaper import Reaping
from provision.direct.server import bubblewrap_works, current_user, server_command, write_server
from provision.direct.verdict import unseen, verdict
from provision.errors import ProvisionError
from provision.seam import Answer, Box, Claim, Ends, InCharge, Launch, Layer, Owned, Resource, Teardown, unshared
from remote.contract import decode

START_S = 60.0  # assumed: five attempts of the reaper on a busy machine
END_S = 15.0  # assumed: the reaper needs 0.1 s; then we do it ourselves
REMOVE_S = 30.0  # assumed: gigabytes of checkpoints on a slow disk
LOOK_S = 0.02  # assumed: a look at a file of this machine costs microseconds
REAPER = "provision.direct.reaper"  # as it stands in its command line
REAPING = "reaper.json"  # what the reaper was told, in the server's folder


class LocalBox:
    """Provisioner "local". `root` holds a folder per box; `cache` outlives them (stacks, converted bases)."""

    name = LOCAL
    list_lag_s = 1.0  # assumed: a process that has just been started or ended
    worst_teardown_s = 2 * END_S + REMOVE_S
    look = ""

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        namespace: bool | None = None,
        idle_limit_s: float = IDLE_LIMIT_S,
        environment: Mapping[str, str] = os.environ,
        processes: Callable[[], Iterable[psutil.Process]] = psutil.process_iter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`namespace`: run inside a bubblewrap PID namespace; None = where bubblewrap works."""
        self._root = Path(os.path.realpath(root))  # Path.resolve raises for links that lead in a circle, and `down` must go on
        self._cache = Path(os.path.realpath(cache))
        self._namespace = namespace
        self._idle_limit_s = idle_limit_s
        self._environment = environment
        self._processes = processes
        self._clock = clock

    def up(self, offer: Offer, launch: Launch) -> Box:
        """Start a server and its reaper. Raises ProvisionError; nothing is left then."""
        folder = self._root / launch.run_id
        server = folder / SERVER_FOLDER
        try:
            server.mkdir(parents=True, mode=0o700)
        except FileExistsError as error:
            raise ProvisionError(
                f"A box of run {launch.run_id} exists already.", hint=f"rentune down {launch.run_id}"
            ) from error
        try:
            tags = marks(self._root, launch.run_id)
            host_key = write_server(server, public_key=launch.public_key, marks=tags, environment=self._environment)
            port = self._start_reaper(server, launch, offer.ram_gib)
        except BaseException:
            self.destroy(launch)
            raise
        return Box(
            run_id=launch.run_id,
            provider=self.name,
            host="127.0.0.1",
            port=port,
            user=current_user(),
            host_key=host_key,
            folder=str(folder),
            python=sys.executable if stack_is_here() else None,
            cache=str(self._cache),
            shares_files=True,
            resources=self.owned(launch).resources,
        )

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        """Ask the reaper, wait, and do what it could not. Found by mark: needs neither ledger nor pid file."""
        before = self.owned(claim)
        folder = self._root / claim.run_id
        in_charge()
        self._end(claim.run_id)
        remove_limit(limit_name(folder))
        shutil.rmtree(folder, ignore_errors=True)
        forget_secrets(claim.run_id)
        after = self.owned(claim)
        if after.complete is not Answer.YES:
            return unseen(claim.run_id, after.message, before.resources, at_s=self._clock())
        gone = "The local box is gone, its folder too."
        return verdict(claim.run_id, before.resources, after.resources, clean="destroyed", message=gone, at_s=self._clock())

    def owned(self, claim: Claim | None = None) -> Owned:
        """Processes by their mark and folders by their place; `complete` is unknown where we may not look."""
        try:
            found = find_marked(self._root, self._processes())
            folders = sorted(self._root.iterdir()) if self._root.exists() else []
        except (psutil.Error, OSError) as error:
            return Owned(resources=(), complete=Answer.UNKNOWN, message=f"This machine's processes can't be seen: {error}.")
        resources = [
            Resource(kind="process", id=f"{process.pid} {_name(process)}", region="here", run_id=run_id)
            for process, run_id in sorted(found.items(), key=lambda each: each[0].pid)
        ] + [Resource(kind="folder", id=str(folder), region="here", run_id=folder.name, bills=False) for folder in folders]
        asked = tuple(resource for resource in resources if claim is None or resource.run_id == claim.run_id)
        return Owned(resources=asked, complete=Answer.YES)

    def console(self, claim: Claim) -> str:
        """The server's log; empty once the box is gone."""
        log = self._root / claim.run_id / SERVER_FOLDER / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def account(self) -> None:
        """None: nobody is paid."""

    def readmit(self, claim: Claim) -> None:
        """Nothing: whoever goes on is on this machine."""

    def rearm(self, claim: Claim, ends: Ends) -> None:
        """Nothing: a reboot ends reaper and box alike."""

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        """The reaper, as a process that lives, with the deadline and the idle limit that it was told."""
        folder = self._root / claim.run_id
        try:
            found = find_marked(self._root, self._processes())
            reapers = [each for each, run_id in found.items() if run_id == claim.run_id and REAPER in _command(each)]
            told = decode((folder / SERVER_FOLDER / REAPING).read_bytes(), Reaping)
            began_s = reapers[0].create_time() - psutil.boot_time() if reapers else 0.0
            is_stopped = bool(reapers) and reapers[0].status() == psutil.STATUS_STOPPED
        except (psutil.Error, OSError, msgspec.DecodeError) as error:
            return (Layer(place="box", name="reaper", there=Answer.UNKNOWN, says=f"It can't be seen: {error}."),)
        if not reapers:
            return (Layer(place="box", name="reaper", there=Answer.NO, says="no process ends this box at its deadline"),)
        if is_stopped:
            says = f"process {reapers[0].pid} was stopped and watches nothing: kill -CONT {reapers[0].pid} wakes it"
            return (Layer(place="box", name="reaper", there=Answer.NO, says=says),)
        says = f"process {reapers[0].pid} ends it, by wall clock or by uptime"
        reaper = Layer(place="box", name="reaper", there=Answer.YES, says=says, strikes_at_s=told.deadline_at_s)
        up_s, now_s = time.clock_gettime(time.CLOCK_BOOTTIME), self._clock()
        layers = [reaper]
        if told.idle_limit_s is not None:
            layers.append(idle_layer(idle_s(folder, began_s=began_s, now_s=up_s), idle_limit_s=told.idle_limit_s, now_s=now_s))
        if told.lease_s is not None:
            waited_s = unrenewed_s(folder, began_s=began_s, now_s=up_s)
            layers.append(lease_layer(folder, unrenewed_s=waited_s, lease_s=told.lease_s, now_s=now_s))
        return tuple(layers)

    def _of(self, run_id: str) -> list[psutil.Process]:
        try:
            return [process for process, owner in find_marked(self._root, self._processes()).items() if owner == run_id]
        except (psutil.Error, OSError):
            return []

    def _end(self, run_id: str) -> None:
        """SIGTERM to the reaper, which ends the rest; SIGKILL to whatever outlives its patience."""
        for reaper in self._of(run_id):
            if REAPER in _command(reaper):
                _signal(reaper, signal.SIGTERM)
        ask_until_s, kill_until_s = time.monotonic() + END_S, time.monotonic() + 2 * END_S
        while (left := self._of(run_id)) and time.monotonic() < kill_until_s:
            reaper_lives = any(REAPER in _command(process) for process in left)
            if not reaper_lives or time.monotonic() > ask_until_s:
                for process in left:
                    _signal(process, signal.SIGKILL)
            time.sleep(LOOK_S)

    def _start_reaper(self, server: Path, launch: Launch, ram_gib: float | None) -> int:
        inside = bubblewrap_works() if self._namespace is None else self._namespace
        command = server_command(server, namespace=inside)
        ends = msgspec.structs.replace(launch.ends, idle_limit_s=self._idle_limit_s)
        reaping = Reaping(
            run_id=launch.run_id, root=str(self._root), server=command, ram_gib=ram_gib, **msgspec.structs.asdict(ends)
        )
        (server / REAPING).write_bytes(msgspec.json.encode(reaping))
        try:
            started = subprocess.run(
                [sys.executable, "-m", REAPER, str(server / REAPING)],
                env=self._reapers_environment(launch.run_id),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=START_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProvisionError(f"The local SSH server did not start within {START_S:.0f} s.") from error
        if started.returncode != 0:
            said = started.stderr.decode(errors="replace").strip() or self.console(launch).strip()
            raise ProvisionError(f"The local SSH server did not start: {said or 'no reason given'}")
        return int((server / "port").read_text())

    def _reapers_environment(self, run_id: str) -> dict[str, str]:
        """Enough to find this package again, and no secret that the controller was started with."""
        ours = {name: self._environment[name] for name in ("PATH", "HOME") if name in self._environment}
        where = [str(Path(__file__).parents[2]), *filter(None, [self._environment.get("PYTHONPATH")])]
        return ours | {"PYTHONPATH": os.pathsep.join(where)} | marks(self._root, run_id)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "ended"


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
