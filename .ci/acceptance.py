"""`make acceptance`: show again what docs/acceptance.md promises, and write what was seen, with the date, into its rows.

| promise | cheap: `command` | last result | date |      the command is run now
| promise | `pytest PATHS` | last result | date |        the tests are looked up in build/junit/, as `make test` left it

A row whose command failed says so. Rows with other commands are written by hand.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/acceptance.md"
JUNIT = ROOT / "build/junit"  # quick.xml of the built wheel, rest.xml of this checkout
ROW = re.compile(
    r"^\| (?P<promise>[^|]+) \| (?P<cheap>cheap: )?`(?P<command>[^`|]+)` \| (?P<result>[^|]+) \| (?P<date>[^|]+) \|$"
)
TESTS = re.compile(r"^pytest(?P<paths>( tests/\S+)+)$")
COUNT = re.compile(r"(\d+) passed")
LIMIT_S = 300


class Shown(NamedTuple):
    """What a row's command showed."""

    result: str
    good: bool
    tail: str = ""


def run(command: str, home: str) -> Shown:
    """The command as a person types it in the checkout, with the project's environment first on PATH."""
    environment = os.environ | {"PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "RENTUNE_HOME": home, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Shown(f"FAILED, not done in {LIMIT_S} s", good=False)
    passed = COUNT.search(done.stdout) if command.startswith("pytest") else None
    result = f"passed, {passed[1]} tests" if passed else "shown"
    tail = "\n".join(f"        {line}" for line in done.stdout.splitlines()[-15:])
    return Shown(result, good=True) if done.returncode == 0 else Shown("FAILED", good=False, tail=tail)


def look_up(paths: list[str], outcomes: dict[str, list[bool]]) -> Shown | None:
    """The tests below these paths in the last whole run; None where it held none of them."""
    wanted = tuple(path.removesuffix(".py").replace("/", ".") for path in paths)
    found = [
        good
        for name, outcome in outcomes.items()
        if any(name == each or name.startswith(f"{each}.") for each in wanted)
        for good in outcome
    ]
    if not found:
        return None
    failed = found.count(False)
    return Shown(f"FAILED, {failed} of {len(found)}" if failed else f"passed, {len(found)} tests", good=not failed)


def read_junit(folder: Path) -> dict[str, list[bool]]:
    """Module → whether each of its tests passed."""
    outcomes: dict[str, list[bool]] = {}
    for case in (case for path in sorted(folder.glob("*.xml")) for case in ET.parse(path).iter("testcase")):
        good = all(case.find(bad) is None for bad in ("failure", "error", "skipped"))
        outcomes.setdefault(case.get("classname", ""), []).append(good)
    return outcomes


def day_of(seconds: float) -> dt.date:
    """The day, as UTC has it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date()


def renewed(row: re.Match[str], seen: Shown, date: dt.date) -> str:
    """The row with what was seen. Where that is only that it ran, a person's own words say more and stay."""
    words = row["result"] != "open" and not row["result"].startswith("FAILED")
    result = row["result"] if seen.result == "shown" and words else seen.result
    return f"| {row['promise']} | {row['cheap'] or ''}`{row['command']}` | {result} | {date} |"


def main() -> int:
    """Exit 0 when everything that was looked at is shown. A command that stands for several promises runs once."""
    outcomes = read_junit(JUNIT)
    tested_at_s = min((path.stat().st_mtime for path in JUNIT.glob("*.xml")), default=0.0)  # of all, the oldest
    shown: dict[str, Shown | None] = {}
    lines = PAGE.read_text().splitlines()
    verdicts: list[bool] = []
    with tempfile.TemporaryDirectory(prefix="rentune-acceptance-") as home:
        for number, row in ((number, row) for number, line in enumerate(lines) if (row := ROW.match(line))):
            command, tests = row["command"], TESTS.match(row["command"])
            if command not in shown:
                shown[command] = (
                    run(command, home) if row["cheap"] else look_up(tests["paths"].split(), outcomes) if tests else None
                )
            if (seen := shown[command]) is None:
                continue
            verdicts.append(seen.good)
            lines[number] = renewed(row, seen, day_of(time.time() if row["cheap"] else tested_at_s))
            print(f"{'ok    ' if seen.good else 'FAILED'}  {row['promise']}\n        $ {command}", flush=True)
            if seen.tail:
                print(seen.tail, flush=True)
    PAGE.write_text("\n".join(lines) + "\n")
    print(f"{sum(verdicts)} of {len(verdicts)} promises shown; docs/acceptance.md says which, and since when")
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
