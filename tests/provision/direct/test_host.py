"""A host that the user has: its key must be vouched for, it is used below one folder, and left as it was found."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from provision.aboard import detached, job, lease, ship
from provision.aboard.job import secret_places
from provision.aboard.lease import forget_lease_end, lease_has_ended
from provision.aboard.renewal import attended
from provision.aboard.ship import box_marks, job_folder
from provision.direct import host_scripts as scripts
from provision.direct.address import Address, address_of
from provision.direct.here import local_offer
from provision.direct.host import ExistingHost, OwnSsh
from provision.errors import BadInput, ConnectionFailed, ProvisionError, Refused, WrongHostKey
from provision.prepare.asking import offer_of_host
from provision.seam import Answer, Ends, Launch, Layer, Resource
from provision.ssh import fetch_host_key, fingerprint
from provision.ssh.keys import make_key
from tests.doubles.builder import quick_uv
from tests.provision.rigs import HOST_PORT_FILE, RUN, Rig, await_true, free_port, rig_of, users_sshd

pytestmark = pytest.mark.box


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Rig]:
    with rig_of("existing host", tmp_path) as rig:
        yield rig


def _port(host: Rig) -> int:
    return int((host.folder / HOST_PORT_FILE).read_text())


def _unvouched(host: Rig, **options: object) -> ExistingHost:
    """The host as seen by a user who has never met it."""
    return ExistingHost(
        f"127.0.0.1:{_port(host)}",
        own=OwnSsh(known_hosts=(host.folder / "none",), identities=(host.folder / "host/user_key",), agent=False),
        patience_s=5.0,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ada@example.org", ("ada", "example.org", 22)),
        ("ada@192.0.2.1:2222", ("ada", "192.0.2.1", 2222)),
        ("ada@[2001:db8::1]:2222", ("ada", "2001:db8::1", 2222)),
        (" ada@[2001:db8::1] ", ("ada", "2001:db8::1", 22)),
    ],
)
def test_addresses_are_read_as_people_write_them(written: str, read: tuple[str, str, int], tmp_path: Path) -> None:
    assert address_of(written, config=tmp_path / "none") == Address(*read)


SSH_CONFIG = """\
Host gpubox
  HostName 192.0.2.7
  User ada
  Port 2222
  IdentityFile /keys/gpubox
Host inner
  ProxyJump gateway
