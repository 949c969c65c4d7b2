"""The trainer as a process on the box: start it once, see how it stands, read its events, stop it."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from provision.aboard import detached
from provision.aboard.detached import TaskState as JobState
from provision.aboard.result import sober
from provision.aboard.ship import (
    box_marks,
    cache_folder,
    download_places,
    job_folder,
    make_room,
    package_folder,
    passing_places,
)
from provision.errors import ProvisionError, Spoilt, TrainingFailed, TransferFailed
from provision.seam import CLOCKS_AGREE_S, Box
from remote.checkpoints.grants import GRANTS_VARIABLE, Grants
from remote.contract import (
    EVENTS_FILE,
    EXIT_CODES,
    JOB_FILE,
    LOG_FILE,
    MODEL_CACHE_VARIABLE,
    OUTCOME_FILE,
    ROWS_CACHE_VARIABLE,
    SECRETS_VARIABLE,
    EndReason,
    Event,
    JobSpec,
    Outcome,
    decode,
    encode,
    parse_event,
)

if TYPE_CHECKING:
    from provision.ssh import Shell

__all__ = ["JobState", "events", "job_folder", "last_events", "log", "outcome", "start", "state", "stop"]

LEFT_RC = EXIT_CODES[EndReason.INTERRUPTED]  # of a trainer that saved and left at a signal
EXIT_S = 60.0  # assumed: between the trainer's last event and its exit lies less
MEMORY = "/dev/shm"  # noqa: S108 - a tmpfs on every Linux
LAST_EVENTS = 2000  # assumed: steps of a tenth of a second since the last checkpoint, and half a megabyte
SECONDS = re.compile("[0-9]{1,11}")  # derived: until the year 5138
MOST_EVENTS_BYTES = 4 * 1024 * 1024  # assumed: eight times as much as that
MOST_OUTCOME_BYTES = 8 * 1024 * 1024  # assumed: the losses of 200 rows and three answers have a hundredth of it
LOG_FIRST_BYTES, LOG_LAST_BYTES = 64 * 1024, 1024 * 1024  # assumed: how it began, and what it said before it ended
LOG_S = 30.0  # assumed: a megabyte at a slow 40 kB/s; what tells why is not worth a longer rent
LOOK_S = 0.1  # assumed: a look is one command over a standing line

# Of the log at "$place": nothing where there is none, else all of it or its two ends.
READ_LOG = f"""\
[ -f "$place" ] || exit 0
left_out=$(($(stat -L -c %s "$place") - {LOG_FIRST_BYTES + LOG_LAST_BYTES}))
if [ "$left_out" -le 0 ]; then exec head -c {LOG_FIRST_BYTES + LOG_LAST_BYTES} "$place"; fi
head -c {LOG_FIRST_BYTES} "$place"
printf '\\n[%s bytes are left out here: of a log so long its first and its last bytes come home]\\n' "$left_out"
tail -c {LOG_LAST_BYTES} "$place"
"""


def start(
    shell: Shell,
    box: Box,
    spec: JobSpec,
    *,
    python: str,
    secrets: Mapping[str, str] = MappingProxyType({}),
    grants: Grants | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Upload job.json and start `python -m remote job.json`, detached. Does nothing while it runs or once it ended.

    `secrets`, by the names of variables, and `grants` reach the trainer through files in the box's memory that it reads once
    and removes.

    A job that was killed, or told to leave by somebody else (a reboot), is started again: it goes on from its last
    checkpoint. The deadline of `spec`, and since when it is billed, are by `clock`; the trainer is told them by the clock that
    it has.
    """
    folder = job_folder(box)
    spec = _by_their_clock(shell, spec, clock)
    place = shlex.quote(f"{folder}/{JOB_FILE}")
    written = shell.run(f"mkdir -p {shlex.quote(folder)} && cat > {place}.$$ && mv {place}.$$ {place}", stdin=encode(spec))
    if written.rc != 0:
        raise TransferFailed(f"The job file can't be written on {box.host}: {written.err.strip()}", hint=make_room(box))
    environment = {
        "PYTHONPATH": package_folder(box),
        "PYTHONUNBUFFERED": "1",
        MODEL_CACHE_VARIABLE: f"{cache_folder(box)}/models",
        **({ROWS_CACHE_VARIABLE: f"{cache_folder(box)}/models"} if box.shares_files else {}),
        **passing_places(box),
        **download_places(box),
    }
    secrets_at, grants_at = secret_places(box.run_id)
    if secrets:
        environment[SECRETS_VARIABLE] = _hand_over(shell, secrets_at, msgspec.json.encode(dict(secrets)))
    if grants is not None:
        environment[GRANTS_VARIABLE] = _hand_over(shell, grants_at, encode(grants))
    commands = f"exec {shlex.quote(python)} -m remote {JOB_FILE}"
    detached.start(shell, folder, commands, environment | box_marks(box), again=(LEFT_RC,))


def _by_their_clock(shell: Shell, spec: JobSpec, clock: Callable[[], float]) -> JobSpec:
    """The job, its times moved by what the box's clock is ahead: a host that is wrong by an hour has as long as any, and tells
    the same dollars.
    """
    times_s = {"deadline_at_s": spec.deadline_at_s, "billed_since_s": spec.billed_since_s}
    if not any(at_s is not None for at_s in times_s.values()):
        return spec
    asked_at_s = clock()
    said = shell.run("date +%s")
    if said.rc != 0 or not SECONDS.fullmatch(said.out.strip()):
        raise ProvisionError(
            f"{shell.box.host} does not say what time it is: {said.err.strip() or said.out.strip()}",
            hint="There `date +%s` has to print whole seconds.",
        )
    ahead_s = int(said.out) - (asked_at_s + clock()) / 2
    if abs(ahead_s) <= CLOCKS_AGREE_S:
        return spec
    moved = {name: at_s + ahead_s for name, at_s in times_s.items() if at_s is not None}
    return msgspec.structs.replace(spec, **moved)


