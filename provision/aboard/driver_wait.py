"""Whether the driver that a machine's first boot puts in is there: asked over SSH until the machine says so or why not.

The boot text (provision/clouds/boot/driver_unit.py) writes what came of it into one file, and all that was said on the way into
another. A boot begins both anew, so what is read is of this boot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from provision.errors import Declined, Reason, Scope
from provision.home.clocks import Clocks
from provision.words import seconds_words

if TYPE_CHECKING:
    from provision.ssh import Shell

MARK: Final = "/run/rentune-driver"  # a tmpfs: one line, once it is over
LOG: Final = "/run/rentune-driver.log"
READY: Final = "ready"  # so the line begins, with the branch behind it; every other line says what went wrong
LOOK_S: Final = 5.0  # assumed: of minutes
ASK_S: Final = 60.0  # assumed: a look reads two lines
MOST_WORDS: Final = 160  # assumed: characters of a line of the package manager's

INSTALL_S: Final = 900  # assumed: 0.4 GB to fetch and modules to build take five minutes, and thrice that where all is slow
WAIT_S: Final = INSTALL_S + 60.0  # derived: the limit of the boot's own unit, and as long as its last word takes at the most
SAYS: Final = "rentune: "  # so the lines begin that are told; those of the package manager are hundreds

LOOK: Final = 'head -n 1 "$mark" 2> /dev/null; echo; grep "^$says" "$log" 2> /dev/null | tail -n 1; true'


def await_driver(shell: Shell, *, ends_at_s: float, wait_s: float, clocks: Clocks, tell: Callable[[str], object]) -> None:
    """Return once the machine says that its driver answers; `tell` is told what it does meanwhile.

    `ends_at_s`: by `clocks.steady`, `wait_s` after the wait began. Raises Declined, which rules out this offer, where the
    machine says that it came to nothing or says nothing in time, and ConnectionFailed.
    """
    said = ""
    while True:
        mark, last = _look(shell)
        if mark.split()[:1] == [READY]:
            return
        if mark:
            raise _declined(shell, mark)
        if clocks.steady() >= ends_at_s:
            raise _declined(shell, f"its first boot was not through with it after {seconds_words(wait_s)}", last)
        if last and last != said:
            tell(f"Its first boot sees to the NVIDIA driver: {last}")
            said = last
        clocks.sleep(LOOK_S)


def _look(shell: Shell) -> tuple[str, str]:
    """What came of it, and what was said last; each may be empty."""
    said = shell.script(LOOK, {"mark": MARK, "log": LOG, "says": SAYS}, timeout_s=ASK_S).out
    mark, _, last = said.partition("\n")
    return mark.strip()[:MOST_WORDS], last.strip().removeprefix(SAYS)[:MOST_WORDS]


def _declined(shell: Shell, why: str, last: str = "") -> Declined:
    why = why.removesuffix(".") + (f"; last it said: {last}" if last else "")
    return Declined(
        f"{shell.box.host} has no NVIDIA driver that the trainer's torch runs with, and none could be installed: {why}.",
        reason=Reason.HOST,
        scope=Scope.OFFER,
    )
