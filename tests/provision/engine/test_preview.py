"""A preview through the real engine: the production program against the cloud's own answers, and nothing made."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.cli import call
from provision.home.places import Places, RunFolder
from tests.doubles import emulator
from tests.doubles.bench import Bench
from tests.provision.plans import tiny_files

pytestmark = pytest.mark.engine


def seen(bench: Bench) -> dict[str, dict[str, str]]:
    """Properties by kind."""
    launch = msgspec.structs.replace(bench.launch, volume_name="models", volume_gib=40)
    would = bench.provisioner().preview(bench.row.offer, launch)
    return {each.kind: each.properties for each in would}


def secrets_of(bench: Bench) -> list[str]:
    """What must not be shown: it lies in the engine's own folder, and in the environment."""
    return [(RunFolder(bench.launch.folder).engine / "passphrase").read_text(), "PRIVATE KEY", "a-secret-of-the-account"]


def test_what_would_be_created_at_aws(bench: Bench) -> None:
    """Type, image, disk, volume, firewall rule, tags with deadline and price; EC2 holds nothing of it afterwards."""
    would = seen(bench)
    assert set(would) == {"instance", "security_group", "key_pair", "volume", "attachment"}
    assert (would["volume"]["size"], would["volume"]["encrypted"], would["volume"]["tags.rentune-kept"]) == (
        "40",
        "true",
        "models",
    )
    box, group = would["instance"], would["security_group"]
    assert (box["instanceType"], box["rootBlockDevice.volumeSize"]) == ("g5.xlarge", "60")
    assert (box["rootBlockDevice.encrypted"], box["instanceInitiatedShutdownBehavior"]) == ("true", "terminate")
    assert box["ami"].startswith("ami-")
    assert box["tags.rentune-usd-per-hour"] == "1.006"
    assert box["tags.rentune-deadline"].endswith("Z")
    assert (group["ingress.0.cidrBlocks"], group["ingress.0.fromPort"]) == ("203.0.113.7/32", "22")
    assert box["userData"] == "hidden: a secret"
    assert [each for each in secrets_of(bench) if each in json.dumps(would)] == []
    assert bench.listed().nothing
    assert not any("create" in call for call in bench.faults.calls())


def test_what_would_be_created_at_runpod(
    tmp_path: Path, engine: Path, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the whole command. The dynamic provider is not called for it: no pod is there, and no run is opened."""
    monkeypatch.setenv("RENTUNE_HOME", str(places.home))
    model, data = tiny_files(tmp_path)
    job = tmp_path / "job.yaml"
    where = {"providers": ["runpod"], "gpus": ["RTX 4090"], "num_gpus": 1}
    job.write_text(json.dumps({"model": str(model), "data": {"file": str(data)}, "where": where, "tags": {"team": "nlp"}}))
    with emulator.started("runpod") as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        code = call(["run", str(job), "--preview", "--json"])
        said = capsys.readouterr().out
        assert running.control.standing() == []
    assert code == 0, said
    seen = json.loads(said)["data"]
    assert (seen["provider"], seen["instance_type"], seen["tags"]) == ("runpod", "1x-rtx-4090-secure", {"team": "nlp"})
    pod, address = (each["properties"] for each in seen["resources"])
    assert (pod["body.gpu.id"], pod["body.gpu.minCudaVersion"], pod["body.cloud"]) == (
        "NVIDIA GeForce RTX 4090",
        "13.0",
        "SECURE",
    )
    assert (pod["environment"], address["pod"]) == ("hidden: a secret", "known once it is made")
    assert "PRIVATE KEY" not in said
    assert Ledger(places.ledger).runs() == {}
