"""F26: secrets are planted in a run, and looked for wherever somebody else could find them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provision.envelope.show import console
from provision.errors import Exit
from provision.places import Places
from provision.providers import boxes_folder
from provision.report.terminal import print_report
from provision.walk.books import read_receipt
from tests.doubles.displays import Quiet
from tests.faults.probe import PLANTED, Probe
from tests.faults.rehearsal import Rehearsal


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Secrets in our own environment, where a person has them."""
    for name, secret in PLANTED.items():
        monkeypatch.setenv(name, secret)
    return dict(PLANTED)


class Learning(Quiet):
    """A display that names the run's keys to the probe once they are made."""

    def __init__(self, probe: Probe, keys: dict[str, Path]) -> None:
        super().__init__()
        self.probe = probe
        self.keys = keys

    def phase(self, name: str) -> None:
        super().phase(name)
        for key, path in self.keys.items():
            if path.exists():
                self.probe.learn(key, path.read_text())


# ── the probe itself ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_probe_finds_what_is_planted_for_it(tmp_path: Path) -> None:
    """A command line, an environment and a file; else the tests below would prove nothing."""
    (tmp_path / "state.json").write_text("a marker in a file")
    with Probe({"in argv": "marker-one", "in an environment": "marker-two", "in a file": "a marker in a file"}) as probe:
        code = "import time; time.sleep(1)"
        environment = os.environ | {"X": "marker-two"}
        subprocess.run([sys.executable, "-c", code, "marker-one"], env=environment, check=True)
    assert {(where, name) for where, name, _ in probe.seen} == {
        ("command line", "in argv"),
        ("environment", "in an environment"),
    }
    assert probe.in_files(tmp_path) == [("in a file", str(tmp_path / "state.json"))]
    assert probe.num_looks > 5


# ── a run on this machine ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.box
@pytest.mark.torch
@pytest.mark.fault("F26", tier="box")
def test_a_run_on_the_local_box_shows_no_secret(
    rehearsal: Rehearsal, places: Places, planted: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """While it runs: no command line, no environment but our own. Afterwards: no file, not even the keys; nor the output."""
    run_id = rehearsal.open()
    folder = places.run(run_id)
    keys = {"client key": folder.keys / "client", "host key": boxes_folder(places) / run_id / "server" / "host_key"}
    with Probe(planted) as probe:
        receipt = rehearsal.drive(run_id, Learning(probe, keys))
        print_report(receipt, console(), report_file=str(folder.report))
    assert receipt.exit_code == Exit.OK, receipt.message
    assert probe.secrets.keys() == {*planted, *keys}, "the keys were seen and could be looked for"
    assert probe.num_looks > 20
    assert probe.seen == set()
    assert probe.in_files(places.home, rehearsal.folder) == []
    said = capfd.readouterr()
    assert probe.in_text((said.out + said.err).encode()) == []
    assert read_receipt(folder) == receipt
