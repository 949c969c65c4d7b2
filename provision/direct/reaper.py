"""The local box's reaper: starts its SSH server, outlives whoever asked for it, and ends everything in time.

`python -m provision.direct.reaper REAPING.json` returns once the box answers, and leaves a process in a session of its
own. That process needs no controller, no network and no ledger. It ends the box at the deadline (by wall clock or by
uptime, whichever comes first, so that a clock that is set back extends nothing), when nobody has come for it in the
time of its idle limit (provision/aboard/renewal.py) or, once its trainer has saved, of its lease
(provision/aboard/lease.py), when asked by SIGTERM, or when the server is gone; and the box's folder with it. Inside a
bubblewrap PID namespace the kernel ends the box should the reaper be killed; without one, orphaned processes of the box
become the reaper's children, and die with the rest.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil

from provision.aboard.job import forget_secrets
from provision.aboard.renewal import idle_s
from provision.direct.lease import LeaseWatch
from provision.direct.limits import join, limit_name, limit_ram, remove_limit
from provision.direct.processes import SERVER_FOLDER, find_marked
from provision.seam import Ends

ANSWER_S = 10.0  # assumed: a local sshd answers within 0.3 s, many times that on a busy machine
PORT_ATTEMPTS = 5  # assumed: a free port may be taken between asking and listening
TICK_S = 1.0  # assumed: how late a clock that was set forward may be noticed
END_S = 10.0  # assumed: between the signal to leave and the kill
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
ASKED = {signal.SIGTERM, signal.SIGINT}


class Reaping(Ends, frozen=True, kw_only=True):
    """What the reaper is told. Its lease counts while the machine is awake."""

    run_id: str
    root: str
    server: tuple[str, ...]  # the command, without its port
    ram_gib: float | None = None  # of the offer; None = no limit is wanted

    @property
    def folder(self) -> Path:
        return Path(self.root) / self.run_id

    @property
    def log(self) -> Path:
        return self.folder / SERVER_FOLDER / "log"

    @property
    def port_file(self) -> Path:
        return self.folder / SERVER_FOLDER / "port"


def main(argv: list[str]) -> int:
    """Fork the reaper and wait until its box answers: 0 = it does."""
    reaping = msgspec.json.decode(Path(argv[0]).read_bytes(), type=Reaping)
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return 0 if os.read(reading, 1) else 1
    os.close(reading)
    os.setsid()
    leave_folder = False
    try:
        leave_folder = serve(reaping, ready=writing)
    finally:
        end(reaping, leave_folder=leave_folder)
    return 0


def serve(reaping: Reaping, *, ready: int) -> bool:
    """Start the server, say so on the descriptor `ready`, and return when the box has to end: whether its folder is to stay.

    It does where a signal asked for the end: whoever ends the run removes the folder himself; a machine that shuts down asks
    as well, and then its checkpoints are all that is left of the training. So they are where the lease has ended.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began_s = _uptime_s()
    ends_at_uptime_s = began_s + reaping.deadline_at_s - time.time()
    server, port = _start_server(reaping)
    reaping.port_file.write_text(str(port))
    os.write(ready, b"+")
    os.close(ready)
    _detach_output()
    watch = LeaseWatch(reaping.folder, lease_s=_or_never(reaping.lease_s), processes=lambda: _victims(reaping))
    while (left_s := min(reaping.deadline_at_s - time.time(), ends_at_uptime_s - _uptime_s())) > 0:
        caught = signal.sigtimedwait(WATCHED, min(left_s, TICK_S))
        if caught and caught.si_signo in ASKED:
            return True
        if server.pid in _reap() or _is_forsaken(reaping, began_s):
            return False
        if watch.is_over():
            return True
    return False


def _is_forsaken(reaping: Reaping, began_s: float) -> bool:
    waited_s = idle_s(reaping.folder, began_s=began_s, now_s=_uptime_s())
    return waited_s is not None and waited_s >= _or_never(reaping.idle_limit_s)


def _or_never(limit_s: float | None) -> float:
    return math.inf if limit_s is None else limit_s


def end(reaping: Reaping, *, leave_folder: bool = False) -> None:
    """Kill everything of the box, over and over until nothing is left; then remove its folder, unless it is left."""
    ends_at_s = time.monotonic() + END_S
    while time.monotonic() < ends_at_s:
        _reap()
        victims = _victims(reaping)
        if not victims:
            break
        for victim in victims:
            _kill(victim)
        time.sleep(0.02)
    forget_secrets(reaping.run_id)  # in memory, which outlives the box: the trainer may not have come to read it
    remove_limit(limit_name(reaping.folder))
    if not leave_folder:
        shutil.rmtree(reaping.folder, ignore_errors=True)


def _start_server(reaping: Reaping) -> tuple[subprocess.Popen[bytes], int]:
    group = limit_ram(limit_name(reaping.folder), reaping.ram_gib) if reaping.ram_gib else None

    def enter() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if group:
            join(group)

    log = os.open(reaping.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(PORT_ATTEMPTS):
        port = _free_port()
        server = subprocess.Popen(
            [*reaping.server, "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=enter,  # noqa: PLW1509 (this process has one thread)
        )
        if _answers(server, port):
            return server, port
        server.kill()
        server.wait()
    said = reaping.log.read_text(errors="replace").strip().splitlines()
    raise SystemExit(said[-1] if said else f"{reaping.server[0]} answered on none of {PORT_ATTEMPTS} ports")


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    ends_at_s = time.monotonic() + ANSWER_S
    while server.poll() is None and time.monotonic() < ends_at_s:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
                # A server that lost the race for its port has ended by the time a stranger has answered.
                return connection.recv(4) == b"SSH-" and server.poll() is None
        except OSError:
            time.sleep(0.01)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _detach_output() -> None:
    """Whoever started us may be waiting for the end of our output."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _reap() -> set[int]:
    """Pids of children that ended, adopted ones too."""
    ended = set()
    try:
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
            ended.add(pid)
    except ChildProcessError:
        pass
    return ended


def _victims(reaping: Reaping) -> set[psutil.Process]:
    myself = psutil.Process()
    marked = find_marked(Path(reaping.root), psutil.process_iter())
    ours = {process for process, run_id in marked.items() if run_id == reaping.run_id}
    return (ours | set(myself.children(recursive=True))) - {myself}


def _kill(victim: psutil.Process) -> None:
    try:
        victim.kill()
    except psutil.Error:
        return


def _uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
