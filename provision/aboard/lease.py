"""A box under a lease ends itself once nobody has renewed it for so long, also while it trains.

What its idle limit (provision/aboard/renewal.py) does until the trainer has begun, a lease does to the end, by the same
renewals; but first it tells the trainer to save and leave, and waits for that. Whoever asked for it said that work which nobody
controls is not to be paid for. A result is another matter: all that it cost is paid, so a box that holds the only one waits
for its deadline. And where the power-off would take the newest checkpoint along, whoever comes back is waited for a while.

Neither clock nor network nor credential is needed; what the trainer then sends to object storage goes by the grants that it
has.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from provision.aboard.detached import ASK_TO_LEAVE
from provision.aboard.marks import LEASE_ENDED_FILE, MARKED
from provision.aboard.renewal import FETCHED_FILE
from provision.errors import ConnectionFailed, ProvisionError
from provision.seam import LEASE, Answer, Box, Layer
from remote.contract import CHECKPOINT_DIR, EVENTS_FILE, OUTCOME_FILE

if TYPE_CHECKING:
    from provision.ssh import Shell

RESULT: Final = f"job/{OUTCOME_FILE}"
EVENTS: Final = f"job/{EVENTS_FILE}"
CHECKPOINTS: Final = f"job/{CHECKPOINT_DIR}"
RESULT_MARK: Final = '"adapter":[{'  # in an outcome that names files of a result, and in no other
# Derived: the longest that a controller waits for a trainer which saves (stopping.MOST_S), and then for what it pushes
# (remote.checkpoints.push.LAST_S). One that leaves sooner is not waited for.
LEAVING_S: Final = 700.0
# Assumed: a line that is back is seen within seconds, and one that was cut for a moment is back by then. It is paid once, where
# the only copy of the newest checkpoint would go.
FETCH_WAIT_S: Final = 300.0
LEFT_WAIT_S: Final = 30.0  # assumed: half of what an answer may take; who still leaves then is asked after again
BUSY_RC: Final = 75  # derived: EX_TEMPFAIL of sysexits.h
FETCH_LOOK_S: Final = 5  # assumed: between two looks meanwhile

# What it is told as.
WAITS: Final = "a result waits on the box, so the deadline alone ends it"
ENDED: Final = "it has ended, as no renewal reached it"
UNWATCHED: Final = "nothing ends the box early if nobody renews it"

# Shell, below those of renewal.py. Variables: theirs, lease_s, and leaving_s where the trainer has less time than LEAVING_S.
FUNCTIONS: Final = f"""\
has_result() {{ ! is_fetched && grep -qsF '{RESULT_MARK}' "$box/{RESULT}"; }}
is_unrenewed() {{ ! has_result && [ "$(unrenewed_s)" -ge "$lease_s" ]; }}
has_ended() {{ [ -e "$box/{LEASE_ENDED_FILE}" ] || is_unrenewed; }}
stop_trainer() (
  cd "$box/job" 2> /dev/null || exit 0
  RENTUNE_TENTHS=$((${{leaving_s:-{LEAVING_S:.0f}}} * 10))
{MARKED}
{ASK_TO_LEAVE})
lease_ends() {{
  has_ended || return 1
  ( : > "$box/{LEASE_ENDED_FILE}" ) 2> /dev/null  # apart: a redirection of `:` that fails ends a shell of POSIX
  stop_trainer
  ! has_result
}}
newest_step() {{ sed -n 's/.*"kind":"'"$1"'".*"step":\\([0-9]*\\).*/\\1/p' "$box/{EVENTS}" | tail -n 1; }} 2> /dev/null
has_only_copy() {{
  ! is_fetched && set -- "$box/{CHECKPOINTS}"/step-* && [ -e "$1" ] || return 1
  [ "$(newest_step checkpoint)" != "$(newest_step checkpoint_pushed)" ] || [ -z "$(newest_step checkpoint)" ]
}}
await_fetch() {{
  has_only_copy || return 0
  saved_s=$(up_s) wait_s={FETCH_WAIT_S:.0f}
  until [ "$(($(up_s) - saved_s))" -ge "$wait_s" ] && [ "$(unrenewed_s)" -ge "$wait_s" ]; do sleep {FETCH_LOOK_S}; done
  has_ended  # no more, where a full disk took no mark and whoever was back has renewed it, and may have begun a trainer
}}
tell_lease() {{
  if has_result; then echo "{LEASE}|yes||{WAITS}"
  elif [ -e "$box/{LEASE_ENDED_FILE}" ]; then echo "{LEASE}|yes|0|{ENDED}"
  elif [ "$1" = yes ]; then echo "{LEASE}|yes|$((lease_s - $(unrenewed_s)))|renewed $(unrenewed_s) s ago"
  else echo "{LEASE}|$1||{UNWATCHED}"; fi
}}
"""


def has_result(folder: Path) -> bool:
    """Whether the box of this folder holds a result, whole as its outcome names it, that is not at home."""
    with suppress(OSError):
        return not (folder / FETCHED_FILE).exists() and RESULT_MARK.encode() in (folder / RESULT).read_bytes()
    return False


def lease_layer(folder: Path, *, unrenewed_s: float, lease_s: float, now_s: float) -> Layer:
    """As `tell_lease` tells it, of a box whose reaper lives."""
    if has_result(folder):
        return Layer(place="box", name=LEASE, there=Answer.YES, says=WAITS)
    if (folder / LEASE_ENDED_FILE).exists():
        return Layer(place="box", name=LEASE, there=Answer.YES, says=ENDED, strikes_at_s=now_s)
    says = f"renewed {unrenewed_s:.0f} s ago"
    return Layer(place="box", name=LEASE, there=Answer.YES, says=says, strikes_at_s=now_s + max(0.0, lease_s - unrenewed_s))


def unwatched_layer() -> Layer:
    """As it tells it of a box that knows of no lease."""
    return Layer(place="box", name=LEASE, there=Answer.NO, says=UNWATCHED)


def lease_has_ended(shell: Shell, box: Box) -> bool:
    """Whether the box says that its lease has ended. Raises ConnectionFailed."""
    return shell.run(f"[ -e {_mark(box)} ]").rc == 0


def forget_lease_end(shell: Shell, box: Box) -> None:
    """On a host of the user's, which stands and goes on with another, once its watchdog is through with what the lease ended:
    a trainer that is begun before that would be ended with the rest. Raises ConnectionFailed, also where the watchdog is not
    through, and ProvisionError where the mark stays: what ends its trainer next would be taken for the lease.
    """
    done = shell.run(f"flock -w {LEFT_WAIT_S:.0f} -E {BUSY_RC} {shlex.quote(box.folder)} rm -f {_mark(box)}")
    if done.rc == BUSY_RC:
        raise ConnectionFailed(f"{box.host} is still ending what ran when its lease ended.")
    if done.rc != 0:
        raise ProvisionError(f"{box.host} does not forget that a lease has ended: {done.err.strip()}")


def _mark(box: Box) -> str:
    return shlex.quote(f"{box.folder}/{LEASE_ENDED_FILE}")
