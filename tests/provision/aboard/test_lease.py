"""A lease: a box that nobody renews ends itself also while it trains, once its trainer has saved; with a result it waits."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import psutil
import pytest

from planner.asking.checks import LEAST_LEASE_HOURS
from provision.aboard import detached, job, lease, renewal
from provision.aboard.lease import (
    CHECKPOINTS,
    EVENTS,
    FETCH_WAIT_S,
    LEAVING_S,
    RESULT,
    has_result,
    lease_layer,
    unwatched_layer,
)
from provision.aboard.marks import LEASE_ENDED_FILE, TASK_MARK
from provision.aboard.renewal import BEGUN_FILE, BOOT_ID, FETCHED_FILE, RENEW_S, RENEWED_FILE, SPARED_FILE, attended
from provision.aboard.ship import box_marks, job_folder
from provision.clouds.programs import CLOUDS
from provision.direct.here import local_offer
from provision.direct.lease import LEADER, LeaseWatch
from provision.errors import ConnectionFailed
from provision.seam import Box
from provision.walk.job.stopping import MOST_S
from remote.checkpoints.push import LAST_S
from remote.contract import CHECKPOINT_FILES, EXIT_CODES, AdapterFile, EndReason, Event, Measured, Outcome, encode
from tests.provision.rigs import Rig, await_true, rig_of

BOOT = Path(BOOT_ID).read_text().strip()
NOW_S, BEGAN_S, LEASE_S = 9000, 1000, 7200
FAILED = Outcome(run_id="r1", reason=EndReason.CRASHED, message='no "adapter":[{ of it', phase_s={}, measured=Measured())
DONE = msgspec.structs.replace(
    FAILED, reason=EndReason.COMPLETED, adapter=(AdapterFile(path="a.safetensors", size_bytes=1, sha256="0" * 64),)
)
# Saves when it is told to leave, as the trainer does, and takes a moment for it.
TRAINER = f"""trap 'sleep 0.5; echo saved > saved; kill $!; exit {EXIT_CODES[EndReason.INTERRUPTED]}' TERM
touch began; sleep 1000 & wait $!"""


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def outcome(value: Outcome) -> dict[str, str]:
    return {RESULT: encode(value).decode()}


@pytest.mark.parametrize(
    ("files", "left_s"),
    [
        ({}, LEASE_S - (NOW_S - BEGAN_S)),
        ({RENEWED_FILE: f"8990\n{BOOT}\n"}, LEASE_S - 10),
        ({RENEWED_FILE: f"99999\n{BOOT}\n"}, LEASE_S - (NOW_S - BEGAN_S)),  # of the boot before this one
        (
            {RENEWED_FILE: f"8990\n{BOOT}\n", BEGUN_FILE: "", SPARED_FILE: ""},
            LEASE_S - 10,
        ),  # what ends an idle limit ends no lease
        (
            {RENEWED_FILE: f"8990\n{BOOT}\n"} | outcome(FAILED),
            LEASE_S - 10,
        ),  # a trainer that has failed has nothing more to give
        (outcome(DONE), None),  # all that it cost is paid
        (
            {RENEWED_FILE: f"8990\n{BOOT}\n", FETCHED_FILE: ""} | outcome(DONE),
            LEASE_S - 10,
        ),  # it is at home, and nothing here of worth
        ({RENEWED_FILE: f"8990\n{BOOT}\n", LEASE_ENDED_FILE: ""}, 0),  # whoever renews it now comes too late
    ],
    ids=[
        "never renewed",
        "renewed",
        "of another boot",
        "trains",
        "failed",
        "has a result",
        "had one that is at home",
        "has ended",
    ],
)
def test_shell_and_python_read_it_alike(tmp_path: Path, files: dict[str, str], left_s: int | None) -> None:
    """The one runs on rented boxes and hosts, the other tells of the local box."""
    box = written(tmp_path / "box", {"there": "", **files})
    (tmp_path / "uptime").write_text(f"{NOW_S}.77 1.00\n")
    functions = renewal.FUNCTIONS.replace("/proc/uptime", str(tmp_path / "uptime")) + lease.FUNCTIONS
    known = f"box={box} began_s={BEGAN_S} lease_s={LEASE_S}\n{functions}"

    def shell(script: str) -> str:
        said = subprocess.run(["sh", "-c", known + script], capture_output=True, text=True, check=True)
        assert said.stderr == ""
        return said.stdout

    told = shell("tell_lease yes").strip()
    unrenewed_s = renewal.unrenewed_s(box, began_s=BEGAN_S, now_s=NOW_S)
    layer = lease_layer(box, unrenewed_s=unrenewed_s, lease_s=LEASE_S, now_s=0.0)
    assert told == f"lease|yes|{'' if left_s is None else left_s}|{layer.says}"
    assert layer.strikes_at_s == (None if left_s is None else max(0, left_s))
    ends = shell("lease_ends && echo ends; exit 0") == "ends\n"
    assert ends == (box / LEASE_ENDED_FILE).exists() == (left_s is not None and left_s <= 0)
    assert has_result(box) == (left_s is None)


def test_a_box_that_knows_of_no_lease_is_told_alike(tmp_path: Path) -> None:
    """Shell and Python, for whoever has promised one."""
    script = f"box={tmp_path}\n{lease.FUNCTIONS}tell_lease no"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    layer = unwatched_layer()
    assert said.stdout.strip() == f"{layer.name}|{layer.there.value}||{layer.says}"


def test_a_disk_that_takes_no_mark_keeps_no_lease_from_ending(tmp_path: Path) -> None:
    """A shell of POSIX ends where a builtin's redirection fails: nothing then ended the box before its deadline, or at it."""
    known = f"box={tmp_path / 'gone'} began_s=0 lease_s=0\n{renewal.FUNCTIONS}{lease.FUNCTIONS}"
    said = subprocess.run(["sh", "-c", f"{known}lease_ends && echo ends"], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("ends\n", "")


SAVED = {f"{CHECKPOINTS}/step-00000004/{name}": "" for name in CHECKPOINT_FILES}


def said_of(kind: str, step: int) -> str:
    """A line of the trainer's events, as it writes them."""
    data = {"step": step, "size_bytes": 9, "seconds": 0.1}
    return encode(Event(seq=1, kind=kind, phase="train", at_s=1.0, monotonic_s=1.0, data=data)).decode() + "\n"


@pytest.mark.parametrize(
    ("files", "waits_s"),
    [
        ({}, 0),  # a trainer that had saved nothing
        (SAVED, FETCH_WAIT_S),
        (SAVED | {EVENTS: said_of("checkpoint", 2) + said_of("checkpoint", 4)}, FETCH_WAIT_S),
        (SAVED | {EVENTS: said_of("checkpoint", 4) + said_of("checkpoint_pushed", 4)}, 0),
        (SAVED | {EVENTS: said_of("checkpoint", 4) + said_of("checkpoint_pushed", 2)}, FETCH_WAIT_S),  # on its way behind
        (SAVED | {EVENTS: said_of("checkpoint", 4) + said_of("checkpoint_not_pushed", 4)}, FETCH_WAIT_S),
        (SAVED | {FETCHED_FILE: ""} | outcome(DONE), 0),
        (SAVED | {RENEWED_FILE: f"{NOW_S + 200}\n{BOOT}\n"}, 200 + FETCH_WAIT_S),  # whoever came back, and died over the fetch
    ],
    ids=["nothing", "a checkpoint", "two", "pushed", "pushed in part", "not pushed", "a result at home", "somebody came"],
)
def test_a_box_that_goes_with_the_only_copy_waits_a_while_for_whoever_comes_back(
    tmp_path: Path, files: dict[str, str], waits_s: float
) -> None:
    """A line that comes back a minute after the lease has ended has what the trainer saved; the deadline is not its matter."""
    box = written(tmp_path / "box", {LEASE_ENDED_FILE: "", **files})
    (tmp_path / "uptime").write_text(f"{NOW_S}.77 1.00\n")
    functions = renewal.FUNCTIONS.replace("/proc/uptime", str(tmp_path / "uptime")) + lease.FUNCTIONS
    passes = f'sleep() {{ echo "$(($(up_s) + $1)).77 1.00" > {tmp_path}/passed; mv {tmp_path}/passed {tmp_path}/uptime; }}\n'
    script = f"box={box} began_s={BEGAN_S} lease_s={LEASE_S}\n{functions}{passes}await_fetch && up_s"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert (int(said.stdout) - NOW_S, said.stderr) == (waits_s, "")


def test_a_full_disk_that_took_no_mark_ends_no_lease_that_somebody_has_renewed(tmp_path: Path) -> None:
    """Whoever was back meanwhile knows of no end, and begins a trainer anew: its lease is as long as any."""
    box = written(tmp_path / "box", {"there": "", **SAVED})
    (tmp_path / "uptime").write_text(f"{NOW_S}.77 1.00\n")
    functions = renewal.FUNCTIONS.replace("/proc/uptime", str(tmp_path / "uptime")) + lease.FUNCTIONS
    comes = f'[ -e "$box/{RENEWED_FILE}" ] || {{ up_s; echo {BOOT}; }} > "$box/{RENEWED_FILE}"'
    passes = (
        f'sleep() {{ {comes}; echo "$(($(up_s) + $1)).77 1.00" > {tmp_path}/passed; mv {tmp_path}/passed {tmp_path}/uptime; }}'
    )
    script = f"box={box} began_s={BEGAN_S} lease_s={LEASE_S}\n{functions}{passes}\nawait_fetch && echo ends; up_s"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == (f"{NOW_S + FETCH_WAIT_S:.0f}\n", "")


# A box on a disk of its own that takes neither byte nor file more, with a checkpoint, and a trainer that fails to save another.
SAVES_IN_VAIN = """trap 'echo more > saved; echo $? > $out/rc; exit 4' TERM; : > $out/began; while :; do sleep 0.1; done"""
FULL_BOX = f"""\
mount -t tmpfs -o size=1m,nr_inodes=5 tmpfs "$box" && mkdir -p "$box/{CHECKPOINTS}/step-00000004" || exit
( cd "$box/job" && exec env {TASK_MARK}="$box/job" sh -c "$trainer" ) &
until [ -e "$out/began" ]; do sleep 0.1; done
head -c 2000000 /dev/zero > "$box/full" 2> /dev/null
"""


@pytest.mark.root
def test_a_box_whose_disk_is_full_ends_by_its_lease_with_what_it_had_saved(tmp_path: Path) -> None:
    """Neither mark nor another checkpoint can be written: the trainer is told all the same, and what is there is waited for."""
    box, out = tmp_path / "box", tmp_path / "out"
    for folder in (box, out):
        folder.mkdir()
    known = {"box": str(box), "out": str(out), "trainer": SAVES_IN_VAIN, "began_s": "0", "lease_s": "0"}
    ends = f"{renewal.FUNCTIONS}{lease.FUNCTIONS}lease_ends && echo ends"
    copies = f'has_only_copy && echo "has only copy"; ls "$box/{CHECKPOINTS}" "$box" > "$out/left"'
    command = ["unshare", "--mount", "sh", "-c", f"{FULL_BOX}{ends}; {copies}"]
    said = subprocess.run(command, env=os.environ | known, capture_output=True, text=True, check=False)
    assert said.stdout == "ends\nhas only copy\n", said.stderr
    assert (out / "rc").read_text() != "0\n", "the disk took nothing"
    assert LEASE_ENDED_FILE not in (out / "left").read_text()
    assert "step-00000004" in (out / "left").read_text()


def test_the_shortest_lease_outlives_a_boot_and_five_renewals_that_were_lost() -> None:
    """Of the cloud that is waited for longest; and a trainer is waited for as long as a controller would, and its last push."""
    least_s = LEAST_LEASE_HOURS * 3600
    assert least_s >= max(row.waits.boot_s for row in CLOUDS.values()) + 5 * RENEW_S
    assert LEAVING_S == MOST_S + LAST_S


# ── on a box ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_of("local box in a PID namespace", tmp_path) as rig:
        yield rig


def leased(rig: Rig, lease_s: float) -> Box:
    return rig.provisioner.up(local_offer(), msgspec.structs.replace(rig.launch(), lease_s=lease_s))


def begin(rig: Rig, box: Box, commands: str = TRAINER) -> None:
    """A stand-in for the trainer, as `job.start` starts one; it has begun when this returns. Until then somebody is there."""
    with rig.connect(box) as shell, attended(shell, box, spare=False, every_s=0.2):
        detached.start(shell, job_folder(box), commands, box_marks(box))
        await_true(lambda: shell.run(f"[ -e {job_folder(box)}/began ]").rc == 0)


@pytest.mark.box
def test_a_shell_that_ends_a_lease_waits_for_the_trainers_last_words(rig: Rig) -> None:
    """On the box's own processes, as systemd's timer and a container's watcher run it; it counts as killed, so it may go on."""
    box = leased(rig, 600.0)
    begin(rig, box)
    ends = f"box={box.folder} began_s=0 lease_s=0\n{renewal.FUNCTIONS}{lease.FUNCTIONS}lease_ends && echo ends"
    with rig.connect(box) as shell:
        assert shell.script(ends, {}, timeout_s=60.0).out == "ends\n"
        assert shell.run(f"cat {job_folder(box)}/saved").out == "saved\n"
        await_true(lambda: job.state(shell, box).state == "killed")
        assert lease.lease_has_ended(shell, box)
        assert lease.lease_has_ended(shell, box), "a look forgets nothing"
        lease.forget_lease_end(shell, box)
        assert not lease.lease_has_ended(shell, box), "a host forgets it, for it stands and goes on"


def lead_no_more(box: Box) -> None:
    """The shell that leads its trainer is killed, found by its mark: the box's pids are not this machine's."""
    [leader] = [each for each in psutil.process_iter() if leads(each, job_folder(box))]
    leader.kill()
    await_true(lambda: not leads(leader, job_folder(box)))


def in_task(process: psutil.Process, task: str) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(TASK_MARK) == task)
    except psutil.Error:
        return False


