"""What a supervisor, and a `down` beside it, do at an emulated cloud, each in a process of its own that a test may strike."""

from __future__ import annotations

import faulthandler
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.asking.request import Where
from provision.account.ledger import Ledger
from provision.account.runs import RunState
from provision.charge.attendant import Attendant
from provision.charge.driving import drive
from provision.charge.ends.ending import end
from provision.charge.supervise import die_of
from provision.clouds.engine.runner import living_engines
from provision.clouds.provisioner import PulumiProvisioner
from provision.errors import RentuneError
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Box, Launch, Teardown
from provision.state.shared import Place
from provision.walk.edges import Edges
from provision.watch.progress import LineDisplay
from tests.doubles.bench import ROOT, Bench
from tests.provision.engine.killing import log_folder
from tests.provision.plans import tiny_files, tiny_plan

DISCARD: Final = 9  # the port of a service that no machine runs any more
Start = Callable[[str], subprocess.Popen[bytes]]  # "supervise" or "down" → who does it


def opened(bench: Bench, folder: Path, *, state_url: str | None = None) -> Bench:
    """The bench of a run that was agreed to, at its cloud's offer."""
    plan = tiny_plan(*tiny_files(folder), where=Where(allow_from=bench.row.allow_from))
    plan = msgspec.structs.replace(plan, offer=bench.row.offer)
    run_id = open_run(
        plan, find_base(plan.request.model), places=bench.places, ledger=Ledger(bench.places.ledger), clock=time.time
    )
    if state_url is not None:
        Place(state_url).publish(run_id, bench.places)
    return msgspec.structs.replace(bench, run_id=run_id)


def state_of(bench: Bench) -> RunState:
    return Ledger(bench.places.ledger).runs()[bench.run_id]


def ended(bench: Bench) -> Teardown:
    """By a process that knows nothing of what happened: this one."""
    return end(bench.run_id, _edges(bench))


class OnLoopback(PulumiProvisioner):
    """Whose machines answer nowhere: the addresses that the emulated cloud hands out are somebody's on the internet."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        return msgspec.structs.replace(super().up(offer, launch), host="127.0.0.1", port=DISCARD)


def _edges(bench: Bench) -> Edges:
    return Edges(bench.places, LineDisplay(sys.stdout), make=lambda _: bench.provisioner(OnLoopback))


@contextmanager
def processes(bench: Bench) -> Iterator[Start]:
    """Each in a session of its own; whatever is left of them is killed in the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(deed: str) -> subprocess.Popen[bytes]:
        words = [msgspec.json.encode(bench).decode(), deed]
        with said_by(bench, deed).open("ab") as out:
            command = [sys.executable, "-W", "ignore", "-m", "tests.provision.engine.supervising", *words]
            started.append(
                subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            )
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()
        for left in living_engines(log_folder(bench)):
            left.kill()


def said_by(bench: Bench, deed: str) -> Path:
    return Path(bench.folder) / f"{deed}.out"


def main(bench_json: str, deed: str) -> int:
    """Supervise the run as `run --detach` has it supervised, or end it as `down` does."""
    faulthandler.register(signal.SIGUSR1)
    bench = msgspec.json.decode(bench_json, type=Bench)
    try:
        if deed == "supervise":
            return drive(bench.run_id, _edges(bench), detached=True, attendant=Attendant(let_go=die_of)).exit_code
        print(end(bench.run_id, _edges(bench)), flush=True)  # noqa: T201 - for who reads a broken test
    except (RentuneError, KeyboardInterrupt) as error:
        print(repr(error), flush=True)  # noqa: T201 - likewise
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
