"""`rentune logs`"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

POLL_S = 0.3


@click.command("logs")
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--offset", type=int, default=0, show_default=True, help="Byte to start from.")
@click.option("--events", is_flag=True, help="The trainer's events, one JSON line each, instead of the controller's log.")
def command(run: str, follow: bool, offset: int, events: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """What a run's trainer said, live or from any offset.

    The controller's lines while it runs detached, the trainer's own log once it is home; --events for what it measured.
    """
    from provision.control import find_run
    from provision.controller import is_alive
    from provision.ledger import Ledger
    from provision.places import read_places

    places = read_places()
    ledger = Ledger(places.ledger)
    run_id = find_run(ledger, run).run_id
    folder = places.run(run_id)
    choices = (folder.events,) if events else (folder.controller_log, folder.log)

    def over() -> bool:
        state = ledger.runs()[run_id]
        return state.billed is not None or not is_alive(state.controlled)

    for path in choices:
        _copy(path, offset, until=over if follow and path == choices[0] else None)
        offset = 0
    return 0


def _copy(path: Path, offset: int, *, until: Callable[[], bool] | None) -> None:
    """Write the file from `offset` on to stdout, and what is added to it until `until` says so."""
    while True:
        last_look = until is None or until()  # asked before reading, so that nothing written before the end is missed
        if path.exists():
            with path.open("rb") as stream:
                stream.seek(offset)
                chunk = stream.read()
            offset += len(chunk)
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        if last_look:
            return
        time.sleep(POLL_S)