"""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("gpubox", Address("ada", "192.0.2.7", 2222, (Path("/keys/gpubox"),))),
        ("root@gpubox:22", Address("root", "192.0.2.7", 22, (Path("/keys/gpubox"),))),
        ("ada@elsewhere", Address("ada", "elsewhere", 22)),
    ],
)
def test_what_is_not_typed_is_taken_from_the_users_ssh_config(written: str, read: Address, tmp_path: Path) -> None:
    """As ssh does; what was typed holds."""
    (tmp_path / "config").write_text(SSH_CONFIG)
    assert address_of(written, config=tmp_path / "config") == read


def test_a_host_behind_another_one_is_refused_with_a_way_in(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(SSH_CONFIG)
    with pytest.raises(BadInput, match="through another host \\(gateway\\)") as refused:
        address_of("inner", config=tmp_path / "config")
    assert "--host user@localhost:2222" in str(refused.value.hint)


def test_an_ssh_config_that_cannot_be_read_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Match exec\n  User ada\n")
    with pytest.raises(BadInput, match="can't be read"):
        address_of("gpubox", config=tmp_path / "config")


@pytest.mark.parametrize(
    ("address", "command", "label"),
    [
        (Address("ada", "example.org", 22), "ssh ada@example.org", "ada@example.org"),
        (Address("ada", "example.org", 2222), "ssh -p 2222 ada@example.org", "ada@example.org:2222"),
        (Address("ada", "2001:db8::1", 2222), "ssh -p 2222 ada@2001:db8::1", "ada@[2001:db8::1]:2222"),
    ],
)
def test_an_address_is_shown_whole_and_in_words_that_ssh_takes(address: Address, command: str, label: str) -> None:
    assert (address.command, address.label) == (command, label)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "ada@",
        "ada@host:0",
        "ada@host:99999",
        "a b@host",
        "ada@2001:db8::1",
        "-oProxyCommand=x@host",
        "ada@-host",
        "ada@h;ls",
    ],
)
def test_what_is_no_address_is_refused_with_what_to_type(written: str) -> None:
    with pytest.raises(BadInput, match="not an address") as refused:
        address_of(written)
    assert refused.value.hint == "user@address, or user@address:port"


def test_a_host_that_does_not_answer_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    host = ExistingHost("ada@127.0.0.1:1", own=OwnSsh(known_hosts=(tmp_path / "none",), agent=False), patience_s=0.2)
    with pytest.raises(Refused) as refused:
        offer_of_host(host, usd_per_hour=Decimal(0))
    assert refused.value.hint == "See whether it answers: ssh -p 1 ada@127.0.0.1"


def test_a_host_key_that_nobody_vouches_for_is_never_accepted(host: Rig) -> None:
    shown = fingerprint(fetch_host_key("127.0.0.1", _port(host)))
    with pytest.raises(Refused, match=r"SHA256:") as refused:
        _unvouched(host).up(local_offer(), host.launch())
    assert refused.value.hint == (
        f"If that is right: `ssh -p {_port(host)} {getpass.getuser()}@127.0.0.1` once writes it down, "
        f"or `rentune run` and `check` take --host-key {shown}"
    )
    with pytest.raises(Refused):
        _unvouched(host, confirm=lambda _: False).up(local_offer(), host.launch())


def test_a_host_key_may_be_vouched_for_by_fingerprint_by_line_or_by_a_person(host: Rig) -> None:
    line = fetch_host_key("127.0.0.1", _port(host))
    asked: list[str] = []

    def confirm(found: str) -> bool:
        asked.append(found)
        return True

    for vouched in (
        {"host_key": fingerprint(line)},
        {"host_key": line},
        {"confirm": confirm},
    ):
        assert _unvouched(host, **vouched).owned().complete is Answer.YES
    assert asked == [fingerprint(line)]


def test_another_key_than_the_pinned_one_is_refused(host: Rig, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other", comment="").public
    for pinned in (fingerprint(other), " ".join(other.split()[:2])):
        with pytest.raises(WrongHostKey, match="nothing was sent"):
            _unvouched(host, host_key=pinned).up(local_offer(), host.launch())


def test_a_user_without_a_key_there_is_told_at_once(host: Rig) -> None:
    stranger = ExistingHost(
        f"127.0.0.1:{_port(host)}",
        own=OwnSsh(known_hosts=(host.folder / "host/known_hosts",), identities=(host.folder / "none",), agent=False),
        patience_s=600.0,
    )
    with pytest.raises(ConnectionFailed, match="no key was offered: no agent holds one, and no file of one") as refused:
        stranger.up(local_offer(), host.launch())
    assert "ssh-copy-id -p " in (refused.value.hint or "")


def test_a_host_that_cannot_be_reached_is_unknown_not_empty(host: Rig) -> None:
    away = ExistingHost(f"127.0.0.1:{free_port()}", own=OwnSsh(known_hosts=(host.folder / "host/known_hosts",)), patience_s=0.5)
    assert away.owned().complete is Answer.UNKNOWN
    teardown = away.destroy(host.launch())
    assert (teardown.verdict, teardown.command) == ("unknown", f"rentune down {RUN}")


def test_the_host_is_offered_as_it_reports_itself(host: Rig) -> None:
    provisioner = host.provisioner
    assert isinstance(provisioner, ExistingHost)
    offer, here = provisioner.fetch_offer(), local_offer()
    assert (offer.provider, offer.gpu, offer.num_gpus) == ("host", None, Decimal(0))
    assert offer.ram_gib == pytest.approx(here.ram_gib, abs=0.1)
    assert offer.vcpus == here.vcpus
    assert offer.local_disk_gib
    assert offer.local_disk_gib > 0


DRIVERS = {
    "two alike": ("echo 'NVIDIA L4, 23034'; echo 'NVIDIA L4, 23034'", ("L4", 2)),
    "of unlike ones those like the first": ("echo 'NVIDIA L4, 23034'; echo 'Tesla T4, 15360'", ("L4", 1)),
    "a driver without a card": ("echo 'No devices were found'; exit 6", (None, 0)),
    "a driver that fails": ("echo 'NVIDIA-SMI has failed'; exit 9", "does not say which GPUs it has: NVIDIA-SMI has failed"),
    "memory that is not told": ("echo 'NVIDIA L4, [N/A]'", r"does not say how much memory its NVIDIA L4 has: \[N/A\]"),
}


@pytest.mark.parametrize(("driver", "expected"), DRIVERS.values(), ids=DRIVERS)
def test_the_cards_of_a_host_are_what_its_driver_says(
    host: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, expected: str | tuple[str | None, int]
) -> None:
    """nvidia-smi is a script here: its words and exit codes are those of NVIDIA's manual."""
    provisioner = host.provisioner
    assert isinstance(provisioner, ExistingHost)
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{driver}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setattr(scripts, "FACTS", f"PATH={tmp_path}:$PATH\n{scripts.FACTS}")
    if isinstance(expected, str):
        with pytest.raises(Refused, match=expected):
            provisioner.fetch_offer()
    else:
        offer = provisioner.fetch_offer()
        assert (offer.gpu, int(offer.num_gpus)) == expected


