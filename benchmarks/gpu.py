"""All that layer streaming and the trainer's step have to show on a card, in one command.

    python -m benchmarks.gpu --into runs                        # on a machine with one NVIDIA GPU: 14 minutes at the most
    python -m benchmarks.gpu --into dry --device cpu --tiny     # rehearsed, on a processor
    python -m benchmarks.gpu --into runs --write                # at home: the pages in benchmarks/results/

Each part is a process of its own with a share of the minutes, the first the most wanted. What it finds is in `runs` as soon as
it is known; a part that is cut, or a call that is, leaves that, and the next call goes on with what is missing. It ends with 1
where something is not as it must be. It has not run on a card yet: the parts have, on 2026-11-27, but for those of
`benchmarks.training.features`, which none has tried.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import trainer
from benchmarks.machine import RESULTS, describe_machine
from benchmarks.streaming import campaign
from benchmarks.streaming.table import table

MINUTES: Final = 14.0  # of a card, as it is lent: a quarter of an hour, less what it takes to come and to go
LEAST_S: Final = 20.0  # assumed: with less than this left no part is begun
DONE: Final = "done.jsonl"  # in the folder: a line for each part that ran to its end
WRONG: Final = 1  # what a part ends with that is whole, and not as it must be


class Part(NamedTuple):
    """A process: what it is told, given its file, the seconds that it has and how it is rehearsed."""

    file: str
    share: float  # of all the time, at the most; what one leaves the next ones have
    command: Callable[[Path, float, Sequence[str]], list[str]]


def _streaming(kind: str) -> Callable[[Path, float, Sequence[str]], list[str]]:
    def command(out: Path, left_s: float, rehearsed: Sequence[str]) -> list[str]:
        asked = ["--out", str(out), "--only", kind, "--limit-s", f"{left_s:.0f}"]
        return ["benchmarks.streaming.campaign", *asked, *rehearsed]

    return command


def _features(out: Path, _left_s: float, rehearsed: Sequence[str]) -> list[str]:
    return ["benchmarks.training.features", "--out", str(out), *rehearsed]


def _trainer(out: Path, left_s: float, rehearsed: Sequence[str]) -> list[str]:
    few = ["--rounds", "1", "--steps", "3"] if rehearsed else []
    return ["benchmarks.trainer", "--out", str(out), "--minutes", f"{left_s / 60:.2f}", *few, *rehearsed]


PARTS: Final[dict[str, Part]] = {
    "features of the step": Part("features.md", 0.25, _features),
    "streamed gradients": Part("streaming.jsonl", 0.20, _streaming("gradients")),
    "32B under 16 GB": Part("streaming.jsonl", 0.35, _streaming("trained")),
    "100B under 24 GB": Part("streaming.jsonl", 0.15, _streaming("large")),
    "against other loops": Part("trainer.jsonl", 1.0, _trainer),
}


def run(into: Path, *, minutes: float, rehearsed: Sequence[str] = (), parts: Sequence[str] = tuple(PARTS)) -> bool:
    """Every part that the folder does not hold whole. Returns whether all of them are, and as they must be."""
    into.mkdir(parents=True, exist_ok=True)
    ends_s = time.monotonic() + 60 * minutes
    for name in parts:
        if name in ended(into):
            continue
        left_s = ends_s - time.monotonic()
        if left_s < LEAST_S:
            print(f"{name}: too little time was left", flush=True)
            continue
        _carry_out(name, into, min(left_s, 60 * minutes * PARTS[name].share), rehearsed)
    whole = ended(into)
    return all(whole.get(name, False) for name in parts)


def _carry_out(name: str, into: Path, has_s: float, rehearsed: Sequence[str]) -> None:
    """One part, until it ends or its time does."""
    part = PARTS[name]
    command = [sys.executable, "-m", *part.command(into / part.file, has_s, rehearsed)]
    print(f"{name}: {has_s:.0f} s at the most", flush=True)
    try:
        code = subprocess.run(command, timeout=has_s, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"{name}: cut off; what it found stands in {part.file}", flush=True)
        return
    if code not in (0, WRONG):
        print(f"{name}: ended with {code}; what it found stands in {part.file}", flush=True)
        return
    if left_out(into / part.file):
        return
    with (into / DONE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"part": name, "right": code == 0}) + "\n")


def left_out(file: Path) -> bool:
    """Whether a campaign says last that something had too little time: then it is not through."""
    lines = list(campaign.read(file)) if file.suffix == ".jsonl" else []
    return bool(lines) and "left_out" in lines[-1]


def ended(into: Path) -> dict[str, bool]:
    """Part → whether it was as it must be, of those that ran to their end."""
    return {line["part"]: line["right"] for line in campaign.read(into / DONE)}


def pages(into: Path) -> Iterator[tuple[str, str]]:
    """(name without the card's, text) of each page that the folder has something for."""
    if lines := list(campaign.read(into / "streaming.jsonl")):
        card = next((line["built"]["device_name"] for line in lines if "built" in line), "a card")
        yield "streaming", f"{campaign.INTRODUCTION.format(card=card)}\n\n{table(lines)}\n"
    if (into / "features.md").exists():
        yield "features", (into / "features.md").read_text(encoding="utf-8")
    if trainer.lines_of(into / "trainer.jsonl"):
        yield "trainer", trainer.table(into / "trainer.jsonl", describe_machine())


def card_of(into: Path) -> str:
    """The card's name as a file has it, of what ran there."""
    names = (line.get("device_name") for line in trainer.lines_of(into / "trainer.jsonl"))
    built = (line["built"]["device_name"] for line in campaign.read(into / "streaming.jsonl") if "built" in line)
    return next((name for name in (*names, *built) if name), "unknown").replace(" ", "-")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, required=True, help="a folder; a part that stands there whole is not run again")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of all parts together")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: a rehearsal")
    parser.add_argument(
        "--write", action="store_true", help="run nothing; the pages of what stands there into benchmarks/results/"
    )
    said = parser.parse_args()
    if said.write:
        card = card_of(said.into)
        for name, text in pages(said.into):
            (RESULTS / f"{name}_{card}.md").write_text(text, encoding="utf-8")
        return 0
    rehearsed = ["--device", said.device, *(["--tiny"] if said.tiny else [])] if said.device == "cpu" or said.tiny else []
    right = run(said.into, minutes=said.minutes, rehearsed=rehearsed)
    for name, text in pages(said.into):
        (said.into / f"{name}-page.md").write_text(text, encoding="utf-8")
    return 0 if right else WRONG


if __name__ == "__main__":
    sys.exit(main())
