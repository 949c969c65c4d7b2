"""The job on the box: started once, seen from anywhere, stopped with patience. A small script stands in for the trainer."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from provision.aboard import detached, job
from provision.aboard.detached import TaskState, read_state
from provision.direct.here import local_offer
from provision.errors import ConnectionFailed, TrainingFailed, TransferFailed
from provision.home.processes import boot_id
from provision.seam import Box
from provision.ssh import Shell
from remote.contract import DataSource, JobSpec, Loop, ModelSource, Strategy, decode
from tests.doubles.proxy import proxied
from tests.provision.rigs import Rig, await_true, rig_of

pytestmark = pytest.mark.box

SPEC = JobSpec(
    run_id="run-1",
    model=ModelSource(kind="config", location="config.json"),
    data=DataSource(train="train.jsonl"),
    strategy=Strategy(method="lora", rank=8, alpha=16.0),
    loop=Loop(),
)

# $1 = -m, $2 = remote, $3 = job.json, as a Python would be called.
EVENT = (
    """event() { printf '{"seq":%s,"kind":"%s","phase":"train","at_s":1.0,"monotonic_s":1.0}\\n' "$1" "$2" >> events.jsonl; }"""
)

Trainer = Callable[[str], str]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_of("local box without namespace", tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.fixture
def fresh(box: Box, tmp_path: Path) -> Box:
    """The same machine with an empty folder: one job each."""
    return msgspec.structs.replace(box, folder=f"{box.folder}/{tmp_path.name}")


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    """A stand-in for the interpreter that runs the trainer: a script of these lines."""

    def write(lines: str) -> str:
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{EVENT}\n{lines}\n")
        script.chmod(0o755)
        return str(script)

    return write


def _await(shell: Shell, box: Box, wanted: str) -> TaskState:
    await_true(lambda: job.state(shell, box).state == wanted)
    return job.state(shell, box)


def test_a_job_is_never_started_then_runs_then_has_ended_with_its_code(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    assert job.state(shell, fresh) == TaskState(state="never_started")
    job.start(shell, fresh, SPEC, python=trainer('[ "$*" = "-m remote job.json" ] || exit 99; sleep 0.5; exit 7'))
    assert job.state(shell, fresh) == TaskState(state="running")
    assert _await(shell, fresh, "ended") == TaskState(state="ended", rc=7)


def test_secrets_are_handed_over_in_memory_to_the_user_alone(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    """Neither on a command line nor in an environment that others could read, nor on the box's disk."""
    seen = 'cat $RENTUNE_SECRETS > got; stat -c "%a %n" $RENTUNE_SECRETS > mode; tr "\\0" "\\n" < /proc/$$/environ > environ'
    job.start(shell, fresh, SPEC, python=trainer(f"{seen}; rm $RENTUNE_SECRETS"), secrets={"HF_TOKEN": "hf_secret"})
    _await(shell, fresh, "ended")
    folder = Path(job.job_folder(fresh))
    assert json.loads((folder / "got").read_text()) == {"HF_TOKEN": "hf_secret"}
    assert (folder / "mode").read_text().startswith("600 /dev/shm/")
    assert "hf_secret" not in (folder / "environ").read_text() + (folder / "task.sh").read_text()


