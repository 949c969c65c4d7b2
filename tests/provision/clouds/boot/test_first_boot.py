"""The user data on a machine that boots with systemd: what `bootcmd` promises holds while the rest of the boot waits."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from provision.aboard import detached
from provision.aboard.driver_wait import LOG, await_driver
from provision.aboard.layers import read_layers
from provision.aboard.renewal import BEGUN_FILE
from provision.aboard.ship import box_marks, job_folder
from provision.clouds.boot import bootstrap, driver_unit, unattended
from provision.clouds.boot.bootstrap import TIMER, UPTIME_MARGIN_S, FirstBoot, render_look, render_user_data
from provision.clouds.programs import aws
from provision.errors import ConnectionFailed, Declined
from provision.home.clocks import CLOCKS
from provision.seam import Answer, Box, Layer, Resource
from provision.ssh import Shell
from provision.ssh.keys import make_key
from tests.doubles.bench import OFFER, REGION
from tests.doubles.clouds import MOTOS_IMAGE as IMAGE
from tests.doubles.emulator import Emulator
from tests.doubles.hosting.machines import ROOT
from tests.provision.rigs import BOOT_S, await_true

pytestmark = pytest.mark.root
FOLDER = "/home/ubuntu/rentune-r1"
HOLD_THE_PACKAGE_LOCK = f"""setsid {sys.executable} -c '
import fcntl, time
with open("/var/lib/dpkg/lock-frontend", "w") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    open("/run/locked", "w").close()
    time.sleep(3600)
' & until [ -e /run/locked ]; do sleep 0.1; done"""
IDLE_LIMIT_S = 600.0
# An Ubuntu with a card whose driver is too old. No machine of the tests has a card, nor Ubuntu's archive: the card, the
# kernel's modules and the package manager are stand-ins, which lie where the shell looks first. An install waits for a word.
STAND_INS = """
cd /usr/local/sbin
printf 'NAME=Ubuntu\\nVERSION_ID=24.04\\n' > /etc/os-release
echo 535.183.01 > /run/card
printf '#!/bin/sh\\ncat /run/card\\n' > nvidia-smi
for each in modprobe mknod; do printf '#!/bin/sh\\necho "$0 $*" >> /run/said\\n' > $each; done
printf '#!/bin/sh\\nexit 0\\n' > apt-cache
cat > apt-get <<'PLAY'
#!/bin/sh
case " $* " in *" install "*) until [ -e /run/go-on ]; do sleep 0.1; done; cat /run/go-on; . /run/go-on ;; esac
PLAY
chmod 0755 *
"""
TAKE_THE_TIMERS_PLACE = ["mkdir", "-p", f"/etc/systemd/system/{TIMER}"]  # no unit can be there


class Instance:
    """One that EC2 was asked for directly; nothing of ours is in between."""

    def __init__(self, cloud: Emulator, user_data: str, *, at_power_off: str = "terminate") -> None:
        self.ec2 = aws.connect(REGION, cloud.environment)
        images = self.ec2.describe_images(Owners=[IMAGE.owner], Filters=[{"Name": "name", "Values": [IMAGE.name]}])["Images"]
        [made] = self.ec2.run_instances(
            MinCount=1,
            MaxCount=1,
            ImageId=images[0]["ImageId"],
            InstanceType=OFFER.instance_type,
            UserData=user_data,
            InstanceInitiatedShutdownBehavior=at_power_off,
        )["Instances"]
        self.id = made["InstanceId"]

    @property
    def row(self) -> dict[str, Any]:
        [reservation] = self.ec2.describe_instances(InstanceIds=[self.id])["Reservations"]
        return dict(reservation["Instances"][0])

    @property
    def state(self) -> str:
        return str(self.row["State"]["Name"])

    @property
    def console(self) -> str:
        return str(self.ec2.get_console_output(InstanceId=self.id)["Output"])


@pytest.fixture
def boot(tmp_path: Path) -> FirstBoot:
    client, host = make_key(tmp_path / "client", comment="run"), make_key(tmp_path / "host", comment="run")
    now_s = time.time()
    return FirstBoot(
        user=IMAGE.user,
        folder=FOLDER,
        public_key=client.public,
        host_key_private=(tmp_path / "host").read_text(),
        host_key_public=host.public,
        deadline_at_s=now_s + 3600,
        now_s=now_s,
        idle_limit_s=IDLE_LIMIT_S,
    )


@pytest.fixture
def cloud(with_machines: Callable[[str], Emulator]) -> Emulator:
    emulator = with_machines("aws")
    emulator.reset()
    return emulator


@pytest.fixture
def instance(cloud: Emulator, boot: FirstBoot) -> Instance:
    """One that boots with exactly our user data."""
    return Instance(cloud, render_user_data(boot))