def test_the_host_is_left_as_it_was_found(host: Rig) -> None:
    home = host.folder / "host"
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    box = host.provisioner.up(local_offer(), host.launch())
    assert not box.ours
    with host.connect(box) as shell:
        detached.start(shell, job_folder(box), "touch checkpoint; exec sleep 1000", box_marks(box))
        shell.run(f"mkdir -p {box.folder}/cache/models && touch {box.folder}/cache/models/base")
        assert shell.run("true").rc == 0
    unread = [Path(place) for place in secret_places(host.launch().run_id)]
    for place in unread:
        place.touch()
    teardown = host.provisioner.destroy(host.launch())
    assert teardown.verdict == "cleaned"
    assert not any(place.exists() for place in unread)
    assert {"process", "folder", "key_line"} <= {end.resource.kind for end in teardown.resources}
    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    admitted = home / ".ssh/authorized_keys"
    assert after.pop(admitted).splitlines() == before.pop(admitted).splitlines()
    assert after == before
    assert not (home / ".rentune").exists()


# ── the environment that waits for the next run ────────────────────────────────────────────────────────────────────


@pytest.fixture
def installs(host: Rig, tmp_path: Path) -> Callable[[Launch], list[str]]:
    """One run on the host as far as its environment, with what the quick builder said; then it is ended."""
    quick_uv(host.folder / "host/.local/bin", broken=tmp_path / "broken", asked=tmp_path / "asked")

    def one_run(launch: Launch) -> list[str]:
        said: list[str] = []
        with host.connect(host.provisioner.up(local_offer(), launch)) as shell:
            python = ship.ensure_environment(shell, shell.box, progress=said.append)
            assert shell.run(f"{python} -c ''").rc == 0
        return said

    return one_run


def test_the_next_run_finds_the_packages_of_the_last_and_its_end_names_them(
    host: Rig, installs: Callable[[Launch], list[str]]
) -> None:
    """Gigabytes are fetched once; what stays is said, with the command that ends it."""
    waits = host.folder / "host/.rentune/stacks"
    assert installs(host.launch()) == ["uv venv", "uv pip"]
    teardown = host.provisioner.destroy(host.launch())
    assert teardown.verdict == "cleaned"
    assert f"wait in {waits} for the next run" in teardown.message
    assert f"rm -r {waits}`" in teardown.message
    assert host.provisioner.owned().nothing
    assert installs(host.launch()) == []
    shutil.rmtree(waits)
    assert "wait in" not in host.provisioner.destroy(host.launch()).message
    assert not waits.parent.exists()


