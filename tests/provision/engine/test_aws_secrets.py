"""F26 at AWS: what the engine is told, and what it leaves."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import pytest

from provision.clouds.programs import aws
from provision.clouds.provisioner import PulumiProvisioner
from provision.places import RunFolder
from tests.doubles.bench import Bench
from tests.faults.probe import PLANTED, Probe

pytestmark = pytest.mark.engine

PRIVATE_KEY = "BEGIN OPENSSH PRIVATE KEY-----\\n"


def may_know_the_account(secret: str, command: str) -> bool:
    """The engine and the cloud's plugin work with the account's key; so does nobody else, and they with nothing else."""
    return secret == "AWS_SECRET_ACCESS_KEY" and any(word in command for word in ("pulumi", "tests.doubles.aws"))


@pytest.mark.fault("F26", tier="engine")
def test_a_box_at_aws_shows_no_secret(bench: Bench) -> None:
    """Of what is not the cloud's the engine is told nothing. Its state and logs hold no secret, the user data only the host
    key that is replaced at the first contact, and none of it is left when the box is gone.
    """
    folder = RunFolder(bench.launch.folder)
    with Probe(PLANTED, may_know=may_know_the_account) as probe:
        probe.secrets["passphrase"] = "not made yet"
        learning = threading.Thread(target=learn_passphrase, args=(probe, folder.engine / "passphrase"))
        learning.start()
        provisioner = bench.provisioner(PulumiProvisioner, teardown_s=30.0, **PLANTED)
        provisioner.up(bench.row.offer, bench.launch)
        learning.join()
        user_data = the_user_data(bench)
        private = user_data.partition(PRIVATE_KEY)[2][:60]
        assert len(private) == 60
        assert probe.in_text(user_data.encode()) == []
        probe.secrets["one-time host key"] = private
        assert probe.in_files(Path(bench.folder), but=[folder.engine / "passphrase"]) == []
        assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert probe.seen == set()
    assert probe.num_looks > 20
    assert probe.in_files(Path(bench.folder)) == []


def learn_passphrase(probe: Probe, file: Path) -> None:
    """Once the run has one; so that the probe knows it while the engine works."""
    while not file.exists() or not file.read_text():
        threading.Event().wait(0.01)
    probe.secrets["passphrase"] = file.read_text()


def the_user_data(bench: Bench) -> str:
    """What the cloud would show to whoever may describe the instance."""
    ec2 = aws.connect(bench.row.offer.region, bench.environment)
    [reservation] = ec2.describe_instances()["Reservations"]
    [instance] = reservation["Instances"]
    sent = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    return base64.b64decode(sent["UserData"]["Value"]).decode()
