"""A box for which nobody comes ends itself before its deadline: its idle limit, which a controller puts off again and again.

It holds until the trainer has begun. Before that, nothing on the box is worth anything; from then on it has what nobody else
has, a checkpoint or a result, and somebody may `resume`: then the deadline alone ends it. So it does where the box is to be
spared on failure, once it has been reached. Once its result is at home nothing on it is of worth any more. A lease that
somebody asked for (provision/aboard/lease.py) holds longer, by the same renewals.

A renewal is a file on the box that holds its uptime, and below that which boot it is of: the uptime of the boot before may be
one that this boot has yet to reach. So a wrong clock changes nothing, and neither side needs a credential. What watches the box
writes down at each look for how long nobody has come: the next boot begins with that.
"""

from __future__ import annotations

import math
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from provision.aboard.marks import LEASE_ENDED_FILE
from provision.errors import ProvisionError
from provision.seam import IDLE_LIMIT, Answer, Box, Layer
from remote.contract import LOG_FILE

if TYPE_CHECKING:
    from provision.ssh import Shell

IDLE_LIMIT_S: Final = 3600.0  # assumed: longer than a lid is closed at noon, and the most that a box nobody comes for costs
RENEW_S: Final = 60.0  # assumed: many renewals may be lost before it matters
RENEWED_FILE: Final = "renewed"  # below the box's folder: the uptime at the last renewal, in whole seconds
UNRENEWED_FILE: Final = "unrenewed"  # beside it: seconds since then at the last look, for the next boot
FETCHED_FILE: Final = "fetched"  # beside it: its result is at home, whole
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
UNTOLD: Final = "It is tried again and again; while that fails the box may end itself."
TOLD_AT: Final = 3  # assumed: a first boot makes the box's folder within two minutes of its SSH server
TOO_LATE: Final = "The box's lease had ended before it could be renewed: its trainer is told to save and leave."
SPARED_FILE: Final = "spared"  # beside it: the deadline alone ends this box
BEGUN_FILE: Final = f"job/{LOG_FILE}"  # there from the trainer's first start on

# Shell. Variables: box (its folder), began_s (the uptime from which on it was waited: that of the boot, less
# `unrenewed_before_s`), idle_limit_s.
FUNCTIONS: Final = f"""\
up_s() {{ read -r up rest < /proc/uptime && echo "${{up%.*}}"; }}
unrenewed_s() {{
  last_s=$began_s now_s=$(up_s) boot=$(cat {BOOT_ID})
  renewed_s= of_boot=
  {{ read -r renewed_s; read -r of_boot; }} < "$box/{RENEWED_FILE}"
  [ "$of_boot" = "$boot" ] && [ "$renewed_s" -gt "$last_s" ] && [ "$renewed_s" -le "$now_s" ] && last_s=$renewed_s
  echo $((now_s - last_s))
}} 2> /dev/null
unrenewed_before_s() {{
  before_s=
  read -r before_s < "$box/{UNRENEWED_FILE}"
  case "$before_s" in "" | 0?* | *[!0-9]* | ?????????*) before_s=0 ;; esac
  echo "$before_s"
}} 2> /dev/null
note_unrenewed() {{
  now_unrenewed_s=$(unrenewed_s) note=$box/{UNRENEWED_FILE}
  ( echo "$now_unrenewed_s" > "$note.new" ) && mv "$note.new" "$note" || ( echo "$now_unrenewed_s" 1<> "$note" )
}} 2> /dev/null
is_fetched() {{ [ -e "$box/{FETCHED_FILE}" ]; }}
is_valued() {{ ! is_fetched && {{ [ -e "$box/{BEGUN_FILE}" ] || [ -e "$box/{SPARED_FILE}" ]; }}; }}
is_forsaken() {{ ! is_valued && [ "$(unrenewed_s)" -ge "$idle_limit_s" ]; }}
tell_idle_limit() {{
  if is_valued && [ -e "$box/{BEGUN_FILE}" ]; then echo "{IDLE_LIMIT}|yes||the trainer has begun, so the deadline alone ends it"
  elif is_valued; then echo "{IDLE_LIMIT}|yes||it is spared on failure, so the deadline alone ends it"
  elif [ "$1" = yes ]; then echo "{IDLE_LIMIT}|yes|$((idle_limit_s - $(unrenewed_s)))|renewed $(unrenewed_s) s ago"
  else echo "{IDLE_LIMIT}|$1||nothing ends it early if nobody comes"; fi
}}
"""