@pytest.fixture
def box(instance: Instance, boot: FirstBoot) -> Box:
    return box_of(instance, boot)


def box_of(instance: Instance, boot: FirstBoot) -> Box:
    """Where it answers, with the host key that it was told."""
    address = instance.row["PublicIpAddress"]
    return Box(run_id="r1", provider="aws", host=address, port=22, user=boot.user, host_key=boot.host_key_public, folder=FOLDER)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "client"


def altered(boot: FirstBoot, *, bootcmd: list[str]) -> str:
    """The user data with one command before all of ours."""
    head, _, text = render_user_data(boot).partition("\n")
    document = json.loads(text)
    return f"{head}\n{json.dumps(document | {'bootcmd': [bootcmd, *document['bootcmd']]})}"


def test_the_deadline_is_armed_before_the_boot_goes_on(box: Box, key: Path) -> None:
    """Neither hangs in an early boot nor waits for a late one; nothing of the boot has failed; apt is quiet."""
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:
        at = "systemctl show --value --property=ActiveEnterTimestampMonotonic"
        armed, basic = (int(shell.run(f"{at} {unit}").out) for unit in (TIMER, "sysinit.target"))
        assert 0 < armed < basic
        await_true(lambda: shell.run("systemctl is-active cloud-init.target").out == "active\n", patience_s=BOOT_S)
        assert shell.run("systemctl --failed --quiet --no-legend").out == ""
        assert shell.run("systemctl is-enabled apt-daily.timer").out == "masked\n"
        assert shell.run(f"stat --format '%U %a' {FOLDER}").out == "ubuntu 700\n"


def test_the_deadline_can_be_read_back_and_what_is_undone_is_missing(box: Box, boot: FirstBoot, key: Path) -> None:
    """From systemd itself, in seconds of the machine's own clock; a timer that waits for this boot alone is not enough."""
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:

        def look() -> dict[str, Layer]:
            return {layer.name: layer for layer in read_layers(shell, render_look(idle_limit=True), now_s=time.time())}

        armed = look()
        assert {name: layer.there for name, layer in armed.items()} == dict.fromkeys(
            ("timer", "limit by uptime", "idle limit"), Answer.YES
        )
        assert armed["idle limit"].strikes_at_s == pytest.approx(time.time() + IDLE_LIMIT_S, abs=BOOT_S)
        assert armed["timer"].strikes_at_s == pytest.approx(boot.deadline_at_s, abs=3)
        late_s = (armed["limit by uptime"].strikes_at_s or 0) - boot.deadline_at_s
        assert 0 < late_s < 2 * UPTIME_MARGIN_S
        shell.run(f"sudo -n systemctl disable {TIMER}")
        assert (look()["timer"].there, look()["timer"].says) == (Answer.NO, "it waits, and a reboot would forget it")
        shell.run(f"sudo -n systemctl stop {TIMER} {unattended.TIMER}")
        assert {layer.there for layer in look().values()} == {Answer.NO}


def test_who_is_let_in(box: Box, key: Path) -> None:
    """The run's key as the image's user, who may become root; no password; no host key but ours."""
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:
        assert shell.run("id --user --name; sudo -n id --user --name").out == "ubuntu\nroot\n"
        assert "passwordauthentication no\n" in shell.run("sudo -n /usr/sbin/sshd -T").out
        assert shell.run("ls /etc/ssh/*_key").out == "/etc/ssh/ssh_host_ed25519_key\n"


def test_what_the_cloud_would_do_is_read_back_from_it(cloud: Emulator, boot: FirstBoot) -> None:
    """At EC2 a power-off ends the bill of the one kind only."""
    for at_power_off, there in (("terminate", Answer.YES), ("stop", Answer.NO)):
        instance = Instance(cloud, render_user_data(boot), at_power_off=at_power_off)
        [layer] = aws.guards(Resource(kind="instance", id=instance.id, region=REGION, run_id="r1"), cloud.environment)
        assert (layer.there, layer.says) == (there, f"a power-off from inside: {at_power_off}")


def test_a_power_off_from_inside_is_the_end_of_the_instance(instance: Instance, box: Box, key: Path) -> None:
    """As EC2 does it where termination was asked for; the console keeps what was said."""
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell, suppress(ConnectionFailed):  # whichever is faster
        shell.run("sudo -n systemctl --no-block poweroff")
    await_true(lambda: instance.state == "terminated", patience_s=BOOT_S)
    assert TIMER in instance.console


