"""The local box: what it shares, what it leaves, and who ends it when nobody is left to ask."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import msgspec
import psutil
import pytest

from provision.aboard.job import secret_places
from provision.direct.here import local_offer
from provision.direct.limits import candidates as limit_candidates
from provision.direct.limits import limit_name
from provision.direct.local import LocalBox
from provision.direct.server import bubblewrap_works
from provision.errors import BadInput, ProvisionError
from provision.seam import Answer, Box
from tests.provision.rigs import KINDS, RUN, Rig, await_true, rig_of

pytestmark = pytest.mark.box

LOCAL_KINDS = [kind for kind in KINDS if kind.startswith("local")]


def _pids(rig: Rig, name: str) -> list[int]:
    return [int(each.id.split()[0]) for each in rig.provisioner.owned().resources if each.id.endswith(f" {name}")]


# Nobody else on this machine sleeps for exactly so long.
LONG = str(10_000_000 + os.getpid())


def _leave_behind(rig: Rig, box: Box) -> None:
    """Processes that do all they can to be forgotten: own sessions, no parents, no environment."""
    with rig.connect(box) as shell:
        shell.run(f"setsid nohup sleep {LONG} > /dev/null 2>&1 < /dev/null &")
        shell.run(f"setsid nohup env -i sh -c 'sleep {LONG} & sleep {LONG} & wait' > /dev/null 2>&1 < /dev/null &")


def _num_left_behind() -> int:
    return sum(process.info["cmdline"] == ["sleep", LONG] for process in psutil.process_iter(["cmdline"]))


def test_the_offer_is_this_machine() -> None:
    offer = local_offer(usd_per_hour=Decimal("0.50"))
    assert (offer.provider, offer.gpu, offer.num_gpus) == ("local", None, Decimal(0))
    assert offer.usd_per_hour == Decimal("0.50")
    assert offer.vcpus == len(os.sched_getaffinity(0))
    assert offer.ram_gib
    assert offer.ram_gib > 0


def test_the_box_shares_files_and_says_so(tmp_path: Path) -> None:
    with rig_of(LOCAL_KINDS[0], tmp_path) as rig:
        box = rig.provisioner.up(local_offer(), rig.launch())
        assert box.shares_files
        assert box.cache == str(tmp_path / "cache")
        (tmp_path / "mine").write_text("seen")
        with rig.connect(box) as shell:
            assert shell.run(f"cat {tmp_path}/mine").out == "seen"


def test_a_namespace_hides_this_machine_and_its_absence_does_not(tmp_path: Path) -> None:
    assert bubblewrap_works()
    own = hashlib.sha256(Path("/proc/self/cmdline").read_bytes()).hexdigest()
    for kind, sees in zip(LOCAL_KINDS, ("no", "yes"), strict=True):
        with rig_of(kind, tmp_path / kind.replace(" ", "-")) as rig:
            box = rig.provisioner.up(local_offer(), rig.launch())
            with rig.connect(box) as shell:
                seen = shell.run(f"sha256sum < /proc/{os.getpid()}/cmdline").out.split()
                assert ("yes" if seen[:1] == [own] else "no") == sees


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_destroy_finds_processes_that_did_all_to_be_forgotten(kind: str, tmp_path: Path) -> None:
    with rig_of(kind, tmp_path) as rig:
        _leave_behind(rig, rig.provisioner.up(local_offer(), rig.launch()))
        await_true(lambda: _num_left_behind() == 3)
        assert rig.provisioner.destroy(rig.launch()).verdict == "destroyed"
        assert _num_left_behind() == 0


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_the_reaper_ends_the_box_and_its_folder_at_the_deadline(kind: str, tmp_path: Path) -> None:
    with rig_of(kind, tmp_path) as rig:
        deadline_at_s = time.time() + 8  # a busy machine takes seconds to start a box and to log in
        box = rig.provisioner.up(local_offer(), rig.launch(deadline_at_s=deadline_at_s))
        _leave_behind(rig, box)
        await_true(lambda: not rig.provisioner.owned().resources)
        assert time.time() >= deadline_at_s
        assert not Path(box.folder).exists()
        assert rig.provisioner.destroy(rig.launch()).verdict == "destroyed"


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_a_killed_reaper_takes_the_box_along_or_leaves_it_to_be_found(kind: str, tmp_path: Path) -> None:
    with rig_of(kind, tmp_path) as rig:
        rig.provisioner.up(local_offer(), rig.launch())
        reaper = next(pid for pid in _pids(rig, "python"))
        os.kill(reaper, signal.SIGKILL)
        if kind == LOCAL_KINDS[0]:
            await_true(lambda: not [each for each in rig.provisioner.owned().resources if each.kind == "process"])
        else:
            assert _pids(rig, "sshd")
        assert rig.provisioner.destroy(rig.launch()).verdict == "destroyed"
        assert rig.provisioner.owned().resources == ()


def test_a_box_is_found_by_its_marks_when_its_folder_and_every_book_are_lost(tmp_path: Path) -> None:
    with rig_of(LOCAL_KINDS[1], tmp_path) as rig:
        rig.provisioner.up(local_offer(), rig.launch())
        shutil.rmtree(tmp_path / "boxes")
        assert {each.run_id for each in rig.provisioner.owned().resources} == {RUN}
        assert rig.provisioner.destroy(rig.launch()).verdict == "destroyed"
        assert rig.provisioner.owned().resources == ()


@pytest.mark.parametrize("ended_by", ["its controller", "its deadline"])
def test_secrets_that_no_trainer_took_go_with_the_box(tmp_path: Path, ended_by: str) -> None:
    """They lie in memory, outside its folder."""
    with rig_of(LOCAL_KINDS[1], tmp_path) as rig:
        rig.provisioner.up(local_offer(), rig.launch(deadline_at_s=time.time() + 8))
        unread = [Path(place) for place in secret_places(rig.launch().run_id)]
        for place in unread:
            place.touch()
        if ended_by == "its deadline":
            await_true(lambda: not rig.provisioner.owned().resources)
        else:
            assert rig.provisioner.destroy(rig.launch()).verdict == "destroyed"
        assert not any(place.exists() for place in unread)


def test_the_boxes_of_another_home_are_not_ours(tmp_path: Path) -> None:
    with rig_of(LOCAL_KINDS[1], tmp_path) as rig:
        rig.provisioner.up(local_offer(), rig.launch())
        other = LocalBox(tmp_path / "other" / "boxes", tmp_path / "cache")
        assert other.owned().resources == ()
        assert other.destroy(rig.launch()).resources == ()
        assert rig.provisioner.owned().resources != ()


def test_processes_that_cannot_be_seen_are_unknown_and_nothing_is_called_gone(tmp_path: Path) -> None:
    def blind() -> Iterable[psutil.Process]:
        raise PermissionError("/proc is closed")

    with rig_of(LOCAL_KINDS[1], tmp_path) as rig:
        rig.provisioner.up(local_offer(), rig.launch())
        blinded = LocalBox(tmp_path / "boxes", tmp_path / "cache", processes=blind)
        assert blinded.owned().complete is Answer.UNKNOWN
        teardown = blinded.destroy(rig.launch())
        assert teardown.verdict == "unknown"
        assert teardown.command == f"rentune down {RUN}"


def test_a_server_that_does_not_start_is_told_with_its_reason_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A double of the server, which ends at once."""
    (server := tmp_path / "sshd").write_text("#!/bin/sh\necho no hostkeys available >&2\nexit 1\n")
    server.chmod(0o755)
    with rig_of(LOCAL_KINDS[1], tmp_path) as rig:
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(ProvisionError, match="no hostkeys available"):
            rig.provisioner.up(local_offer(), rig.launch())
        assert rig.provisioner.owned().resources == ()