# Shell, in the box's folder. A disk that is full takes no new file, but the bytes of one that is there, in their place.
WRITE: Final = f"""\
note=$(sed 's/[.].*//' /proc/uptime; cat {BOOT_ID} 2> /dev/null)
{{ echo "$note" > {RENEWED_FILE}.new && mv {RENEWED_FILE}.new {RENEWED_FILE}; }} 2> /dev/null || {{
  rm -f {RENEWED_FILE}.new 2> /dev/null
  echo "$note" 1<> {RENEWED_FILE} || exit
}}
rm -f {UNRENEWED_FILE}
[ ! -e {LEASE_ENDED_FILE} ] || echo {LEASE_ENDED_FILE}
"""


def idle_s(folder: Path, *, began_s: float, now_s: float) -> float | None:
    """Seconds of uptime since the last renewal, or since `began_s`; None once the deadline alone ends the box."""
    is_valued = (folder / BEGUN_FILE).exists() or (folder / SPARED_FILE).exists()
    if is_valued and not (folder / FETCHED_FILE).exists():
        return None
    return unrenewed_s(folder, began_s=began_s, now_s=now_s)


def unrenewed_s(folder: Path, *, began_s: float, now_s: float) -> float:
    """Seconds of uptime since the last renewal, or since `began_s`, whatever the box holds."""
    renewed_s = _renewed_s(folder)
    return now_s - (max(began_s, renewed_s) if renewed_s <= now_s else began_s)


def _renewed_s(folder: Path) -> float:
    """The uptime at the last renewal; one of another boot than this is none, and as long ago as can be."""
    boot = ""
    with suppress(OSError):
        boot = Path(BOOT_ID).read_text().strip()
    with suppress(OSError, ValueError):
        renewed_s, of_boot, *_ = f"{(folder / RENEWED_FILE).read_text()}\n\n".split("\n")
        if of_boot == boot:
            return float(renewed_s)
    return -math.inf


def idle_layer(idle_s: float | None, *, idle_limit_s: float, now_s: float) -> Layer:
    """As `tell_idle_limit` tells it, of a box whose reaper lives."""
    if idle_s is None:
        says = "the trainer has begun, or the box is spared on failure: the deadline alone ends it"
        return Layer(place="box", name=IDLE_LIMIT, there=Answer.YES, says=says)
    says = f"renewed {idle_s:.0f} s ago"
    return Layer(place="box", name=IDLE_LIMIT, there=Answer.YES, says=says, strikes_at_s=now_s + idle_limit_s - idle_s)


def renew(shell: Shell, box: Box, *, spare: bool = False) -> bool:
    """Say on the box that somebody is there; with `spare`, that its deadline alone may end it. Whether that renews its lease:
    one that has ended goes on no more, though the box waits a while for whoever is there.

    Raises ConnectionFailed, and ProvisionError from a box that can't take it.
    """
    return _write_on_box(shell, box, f": > {SPARED_FILE}" if spare else ":")


def mark_fetched(shell: Shell, box: Box) -> None:
    """Say on the box that its result is at home, whole: should nobody come to end it, it does not wait for its deadline.

    Raises as `renew` does.
    """
    _write_on_box(shell, box, f": > {FETCHED_FILE}")


def _write_on_box(shell: Shell, box: Box, deed: str) -> bool:
    """Do the deed there and renew. Whether that comes in time for its lease."""
    done = shell.run(f"cd {shlex.quote(box.folder)} || exit\n{deed}\n{WRITE}")
    if done.rc != 0:
        raise ProvisionError(f"{box.host} could not be told that somebody is there: {done.err.strip() or done.rc}.")
    return LEASE_ENDED_FILE not in done.out.split()


def _unheard(*_: object) -> None:
    """Nobody notes it."""


@contextmanager
def attended(
    shell: Shell,
    box: Box,
    *,
    spare: bool,
    every_s: float = RENEW_S,
    renewed: Callable[[float], object] = _unheard,
    tell: Callable[[str], object] = _unheard,
    clock: Callable[[], float] = time.time,
) -> Iterator[None]:
    """Renew for as long as the block runs, from a thread beside it. One that can't be made is made the next time, whatever
    was wrong: a box whose controller lives must not be ended because this thread died. `renewed`: told of each that was made
    in time, with the moment by `clock` at which it was sent; `tell`: once, of a box that answers and takes none, and once of
    one whose lease had ended by then.
    """
    over, refused = threading.Event(), Counter[str]()

    def tell_at(number: int, words: str, why: str) -> None:
        refused[why] += 1
        if refused[why] == number:
            tell(words)

    def go_on() -> None:
        while not over.is_set():
            with suppress(Exception):
                sent_at_s = clock()
                try:
                    if renew(shell, box, spare=spare):
                        renewed(sent_at_s)
                    else:
                        tell_at(1, TOO_LATE, why="late")
                except ProvisionError as error:
                    tell_at(TOLD_AT, f"{error} {UNTOLD}", why="not taken")
            over.wait(every_s)

    threading.Thread(target=go_on, name="renewal", daemon=True).start()
    try:
        yield
    finally:
        over.set()
