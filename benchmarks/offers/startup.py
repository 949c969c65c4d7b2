"""How long a person waits for `rentune --help` and for the default plan: whole processes, cold, median of ten.

    python -m benchmarks.offers.startup [--write]

It is installed as a person installs it, with what the planner needs and nothing else: an environment for development imports
more. Cold means a new process each time with warm disk and byte code, as on the second use of a day. Goals: 0.10 s and 0.25 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import RESULTS, describe_machine

ROOT = Path(__file__).parents[2]
UV = str(ROOT / ".uv" / "bin" / "uv")
RESULT = RESULTS / "startup.md"
RUNS = 10
QUESTIONS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("--help",), 0.10),
    (("plan", "--help"), 0.10),
    (("plan", "--model", "32b", "--gpu-budget", "16GB"), 0.25),
    (("plan", "--model", "7b", "--json"), 0.25),
)


def install(folder: Path) -> Path:
    """The `rentune` of a new environment below `folder`."""
    python = str(folder / "bin" / "python")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", python, "--compile-bytecode"]
    subprocess.run([*install, "-c", str(ROOT / ".ci" / "locks" / "light.txt"), str(ROOT)], check=True)
    return folder / "bin" / "rentune"


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of one process, from fork to exit."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def measure(command: list[str]) -> list[float]:
    """Seconds of `RUNS` processes after one that warms the disk."""
    seconds(command)
    return [seconds(command) for _ in range(RUNS)]


def main() -> int:
    """Print the table; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    write = parser.parse_args().write
    lines = [
        "# Start-up",
        "",
        describe_machine(),
        "",
        "| command | median s | min s | max s | goal s |",
        "| --- | --- | --- | --- | --- |",
    ]
    met = True
    with tempfile.TemporaryDirectory() as folder:
        rentune = str(install(Path(folder)))
        measured = [(arguments, goal_s, measure([rentune, *arguments])) for arguments, goal_s in QUESTIONS]
    for arguments, goal_s, times in measured:
        median_s = statistics.median(times)
        met = met and median_s <= goal_s
        lines.append(
            f"| `rentune {' '.join(arguments)}` | {median_s:.3f} | {min(times):.3f} | {max(times):.3f} | {goal_s:.2f} |"
        )
    text = "\n".join([*lines, "", f"Whole processes, {RUNS} each, by `python -m benchmarks.offers.startup --write`.", ""])
    print(text)
    if write:
        RESULT.write_text(text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
