"""`run --preview`: what would be created, flat and without a secret; nothing is created, and no run is opened."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.cli import call
from provision.clouds.engine.stack import Foreseen
from provision.clouds.orders.preview import HIDDEN, LATER, SECRET, UNKNOWN, WouldBe, would_be
from provision.commands.run import _draw_preview
from provision.errors import Exit
from provision.home.places import Places
from provision.prepare.inputs import ENDPOINT
from provision.prepare.preview import Preview
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


def test_a_hub_that_is_away_stops_no_preview(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not known for that is said; a run is refused."""
    monkeypatch.setenv("RENTUNE_HOME", str(places.home))
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    job, rows = tmp_path / "job.yaml", tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a row of some words"}\n' * 40)
    job.write_text(f"model: HuggingFaceTB/SmolLM2-135M\ndata: {{file: {rows}}}\nwhere: {{providers: [local]}}\n")
    assert call(["run", str(job), "--preview"]) == Exit.OK
    told = " ".join(capsys.readouterr().out.split())
    assert "Note: The hub did not say which commit of HuggingFaceTB/SmolLM2-135M to train" in told
    assert "Nothing of that is in a preview; a run is not begun without it." in told
    assert call(["run", str(job), "--yes"]) == Exit.REFUSED
    assert not Ledger(places.ledger).runs()


def test_what_this_machine_lacks_is_told_before_a_hub_that_is_away(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It costs no request, and whoever has mended the line would meet it next."""
    monkeypatch.setenv("RENTUNE_HOME", str(places.home))
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a row of some words"}\n' * 40)
    words = ["--model", "HuggingFaceTB/SmolLM2-135M", "--data", str(rows), "--provider", "runpod", "--yes"]
    assert call(["run", *words]) == Exit.REFUSED
    told = " ".join(capsys.readouterr().err.split())
    assert "Error: runpod is not ready here: " in told
    assert "runpod credentials: not in the environment" in told
    assert "The hub" not in told


def test_a_preview_at_a_cloud_that_is_asked_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """RunPod's key was not tried, and looked as if it had been."""
    seen = Preview(
        provider="runpod",
        region="*",
        instance_type="1x-a40-secure",
        purchase="on_demand",
        usd_per_hour=Decimal("0.40"),
        disk_gib=20,
        deadline_at_s=0.0,
        tags={},
        resources=(WouldBe(kind="instance", name="box", properties={"gpu": "A40"}),),
    )
    _draw_preview(seen)
    said = "RunPod was asked nothing: neither the key nor what is free there was tried."
    assert said in " ".join(capsys.readouterr().out.split())
    _draw_preview(msgspec.structs.replace(seen, provider="aws"))
    assert "was asked nothing" not in capsys.readouterr().out
