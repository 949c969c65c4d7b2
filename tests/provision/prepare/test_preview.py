"""`run --preview`: what would be created, flat and without a secret; nothing is created, and no run is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provision.account.ledger import Ledger
from provision.cli import call
from provision.clouds.preview import HIDDEN, LATER, SECRET, UNKNOWN, would_be
from provision.clouds.stack import Foreseen
from provision.home.places import Places
from tests.provision.plans import tiny_files


def test_a_resource_is_told_by_paths_and_plain_values() -> None:
    """What the SDK adds is left out, what nobody knows yet is said to be so, and a secret stays one."""
    foreseen = Foreseen(
        type="cloudy:instance",
        name="box",
        inputs={
            "__defaults": [],
            "size": "big",
            "spot": False,
            "key": UNKNOWN,
            "userData": {SECRET: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "AAAA"},
            "disk": {"gib": 60, "encrypted": True},
            "networks": ["10.0.0.0/8", "192.0.2.0/24"],
            "rules": [{"port": 22, "from": ["203.0.113.7/32"]}],
            "body": '{"gpu": {"count": 2}}',
        },
    )
    seen = would_be(foreseen, "instance")
    assert (seen.kind, seen.name) == ("instance", "box")
    assert seen.properties == {
        "size": "big",
        "spot": "false",
        "key": LATER,
        "userData": HIDDEN,
        "disk.gib": "60",
        "disk.encrypted": "true",
        "networks": "10.0.0.0/8, 192.0.2.0/24",
        "rules.0.port": "22",
        "rules.0.from": "203.0.113.7/32",
        "body.gpu.count": "2",
    }


def test_a_text_that_only_looks_like_json_is_a_text() -> None:
    assert would_be(Foreseen(type="t", name="n", inputs={"note": "{x"}), "k").properties == {"note": "{x"}


@pytest.mark.parametrize("as_json", [False, True])
def test_on_this_machine_nothing_would_be_created(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    """Exit 0 without a yes; no run is opened, and no folder of one is there."""
    monkeypatch.setenv("RENTUNE_HOME", str(places.home))
    monkeypatch.setenv("RENTUNE_CACHE", str(places.cache))
    monkeypatch.setenv("COLUMNS", "60")
    model, data = tiny_files(tmp_path)
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps({"model": str(model), "data": {"file": str(data)}, "where": {"providers": ["local"]}}))
    code = call(["run", str(file), "--preview", *(["--json"] if as_json else [])])
    said = capsys.readouterr().out
    assert code == 0, said
    if as_json:
        answer = json.loads(said)
        assert (answer["command"], answer["data"]["provider"], answer["data"]["resources"]) == ("run", "local", [])
    else:
        assert "At local nothing is created." in said
        assert "\nthis-machine at local, " in said
        assert max(map(len, said.splitlines())) <= 60
    assert Ledger(places.ledger).runs() == {}
    assert not places.run("any").root.parent.exists()
