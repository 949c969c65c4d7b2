"""A script on the box that outlives the connection, and how to see it again.

In its folder on the box: `pid` (and `pid.identity`: boot id and start time, without which a pid means nothing) written
first, `log`, and at the end `rc`, moved into place when it is whole. Its processes carry `RENTUNE_TASK=<folder>` in
their environment, so they are found even when the shell that leads them was killed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

from provision.aboard.marks import MARKED, TASK_MARK
from provision.errors import ConnectionFailed, ProvisionError
from remote.contract import LOG_FILE, PID_FILE, RC_FILE

if TYPE_CHECKING:
    from provision.ssh import Shell

STOPPED_FILE = "stopped"  # we asked it to leave; without this file it was somebody else
REBOOTED = "rebooted"
ANY_RC = "any"
KILLED_RC = 128  # derived: a shell reports 128 + the signal
CODE = re.compile("[0-9]{1,3}")  # derived: up to 255
TOO_SLOW_RC = 75  # derived: EX_TEMPFAIL of sysexits.h; asked again, the same task goes on beginning
ANSWER_S = 30.0  # assumed: such a script needs 0.1 s

# Shell: what makes a pid mean something; nothing for a process that has ended and waits for its parent.
IDENTITY = """\
boot() { cat /proc/sys/kernel/random/boot_id; }
identity() {
  set -- $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null)
  [ "$1" = Z ] || echo "$(boot) ${20}"
}
"""

# Shell functions; the working directory is the task's folder.
FUNCTIONS = f"""\
{IDENTITY}
{MARKED}
ours() {{ marked "{TASK_MARK}=$PWD"; }}
state() {{
  if [ -f {RC_FILE} ]; then ended; return; fi
  if [ ! -f {PID_FILE} ]; then echo never_started; return; fi
  if [ "$(identity "$(cat {PID_FILE})")" = "$(cat {PID_FILE}.identity)" ]; then echo running; return; fi
  if [ -n "$(ours)" ]; then echo running; return; fi
  if [ -f {RC_FILE} ]; then ended; else echo "killed $(rebooted)"; fi
}}
ended() {{
  if [ -f {STOPPED_FILE} ]; then echo "ended $(cat {RC_FILE}) stopped"; else echo "ended $(cat {RC_FILE}) $(rebooted)"; fi
}}
rebooted() {{
  began=$(cut -d' ' -f1 {PID_FILE}.identity 2>/dev/null)
  [ "${{began:-$(boot)}}" = "$(boot)" ] || echo rebooted
}}
"""

# The leader survives SIGTERM, so that it can write the rc of the task below it.
RUN = f"""\
{IDENTITY}
identity $$ > {PID_FILE}.identity
echo $$ > {PID_FILE}.new && mv {PID_FILE}.new {PID_FILE}
trap : TERM INT
sh ./task.sh
echo $? > {RC_FILE}.new && mv {RC_FILE}.new {RC_FILE}
"""

# Under a lock: two controllers that start the same task start it once. A script that runs is never written over.
START = f"""\
mkdir -p "$RENTUNE_FOLDER" && cd "$RENTUNE_FOLDER" || exit 1
{FUNCTIONS}
again() {{
  rc=$(cat {RC_FILE})
  [ "$rc" -lt {KILLED_RC} ] || return 0
  [ ! -f {STOPPED_FILE} ] || return 1
  case " $RENTUNE_AGAIN " in *" {ANY_RC} "* | *" $rc "*) return 0 ;; *) return 1 ;; esac
}}
exec 9> starting.lock
flock 9 || exit 1
now=$(state)
case "$now" in
  running) exit 0 ;;
  ended*) again || exit 0 ;;
