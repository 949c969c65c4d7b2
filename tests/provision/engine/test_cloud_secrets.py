"""F26 at each cloud: what the engine is told, and what it leaves."""

from __future__ import annotations

import base64
import re
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from provision.clouds.programs import CLOUDS, aws
from provision.clouds.provisioner import PulumiProvisioner
from provision.home.places import RunFolder
from tests.doubles.bench import Bench
from tests.doubles.world.core import MACHINE
from tests.faults.probe import PLANTED, Probe

pytestmark = pytest.mark.engine

LINE_END = r"(?:\\+n|\s)+"  # often written out
# Its fourth line: what stands before is every key's, or public.
PRIVATE_KEY = re.compile(rf"BEGIN OPENSSH PRIVATE KEY-----{LINE_END}(?:[\w+/=]{{64}}{LINE_END}){{3}}([\w+/=]{{60}})")
ENGINES = ("pulumi", "tests.doubles")  # command lines of the engine, of its dynamic providers and of the plugins' doubles


@pytest.mark.fault("F26", tier="engine")
def test_a_rented_box_shows_no_secret(bench_at_each: Bench) -> None:
    """Of what is not the cloud's the engine is told nothing. Its state and logs hold no secret, the user data only the host
    key that is replaced at the first contact, and none of it is left when the box is gone.
    """
    bench, folder = bench_at_each, RunFolder(bench_at_each.launch.folder)
    account = CLOUDS[bench.cloud].secret_variables[0]
    secrets = PLANTED | {account: a_secret_of_its_own(bench)}
    # The engine and the cloud's plugin work with the account's key; so does nobody else, and they with nothing else.
    with Probe(secrets, may_know=lambda name, command: name == account and any(word in command for word in ENGINES)) as probe:
        probe.secrets["passphrase"] = "not made yet"
        learning = threading.Thread(target=learn_passphrase, args=(probe, folder.engine / "passphrase"))
        learning.start()
        provisioner = bench.provisioner(PulumiProvisioner, teardown_s=30.0, **secrets)
        provisioner.up(bench.row.offer, bench.launch)
        learning.join()
        user_data = the_user_data(bench)
        [private] = PRIVATE_KEY.findall(user_data)
        assert probe.in_text(user_data.encode()) == []
        probe.secrets["one-time host key"] = private
        assert probe.in_files(Path(bench.folder), but=[folder.engine / "passphrase"]) == []
        assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert probe.seen == set()
    assert probe.num_looks > 20
    assert probe.in_files(Path(bench.folder)) == []


def a_secret_of_its_own(bench: Bench) -> str:
    """The account's key, which no test beside this one has: the probe looks at their processes, too. moto takes any."""
    own = f"the-only-key-{uuid4().hex}"
    if bench.cloud != "aws":
        bench.control.set(token=own)
    return own


def learn_passphrase(probe: Probe, file: Path) -> None:
    """Once the run has one; so that the probe knows it while the engine works."""
    while not file.exists() or not file.read_text():
        threading.Event().wait(0.01)
    probe.secrets["passphrase"] = file.read_text()


def the_user_data(bench: Bench) -> str:
    """What the cloud would show to whoever may describe the machine; of a pod everything, for it has no user data."""
    if bench.cloud == "aws":
        return ec2s_user_data(bench)
    [machine] = bench.control.standing(MACHINE)
    return str(machine["details"].get("user_data", machine))


def ec2s_user_data(bench: Bench) -> str:
    ec2 = aws.connect(bench.row.offer.region, bench.environment)
    [reservation] = ec2.describe_instances()["Reservations"]
    [instance] = reservation["Instances"]
    sent = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    return base64.b64decode(sent["UserData"]["Value"]).decode()
