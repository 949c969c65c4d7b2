"""F26: secrets are planted in a run, and looked for wherever somebody else could find them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from provision.envelope.show import console
from provision.errors import Exit
from provision.home.places import Places
from provision.providers import boxes_folder
from provision.report.terminal import print_report
from provision.ssh.keys import make_key
from provision.walk.books import read_receipt
from tests.doubles.displays import Quiet
from tests.faults.probe import PLANTED, Probe
from tests.faults.rehearsal import Rehearsal, wait_until


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
        argv, environment = [sys.executable, "-c", "input()", "marker-one"], os.environ | {"X": "marker-two"}
        with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE) as process:
            wait_until(lambda: probe.num_looks > 5)
            process.communicate(b"\n")
    assert {(where, name) for where, name, _ in probe.seen} == {
        ("command line", "in argv"),
        ("environment", "in an environment"),
    }
    assert probe.in_files(tmp_path) == [("in a file", str(tmp_path / "state.json"))]


def test_the_probe_tells_one_key_from_another(tmp_path: Path) -> None:
    """The first lines of two keys of a kind are the same: found by these, each would be seen wherever the other lies."""
    one, other = (make_key(tmp_path / name, comment="").private for name in ("one", "other"))
    probe = Probe({})
    probe.learn("one", one.read_text())
    assert probe.in_files(tmp_path) == [("one", str(one))]
    assert probe.secrets["one"] not in other.read_text()
    assert _seed_of(one)[:-1] in base64.b64decode(probe.secrets["one"])


def _seed_of(key: Path) -> bytes:
    """The 32 bytes that are secret in it."""
    loaded = load_ssh_private_key(key.read_bytes(), password=None)
    assert isinstance(loaded, Ed25519PrivateKey)
    return loaded.private_bytes_raw()


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
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert probe.secrets.keys() == {*planted, *keys}, "the keys were seen and could be looked for"
    assert probe.num_looks > 20
    assert probe.seen == set()
    assert probe.in_files(places.home, rehearsal.folder) == []
    said = capfd.readouterr()
    assert probe.in_text((said.out + said.err).encode()) == []
    assert read_receipt(folder) == receipt
