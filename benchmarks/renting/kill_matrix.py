"""The whole kill matrix on the real engine: 48 strikes, each on a bench of its own, and what a fresh process sees afterwards.

    python -m benchmarks.renting.kill_matrix [--write]

Needs the engine (`make pulumi`). The plugin is our double and the cloud is moto; `tests/provision/engine/matrix.py` says what
each strike is and what must hold. About ten seconds a strike on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import RESULTS, describe_machine
from provision.clouds.engine.build import find_engine
from provision.home.places import read_places
from tests.doubles import emulator
from tests.doubles.bench import set_up
from tests.provision.engine.matrix import MATRIX, MOMENTS, SIGNALS, TARGETS, Strike, broken_by

RESULT = RESULTS / "kill_matrix.md"
WHAT = """A controller in a process of its own creates or destroys a box through the engine; in the plugin's call for the
instance, before or after the cloud's yes, the signal strikes. Then a process that knows nothing of it runs `destroy`. A cell
is *ok* when the verdict is "destroyed", the cloud lists nothing by tag, the exported state is empty, no lock stays and the
engine's files are gone. (A create that was cut off before the cloud heard of it stays pending until the tag has shown nothing
twice.)"""


class Struck(NamedTuple):
    strike: Strike
    broken: tuple[str, ...]
    took_s: float


def main() -> int:
    """Print the table; exit 1 if a cell is not ok."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    asked = parser.parse_args()
    engine = find_engine(read_places(os.environ))
    if engine is None:
        raise SystemExit("The Pulumi engine is not built; build it with: make pulumi")
    struck = []
    with emulator.started() as moto:
        for strike in MATRIX:
            moto.reset()
            with tempfile.TemporaryDirectory() as folder:
                began_s = time.perf_counter()
                broken = tuple(broken_by(strike, set_up(Path(folder) / "bench", engine, moto)))
            struck.append(Struck(strike, broken, time.perf_counter() - began_s))
            print(f"{strike}: {'; '.join(broken) or 'ok'}", flush=True)
    text = report(struck)
    print(text)
    if asked.write:
        RESULT.write_text(text)
    return 1 if any(each.broken for each in struck) else 0


def report(struck: list[Struck]) -> str:
    """The result file."""
    words = {each.strike: "; ".join(each.broken) or "ok" for each in struck}
    titles = [f"{moment} the {deed}" for deed, moment in MOMENTS]
    table = [f"| signal | to | {' | '.join(titles)} |", f"| --- | --- |{' --- |' * len(MOMENTS)}"]
    for number in SIGNALS:
        for target in TARGETS:
            cells = [words[Strike(number, target, deed, moment)] for deed, moment in MOMENTS]
            table.append(f"| {number.name} | {target} | {' | '.join(cells)} |")
    num_ok = sum(not each.broken for each in struck)
    sums = f"{num_ok} of {len(struck)} ok, in {sum(each.took_s for each in struck):.0f} s."
    return "\n\n".join(["# The kill matrix", describe_machine(), WHAT, sums, "\n".join(table)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