def test_the_box_gets_the_job_as_it_is(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    job.start(shell, fresh, SPEC, python=trainer("exit 0"))
    assert decode(Path(job.job_folder(fresh), "job.json").read_bytes(), JobSpec) == SPEC


@pytest.mark.parametrize("ahead_s", [-3600.0, 0.0, 3600.0])
def test_a_box_whose_clock_is_wrong_has_as_long_as_any(shell: Shell, fresh: Box, trainer: Trainer, ahead_s: float) -> None:
    """The trainer is told its deadline, and since when it is billed, by the clock that it has."""
    ours_s = time.time() - ahead_s
    by_ours = msgspec.structs.replace(SPEC, deadline_at_s=ours_s + 600.0, billed_since_s=ours_s - 300.0)
    job.start(shell, fresh, by_ours, python=trainer("exit 0"), clock=lambda: time.time() - ahead_s)
    told = decode(Path(job.job_folder(fresh), "job.json").read_bytes(), JobSpec)
    assert told.deadline_at_s is not None
    assert told.billed_since_s is not None
    assert told.deadline_at_s - time.time() == pytest.approx(600.0, abs=60.0)
    assert time.time() - told.billed_since_s == pytest.approx(300.0, abs=60.0)
    assert (told == by_ours) == (ahead_s == 0.0)


def test_a_host_too_busy_to_begin_is_asked_again(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    """Its leader is no more than late: another may begin the task once more, and nothing runs twice."""
    folder = Path(job.job_folder(fresh))
    folder.mkdir(parents=True)
    Path(fresh.folder, "sh").symlink_to("/bin/true")  # a leader that never comes to write its pid
    with pytest.raises(ConnectionFailed, match="has not begun its task yet"):
        detached.start(shell, str(folder), "exit 0", {"PATH": f"{fresh.folder}:{os.environ['PATH']}"})
    job.start(shell, fresh, SPEC, python=trainer("exit 0"))
    assert _await(shell, fresh, "ended").rc == 0


def test_starting_it_again_starts_nothing_while_it_runs_or_once_it_ended(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    python = trainer("echo started >> starts; sleep 0.5")
    starters = [threading.Thread(target=job.start, args=(shell, fresh, SPEC), kwargs={"python": python}) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    _await(shell, fresh, "ended")
    job.start(shell, fresh, SPEC, python=python)
    assert Path(job.job_folder(fresh), "starts").read_text() == "started\n"


def test_a_trainer_that_was_killed_is_started_again(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    python = trainer("[ -e checkpoint ] && exit 0; touch checkpoint; kill -9 $$")
    job.start(shell, fresh, SPEC, python=python)
    assert _await(shell, fresh, "killed") == TaskState(state="killed", rc=137)
    job.start(shell, fresh, SPEC, python=python)
    assert _await(shell, fresh, "ended") == TaskState(state="ended", rc=0)


@pytest.mark.parametrize(("asked", "then"), [(False, "killed"), (True, "ended")])
def test_a_trainer_that_left_at_a_signal_has_ended_only_if_the_signal_was_ours(
    shell: Shell, fresh: Box, trainer: Trainer, asked: bool, then: str
) -> None:
    python = trainer(
        "[ -e again ] && exit 0; touch again; trap 'exit 4' TERM; echo $$ > own_pid; touch ready; while :; do sleep 0.05; done"
    )
    job.start(shell, fresh, SPEC, python=python)
    folder = Path(job.job_folder(fresh))
    await_true((folder / "ready").exists)
    if asked:
        job.stop(shell, fresh)
    else:
        os.kill(int((folder / "own_pid").read_text()), signal.SIGTERM)
    assert _await(shell, fresh, then).rc == 4
    job.start(shell, fresh, SPEC, python=python)
    await_true(lambda: job.state(shell, fresh).state == "ended")
    assert job.state(shell, fresh).rc == (4 if asked else 0)


def test_a_task_that_may_be_repeated_is_run_again_after_any_end(shell: Shell, fresh: Box) -> None:
    folder = Path(job.job_folder(fresh))
    for tries in (1, 2):
        detached.start(shell, str(folder), "echo once more >> tries; exit 1", {}, again=(detached.ANY_RC,))
        await_true(lambda: detached.state(shell, str(folder)) == TaskState(state="ended", rc=1))
        assert len((folder / "tries").read_text().splitlines()) == tries


def test_a_trainer_that_lives_on_without_its_shell_still_runs(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    job.start(shell, fresh, SPEC, python=trainer("touch ready; while [ ! -e go ]; do sleep 0.05; done"))
    folder = Path(job.job_folder(fresh))
    await_true((folder / "ready").exists)
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    assert job.state(shell, fresh).state == "running"
    (folder / "go").touch()
    assert _await(shell, fresh, "killed") == TaskState(state="killed")


def test_a_pid_of_an_earlier_boot_or_of_another_process_means_nothing(shell: Shell, fresh: Box) -> None:
    folder = Path(job.job_folder(fresh))
    folder.mkdir(parents=True)
    (folder / "pid").write_text(str(os.getpid()))
    (folder / "pid.identity").write_text("0f3c5bd0-an-earlier-boot 12345\n")
    assert job.state(shell, fresh) == TaskState(state="killed", rebooted=True)
    (folder / "pid.identity").write_text(f"{boot_id()} 12345\n")
    assert job.state(shell, fresh) == TaskState(state="killed")


def test_stopping_lets_the_trainer_save_and_keeps_its_code(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    lines = "trap 'sleep 0.3; touch saved; exit 5' TERM; touch ready; while :; do sleep 0.05; done"
    job.start(shell, fresh, SPEC, python=trainer(lines))
    await_true(Path(job.job_folder(fresh), "ready").exists)
    job.stop(shell, fresh)
    assert job.state(shell, fresh) == TaskState(state="ended", rc=5, stopped=True)
    assert Path(job.job_folder(fresh), "saved").exists()


def test_stopping_kills_what_does_not_listen_with_all_its_children(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    lines = "trap '' TERM; setsid sleep 1000 & touch ready; while :; do sleep 0.05; done"
    job.start(shell, fresh, SPEC, python=trainer(lines))
    await_true(Path(job.job_folder(fresh), "ready").exists)
    job.stop(shell, fresh, patience_s=0.3)
    assert job.state(shell, fresh) == TaskState(state="killed")
    assert shell.run(f"grep -slxzF 'RENTUNE_TASK={job.job_folder(fresh)}' /proc/[0-9]*/environ").out == ""


def test_stopping_a_job_that_never_ran_does_nothing(shell: Shell, fresh: Box) -> None:
    job.stop(shell, fresh)
    assert job.state(shell, fresh) == TaskState(state="never_started")


def test_events_come_as_they_are_written_and_end_with_the_job(
    shell: Shell, fresh: Box, trainer: Trainer, tmp_path: Path
) -> None:
    lines = (
        "event 0 phase_started; sleep 0.3; event 1 step; echo torn-by-a-kill >> events.jsonl; event 2 new_kind; event 3 ended"
    )
    job.start(shell, fresh, SPEC, python=trainer(f"{lines}; sleep 0.5; exit 3"))
    kinds = [event.kind for event in job.events(shell, fresh, tmp_path / "events.jsonl")]
    assert kinds == ["phase_started", "step", "new_kind", "ended"]
    assert job.state(shell, fresh) == TaskState(state="ended", rc=3)
    assert (tmp_path / "events.jsonl").read_bytes() == Path(job.job_folder(fresh), "events.jsonl").read_bytes()


def test_events_go_on_where_the_mirror_ends(shell: Shell, fresh: Box, trainer: Trainer, tmp_path: Path) -> None:
    job.start(shell, fresh, SPEC, python=trainer("event 0 step; event 1 step; event 2 step; exit 0"))
    _await(shell, fresh, "ended")
    there = Path(job.job_folder(fresh), "events.jsonl").read_bytes()
    mirror = tmp_path / "events.jsonl"
    mirror.write_bytes(there[: there.index(b"\n") + 1])
    assert [event.seq for event in job.events(shell, fresh, mirror)] == [1, 2]


def test_a_cut_of_ten_seconds_costs_no_event_and_no_step(
    rig: Rig, box: Box, fresh: Box, trainer: Trainer, tmp_path: Path
) -> None:
    with proxied(box.port) as line, rig.connect(msgspec.structs.replace(box, port=line.port), patience_s=60.0) as far:
        steps = "i=0; while [ $i -lt 120 ]; do event $i step; i=$((i+1)); sleep 0.1; done; event $i ended"
        job.start(far, fresh, SPEC, python=trainer(steps))
        seqs: list[int] = []
        for event in job.events(far, fresh, tmp_path / "events.jsonl"):
            seqs.append(event.seq)
            if event.seq == 5:
                line.cut()
                threading.Timer(10.0, line.heal).start()
        assert seqs == list(range(121))
        assert job.state(far, fresh) == TaskState(state="ended", rc=0)


def test_a_box_that_cannot_be_reached_is_unknown_not_gone(tmp_path: Path) -> None:
    with rig_of("local box without namespace", tmp_path) as rig:
        box = rig.provisioner.up(local_offer(), rig.launch())
        with proxied(box.port) as line, rig.connect(msgspec.structs.replace(box, port=line.port), patience_s=1.5) as far:
            line.cut()
            assert job.state(far, box) == TaskState(state="unknown")


def test_what_a_box_says_beside_the_known_words_is_unknown() -> None:
    assert read_state("") == TaskState(state="unknown")
    assert read_state("ended x") == TaskState(state="unknown")
    assert read_state("bash: /proc: gone") == TaskState(state="unknown")


def test_there_is_no_outcome_before_there_is_one(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    assert job.outcome(shell, fresh) is None
    outcome = f'{{"run_id":"{fresh.run_id}",' + '"reason":"completed","message":"Done.","phase_s":{},"measured":{}}'
    job.start(shell, fresh, SPEC, python=trainer(f"echo '{outcome}' > outcome.json"))
    _await(shell, fresh, "ended")
    written = job.outcome(shell, fresh)
    assert written is not None
    assert written.message == "Done."


@pytest.mark.parametrize(
    "made",
    [
        "ln -s /dev/zero outcome.json",
        "mkfifo outcome.json",
        f"truncate -s {job.MOST_OUTCOME_BYTES + 1} outcome.json",
    ],
    ids=["a device", "a pipe", "too long"],
)
def test_an_outcome_without_an_end_is_refused_at_once(shell: Shell, fresh: Box, trainer: Trainer, made: str) -> None:
    """It was read until this machine's memory was full, or until nothing more came."""
    job.start(shell, fresh, SPEC, python=trainer(made))
    _await(shell, fresh, "ended")
    with pytest.raises(TransferFailed, match=f"no file of at most {job.MOST_OUTCOME_BYTES:,} bytes"):
        job.outcome(shell, fresh)


def test_the_outcome_of_another_run_is_none_of_this_one(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    outcome = '{"run_id":"another","reason":"completed","message":"Done.","phase_s":{},"measured":{}}'
    job.start(shell, fresh, SPEC, python=trainer(f"echo '{outcome}' > outcome.json"))
    _await(shell, fresh, "ended")
    with pytest.raises(TrainingFailed, match="that of another run: 'another'"):
        job.outcome(shell, fresh)


def test_a_log_comes_home_as_it_is(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    assert job.log(shell, fresh) == ""
    job.start(shell, fresh, SPEC, python=trainer("echo one; echo two >&2"))
    _await(shell, fresh, "ended")
    assert job.log(shell, fresh) == "one\ntwo\n"


def test_of_a_log_without_bound_its_two_ends_come_home(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    """How it began and what it said last; between them stands how much is left out."""
    lines = f"echo begun; truncate -s {40 * 2**30} log; sleep 0.1; echo last words"
    job.start(shell, fresh, SPEC, python=trainer(lines))
    _await(shell, fresh, "ended")
    said = job.log(shell, fresh)
    left_out = 40 * 2**30 + len("last words\n") - job.LOG_FIRST_BYTES - job.LOG_LAST_BYTES
    assert said.startswith("begun\n")
    assert f"[{left_out} bytes are left out here" in said
    assert said.endswith("last words\n")
    assert len(said) < job.LOG_FIRST_BYTES + job.LOG_LAST_BYTES + 200


def test_of_what_the_trainer_said_the_newest_is_read_however_much_it_is(shell: Shell, fresh: Box, trainer: Trainer) -> None:
    lines = f"truncate -s {40 * 2**30} events.jsonl; echo >> events.jsonl; event 7 step"
    job.start(shell, fresh, SPEC, python=trainer(lines))
    _await(shell, fresh, "ended")
    assert [event.seq for event in job.last_events(shell, fresh)] == [7]
