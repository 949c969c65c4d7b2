"""`make acceptance`: run the commands of docs/acceptance.md that are marked cheap, and say which still show their promise.

| promise | cheap: `command` | last result | date |
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (?P<promise>[^|]+) \| cheap: `(?P<command>[^`|]+)`", re.MULTILINE)
LIMIT_S = 300


def run(command: str, home: str) -> subprocess.CompletedProcess[str]:
    """The command as a person types it in the checkout, with the project's environment first on PATH."""
    environment = os.environ | {"PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "RENTUNE_HOME": home, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
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


def main() -> int:
    """Exit 0 when every cheap command did. A command that stands for several promises runs once."""
    rows = [(match["promise"], match["command"]) for match in ROW.finditer((ROOT / "docs/acceptance.md").read_text())]
    results: dict[str, subprocess.CompletedProcess[str]] = {}
    with tempfile.TemporaryDirectory(prefix="rentune-acceptance-") as home:
        for promise, command in rows:
            if command not in results:
                results[command] = run(command, home)
            done = results[command]
            print(f"{'ok    ' if done.returncode == 0 else 'FAILED'}  {promise}\n        $ {command}", flush=True)
            if done.returncode != 0:
                print("\n".join(f"        {line}" for line in done.stdout.splitlines()[-15:]), flush=True)
    failed = sum(results[command].returncode != 0 for _, command in rows)
    print(f"{len(rows) - failed} of {len(rows)} promises shown by {len(results)} commands")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
