"""How fast a data file is looked through before anything is rented, and in how much memory.

    python -m benchmarks.training.check_rows [--write] [--rows 1000000] [--model FOLDER]

A JSONL file of questions and answers, no two alike, goes through `python -m remote check` in a process of its own, as `rentune
check` does it where no tokenizer is named; with --model that tokenizer counts. CPU seconds are told as well: whoever else is
on the machine takes none of those.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.machine import RESULTS, describe_machine

TITLE: Final = "# A data file looked through before anything is rented"
RESULT: Final = RESULTS / "check_rows.md"
ROWS: Final = 1_000_000
MIB: Final = 2**20
LINUX_UNIT_BYTES: Final = 1024  # of ru_maxrss (getrusage(2))
WORDS: Final = ("adapter", "rank", "epoch", "gradient", "batch", "token", "loss", "memory", "price", "hour", "card", "queue")


class Looked(NamedTuple):
    """What one file took."""

    rows: int
    file_bytes: int
    tokens: int  # as it told
    basis: str
    wall_s: float
    cpu_s: float
    peak_ram_bytes: int


def rows(number: int) -> Iterator[str]:
    """Questions of a dozen words, and answers of one to eighty, by a seed."""
    chance = random.Random(1)
    for place in range(number):
        question = f"Question {place}: {' '.join(chance.choices(WORDS, k=12))}?"
        yield json.dumps({"prompt": question, "completion": " ".join(chance.choices(WORDS, k=chance.randint(1, 80)))})


def looked_through(number: int, model: Path | None) -> Looked:
    """A file of so many rows, written, looked through and taken away."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        with file.open("w", encoding="utf-8") as out:
            out.writelines(f"{row}\n" for row in rows(number))
        command = [sys.executable, "-m", "remote", "check", str(file), *(() if model is None else ("--model", str(model)))]
        before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        wall_s, after = time.monotonic() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
        return Looked(
            rows=told["rows"],
            file_bytes=file.stat().st_size,
            tokens=told["tokens"],
            basis=told["basis"],
            wall_s=wall_s,
            cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            peak_ram_bytes=after.ru_maxrss * LINUX_UNIT_BYTES,
        )


def report(found: Looked) -> str:
    """The result file."""
    told = (
        f"{found.rows:,} rows of questions and answers, {found.file_bytes / MIB:,.0f} MiB of JSONL, {found.tokens:,} tokens, "
        f"{found.basis}. Load of the machine: {os.getloadavg()[0]:.1f}."
    )
    titles = ("rows", "CPU s", "s", "rows / CPU s", "rows / s", "peak RAM, MiB", "bytes of RAM a row")
    cells = (
        f"{found.rows:,}",
        f"{found.cpu_s:.1f}",
        f"{found.wall_s:.1f}",
        f"{found.rows / found.cpu_s:,.0f}",
        f"{found.rows / found.wall_s:,.0f}",
        f"{found.peak_ram_bytes / MIB:,.0f}",
        f"{found.peak_ram_bytes / found.rows:,.0f}",
    )
    table = [f"| {' | '.join(line)} |" for line in (titles, ("---",) * len(titles), cells)]
    return "\n".join([TITLE, "", describe_machine(), "", told, "", *table, ""])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--model", type=Path, help="folder of a tokenizer that counts")
    asked = parser.parse_args()
    text = report(looked_through(asked.rows, asked.model))
    print(text)
    if asked.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