def test_who_wants_nothing_left_there_gets_that(host: Rig, installs: Callable[[Launch], list[str]]) -> None:
    """`--no-keep-environment`: the packages lie below the run's folder, and go with it."""
    launch = msgspec.structs.replace(host.launch(), keep_environment=False)
    for _ in range(2):
        assert installs(launch) == ["uv venv", "uv pip"]
        assert "wait in" not in host.provisioner.destroy(launch).message
        assert not (host.folder / "host/.rentune").exists()


def test_half_an_environment_does_not_wait_for_anybody(
    host: Rig, installs: Callable[[Launch], list[str]], tmp_path: Path
) -> None:
    """A build that came to nothing leaves no gigabytes behind."""
    (tmp_path / "broken").touch()
    with pytest.raises(ProvisionError, match="no space left for torch"):
        installs(host.launch())
    assert "wait in" not in host.provisioner.destroy(host.launch()).message
    assert not (host.folder / "host/.rentune").exists()


def test_the_key_of_a_run_is_good_until_the_deadline_and_only_for_commands(host: Rig) -> None:
    box = host.provisioner.up(local_offer(), host.launch(deadline_at_s=time.time() + 3600))
    line = (host.folder / "host/.ssh/authorized_keys").read_text().splitlines()[-1]
    assert line.startswith("restrict,expiry-time=")
    assert line.endswith(f" rentune:{RUN}")
    with host.connect(box) as shell:
        assert shell.run("true").rc == 0


def test_a_key_past_the_deadline_lets_nobody_in(host: Rig) -> None:
    box = host.provisioner.up(local_offer(), host.launch(deadline_at_s=time.time() - 60))
    with pytest.raises(ConnectionFailed, match="does not take the run's key"):
        host.connect(box)


def test_a_key_past_the_deadline_is_admitted_again_by_the_user(host: Rig) -> None:
    """For what the run may have left there; the line takes the old one's place, and ends by itself as well."""
    box = host.provisioner.up(local_offer(), host.launch(deadline_at_s=time.time() - 60))
    host.provisioner.readmit(host.launch())
    (line,) = [each for each in (host.folder / "host/.ssh/authorized_keys").read_text().splitlines() if RUN in each]
    assert line.startswith("restrict,expiry-time=")
    with host.connect(box) as shell:
        assert shell.run("true").rc == 0
    assert host.provisioner.destroy(host.launch()).verdict == "cleaned"


def test_no_key_is_admitted_where_nothing_of_the_run_is(host: Rig) -> None:
    keys = host.folder / "host/.ssh/authorized_keys"
    before = keys.read_text()
    with pytest.raises(ProvisionError, match="nothing of the run is there"):
        host.provisioner.readmit(host.launch())
    assert keys.read_text() == before


def test_a_server_that_reads_its_keys_elsewhere_is_told_apart_from_a_wrong_key(tmp_path: Path) -> None:
    """The owner gets in, the run does not: the words name the setting, and nothing of the run is left there."""
    with users_sshd(tmp_path / "host", keys_file="keys_of_everybody"):
        rig = Rig("existing host", tmp_path)
        box = rig.up()
        with pytest.raises(ConnectionFailed, match="does not take the run's key") as refused:
            rig.connect(box)
        assert "AuthorizedKeysFile" in str(refused.value.hint)
        assert rig.provisioner.destroy(rig.launch()).verdict == "cleaned"
        assert not (tmp_path / "host/.ssh/authorized_keys").exists()


