"""A state folder on a disk that is really full: a tmpfs of 2 MB in a mount namespace of its own, without a free byte.

Also a program: `python -m tests.faults.homes.test_full_disk FOLDER`, types each command there and prints what came of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from provision.account.ledger import Ledger
from provision.cli import call
from provision.errors import Exit
from provision.home.places import read_places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from tests.provision.plans import tiny_files, tiny_plan

pytestmark = pytest.mark.root

ROOT: Final = Path(__file__).parents[3]
# Typed with one run opened and nothing rented: the exit code, and what is said. RUN, MODEL and DATA stand for their like.
COMMANDS: Final = (
    ("plan --model MODEL --data DATA --provider local", Exit.OK, "Run it"),
    ("plan --model MODEL --data DATA --provider local --save SAVED", Exit.REFUSED, "can't be written: No space left on device"),
    ("run --model MODEL --data DATA --provider local --yes", Exit.REFUSED, "0 B free on this machine, and the adapter and"),
    ("ls", Exit.OK, "1 of 1 runs"),
    ("ls --orphans", Exit.STILL_BILLS, "RUN"),
    ("report --since 30d", Exit.OK, "Spent"),
    ("logs RUN", Exit.OK, ""),
    ("catalog import OFFERS", Exit.FAILED, "offers.csv can't be written on this machine: No space left on device"),
    ("doctor", Exit.REFUSED, "no space left"),
    ("estimate --model MODEL", Exit.OK, "allocated"),
)


def test_every_command_says_what_a_full_disk_keeps_it_from_and_leaves_nothing_half(tmp_path: Path) -> None:
    """One clear sentence or the answer, never a traceback; a run that could not be opened is not there, its key included."""
    (tmp_path / "home").mkdir()
    mounted = (
        f"mount -t tmpfs -o size=2m tmpfs {tmp_path}/home && exec {sys.executable} -W ignore -m {__spec__.name} {tmp_path}"
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mounted], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for words, code, sentence in COMMANDS:
        assert (words, told["codes"][words]) == (words, code), told["said"][words]
        assert sentence.replace("RUN", told["run"]) in told["said"][words], words
        assert "Traceback" not in told["said"][words]
    assert told["runs"] == [told["run"]], "the one that could not be opened left nothing"
    assert not told["saved"], "nor did the plan that could not be saved: an empty file is no plan"
    assert told["down"] == [Exit.OK, "over"], "with room again the earlier one is ended"


def main(folder: Path) -> None:
    model, data = tiny_files(folder / "files")
    (folder / "mine.csv").write_text("provider,instance_type,gpu,num_gpus,on_demand_usd_per_hour\nmine,one,L4,1,1.0\n")
    os.environ |= {"RENTUNE_HOME": str(folder / "home"), "RENTUNE_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    places = read_places()
    ledger = Ledger(places.ledger)
    plan = tiny_plan(model, data)
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    filler = folder / "home/filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as full:
        while full.write(bytes(4096)):
            pass
    codes, said = {}, {}
    for words, _, _ in COMMANDS:
        meant = {"RUN": run_id, "MODEL": str(model), "DATA": str(data), "OFFERS": str(folder / "mine.csv")}
        meant["SAVED"] = str(folder / "home/plan.json")
        codes[words], said[words] = typed([meant.get(word, word) for word in words.split()])
    runs = sorted(path.name for path in (places.home / "runs").iterdir())
    saved = (folder / "home/plan.json").exists()
    filler.unlink()
    code, _ = typed(["down", run_id])
    standing = ledger.runs()[run_id].standing.name.lower()
    down = [code, standing]
    print(json.dumps({"run": run_id, "codes": codes, "said": said, "runs": runs, "saved": saved, "down": down}))  # noqa: T201


def typed(words: list[str]) -> tuple[int, str]:
    told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = call(words)
    told.seek(0)
    return code, told.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