@pytest.mark.fault("F12", tier="box")
def test_a_reboot_disarms_nothing(instance: Instance, box: Box, key: Path) -> None:
    """Another boot of the same disk: the timer is armed again before the rest, and the machine is let in to as before."""
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell, suppress(ConnectionFailed):  # whichever is faster
        await_true(lambda: shell.run(f"touch {FOLDER}/kept").rc == 0, patience_s=BOOT_S)
        before = shell.run(boot_id).out
        shell.run("sudo -n systemctl --no-block reboot")

    def after() -> str:
        with suppress(ConnectionFailed), Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:
            return shell.run(f"{boot_id}; ls {FOLDER}; systemctl is-active {TIMER} cloud-init.target").out
        return before

    await_true(lambda: after().endswith("kept\nactive\nactive\n"), patience_s=BOOT_S)
    assert before not in after()
    assert instance.state == "running"
    assert instance.console.count("stage final is over") == 2


@pytest.mark.fault("F11", tier="box")
def test_a_package_manager_that_is_locked_holds_up_nothing(cloud: Emulator, boot: FirstBoot, key: Path) -> None:
    """As by an image's own first upgrade. Nothing of ours asks it: the machine is armed, booted and serves all the same."""
    box = box_of(Instance(cloud, altered(boot, bootcmd=["sh", "-c", HOLD_THE_PACKAGE_LOCK])), boot)
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:
        await_true(lambda: shell.run("systemctl is-active cloud-init.target").out == "active\n", patience_s=BOOT_S)
        refused = shell.run("sudo -n apt-get --quiet --yes install apt")
        assert (refused.rc, "Could not get lock" in refused.err) == (100, True)
        assert shell.run(f"systemctl is-active {TIMER}").out == "active\n"
        assert shell.run(f"stat --format '%U %a' {FOLDER}").out == "ubuntu 700\n"


@pytest.fixture
def with_old_driver(cloud: Emulator, boot: FirstBoot) -> Box:
    """A machine whose driver is too old, and is to be replaced by its first boot; its package manager waits for a word."""
    wanted = msgspec.structs.replace(boot, driver_order=driver_unit.driver_for((9, 0)))
    return box_of(Instance(cloud, altered(wanted, bootcmd=["sh", "-c", STAND_INS])), boot)


def awaited(shell: Shell, told: list[str], *, then: str) -> None:
    """Wait for the driver as set-up does; the first word of it lets the package manager go on, with what it is to do."""

    def tell(words: str) -> None:
        told.append(words)
        shell.run("sudo -n sh -c 'cat > /run/go-on'", stdin=then.encode())

    await_driver(shell, ends_at_s=CLOCKS.steady() + BOOT_S, wait_s=BOOT_S, clocks=CLOCKS, tell=tell)


@pytest.mark.fault("F11", tier="box")
def test_an_old_driver_is_replaced_while_the_box_answers_already(with_old_driver: Box, key: Path) -> None:
    """SSH is open and the deadline armed while it goes on; set-up hears what is done, and goes on once it is there."""
    told: list[str] = []
    with Shell.connect(with_old_driver, key=key, deadline_s=BOOT_S) as shell:
        await_true(lambda: shell.run(f"systemctl is-active {driver_unit.SERVICE}").out == "activating\n", patience_s=BOOT_S)
        assert shell.run(f"systemctl is-active {TIMER}").out == "active\n"
        awaited(shell, told, then="echo 580.173.02 > /run/card\n")
        assert told[0].startswith("Its first boot sees to the NVIDIA driver: ")
        assert "the driver 535 is not of branch 580 or newer" in shell.run(f"cat {LOG}").out
        assert "/modprobe nvidia\n/usr/local/sbin/modprobe nvidia_uvm\n" in shell.run("cat /run/said").out
        assert shell.run("systemctl --failed --quiet --no-legend").out == ""
        await_true(lambda: shell.run("systemctl is-active cloud-init.target").out == "active\n", patience_s=BOOT_S)


@pytest.mark.fault("F11", tier="box")
def test_an_old_driver_that_stays_is_told_in_one_sentence(with_old_driver: Box, key: Path) -> None:
    """As where the package manager says that all is well, and the card answers with the old one."""
    with (
        Shell.connect(with_old_driver, key=key, deadline_s=BOOT_S) as shell,
        pytest.raises(
            Declined, match="none could be installed: 580-server-open is installed, and the driver that answers is 535"
        ),
    ):
        awaited(shell, [], then=": nothing\n")


