"""User data: the deadline comes before everything that can fail, and the text is what cloud-init and sh can read."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from provision.clouds.boot import unattended
from provision.clouds.boot.bootstrap import (
    ASK_S,
    FORCE_AFTER_S,
    SERVICE,
    TIMER,
    FirstBoot,
    render_deadline,
    render_last_check,
    render_quiet_apt,
    render_user_data,
)
from provision.clouds.boot.driver_unit import driver_for
from provision.clouds.boot.unattended import render_unattended
from provision.errors import Refused

NOW_S = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC).timestamp()
BOOT = FirstBoot(
    user="ubuntu",
    folder="/home/ubuntu/rentune-r1",
    public_key="ssh-ed25519 AAAAclient run",
    host_key_private="-----BEGIN OPENSSH PRIVATE KEY-----\nabc\ndef\n-----END OPENSSH PRIVATE KEY-----\n",
    host_key_public="ssh-ed25519 AAAAhost run",
    deadline_at_s=NOW_S + 7200.5,
    now_s=NOW_S,
)


def parsed(text: str) -> dict[str, Any]:
    assert text.startswith("#cloud-config\n")
    return dict(YAML(typ="safe").load(text))


def test_the_first_act_of_the_first_stage_is_the_deadline() -> None:
    """cloud-init runs `bootcmd` before it touches keys, packages or the network, and in its order."""
    first, second = parsed(render_user_data(BOOT))["bootcmd"]
    assert first == ["sh", "-c", render_deadline(BOOT)]
    assert second == ["sh", "-c", render_quiet_apt()]


def test_the_idle_limit_comes_after_the_deadline_and_only_where_it_is_wanted() -> None:
    """Whatever is wrong with it finds the deadline armed."""
    limited = parsed(render_user_data(msgspec.structs.replace(BOOT, idle_limit_s=3600.0)))["bootcmd"]
    limit = ["sh", "-c", render_unattended(BOOT.folder, 3600.0, end=SERVICE)]
    first, second = parsed(render_user_data(BOOT))["bootcmd"]
    assert limited == [first, limit, second]


def test_a_lease_is_known_to_the_same_script_and_leaves_room_in_the_user_data() -> None:
    """One timer looks for both. EC2 takes 16 KiB of user data."""
    leased = msgspec.structs.replace(BOOT, idle_limit_s=3600.0, lease_s=7200.0, driver_order=driver_for((9, 0)))
    _, limit, _ = parsed(render_user_data(leased))["bootcmd"]
    assert limit == ["sh", "-c", render_unattended(BOOT.folder, 3600.0, end=SERVICE, lease_s=7200.0)]
    assert "lease_s=7200\n" in limit[2]
    assert "is_forsaken || { lease_ends && await_fetch; }" in limit[2]
    assert len(render_user_data(leased)) < 14 * 1024
    assert "lease_s" not in render_unattended(BOOT.folder, 3600.0, end=SERVICE)


def test_a_machine_that_is_rebooted_counts_on_from_its_last_look(tmp_path: Path) -> None:
    """A reboot would give nearly twice an idle limit, or a lease."""
    (tmp_path / "box").mkdir()
    text = render_unattended(str(tmp_path / "box"), 3600.0, end=SERVICE, lease_s=7200.0)
    script, uptime, began = (tmp_path / name for name in ("script", "uptime", "began"))
    units = tmp_path / "units"
    units.mkdir()
    places = {"/etc/systemd/system": units, unattended.SCRIPT: script, "/proc/uptime": uptime, unattended.BEGAN: began}
    for there, here in places.items():
        text = text.replace(there, str(here))
    systemctl = tmp_path / "bin/systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n')
    systemctl.chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def at(up_s: int, *command: str) -> None:
        uptime.write_text(f"{up_s}.50 1.00\n")
        subprocess.run(["sh", *command], env=environment, check=True)

    def has_ended() -> bool:
        return f"--no-block start {SERVICE}" in (tmp_path / "calls").read_text()

    at(10, "-c", text)
    at(1810, str(script), "end")
    at(10, "-c", text)
    at(1808, str(script), "end")
    assert not has_ended()
    at(1810, str(script), "end")
    assert has_ended()


def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    """All four, as they are written."""
    run_script(tmp_path, in_an_hour())
    text = render_unattended(BOOT.folder, 3600.0, end=SERVICE)
    for there, here in (("/etc/systemd/system", tmp_path / "units"), (unattended.SCRIPT, tmp_path / "script")):
        text = text.replace(there, str(here))
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "FAILING": "nothing"}
    subprocess.run(["sh", "-c", text.replace(unattended.BEGAN, str(tmp_path / "began"))], env=environment, check=True)
    units = sorted((tmp_path / "units").iterdir())
    assert [unit.name for unit in units] == sorted((SERVICE, TIMER, unattended.SERVICE, unattended.TIMER))
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if "rentune" in line] == []


def test_a_disk_that_is_full_at_a_reboot_keeps_the_units_of_the_boot_before(tmp_path: Path) -> None:
    """A file that is opened to be written anew is empty by then: nothing would have ended the machine by its idle limit, and a
    deadline that systemd can't read switches it off. What the disk no more takes is told by a stand-in.
    """
    boot = in_an_hour()
    run_script(tmp_path, boot)
    text = render_deadline(boot) + render_unattended(BOOT.folder, 3600.0, end=SERVICE)
    for there, here in (("/etc/systemd/system", tmp_path / "units"), (unattended.SCRIPT, tmp_path / "script")):
        text = text.replace(there, str(here))
    text = text.replace(unattended.BEGAN, str(tmp_path / "began"))
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "FAILING": "nothing"}
    written: list[dict[str, str]] = []
    for is_full in (False, True):
        if is_full:
            (tmp_path / "bin/cat").write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / "bin/cat").chmod(0o755)
        subprocess.run(["sh", "-c", text], env=environment, check=True)
        places = [*(tmp_path / "units").iterdir(), tmp_path / "script"]
        written.append({each.name: each.read_text() for each in places if each.suffix != ".new"})
    first, second = written
    assert len(first) == 5
    assert second == first


def test_what_watches_is_read_back_by_its_own_script_and_timer(tmp_path: Path) -> None:
    (tmp_path / f"{unattended.NAME}.sh").write_text('tell_idle_limit() { echo "idle limit|$1"; }\n')
    look = unattended.render_look().replace("/etc/", f"{tmp_path}/")
    systemctl = f'systemctl() {{ [ "$4" != {unattended.TIMER} ] || echo active; }}\n'
    said = subprocess.run(["sh", "-c", systemctl + look], capture_output=True, text=True, check=False)
    assert said.stdout == "idle limit|yes\n"


@pytest.mark.fault("F19", tier="code")
def test_the_timer_is_absolute_persistent_and_bounded_by_uptime() -> None:
    """A reboot, a missed moment and a wrong clock: none of them disarms it."""
    script = render_deadline(BOOT)
    assert "OnCalendar=2026-11-25 14:00:00 UTC\n" in script
    assert "Persistent=true\n" in script
    assert "OnBootSec=7501\n" in script  # two hours, five minutes of margin, rounded up
    assert f"systemctl enable {TIMER}" in script


def test_nothing_waits_for_a_boot_that_waits_for_us() -> None:
    """`bootcmd` runs before sysinit.target: units ordered after it, or a call that waits for one, would hang the boot."""
    units = re.findall(r"<<'UNIT'\n(.*?)^UNIT$", render_deadline(BOOT), re.DOTALL | re.MULTILINE)
    assert len(units) == 2
    for unit in units:
        assert "\nDefaultDependencies=no\n" in unit.partition("\n[")[0] + "\n"
    for script in (render_deadline(BOOT).rpartition("\nUNIT\n")[2], render_quiet_apt(), render_last_check()):
        calls = re.findall(r"(\S+ \S+) systemctl ([^;&|}\n]+)", script)
        assert len(calls) == script.count("systemctl")
        for before, call in calls:
            assert before == f"timeout {ASK_S}"
            assert "--no-block" in call or call.split()[0] in ("daemon-reload", "enable", "is-active")


def test_arming_needs_neither_network_nor_credentials() -> None:
    """Only files, the clock and systemd."""
    assert not re.search(r"curl|wget|http|aws |apt|pip|ssh", render_deadline(BOOT))


def test_keys_survive_the_quoting() -> None:
    """What cloud-init reads is byte for byte what we made."""
    document = parsed(render_user_data(BOOT))
    assert document["ssh_keys"] == {"ed25519_private": BOOT.host_key_private, "ed25519_public": BOOT.host_key_public}
    [user] = document["users"]
    assert (user["name"], user["ssh_authorized_keys"]) == (BOOT.user, [BOOT.public_key])
    assert document["ssh_pwauth"] is False
    assert document["runcmd"][1:] == [["install", "-d", "-m", "0700", "-o", "ubuntu", "-g", "ubuntu", BOOT.folder]]


def test_a_lease_is_never_dropped_in_silence() -> None:
    """Where no idle limit ends the machine no lease would, either: neither text may be made of the one without the other."""
    with pytest.raises(Refused, match="A lease ends no bill there"):
        msgspec.structs.replace(BOOT, lease_s=7200.0)


def test_a_deadline_that_is_over_is_refused() -> None:
    """A box that would power off at once is not rented."""
    with pytest.raises(Refused, match="already over"):
        render_user_data(msgspec.structs.replace(BOOT, deadline_at_s=NOW_S))


@pytest.mark.parametrize(
    "script", [render_deadline(BOOT), render_quiet_apt(), render_last_check(), render_unattended("/box", 1.0, end=SERVICE)]
)
def test_the_scripts_are_shell(script: str) -> None:
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


@given(st.floats(min_value=1, max_value=30 * 86400), st.integers(min_value=0, max_value=86399))
def test_the_timer_never_strikes_after_the_deadline(duration_s: float, offset_s: int) -> None:
    """To the second, at any time of day."""
    boot = msgspec.structs.replace(BOOT, now_s=NOW_S + offset_s, deadline_at_s=NOW_S + offset_s + duration_s)
    written = re.search(r"OnCalendar=(.+) UTC", render_deadline(boot))
    assert written
    strikes_at_s = dt.datetime.strptime(written[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=dt.UTC).timestamp()
    assert boot.deadline_at_s - 1 < strikes_at_s <= boot.deadline_at_s


SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in *"$FAILING"*) exit 1;; esac
"""