def test_the_deadline_ends_our_job_and_nothing_else(host: Rig) -> None:
    box = host.provisioner.up(local_offer(), host.launch(deadline_at_s=time.time() + 8))
    theirs = msgspec.structs.replace(box, run_id="somebody-else")
    with host.connect(box) as shell:
        detached.start(shell, job_folder(box), "touch result; exec sleep 1000", box_marks(box))
        detached.start(shell, f"{box.folder}/theirs", "exec sleep 1000", box_marks(theirs))
    await_true(lambda: not _processes(host, RUN))
    assert _processes(host, "somebody-else")
    assert Path(job_folder(box), "result").exists()
    host.provisioner.destroy(host.launch(run_id="somebody-else"))


def test_a_lease_ends_our_job_and_the_host_goes_on_for_whoever_comes_back(host: Rig) -> None:
    """The trainer saves first; nothing else is touched, the watchdog goes on to the deadline, and so may the run."""
    box = host.provisioner.up(local_offer(), msgspec.structs.replace(host.launch(), lease_s=4.0))
    theirs = msgspec.structs.replace(box, run_id="somebody-else")
    trainer = "trap 'sleep 0.5; echo saved > saved; kill $!; exit 4' TERM; touch began; sleep 1000 & wait $!"
    with host.connect(box) as shell:
        with attended(shell, box, spare=False, every_s=0.2):
            detached.start(shell, job_folder(box), trainer, box_marks(box))
            detached.start(shell, f"{box.folder}/theirs", "exec sleep 1000", box_marks(theirs))
            await_true(Path(job_folder(box), "began").exists)
            assert _lease(host.provisioner.layers(host.launch())).strikes_at_s == pytest.approx(time.time() + 4, abs=3)
        await_true(Path(job_folder(box), "saved").exists)
        await_true(lambda: job.state(shell, box).state == "killed")
        assert lease_has_ended(shell, box), "whoever goes on knows why it stopped"
        layers = host.provisioner.layers(host.launch())
        assert (_watchdog(layers).there, _lease(layers).there) == (Answer.YES, Answer.YES)
    assert _processes(host, "somebody-else")
    host.provisioner.destroy(host.launch(run_id="somebody-else"))


