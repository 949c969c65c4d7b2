"""How long it takes from `rentune run` to the first training step on an emulated cloud, by phase, and what of it is ours.

    python -m benchmarks.renting.first_step [--write] [--rounds 3]

Real are engine, program, user data, systemd, sshd, the line and the trainer; the plugin is a double, API and machines are
emulated, and the base is a model of two layers, which is trained on the machine's processor. So what a real cloud, a real
download and a real base take is not in it: what is left is what rentune itself costs. Each round is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from benchmarks.machine import RESULTS, describe_machine
from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from planner.asking.request import Where
from planner.cli import answer
from planner.search.market.offers import on_sale
from provision.account.ledger import Ledger
from provision.account.lines import Created, PhaseEnded
from provision.charge.driving import drive
from provision.clouds.engine.build import find_engine
from provision.clouds.engine.stack import OPERATION_S, Stack
from provision.errors import Exit
from provision.home.places import Places, read_places
from provision.prepare.asking import search_edges
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Box, Claim, Launch
from provision.walk.edges import Edges
from provision.watch.view import read_events
from remote.contract import Event, Phase
from tests.doubles import emulator
from tests.doubles.bench import Bench, WithTheStack, set_up
from tests.doubles.displays import Quiet
from tests.provision.plans import FREE, tiny_files, tiny_plan

RESULT: Final = RESULTS / "first_step.md"
LOOK_S: Final = 0.02  # how exactly it is known when a machine began to answer
CLOUDS: Final = ("aws", "gcp", "runpod")
HOME: Final = "127.0.0.1/32"  # who is let in: so nobody has to ask the world for this machine's address
OF_OTHERS: Final = ("the engine", "the machine", "the trainer")
ON_THE_BOX: Final = (Phase.LOAD, Phase.PROBE, Phase.TRAIN)
TRAINERS: Final = ("start and imports", "base and data", "load", "probe", "first step")  # what lies before and between those
WHAT: Final = """What is *ours* is what is left when all that others do is taken off. *The engine* is every call of Pulumi's,
with the plugin's double and the emulated API behind it. *The machine* is the time from when the ledger has the box until its
SSH port takes a connection. *The trainer* is everything from its start on: torch and transformers, the base, the probe, the
first step. `plan` is the search over all offers of that cloud; `SDK` the import of Pulumi's classes for it; `open` writes the
run down before anything is rented. A start of Python comes before all that: `benchmarks/results/startup.md`."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One command of the engine's."""

    words: str  # its verb, and what it is asked of
    began_at_s: float
    took_s: float


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one run has taken, in seconds from the first line of its process on, imports not counted."""

    rows: dict[str, dict[str, float]]  # by phase, by whom
    first_step_s: float
    calls: tuple[Call, ...]  # of the whole run, teardown included
    calls_before: int  # of them before the first step


class Counted:
    """An engine command that notes what it is asked."""

    def __init__(self, command: Any, calls: list[Call]) -> None:
        self._command = command
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._command, name)

    def run(self, args: list[str], *rest: Any, **named: Any) -> Any:
        began_at_s = time.time()
        try:
            return self._command.run(args, *rest, **named)
        finally:
            words = " ".join(args[: 2 if args[0] in ("stack", "plugin", "config") else 1])
            self._calls.append(Call(words=words, began_at_s=began_at_s, took_s=time.time() - began_at_s))


class Watched(WithTheStack):
    """Notes each call of the engine, and when the machine that it made began to answer."""

    calls: list[Call]
    answers_at_s: float | None = None

    def _stack(self, claim: Claim, *, operation_s: float = OPERATION_S) -> Stack:
        stack = super()._stack(claim, operation_s=operation_s)
        stack._command = Counted(stack._command, self.calls)  # type: ignore[assignment] # noqa: SLF001 - only to look on
        return stack

    def up(self, offer: Offer, launch: Launch) -> Box:
        box = super().up(offer, launch)
        threading.Thread(target=self._await, args=(box.host, box.port), daemon=True).start()
        return box

    def _await(self, host: str, port: int) -> None:
        while True:
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex((host, port)) == 0 and probe.recv(4):  # the server's first word
                    self.answers_at_s = time.time()
                    return
            time.sleep(LOOK_S)


def one_run(bench: Bench, folder: Path) -> Round:
    """Plan, open and drive a run at the bench's cloud, and read what it took from its ledger and its trainer's events."""
    began_at_s = time.time()
    places = Places(home=folder / "home", cache=folder / "cache")
    here = (HOME,) if bench.row.allow_from else ()  # only where there is a firewall
    tiny = tiny_plan(*tiny_files(folder), where=Where(providers=(bench.cloud,), allow_from=here))
    tiny = msgspec.structs.replace(tiny, offer=bench.row.offer, billing=FREE)
    planning_at_s = time.time()
    edges = search_edges()
    answer(tiny.request, edges, on_sale(read_catalog(), edges))
    planned_at_s = time.time()
    provisioner = bench.provisioner(Watched)
    assert isinstance(provisioner, Watched)
    provisioner.calls = []
    loaded_at_s = time.time()
    ledger = Ledger(places.ledger)
    run_id = open_run(tiny, find_base(tiny.request.model), places=places, ledger=ledger, clock=time.time)
    opened_at_s = time.time()
    receipt = drive(run_id, Edges(places, Quiet(), make=lambda _: provisioner))
    if receipt.exit_code != Exit.OK or provisioner.answers_at_s is None:
        raise SystemExit(f"The run did not train: {receipt.ending.message}")
    before = {"plan": planned_at_s - planning_at_s, "SDK": loaded_at_s - planned_at_s, "open": opened_at_s - loaded_at_s}
    return _read(ledger, read_events(places.run(run_id).events), provisioner, before, began_at_s)


def _read(ledger: Ledger, events: list[Event], watched: Watched, before: dict[str, float], began_at_s: float) -> Round:
    lines = list(ledger.lines())
    ended = {line.phase: line for line in reversed(lines) if isinstance(line, PhaseEnded)}
    created_at_s = next(line.at_s for line in lines if isinstance(line, Created))
    step_at_s = next(event.at_s for event in events if event.kind == "step")
    shipped_at_s = ended[Phase.DOWNLOAD].at_s
    rows = {name: {"ours": took_s} for name, took_s in before.items()}
    for phase in (Phase.PREPARE, Phase.CREATE, Phase.BOOT, Phase.ENVIRONMENT, Phase.DOWNLOAD):
        rows[phase.value] = {"ours": ended[phase].duration_s}
    engine_s = sum(call.took_s for call in watched.calls if call.began_at_s < created_at_s)
    _take(rows[Phase.CREATE.value], "the engine", engine_s)
    assert watched.answers_at_s is not None
    _take(rows[Phase.BOOT.value], "the machine", max(0.0, watched.answers_at_s - created_at_s))
    marks = [shipped_at_s, events[0].at_s, *(_begun(events, phase) for phase in ON_THE_BOX), step_at_s]
    for name, (begin_s, end_s) in zip(TRAINERS, pairwise(marks), strict=True):
        rows[name] = {"the trainer": end_s - begin_s}
    told_s = sum(sum(row.values()) for row in rows.values())
    rows["between the phases"] = {"ours": step_at_s - began_at_s - told_s}
    return Round(
        rows=rows,
        first_step_s=step_at_s - began_at_s,
        calls=tuple(watched.calls),
        calls_before=sum(call.began_at_s < step_at_s for call in watched.calls),
    )


def _begun(events: list[Event], phase: Phase) -> float:
    return next(event.at_s for event in events if event.kind == "phase_started" and event.phase == phase)


def _take(row: dict[str, float], whose: str, took_s: float) -> None:
    """What somebody else did in a phase is not ours."""
    row[whose] = took_s
    row["ours"] -= took_s


# ── rounds and report ──────────────────────────────────────────────────────────────────────────────────────────────


def rounds_at(cloud: str, engine: Path, number: int) -> list[Round]:
    """So many runs at a cloud, one after the other, each in a process of its own."""
    with emulator.started(cloud, machines=True) as running:
        return [_apart(engine, running) for _ in _each(number, cloud, running)]


def _each(number: int, cloud: str, running: emulator.Emulator) -> Iterator[int]:
    for turn in range(number):
        running.reset()
        yield turn
        print(f"{cloud}: round {turn + 1} of {number}", flush=True)


def _apart(engine: Path, running: emulator.Emulator) -> Round:
    with _folder() as folder:
        bench = set_up(folder / "bench", engine, running)
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.renting.first_step",
            "--one",
            msgspec.json.encode(bench).decode(),
        ]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Round)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rentune-bench-") as name:
        yield Path(name)


def report(measured: dict[str, list[Round]]) -> str:
    """The result file."""
    parts = ["# From `rentune run` to the first training step", describe_machine(), _load(), WHAT, _shares(measured)]
    for cloud, rounds in measured.items():
        parts += [f"## {cloud}: {len(rounds)} runs, medians", _table(rounds), _calls(rounds)]
    return "\n\n".join(parts) + "\n"


def _load() -> str:
    return (
        f"The machine was shared: a load of {psutil.getloadavg()[2]:.1f} over the last 15 minutes, this measurement included."
    )


def _shares(measured: dict[str, list[Round]]) -> str:
    head = [
        "| cloud | seconds to the first step (least, most) | of it ours | engine calls a run |",
        "| --- | --- | --- | --- |",
    ]
    rows = []
    for cloud, rounds in measured.items():
        took = sorted(each.first_step_s for each in rounds)
        ours_s = statistics.median(_whole(each, "ours") for each in rounds)
        calls = statistics.median(len(each.calls) for each in rounds)
        rows.append(
            f"| {cloud} | {statistics.median(took):.1f} ({took[0]:.1f}, {took[-1]:.1f}) | {ours_s:.1f} s "
            f"({ours_s / statistics.median(took):.0%}) | {calls:.0f} |"
        )
    return "\n".join(head + rows)


def _whole(round: Round, whose: str) -> float:
    return sum(row.get(whose, 0.0) for row in round.rows.values())


def _table(rounds: list[Round]) -> str:
    columns = ("ours", *OF_OTHERS)
    lines = [f"| phase | seconds | {' | '.join(columns)} |", f"| --- | --- |{' --- |' * len(columns)}"]
    for name in rounds[0].rows:
        by_whom = {whose: statistics.median(each.rows[name].get(whose, 0.0) for each in rounds) for whose in columns}
        whole_s = statistics.median(sum(each.rows[name].values()) for each in rounds)
        cells = (f"{by_whom[whose]:.2f}" if any(whose in each.rows[name] for each in rounds) else "" for whose in columns)
        lines.append(f"| {name} | {whole_s:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _calls(rounds: list[Round]) -> str:
    """The engine's commands of the first run, in its order, equal neighbours counted."""
    told: list[tuple[str, int]] = []
    for call in rounds[0].calls:
        if told and told[-1][0] == call.words:
            told[-1] = (call.words, told[-1][1] + 1)
        else:
            told.append((call.words, 1))
    words = " · ".join(name if times == 1 else f"{name} ({times}×)" for name, times in told)
    took_s = statistics.median(sum(call.took_s for call in each.calls) for each in rounds)
    before, whole = rounds[0].calls_before, len(rounds[0].calls)
    return f"Engine calls of a whole run, {took_s:.1f} s together, {before} of {whole} before the first step: {words}."


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clouds", nargs="+", default=CLOUDS, choices=CLOUDS)
    parser.add_argument("--one", metavar="BENCH", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        with _folder() as folder:
            print(msgspec.json.encode(one_run(msgspec.json.decode(asked.one, type=Bench), folder)).decode())
        return 0
    engine = find_engine(read_places(os.environ))
    if engine is None:
        raise SystemExit("The Pulumi engine is not built; build it with: make pulumi")
    text = report({cloud: rounds_at(cloud, engine, asked.rounds) for cloud in asked.clouds})
    print(text)
    if asked.write:
        RESULT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