def leads(process: psutil.Process, task: str) -> bool:
    try:
        return bool(process.cmdline() == LEADER and process.environ().get(TASK_MARK) == task)
    except psutil.Error:
        return False


@pytest.mark.box
def test_a_trainer_whose_leader_was_killed_is_told_to_save_all_the_same(rig: Rig) -> None:
    """By the shell of a lease, which tells it as a controller that stops it does."""
    box = leased(rig, 600.0)
    begin(rig, box)
    lead_no_more(box)
    with rig.connect(box) as shell:
        job.stop(shell, box)
        assert shell.run(f"cat {job_folder(box)}/saved").out == "saved\n"


@pytest.mark.box
def test_a_trainer_that_a_signal_has_stopped_ends_with_its_lease(rig: Rig) -> None:
    """It hears of nothing, and is waited for as long as any; then it is killed, with whatever leads it."""
    box = leased(rig, 600.0)
    begin(rig, box)
    of_job = [each for each in psutil.process_iter() if in_task(each, job_folder(box))]
    for each in of_job:
        each.send_signal(signal.SIGSTOP)
    ends = f"box={box.folder} began_s=0 lease_s=0 leaving_s=1\n{renewal.FUNCTIONS}{lease.FUNCTIONS}lease_ends && echo ends"
    with rig.connect(box) as shell:
        assert shell.script(ends, {}, timeout_s=60.0).out == "ends\n"
        await_true(lambda: job.state(shell, box).state == "killed")
    assert of_job
    assert not any(in_task(each, job_folder(box)) for each in of_job)