@pytest.mark.parametrize("name", ['a "quoted" name', "two\nlines", "a back\\slash"])
def test_a_folder_that_a_configuration_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing after the quote becomes a line of the server's."""
    box = LocalBox(tmp_path / name, tmp_path / "cache", namespace=False)
    with rig_of(LOCAL_KINDS[1], tmp_path) as rig, pytest.raises(BadInput, match="in its path"):
        box.up(local_offer(), rig.launch())
    assert box.owned().resources == ()


def test_a_folder_with_an_unusual_name_is_a_folder(tmp_path: Path) -> None:
    with rig_of(LOCAL_KINDS[1], tmp_path / "it's 100 %h of $HOME #1 ü") as rig:
        box = rig.provisioner.up(local_offer(), rig.launch())
        with rig.connect(box) as shell:
            assert shell.run("echo $RENTUNE_BOXES").out == f"{tmp_path}/it's 100 %h of $HOME #1 ü/boxes\n"


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_a_command_that_takes_more_ram_than_the_offer_is_ended_where_cgroups_allow(kind: str, tmp_path: Path) -> None:
    with rig_of(kind, tmp_path) as rig:
        small = msgspec.structs.replace(local_offer(), ram_gib=0.3)
        box = rig.provisioner.up(small, rig.launch())
        name = limit_name(Path(box.folder))
        limited = any(group.exists() for group, _ in limit_candidates(name))
        with rig.connect(box) as shell:
            taken = shell.run(f"{sys.executable} -c 'print(len(b\"x\" * 2**29))'")
        assert taken.out.strip() == ("" if limited else str(2**29))
        rig.provisioner.destroy(rig.launch())
        assert not any(group.exists() for group, _ in limit_candidates(name))


def test_the_console_shows_the_servers_log_while_there_is_a_box(tmp_path: Path) -> None:
    with rig_of(LOCAL_KINDS[1], tmp_path) as rig:
        rig.provisioner.up(local_offer(), rig.launch())
        assert "Server listening on 127.0.0.1" in rig.provisioner.console(rig.launch())
        rig.provisioner.destroy(rig.launch())
        assert rig.provisioner.console(rig.launch()) == ""


def test_an_empty_path_hides_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies where servers lie, and nothing else of OpenSSH's is needed."""
    monkeypatch.setenv("PATH", "")
    with rig_of(LOCAL_KINDS[1], tmp_path) as rig:
        box = rig.provisioner.up(local_offer(), rig.launch())
        with rig.connect(box) as shell:
            assert shell.run("echo here").out == "here\n"


def test_the_box_listens_on_loopback_only_and_admits_no_password(tmp_path: Path) -> None:
    with rig_of(LOCAL_KINDS[1], tmp_path) as rig:
        box = rig.provisioner.up(local_offer(), rig.launch())
        servers = [psutil.Process(pid) for pid in _pids(rig, "sshd")]
        listening = [each.laddr.ip for server in servers for each in server.net_connections() if each.status == "LISTEN"]
        assert listening == ["127.0.0.1"]
        settings = ("BatchMode=yes", "StrictHostKeyChecking=no", "IdentityFile=none", f"UserKnownHostsFile={tmp_path}/known")
        options = [word for setting in settings for word in ("-o", setting)]
        refused = subprocess.run(
            ["ssh", "-F", "none", "-p", str(box.port), *options, f"{box.user}@{box.host}", "true"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Permission denied (publickey)" in refused.stderr
