"""How fast files travel: Shell.put and Shell.get against scp, sha256 on both sides included on both.

    python -m benchmarks.transfer [--megabytes 500] [--rounds 3]

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
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from provision.direct.local import LocalBox, local_offer
from provision.provisioner import Box, Launch
from provision.ssh import Shell
from provision.ssh.keys import KeyPair, client_key
from tests.fakes import proxied

LINES = {"loopback": 0.0, "60 ms round trip": 0.030}  # one-way delay in seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _box(Path(folder)) as (box, key):
        source = Path(folder) / "source"
        with source.open("wb") as file:
            for _ in range(asked.megabytes):
                file.write(os.urandom(10**6))
        print("| line | direction | ours, MB/s | scp, MB/s | ours / scp |\n|---|---|---|---|---|")
        for line, delay_s in LINES.items():
            with proxied(box.port, delay_s=delay_s) as proxy:
                there = msgspec.structs.replace(box, port=proxy.port) if delay_s else box
                _compare(line, there, key, source, asked.rounds)


def _compare(line: str, box: Box, key: KeyPair, source: Path, rounds: int) -> None:
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
            print(
                f"| {line} | {direction} | {megabytes / our_s:.0f} | {megabytes / their_s:.0f} | {their_s / our_s:.2f} |",
                flush=True,
            )


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
    main()
