"""`rentune logs`"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from provision.home.places import RunFolder

POLL_S = 0.3  # assumed: as soon as a reader wants it


@click.command("logs")
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until nobody follows the run any more.")
@click.option("--offset", type=click.IntRange(min=0), default=0, show_default=True, help="Byte to start from.")
@click.option("--events", is_flag=True, help="The trainer's events as they are, one JSON line each.")
@click.option("--controller", is_flag=True, help="What a detached controller said.")
def command(run: str, follow: bool, offset: int, events: bool, controller: bool) -> int:  # noqa: FBT001 - click's names
    """What a run's trainer said, live or from any offset.

    Until it is there the phases of the run, and what building its environment says; then its events in words, and its own
    output once that is home. The offset counts bytes of the file that is shown: the events' in the run's directory, or with
    --controller the controller's log.
    """
    from provision.account.ledger import Ledger
    from provision.charge.controller import Hands, hands_of
    from provision.charge.finding import find_run
    from provision.home.places import read_places

    places = read_places()
    ledger = Ledger(places.ledger)
    run_id = find_run(ledger, run).run_id
    folder = places.run(run_id)

    def over() -> bool:
        state = ledger.runs()[run_id]
        is_held = hands_of(state, folder.lock, now_s=time.time()) is Hands.HELD
        return not follow or state.billed is not None or not is_held

    if controller or events:
        _copy(folder.controller_log if controller else folder.events, offset, over)
        return 0
    if not offset:
        _tell_beginning(lambda: ledger.runs()[run_id].phase, folder, over)
    _tell(folder.events, offset, over)
    _copy(folder.log, 0, lambda: True)
    _tell_end(folder)
    if follow and not ledger.runs()[run_id].over:
        click.echo(f"Nobody follows this run now. Go on with it: rentune resume {run_id}", err=True)
    return 0


def _tell_end(folder: RunFolder) -> None:
    """How the run ended, where it has: of one that was ended by hand the trainer says nothing of it."""
    from provision.report.tables import headline
    from provision.walk.books import read_receipt

    receipt = read_receipt(folder)
    if receipt is not None:
        click.echo(" ".join(filter(None, (f"{headline(receipt)}.", receipt.ending.message))), err=True)


def _tell_beginning(phase: Callable[[], str | None], folder: RunFolder, over: Callable[[], bool]) -> None:
    """The controller's phases as they come, and the build's words, until the trainer has some of its own."""
    shown: str | None = None

    def begun() -> bool:
        nonlocal shown
        if (now := phase()) not in (shown, None) and not folder.events.exists():
            click.echo(now)
            shown = now
        return folder.events.exists() or over()

    _copy(folder.environment_log, 0, begun)


def _copy(path: Path, offset: int, over: Callable[[], bool]) -> None:
    """As it stands, but for secrets: the trainer's words, and what libraries say, are nobody's to vouch for. On a terminal it
    controls nothing, and what was written over itself, such as a bar of progress, is a line each time.
    """
    from provision.redact import redact

    on_terminal = sys.stdout.isatty()

    def write(said: bytes) -> None:
        text = redact(said.decode("utf-8", "surrogateescape"))
        if on_terminal:
            sys.stdout.write(text.replace("\r\n", "\n").replace("\r", "\n"))
            sys.stdout.flush()
        else:
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
            sys.stdout.buffer.flush()

    torn = b""
    for chunk in growing(path, offset, over):
        whole, newline, torn = (torn + chunk).rpartition(b"\n")
        write(whole + newline)
    write(torn)


def _tell(path: Path, offset: int, over: Callable[[], bool]) -> None:
    """The events in words, each with its own time of day."""
    from provision.envelope.show import columns_of
    from provision.watch.progress import LineDisplay
    from remote.contract import parse_event

    at_s = 0.0
    display = LineDisplay(sys.stdout, clock=lambda: at_s, columns=columns_of(sys.stdout))
    torn = b""
    for chunk in growing(path, offset, over):
        *lines, torn = (torn + chunk).split(b"\n")
        for event in filter(None, map(parse_event, lines)):
            at_s = event.at_s
            display.event(event)


def growing(path: Path, offset: int, over: Callable[[], bool]) -> Iterator[bytes]:
    """What a file holds from `offset` on, and what is added to it until `over()` says that nothing will be.

    Another file in its place, as the next attempt of a run begins one, is read from its first byte.
    """
    shown: int | None = None
    while True:
        last_look = over()  # asked before reading, so that nothing written before the end is missed
        with suppress(FileNotFoundError), path.open("rb") as stream:
            now = os.fstat(stream.fileno())
            if shown is not None and (shown != now.st_ino or now.st_size < offset):
                offset = 0
            shown = now.st_ino
            if now.st_size > offset:  # no file system seeks to any number
                stream.seek(offset)
                chunk = stream.read()
                offset += len(chunk)
                yield chunk
        if last_look:
            return
        time.sleep(POLL_S)
