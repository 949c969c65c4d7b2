"""Which run of the ledger is meant: whoever types its id may leave most of it out."""

from __future__ import annotations

from typing import Final

from provision.account.ledger import Ledger
from provision.account.naming import fitting
from provision.account.runs import RunState
from provision.errors import BadInput

NAMED: Final = 5  # assumed: as many ids as a sentence holds


def find_run(ledger: Ledger, name: str, *, least_letters: int = 1) -> RunState:
    """The run with this id, or the only one whose id ends or begins so. Raises BadInput."""
    if not name:
        raise BadInput("The run's id is empty.", hint="rentune ls")
    runs = ledger.runs()
    if name not in runs and len(name) < least_letters:
        raise BadInput(
            f"{name!r} is too short a part of an id.", hint=f"Type at least {least_letters} letters of it: rentune ls"
        )
    matching = fitting(name, runs)
    if len(matching) == 1:
        return runs[matching[0]]
    if not matching:
        raise BadInput(f"There is no run {name!r}.", hint="rentune ls")
    named = ("" if len(matching) <= NAMED else "…, ") + ", ".join(matching[-NAMED:])
    raise BadInput(f"{len(matching)} runs fit {name!r}: {named}.", hint="more letters of one of them; all: rentune ls --all")