def secret_places(run_id: str) -> tuple[str, str]:
    """Where secrets and grants wait in the box's memory. The trainer that reads them removes them; else the teardown does."""
    return f"{MEMORY}/rentune-{run_id}", f"{MEMORY}/rentune-{run_id}-grants"


def forget_secrets(run_id: str) -> None:
    """Of a box that shares this machine's memory: its files there. What another user laid in their place is theirs."""
    for place in secret_places(run_id):
        with suppress(OSError):
            Path(place).unlink()


def _hand_over(shell: Shell, place: str, content: bytes) -> str:
    """Write it where no disk keeps it, for the box's user alone; returns where. Raises TransferFailed.

    Everybody may write there: what another user laid in the way, a link included, is refused, not written through.
    """
    quoted = shlex.quote(place)
    written = shell.run(f"umask 077 && rm -f {quoted} && set -C && cat > {quoted}", stdin=content)
    if written.rc != 0:
        raise TransferFailed(f"What is secret can't be handed to {shell.box.host}: {written.err.strip()}")
    return place


def state(shell: Shell, box: Box) -> JobState:
    """Ask the box. An unreachable box is `unknown`, never an exception.

    A trainer that left because of a signal which was not ours (a reboot) counts as killed: it has more to do.
    """
    seen = detached.state(shell, job_folder(box))
    unasked = seen.state == "ended" and seen.rc == LEFT_RC and not seen.stopped
    return msgspec.structs.replace(seen, state="killed") if unasked else seen


def events(
    shell: Shell,
    box: Box,
    local: Path,
    *,
    tell: Callable[[str], object] = lambda _: None,
    given_up: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Event]:
    """The job's events from `local`'s size on, live; ends when the job no longer runs and all are read, or once it is
    `given_up`, whatever the box says.

    A line that can't be read (cut off by a kill) is passed over; it stays in the file. `tell` is told of more than
    any trainer says. Raises ConnectionFailed when the box stays away for longer than the shell's patience.
    """

    def alive() -> bool:
        return not given_up() and state(shell, box).state in ("running", "unknown")

    for line in shell.follow(f"{job_folder(box)}/{EVENTS_FILE}", local, alive=alive, tell=tell):
        if (event := parse_event(line)) is None:
            continue
        yield event
        if event.kind == "ended":
            _await_exit(alive, sleep)
            return


def last_events(shell: Shell, box: Box) -> list[Event]:
    """The newest of what the trainer has said, oldest first; none where it has said nothing. Raises ConnectionFailed."""
    place = shlex.quote(f"{job_folder(box)}/{EVENTS_FILE}")
    said = shell.run(f"[ ! -f {place} ] || tail -c {MOST_EVENTS_BYTES} {place} | tail -n {LAST_EVENTS}").out
    return [event for line in said.splitlines() if (event := parse_event(line.encode())) is not None]


def outcome(shell: Shell, box: Box) -> Outcome | None:
    """The trainer's outcome.json, without files that no result has; None while there is none.

    Raises Spoilt when it can't be read or is longer than any outcome, TrainingFailed where it is another run's.
    """
    place = shlex.quote(f"{job_folder(box)}/{OUTCOME_FILE}")
    complaint = f'{{ echo "it is no file of at most {MOST_OUTCOME_BYTES:,} bytes" >&2; exit 1; }}'
    is_sound = f'[ -f {place} ] && [ "$(stat -L -c %s {place})" -le {MOST_OUTCOME_BYTES} ]'
    done = shell.run(f"[ ! -e {place} ] || {{ {is_sound} || {complaint}; head -c {MOST_OUTCOME_BYTES} {place}; }}")
    try:
        if done.rc != 0:
            raise Spoilt(f"{box.host} could not read the outcome: {done.err.strip()}")
        found = decode(done.out, Outcome) if done.out else None
    except msgspec.DecodeError as error:
        raise Spoilt(f"The outcome on {box.host} is not whole: {error}") from error
    if found is not None and found.run_id != box.run_id:
        raise TrainingFailed(f"The outcome on {box.host} is that of another run: {found.run_id[:60]!r}.")
    return None if found is None else sober(found)


def log(shell: Shell, box: Box) -> str:
    """What the trainer wrote; of a log that is long its beginning and its end, and how much is left out between them.

    Raises TransferFailed, or ConnectionFailed.
    """
    done = shell.script(READ_LOG, {"place": f"{job_folder(box)}/{LOG_FILE}"}, timeout_s=LOG_S)
    if done.rc != 0:
        raise TransferFailed(
            f"{box.host} could not read its log: {done.err.strip()}", hint=f"It lies at {job_folder(box)}/{LOG_FILE} there."
        )
    return done.out


def stop(shell: Shell, box: Box, *, patience_s: float = 20.0) -> None:
    """SIGTERM to the job, SIGKILL to what is left after `patience_s`. Safe when nothing runs."""
    detached.stop(shell, job_folder(box), patience_s=patience_s)


def _await_exit(alive: Callable[[], bool], sleep: Callable[[float], None]) -> None:
    for _ in range(round(EXIT_S / LOOK_S)):
        if not alive():
            return
        sleep(LOOK_S)
