"""How fast files travel: Shell.put and Shell.get against scp, sha256 on both sides included on both.

    python -m benchmarks.renting.transfer [--write] [--megabytes 500] [--rounds 3]

A private sshd on loopback is the far end; the long line is a proxy that holds every byte back by half a round trip. Our
figure includes its hashing on both sides; scp has none, so a sha256sum of either side is timed with it, the way a
careful person would do it. Rounds alternate between the two, and medians are compared, so that other load on the
machine meets both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.machine import RESULTS, describe_machine
from provision.direct.here import local_offer
from provision.direct.local import LocalBox
from provision.seam import Box, Launch
from provision.ssh import Shell
from provision.ssh.keys import KeyPair, client_key
from tests.doubles.proxy import proxied

RESULT = RESULTS / "transfer.md"
LINES = {"loopback": 0.0, "60 ms round trip": 0.030}  # one-way delay in seconds
WANTED = {"loopback": 0.6, "60 ms round trip": 2.0}  # ours / scp, at least
WHY = """Why: scp hashes nothing, and the careful `sha256sum` after it costs 0.8 s of CPU for 200 MB (coreutils without the
CPU's SHA instructions) on either side; ours hashes while it sends, with OpenSSL's code, 0.3 s. Over a long line one SSH
channel moves its window of 2 MiB per round trip; ours uses four channels of one connection (150 MB at 60 ms on
2026-11-25: one channel 18 MB/s up and 22 down, four 40 and 43, six 44 and 47, eight 37 and 37). The line of 60 ms is a
proxy in Python on the same two cores (`tests/doubles/proxy.py`), so its share of CPU is in every figure."""


class Pace(NamedTuple):
    """Megabytes a second over one line in one direction."""

    line: str
    direction: str
    ours: float
    scp: float

    @property
    def ratio(self) -> float:
        return self.ours / self.scp

    @property
    def row(self) -> str:
        figures = f"{self.ours:.0f} | {self.scp:.0f} | {self.ratio:.2f} | ≥ {WANTED[self.line]:g}"
        return f"| {self.line} | {self.direction} | {figures} |"


def main() -> int:
    """Print the table; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    paces: list[Pace] = []
    with tempfile.TemporaryDirectory() as folder, _box(Path(folder)) as (box, key):
        source = Path(folder) / "source"
        with source.open("wb") as file:
            for _ in range(asked.megabytes):
                file.write(os.urandom(10**6))
        for line, delay_s in LINES.items():
            with proxied(box.port, delay_s=delay_s) as proxy:
                there = msgspec.structs.replace(box, port=proxy.port) if delay_s else box
                for pace in _compare(line, there, key, source, asked.rounds):
                    print(pace.row, flush=True)
                    paces.append(pace)
    text = report(paces, asked.megabytes, asked.rounds)
    print(text)
    if asked.write:
        RESULT.write_text(text)
    return 0 if all(pace.ratio >= WANTED[pace.line] for pace in paces) else 1


def report(paces: list[Pace], megabytes: int, rounds: int) -> str:
    """The result file."""
    table = ["| line | direction | ours, MB/s | scp, MB/s | ours / scp | wanted |", "| --- | --- | --- | --- | --- | --- |"]
    what = (
        f"{megabytes} MB of random bytes, medians of {rounds} rounds that take turns; sha256 of both sides is in both figures "
        "(scp: a `sha256sum` at either end after the copy)."
    )
    table += [pace.row for pace in paces]
    parts = ["# Files there and back: Shell.put and Shell.get against scp", describe_machine(), what, "\n".join(table), WHY]
    return "\n\n".join(parts) + "\n"


def _compare(line: str, box: Box, key: KeyPair, source: Path, rounds: int) -> Iterator[Pace]:
    known = source.with_name("known_hosts")
    known.write_text(f"[{box.host}]:{box.port} {box.host_key}\n")
    far, home = f"{box.folder}/far", source.with_name("home")
    scp = ["scp", "-q", "-P", str(box.port), "-i", str(key.private), "-o", f"UserKnownHostsFile={known}"]
    there = f"{box.user}@{box.host}:{far}"
    with Shell.connect(box, key=key.private, deadline_s=30) as shell:
        ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "up": (lambda: shell.put(source, far), lambda: _scp([*scp, str(source), there], source, shell, far)),
            "down": (lambda: shell.get(far, home), lambda: _scp([*scp, there, str(home)], home, shell, far)),
        }
        for direction, (ours, theirs) in ways.items():
            pairs = [(_timed(ours), _timed(theirs)) for _ in range(rounds)]
            our_s, their_s = (statistics.median(times) for times in zip(*pairs, strict=True))
            megabytes = source.stat().st_size / 10**6
            yield Pace(line, direction, megabytes / our_s, megabytes / their_s)


def _scp(command: list[str], local: Path, shell: Shell, far: str) -> None:
    subprocess.run(command, check=True)
    here = subprocess.run(["sha256sum", str(local)], check=True, capture_output=True, text=True).stdout.split()[0]
    if here != shell.run(f"sha256sum {far}").out.split()[0]:
        raise SystemExit("scp damaged the file")


def _timed(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


@contextmanager
def _box(folder: Path) -> Iterator[tuple[Box, KeyPair]]:
    key = client_key(folder / "keys", run_id="transfer")
    provisioner = LocalBox(folder / "boxes", folder / "cache")
    launch = Launch(
        run_id="transfer", owner="benchmark", folder=folder, public_key=key.public, deadline_at_s=time.time() + 3600
    )
    try:
        yield provisioner.up(local_offer(), launch), key
    finally:
        provisioner.destroy(launch)


if __name__ == "__main__":
    sys.exit(main())