def run_script(
    tmp_path: Path, boot: FirstBoot, *, failing: str = "nothing", script: str | None = None
) -> tuple[list[str], Path]:
    """Run the deadline script with a systemctl that notes its calls, and unit files below a folder of the test's."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "units").mkdir()
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    for name, real in (("poweroff", "/bin/false"), ("sleep", "/bin/true")):
        (tmp_path / "bin" / name).symlink_to(real)
    script = (script or render_deadline(boot)).replace("units=/etc/systemd/system\n", f"units={tmp_path / 'units'}\n")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "FAILING": failing}
    subprocess.run(["sh", "-c", script], env=environment, check=False)
    return (tmp_path / "calls").read_text().splitlines(), tmp_path / "units"


def in_an_hour() -> FirstBoot:
    now_s = dt.datetime.now(dt.UTC).timestamp()
    return msgspec.structs.replace(BOOT, now_s=now_s, deadline_at_s=now_s + 3600)


def test_the_script_arms_the_timer_and_powers_nothing_off(tmp_path: Path) -> None:
    calls, units = run_script(tmp_path, in_an_hour())
    assert calls == ["daemon-reload", f"enable {TIMER}", f"start --no-block {TIMER}", f"is-active {TIMER}"]
    assert {file.name for file in units.iterdir()} == {SERVICE, TIMER}


@pytest.mark.parametrize("failing", ["daemon-reload", "enable", "start", "is-active"])
def test_a_box_whose_timer_cannot_be_armed_ends_at_once(tmp_path: Path, failing: str) -> None:
    """Better no box than one without a deadline."""
    calls, _ = run_script(tmp_path, in_an_hour(), failing=failing)
    assert calls[-1] == "--no-block poweroff"


@pytest.mark.fault("F12", tier="code")
def test_a_reboot_after_the_deadline_is_a_power_off(tmp_path: Path) -> None:
    """`bootcmd` runs at every boot, so even a timer that systemd forgot strikes."""
    calls, _ = run_script(tmp_path, msgspec.structs.replace(in_an_hour(), deadline_at_s=1.0))
    assert calls == ["--no-block poweroff"]


def test_a_power_off_that_hangs_is_forced(tmp_path: Path) -> None:
    """Systemd takes one step after the other; none of the first two may end the unit, nor may its own limit, nor the shutdown
    that it has asked for: what hangs then bills on.
    """
    _, units = run_script(tmp_path, in_an_hour())
    text = (units / SERVICE).read_text()
    assert re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE) == [
        "-/bin/systemctl --no-block poweroff",
        f"-/bin/sleep {FORCE_AFTER_S}",
        "/bin/systemctl poweroff --force --force",
    ]
    assert {"Type=oneshot", "TimeoutStartSec=infinity", "DefaultDependencies=no"} <= set(text.splitlines())
    assert 60 <= FORCE_AFTER_S <= 300


def test_the_end_of_the_first_boot_looks_again(tmp_path: Path) -> None:
    """A timer that something undid in between is a box without a deadline, too."""
    assert parsed(render_user_data(BOOT))["runcmd"][0] == ["sh", "-c", render_last_check()]
    calls, _ = run_script(tmp_path, BOOT, failing="is-active", script=render_last_check())
    assert calls == [f"is-active {TIMER}", "--no-block poweroff"]
