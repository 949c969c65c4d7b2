"""What the store says of a run that looks left behind here: another machine may have it, or have brought it to its end.

Only a run whose state lies in object storage is asked about, and only while this home knows no end of it. A store that does not
answer in time leaves it unknown: nothing of it is ended by that.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from provision.account.ledger import Ledger
from provision.account.runs import RunState
from provision.charge.controller import Hands, hands_of, lock_of
from provision.errors import RentuneError
from provision.home.clocks import Clocks
from provision.home.installation import known_installation
from provision.home.places import Places
from provision.state.book import Book
from provision.state.link import Link, read_link
from provision.state.shared import seen_book

ASK_S: Final = 5.0  # assumed: a store that is there answers within one second, and who types `ls` waits no longer than this

NOT_SEEN: Final = "a computer of another name took charge of it, and whether it still has it can't be seen from here"


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """One run that is in other hands, or may be."""

    run_id: str
    url: str | None  # where its state lies; None = in this home alone, which another computer has used, or a copy of it
    machine: str | None = None  # which has it, and was heard of lately; None = nobody could ask
    why: str = ""  # it could not be asked

    @property
    def words(self) -> str:
        """For where a run stands."""
        if self.machine:
            return f"running on {self.machine}"
        return f"unknown: stored at {self.url}, ask with --state" if self.url else "unknown: another computer took charge of it"

    @property
    def sentence(self) -> str:
        """For a person who looks for what nobody controls, with what to type."""
        if self.machine:
            held = f"Run {self.run_id} is controlled from {self.machine} and left alone"
            return f"{held}; to end it: rentune down {self.run_id}, there."
        if self.url is None:
            return (
                f"Run {self.run_id} is left alone until its deadline: {self.why}. "
                f"Take it up here: rentune resume {self.run_id}. End it all the same: rentune down {self.run_id}."
            )
        return (
            f"Run {self.run_id} is stored at {self.url}, which can't be asked who has it ({self.why}); it is left alone. "
            f"Ask again: rentune ls --state {shlex.quote(self.url)}. End it all the same: rentune down {self.run_id}."
        )


def ask_stores(
    places: Places, clocks: Clocks, *, environment: Mapping[str, str] = os.environ, patience_s: float = ASK_S
) -> dict[str, Elsewhere]:
    """Runs of this home that look left behind and are, or may be, in other hands; by their id.

    What other machines have written of such a run comes into this home's ledger. All are asked at once, and waited for so long.
    """
    ledger, home = Ledger(places.ledger), known_installation(places)
    left_behind = _left_behind(ledger.runs().values(), places, now_s=clocks.wall())
    asked = [_Asked(run_id, places, environment, clocks) for run_id in left_behind if places.run(run_id).state.exists()]
    ends_at_s = clocks.steady() + patience_s
    found = (each.answer(ledger, places, home, patience_s=max(0.0, ends_at_s - clocks.steady())) for each in asked)
    return {each.run_id: each for each in found if each is not None}


def in_other_hands(places: Places, by_store: Mapping[str, Elsewhere], *, now_s: float) -> dict[str, Elsewhere]:
    """What stores say is, or may be, in another machine's hands; and what only another computer could tell of."""
    runs = Ledger(places.ledger).runs().values()
    untold = (run_id for run_id, hands in _left_behind(runs, places, now_s=now_s).items() if hands is Hands.UNKNOWN)
    alone = (run_id for run_id in untold if not places.run(run_id).state.exists())
    return {**by_store} | {run_id: Elsewhere(run_id=run_id, url=None, why=NOT_SEEN) for run_id in alone}


def _left_behind(states: Iterable[RunState], places: Places, *, now_s: float) -> dict[str, Hands]:
    """Whom nobody is seen to control, and whether somebody may all the same."""
    going_on = [state for state in states if not state.over]
    hands = {state.run_id: hands_of(state, places.run(state.run_id).lock, now_s=now_s) for state in going_on}
    return {run_id: each for run_id, each in hands.items() if each is not Hands.HELD}


class _Asked:
    """A question that is under way, in a thread: a store that is not there keeps whoever asks for minutes."""

    def __init__(self, run_id: str, places: Places, environment: Mapping[str, str], clocks: Clocks) -> None:
        self._clocks = clocks
        self._run_id = run_id
        self._link: Link | None = None
        self._seen: tuple[Book, bool] | None = None
        self._why = f"no answer within {ASK_S:.0f} s"
        self._thread = threading.Thread(target=self._ask, args=(places, environment), name="store", daemon=True)
        self._thread.start()

    def _ask(self, places: Places, environment: Mapping[str, str]) -> None:
        try:
            self._link = read_link(places.run(self._run_id))
            self._seen = seen_book(self._run_id, self._link, environment=environment) if self._link else None
        except RentuneError as error:
            self._why = str(error).removesuffix(".")

    def answer(self, ledger: Ledger, places: Places, home: str | None, *, patience_s: float) -> Elsewhere | None:
        """None where it is in nobody's hands, or was ended: the ledger then says so."""
        self._thread.join(patience_s)
        url = self._link.url if self._link else str(places.run(self._run_id).state)
        if self._thread.is_alive() or self._seen is None:
            return Elsewhere(run_id=self._run_id, url=url, why=self._why)
        book, is_heard = self._seen
        at_once = lock_of(places.run(self._run_id), self._clocks, patience_s=0.0)
        with suppress(OSError), at_once as alone:  # a full disk: it is asked again
            if alone:
                ledger.copy_in(*(bytes(line) for line in book.lines))
        state = ledger.runs()[self._run_id]
        if state.over or not is_heard or book.holder is None or book.holder.home == home:
            return None
        return Elsewhere(run_id=self._run_id, url=url, machine=book.holder.machine)