esac
rm -f {PID_FILE} {PID_FILE}.identity {RC_FILE} {STOPPED_FILE}
cat > leader.sh <<'RENTUNE_END'
{RUN}
RENTUNE_END
printf '%s\\n' "$RENTUNE_COMMANDS" > task.sh
unset RENTUNE_COMMANDS RENTUNE_AGAIN
export {TASK_MARK}="$PWD"  # not before: what carries it counts as the task's
setsid nohup sh ./leader.sh >> {LOG_FILE} 2>&1 < /dev/null 9>&- &
left=200
while [ ! -f {PID_FILE} ] && [ "$left" -gt 0 ]; do sleep 0.02; left=$((left - 1)); done
[ -f {PID_FILE} ] || exit {TOO_SLOW_RC}
"""

STATE = f"""\
cd "$RENTUNE_FOLDER" 2>/dev/null || {{ echo never_started; exit; }}
{FUNCTIONS}
state
"""

# Variable: RENTUNE_TENTHS. The working directory is the task's folder; `marked` is there. Told is who has no parent among them
# but the leader, which may have been killed: what such a one has started is its own to end.
ASK_TO_LEAVE = f"""\
ours() {{ marked "{TASK_MARK}=$PWD"; }}
leader=$(cat {PID_FILE} 2>/dev/null)
parent() {{ sed -n 's/^PPid:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null; }}
led=" "
for each in $(ours); do [ "$each" = "$leader" ] || led="$led$each "; done
for each in $led; do
  case "$led" in *" $(parent "$each") "*) ;; *) kill -TERM "$each" 2>/dev/null ;; esac
done
while [ "$RENTUNE_TENTHS" -gt 0 ] && [ -n "$(ours)" ]; do sleep 0.1; RENTUNE_TENTHS=$((RENTUNE_TENTHS - 1)); done
for each in $(ours); do kill -KILL "$each" 2>/dev/null; done
"""

STOP = f"""\
cd "$RENTUNE_FOLDER" 2>/dev/null || exit 0
{MARKED}
[ -f {RC_FILE} ] || touch {STOPPED_FILE}
{ASK_TO_LEAVE}
while [ -n "$(ours)" ]; do sleep 0.02; done
"""


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a task stands. killed = ended by a signal (rc is 128 + its number), or gone without an rc (reboot, OOM killer)."""

    state: Literal["never_started", "running", "ended", "killed", "unknown"]
    rc: int | None = None
    stopped: bool = False  # whether it ended after `stop` had asked it to
    rebooted: bool = False  # whether its box has booted since it was begun, by the boot id; told of what ended unasked alone


def start(
    shell: Shell, folder: str, commands: str, environment: Mapping[str, str], *, again: tuple[int | str, ...] = ()
) -> None:
    """Run `commands` (POSIX shell) in `folder`, detached. Does nothing while they run, or once they ended by themselves.

    What was killed is started again, and what ended with one of the codes `again` (ANY_RC: with any) unless `stop` had
    asked it to; `log` goes on where it stopped. Raises ProvisionError, and ConnectionFailed from a box that is too busy to
    begin it: asking again starts nothing twice.
    """
    settings = {"RENTUNE_FOLDER": folder, "RENTUNE_COMMANDS": commands, "RENTUNE_AGAIN": " ".join(map(str, again))}
    done = shell.script(START, {**environment, **settings}, timeout_s=ANSWER_S)
    if done.rc == TOO_SLOW_RC:
        raise ConnectionFailed(f"{shell.box.host} has not begun its task yet: it seems to be busy.")
    if done.rc != 0:
        raise ProvisionError(f"{shell.box.host} could not start a task in {folder}: {done.err.strip() or 'no reason given'}")


def state(shell: Shell, folder: str) -> TaskState:
    """Ask the box. A box that can't be reached is `unknown`, never an exception."""
    try:
        done = shell.script(STATE, {"RENTUNE_FOLDER": folder}, timeout_s=ANSWER_S)
    except ConnectionFailed:
        return TaskState(state="unknown")
    return read_state(done.out)


def read_state(said: str) -> TaskState:
    """What the shell function `state` says, as a value; anything else is `unknown`."""
    match said.split():
        case ["ended", rc, *words] if CODE.fullmatch(rc) and words in ([], [STOPPED_FILE], [REBOOTED]):
            how: Literal["killed", "ended"] = "killed" if int(rc) >= KILLED_RC else "ended"
            return TaskState(state=how, rc=int(rc), stopped=words == [STOPPED_FILE], rebooted=words == [REBOOTED])
        case ["killed", *words] if words in ([], [REBOOTED]):
            return TaskState(state="killed", rebooted=bool(words))
        case ["never_started" | "running" as word]:
            return TaskState(state=word)
        case _:
            return TaskState(state="unknown")


def stop(shell: Shell, folder: str, *, patience_s: float) -> None:
    """SIGTERM to the task, SIGKILL to whatever is left after `patience_s`. Safe when nothing runs."""
    settings = {"RENTUNE_FOLDER": folder, "RENTUNE_TENTHS": str(round(patience_s * 10))}
    shell.script(STOP, settings, timeout_s=patience_s + ANSWER_S)