@pytest.mark.box
def test_a_local_box_tells_a_trainer_whose_leader_was_killed(rig: Rig) -> None:
    box = leased(rig, 4.0)
    begin(rig, box)
    lead_no_more(box)
    await_true(Path(job_folder(box), "saved").exists)


@pytest.mark.box
def test_a_lease_is_forgotten_once_what_it_ended_has_been_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's watchdog locks the box's folder meanwhile: what is begun before that goes with the rest."""
    monkeypatch.setattr(lease, "LEFT_WAIT_S", 0.0)
    box = leased(rig, 600.0)
    mark = Path(box.folder, LEASE_ENDED_FILE)
    mark.touch()
    held = os.open(box.folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with rig.connect(box) as shell:
        with pytest.raises(ConnectionFailed, match="is still ending what ran when its lease ended"):
            lease.forget_lease_end(shell, box)
        assert mark.exists()
        os.close(held)
        lease.forget_lease_end(shell, box)
    assert not mark.exists()


@pytest.mark.box
def test_a_local_box_that_nobody_renews_ends_in_the_middle_of_its_training(rig: Rig) -> None:
    """The trainer saves first; what it saved stays, for whoever comes back."""
    box = leased(rig, 4.0)
    begin(rig, box)
    await_true(lambda: not rig.tasks())
    assert (Path(box.folder) / "job/saved").read_text() == "saved\n"
    assert time.time() < rig.launch().deadline_at_s - 30


@pytest.mark.box
def test_a_box_whose_lease_is_renewed_goes_on(rig: Rig) -> None:
    """For as long as somebody does; and it ends once nobody does any more."""
    box = leased(rig, 4.0)
    renewed: list[float] = []
    begin(rig, box)
    noted = partial(attended, spare=False, every_s=0.2, renewed=renewed.append, clock=time.monotonic)
    with rig.connect(box) as shell, noted(shell, box):
        await_true(lambda: renewed and renewed[-1] - renewed[0] > 8.0)
        assert rig.tasks()
        assert not (Path(box.folder) / LEASE_ENDED_FILE).exists()
    await_true(lambda: not rig.tasks())


@pytest.mark.box
def test_a_result_that_nobody_fetched_waits_for_the_deadline(rig: Rig, tmp_path: Path) -> None:
    """Also where the trainer was told to leave, and had one to give by then."""
    (tmp_path / "outcome.json").write_bytes(encode(DONE))
    box = leased(rig, 4.0)
    makes_it = f"trap 'cp {tmp_path}/outcome.json outcome.json; exit 0' TERM\ntouch began; while :; do sleep 0.1; done"
    begin(rig, box, makes_it)
    await_true(lambda: has_result(Path(box.folder)))
    looked_s = time.monotonic()
    await_true(lambda: time.monotonic() - looked_s > 3.0)  # the reaper has looked twice since
    assert rig.tasks()


class Awake:
    """A clock that counts while the machine is awake."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def watched(tmp_path: Path) -> tuple[Path, Awake, Callable[[], bool]]:
    awake, none = Awake(), list[psutil.Process]()
    watch = LeaseWatch(tmp_path, lease_s=100.0, processes=lambda: none, awake_s=awake)
    return tmp_path, awake, watch.is_over


def test_a_machine_that_slept_has_the_time_to_renew(watched: tuple[Path, Awake, Callable[[], bool]]) -> None:
    """Controller and local box sleep together: hours that nobody was awake for are not counted, by whatever the file says."""
    folder, awake, is_over = watched
    (folder / RENEWED_FILE).write_text("5\n")
    awake.now_s = 99.0
    assert not is_over()
    (folder / RENEWED_FILE).write_text("90000\n")  # uptime counts the sleep
    awake.now_s = 198.0
    assert not is_over()
    awake.now_s = 298.0
    assert is_over()
    assert (folder / LEASE_ENDED_FILE).exists()