@pytest.mark.fault("F19", tier="box")
@pytest.mark.parametrize("wrong_by_s", [-3600, 3600], ids=["behind", "ahead"])
def test_a_machine_whose_clock_is_wrong_by_an_hour_ends_all_the_same(
    cloud: Emulator, boot: FirstBoot, key: Path, monkeypatch: pytest.MonkeyPatch, wrong_by_s: int
) -> None:
    """Behind: the limit by uptime strikes, here without its five minutes more. Ahead: it ends before it serves anybody.

    What is wrong is the order's clock, for the machine's is this computer's: it sees only the difference.
    """
    monkeypatch.setattr(bootstrap, "UPTIME_MARGIN_S", 0)
    now_s = time.time() - wrong_by_s
    wrong = msgspec.structs.replace(boot, now_s=now_s, deadline_at_s=now_s + 12)

    instance = Instance(cloud, render_user_data(wrong))

    if wrong_by_s < 0:
        with Shell.connect(box_of(instance, boot), key=key, deadline_s=BOOT_S) as shell:
            assert shell.run(f"systemctl is-active {TIMER}").out == "active\n"
    await_true(lambda: instance.state == "terminated", patience_s=BOOT_S)


def test_a_machine_for_which_nobody_comes_ends_itself(cloud: Emulator, boot: FirstBoot, key: Path) -> None:
    """At the next look of its timer, which is made here, for it comes by the minute; not once its trainer has begun."""
    instance = Instance(cloud, render_user_data(msgspec.structs.replace(boot, idle_limit_s=1.0)))
    look = f"sudo -n systemctl start {unattended.SERVICE}"
    with Shell.connect(box_of(instance, boot), key=key, deadline_s=BOOT_S) as shell:
        await_true(lambda: shell.run(f"[ -d {FOLDER} ]").rc == 0)
        shell.run(f"mkdir -p {FOLDER}/job && touch {FOLDER}/{BEGUN_FILE}")
        time.sleep(1.0)
        assert shell.run(look).rc == 0
        assert instance.state == "running"
        shell.run(f"rm {FOLDER}/{BEGUN_FILE}")
        with suppress(ConnectionFailed):  # whichever is faster
            shell.run(look)
    await_true(lambda: instance.state == "terminated", patience_s=BOOT_S)


def test_a_machine_whose_lease_nobody_renews_saves_and_ends_itself(cloud: Emulator, boot: FirstBoot, key: Path) -> None:
    """In the middle of its training, at the next look of its timer, which is made here: as root, of a trainer that is not."""
    leased = msgspec.structs.replace(boot, idle_limit_s=1.0, lease_s=1.0)
    instance = Instance(cloud, render_user_data(leased))
    box = box_of(instance, boot)
    trainer = "trap 'echo it saved | sudo -n tee /dev/console; kill $!; exit 4' TERM; touch began; sleep 1000 & wait $!"
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:
        await_true(lambda: shell.run(f"[ -d {FOLDER} ]").rc == 0)
        detached.start(shell, job_folder(box), trainer, box_marks(box))
        await_true(lambda: shell.run(f"[ -e {FOLDER}/job/began ] && [ -e {FOLDER}/{BEGUN_FILE} ]").rc == 0)
        told = {each.name: each for each in read_layers(shell, render_look(idle_limit=True), now_s=time.time())}
        assert told["lease"].there is Answer.YES
        with suppress(ConnectionFailed):  # whichever is faster
            shell.run(f"sudo -n systemctl start {unattended.SERVICE}")
    await_true(lambda: instance.state == "terminated", patience_s=BOOT_S)
    assert "it saved" in instance.console


@pytest.mark.fault("F11", tier="box")
def test_a_machine_whose_timer_cannot_be_armed_ends_at_once(cloud: Emulator, boot: FirstBoot) -> None:
    """The unit is refused by systemd itself: better no box than one without a deadline."""
    instance = Instance(cloud, altered(boot, bootcmd=TAKE_THE_TIMERS_PLACE))
    await_true(lambda: instance.state == "terminated", patience_s=BOOT_S)
    assert "Reached target cloud-init.target" not in instance.console


@pytest.mark.fault("F16", tier="box")
def test_the_trainer_hears_on_the_machine_itself_that_it_will_be_taken_back(box: Box, key: Path) -> None:
    """At the address where every cloud has its metadata server, with nothing set; the server there is a double."""
    serve = f"cd {ROOT} && exec {sys.executable} -m tests.doubles.hosting.metadata 169.254.169.254 /tmp"
    hear = "from remote.machine.notice import SOURCES, await_notice; print(await_notice(SOURCES['aws']).action)"
    with Shell.connect(box, key=key, deadline_s=BOOT_S) as shell:
        shell.run("sudo -n ip address add 169.254.169.254/32 dev lo")
        shell.run(f"nohup sudo -n sh -c {shlex.quote(serve)} > /dev/null 2>&1 < /dev/null &")
        shell.run("touch /tmp/taken")
        heard = shell.run(f"cd {ROOT} && {sys.executable} -c {shlex.quote(hear)}")
    assert heard.out == "terminate\n", heard.err