def test_a_trainer_that_is_begun_anew_is_not_ended_with_what_the_lease_ended(
    host: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watchdog has the box's folder from the moment it tells the trainer until all that the lease ended is gone: so long
    nothing is begun there, however slowly the trainer leaves.
    """
    box = host.provisioner.up(local_offer(), msgspec.structs.replace(host.launch(), lease_s=4.0))
    leaves = "trap 'touch told; until [ -e leave ]; do sleep 0.05; done; kill $!; exit 4' TERM"
    trainer = f"{leaves}; [ ! -e began ] || {{ sleep 3; touch outlived; }}; touch began; sleep 1000 & wait $!"
    folder = Path(job_folder(box))
    with host.connect(box) as shell:
        with attended(shell, box, spare=False, every_s=0.2):
            detached.start(shell, job_folder(box), trainer, box_marks(box))
            await_true(Path(folder, "began").exists)
        await_true(Path(folder, "told").exists)
        with attended(shell, box, spare=False, every_s=0.2):
            assert subprocess.run(["flock", "-n", box.folder, "true"], check=False).returncode == 1, "the watchdog has it"
            with monkeypatch.context() as patched:
                patched.setattr(lease, "LEFT_WAIT_S", 0.0)
                with pytest.raises(ConnectionFailed, match="is still ending what ran"):
                    forget_lease_end(shell, box)
            Path(folder, "leave").touch()
            await_true(lambda: job.state(shell, box).state == "killed")
            forget_lease_end(shell, box)
            detached.start(shell, job_folder(box), trainer, box_marks(box), again=(4,))
            await_true(Path(folder, "outlived").exists)


def _lease(layers: tuple[Layer, ...]) -> Layer:
    return next(each for each in layers if each.name == "lease")


def test_a_watchdog_that_a_reboot_has_ended_is_set_going_again(host: Rig) -> None:
    """A reboot is all processes killed at once, as far as one machine's user can have it; while one runs there is no second."""
    provisioner, claim = host.provisioner, host.launch()
    provisioner.up(local_offer(), claim)
    for each in _processes(host, RUN):
        os.kill(int(each.id), signal.SIGKILL)
    await_true(lambda: not _processes(host, RUN))
    assert _watchdog(provisioner.layers(claim)).there is Answer.NO
    for _ in range(2):
        provisioner.rearm(claim, Ends(deadline_at_s=time.time() + 600))
        assert _watchdog(provisioner.layers(claim)).strikes_at_s == pytest.approx(time.time() + 600, abs=30)
    led = len(_processes(host, RUN))
    provisioner.rearm(claim, Ends(deadline_at_s=time.time() + 600))
    assert len(_processes(host, RUN)) == led


def test_a_watchdog_that_a_signal_has_stopped_is_missing_until_it_is_woken(host: Rig) -> None:
    """It is there, and counts nothing down."""
    host.provisioner.up(local_offer(), msgspec.structs.replace(host.launch(), lease_s=7200.0))
    pid = int(_watchdog(host.provisioner.layers(host.launch())).says.split()[1])
    for number, there in ((signal.SIGSTOP, Answer.NO), (signal.SIGCONT, Answer.YES)):
        os.kill(pid, number)
        layers = host.provisioner.layers(host.launch())
        assert (_watchdog(layers).there, _lease(layers).there) == (there, there)


def _watchdog(layers: tuple[Layer, ...]) -> Layer:
    return next(each for each in layers if each.name == "watchdog")


def _processes(host: Rig, run_id: str) -> list[Resource]:
    return [each for each in host.provisioner.owned(host.launch(run_id=run_id)).resources if each.kind == "process"]


# ── the user's own keys ────────────────────────────────────────────────────────────────────────────────────────────

THEIRS = "ssh-ed25519 AAAA ada@laptop\n" * 40  # longer than the block that a full disk still takes
FULL_DISK = "trap '' XFSZ; ulimit -f 1; "  # no file may grow past 512 bytes; a write fails as it does on a full disk


@pytest.fixture
def their_keys(tmp_path: Path) -> Path:
    (tmp_path / ".ssh").mkdir()
    keys = tmp_path / ".ssh/authorized_keys"
    keys.write_text(THEIRS)
    return keys


def _begin(home: Path, script: str, run: str, *, before: str = "", left: str = "3600") -> subprocess.Popen[bytes]:
    """Under a person's locale, which is none of ASCII."""
    variables = {
        "HOME": str(home),
        "PATH": os.defpath,
        "run": run,
        "key": "ssh-ed25519 BBBB",
        "left": left,
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.Popen(["sh", "-c", f"{before}{script}"], env=variables, stderr=subprocess.DEVNULL)


def _runs(keys: Path) -> list[str]:
    return sorted(line.rpartition("rentune:")[2] for line in keys.read_text().splitlines() if "rentune:" in line)


def test_a_full_disk_costs_the_user_no_key(their_keys: Path) -> None:
    home = their_keys.parents[1]
    assert _begin(home, scripts.ADMIT, RUN, before=FULL_DISK).wait() != 0
    assert their_keys.read_text() == THEIRS
    assert _begin(home, scripts.ADMIT, RUN).wait() == 0
    admitted = their_keys.read_text()
    assert _begin(home, scripts.CLEAN, RUN, before=FULL_DISK).wait() != 0
    assert their_keys.read_text() == admitted
    assert list(their_keys.parent.iterdir()) == [their_keys]


def test_a_key_admitted_again_is_good_until_the_later_end(their_keys: Path) -> None:
    ends = []
    for left in ("60", "7200", "60"):
        assert _begin(their_keys.parents[1], scripts.ADMIT, RUN, left=left).wait() == 0
        assert _runs(their_keys) == [RUN]
        ends.append(their_keys.read_text().rpartition('expiry-time="')[2].partition('"')[0])
    assert ends[0] < ends[1] == ends[2]


def test_a_comment_that_is_not_utf_8_costs_nobody_the_key(their_keys: Path) -> None:
    """It is a binary file's to grep, which leaves such a line out."""
    theirs = THEIRS.encode() + b"ssh-ed25519 CCCC andr\xe9@laptop\nssh-ed25519 DDDD ada@desk\n"
    their_keys.write_bytes(theirs)
    for script in (scripts.ADMIT, scripts.CLEAN):
        assert _begin(their_keys.parents[1], script, RUN).wait() == 0
        assert their_keys.read_bytes().startswith(theirs)
    assert their_keys.read_bytes() == theirs


def test_runs_that_come_and_go_at_one_moment_lose_no_key(their_keys: Path) -> None:
    names = [f"run-{index}" for index in range(8)]
    for script, left in ((scripts.ADMIT, names), (scripts.CLEAN, [])):
        assert [begun.wait() for begun in [_begin(their_keys.parents[1], script, name) for name in names]] == [0] * 8
        assert _runs(their_keys) == left
    assert their_keys.read_text() == THEIRS


def test_the_keys_stay_what_they_are_to_the_file_system(their_keys: Path) -> None:
    elsewhere = their_keys.rename(their_keys.parents[1] / "elsewhere")
    elsewhere.chmod(0o640)
    their_keys.symlink_to(elsewhere)
    for script, left in ((scripts.ADMIT, [RUN]), (scripts.CLEAN, [])):
        assert _begin(their_keys.parents[1], script, RUN).wait() == 0
        assert (their_keys.readlink(), elsewhere.stat().st_mode & 0o777) == (elsewhere, 0o640)
        assert _runs(elsewhere) == left


@pytest.mark.parametrize("had", ["nothing", "a folder", "an empty file"])
def test_what_was_not_there_before_a_run_is_not_there_after(their_keys: Path, had: str) -> None:
    home, folder = their_keys.parents[1], their_keys.parent
    their_keys.write_text("")
    if had != "an empty file":
        their_keys.unlink()
    if had == "nothing":
        folder.rmdir()
    found = sorted(home.rglob("*"))
    for script in (scripts.ADMIT, scripts.CLEAN):
        assert _begin(home, script, RUN).wait() == 0
    assert sorted(home.rglob("*")) == found


def test_the_users_key_that_came_during_a_run_stays(their_keys: Path) -> None:
    home = their_keys.parents[1]
    their_keys.unlink()
    assert _begin(home, scripts.ADMIT, RUN).wait() == 0
    with their_keys.open("a") as file:
        file.write("ssh-ed25519 CCCC ada@desk\n")
    assert _begin(home, scripts.CLEAN, RUN).wait() == 0
    assert their_keys.read_text() == "ssh-ed25519 CCCC ada@desk\n"


def test_the_watchdog_can_be_read_back_and_so_can_its_loss(host: Rig) -> None:
    """From its own process: when it strikes, and that nobody has ended it."""
    launch = host.launch()
    host.up(launch)

    def look() -> dict[str, Layer]:
        return {layer.name: layer for layer in host.provisioner.layers(launch)}

    assert {name: layer.there for name, layer in look().items()} == {"watchdog": Answer.YES, "admitted key": Answer.YES}
    assert look()["watchdog"].strikes_at_s == pytest.approx(launch.deadline_at_s, abs=3)
    for task in host.tasks():
        subprocess.run(["kill", "-KILL", task], check=False)
    assert look()["watchdog"].there is Answer.NO


def test_the_layers_of_a_host_that_is_silent_are_unknown(host: Rig) -> None:
    """Nobody can say that they are missing."""
    away = ExistingHost(
        "127.0.0.1:1", own=OwnSsh(known_hosts=(host.folder / "host/known_hosts",)), host_key="ssh-ed25519 A", patience_s=0.1
    )
    assert [layer.there for layer in away.layers(host.launch())] == [Answer.UNKNOWN]
