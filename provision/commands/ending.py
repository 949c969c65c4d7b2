"""What `rentune down` ends: one run, what nobody controls, or the volumes that are kept."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import Final, NamedTuple, Protocol

import click
import msgspec

from provision.account.bill import cost_usd, costs_on
from provision.account.ledger import Ledger
from provision.account.naming import LEAST_LETTERS, fitting
from provision.account.runs import RunState
from provision.account.upkeep import BOUND_WORDS, Spent, Upkeep, is_billed, spent, spent_together, upkeep
from provision.charge.ends.by_word import close_by_word, with_way_out
from provision.charge.ends.ending import end
from provision.charge.ends.verdicts import RunEnd, end_of
from provision.charge.finding import find_run
from provision.charge.ownerless.looking import Sky, look_for_orphans
from provision.charge.ownerless.orphans import (
    Orphans,
    controlled_sentences,
    elsewhere_sentences,
    kept_sentences,
    nameless_strays,
    nobody_asked,
    only_run,
    other_sentences,
    stray_runs,
    unasked_sentences,
)
from provision.charge.ownerless.regions import limit_sentences, parted, region_sentences
from provision.charge.ownerless.strays import end_stray, tell_nameless
from provision.charge.ownerless.volumes import end_volume, kept_volumes
from provision.charge.rings.alarm import ring_for_strays
from provision.charge.rings.knell import ended_and_told
from provision.commands.turns import Turn, in_turn
from provision.envelope import Problem
from provision.envelope.show import columns_of
from provision.errors import BadInput, HeldElsewhere, Refused
from provision.home.clocks import CLOCKS
from provision.home.installation import known_installation
from provision.home.places import Places, is_run_id
from provision.prepare.papers import lost_papers
from provision.seam import MACHINE, Answer, Teardown
from provision.walk.books import last_checkpoint
from provision.walk.edges import Edges
from provision.watch.progress import LineDisplay
from provision.words import spent_words as spent_usd_words


class EndedRun(Teardown, frozen=True, kw_only=True):
    """The verdict on one run with its dollars: an element of what `rentune down --json` answers."""

    spent: Spent | None = None  # until now, kept volumes apart; None = nothing of it is known
    assumed: bool = False  # whether no provider bills that: its price was made up for a machine of one's own
    costs_on: dict[str, Upkeep] = {}  # by id, of what is there still, or may be, and of what is kept
    checkpoint_folder: str | None = None  # the newest at home, of a run that left no result
    go_on: str | None = None  # a job file that begins with its weights


# What `down --orphans` names and does not end.
LEFT_ALONE: Final = (other_sentences, elsewhere_sentences, controlled_sentences, kept_sentences)


class Learned(NamedTuple):
    """What a run without a result has left at home."""

    checkpoint_folder: str
    go_on: str | None  # a job file that begins with its weights


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What became of what was to be ended."""

    teardowns: tuple[Teardown, ...]
    unseen: dict[str, str] = {}  # who could not be asked, and why
    limits: tuple[str, ...] = ()  # what to know of the look: which clouds this machine has no access to, a clock that is off
    others: tuple[str, ...] = ()  # a sentence for each run in other hands
    nothing: tuple[str, ...] = ()  # what to say where there are no teardowns
    costs: dict[str, Upkeep] = {}  # by id, of what is there still
    spent: dict[str, Spent | None] = {}  # by run, of those in no ledger here: by their tags
    learned: dict[str, Learned] = {}  # by run, of those that left a checkpoint at home

    def runs(self, ledger: Ledger, *, now_s: float) -> tuple[EndedRun, ...]:
        """Each verdict with its dollars: of a run of this ledger at the prices that were agreed to."""
        states = ledger.runs()
        return tuple(self._with_dollars(each, states.get(each.run_id), now_s) for each in self.teardowns)

    def _with_dollars(self, teardown: Teardown, state: RunState | None, now_s: float) -> EndedRun:
        learned = self.learned.get(teardown.run_id)
        there = (*(end.resource for end in teardown.resources if end.gone is not Answer.YES), *teardown.kept)
        return EndedRun(
            **{name: getattr(teardown, name) for name in teardown.__struct_fields__},
            spent=self.spent.get(teardown.run_id)
            if state is None
            else Spent(usd=cost_usd(state, now_s=now_s), bound="exactly"),
            assumed=state is not None and state.assumed,
            costs_on={each.id: self.costs[each.id] for each in there if each.id in self.costs},
            checkpoint_folder=learned.checkpoint_folder if learned else None,
            go_on=learned.go_on if learned else None,
        )


class Act(Protocol):
    """One way to end things. `run` is the one that the user named, if any."""

    def __call__(self, places: Places, run: str | None, *, discard: bool) -> Ended: ...


def act_for(
    places: Places, run: str | None, *, orphans: bool, volumes: bool, gone: bool = False, regions: tuple[str, ...] = ()
) -> Act:
    """What these options ask for."""
    if gone:
        return end_by_word
    if volumes:
        return end_volumes
    if regions:
        return partial(end_orphans, regions=regions)
    return end_orphans if orphans or (run is not None and _is_stray(places, run)) else end_one


def end_one(places: Places, run: str | None, *, discard: bool) -> Ended:
    """A run of this home. Raises BadInput where there is none of that name."""
    ledger = Ledger(places.ledger)
    run_id = find_run(ledger, str(run), least_letters=LEAST_LETTERS).run_id
    ledger.remember(run_id)
    teardown = _end_run(run_id, places, discard=discard).told()
    state = ledger.runs()[run_id]
    teardowns = (with_way_out(teardown, state, now_s=time.time()),)
    return Ended(teardowns=teardowns, costs=costs_on(state), learned=_learned(teardowns, places))


def end_by_word(places: Places, run: str | None, *, discard: bool) -> Ended:  # noqa: ARG001 - nothing comes home from it
    """A run of this home, in its books alone. Raises Refused, also where nobody is there to say it."""
    run_id = find_run(Ledger(places.ledger), str(run), least_letters=LEAST_LETTERS).run_id
    if not sys.stdin.isatty():
        raise Refused("Nobody is there to say it: --gone asks for the run's id to be typed.", hint="Type it in a terminal.")

    def says(question: str) -> bool:
        return str(click.prompt(question, default="", show_default=False, err=True)).strip() == run_id

    edges = Edges(places, _said())
    said = ended_and_told(run_id, lambda: RunEnd(close_by_word(run_id, edges, says=says)), edges)
    return Ended(teardowns=(said.teardown,))


def end_volumes(places: Places, run: str | None, *, discard: bool) -> Ended:  # noqa: ARG001 - no volume holds a result
    """The volumes that were kept: all of them, a run's, or the one of that name. What a run goes on with is left and told.

    Raises Held where that is all that was asked for.
    """
    found = look_for_orphans(places, CLOCKS)
    volumes = kept_volumes(found, run, ledger=Ledger(places.ledger), installation=known_installation(places))
    edges, teardowns, held = Edges(places, _said()), list[Teardown](), list[str]()
    turns = (
        Turn(each.run_id or "", partial(end_of, each.run_id or "", partial(end_volume, provider, each, edges)))
        for provider, each in volumes
    )
    for _, verdict in in_turn(turns, edges.display.note):
        if isinstance(verdict, Teardown):
            teardowns.append(verdict)
        elif run is not None and len(volumes) == 1:
            raise verdict
        else:
            held.append(f"{verdict} It is left alone.")
    return Ended(
        teardowns=tuple(teardowns),
        unseen=found.unseen,
        limits=limit_sentences(found),
        others=tuple(held),
        nothing=() if volumes else (f"No volume{'' if run is None else f' of {run}'} is kept anywhere that could be seen.",),
        costs={each.id: upkeep(each, found.rule(provider, each)) for provider, each in volumes},
    )


def end_orphans(
    places: Places, run: str | None, *, discard: bool, regions: tuple[str, ...] = (), sky: Sky | None = None
) -> Ended:
    """What nobody controls and was rented from here; with `run` what carries its tag, whoever rented it. Of either only what
    lies in `regions`, where any are named; `sky` as of a look.

    Raises BadInput where everybody could be asked, and nobody knows that run.
    """
    if run in Ledger(places.ledger).runs():
        raise BadInput(f"{run} was opened here.", hint=f"rentune down {run}")
    found = look_for_orphans(places, CLOCKS, *regions, sky=sky)
    if run is not None:
        found = only_run(found, run)
        if found.nothing and not found.kept:
            limits = (*region_sentences(found), *unasked_sentences(found))
            said = (f"Nothing anywhere that was asked carries the tag of {run!r}.", *limits)
            raise BadInput(" ".join(said), hint="rentune ls --orphans")
    found, outside = parted(found)
    note, edges = _said().note, Edges(places, _said(), make=sky.of_run if sky else None)
    turns = (
        *(Turn(run_id, partial(_end_stray, run_id, provider, edges)) for run_id, provider in stray_runs(found)),
        *(
            Turn(each.run_id, partial(_end_run, each.run_id, places, discard=discard, meant=False), is_waited_for=False)
            for each in found.runs
        ),
    )
    left_alone = tuple(sentence for sentences in LEFT_ALONE for sentence in sentences(found))
    teardowns = [tell_nameless(provider, each, at_s=found.seen_at_s) for provider, each in nameless_strays(found)]
    held: list[str] = []
    for run_id, verdict in in_turn(turns, note):
        if isinstance(verdict, Teardown):
            teardowns.append(verdict)
        else:
            there = ", there" if isinstance(verdict, HeldElsewhere) else ""
            held.append(f"{verdict} It is left alone; to end it: rentune down {run_id}{there}.")
    unended = {each.run_id for each in teardowns if not each.clean}
    left = (each for each in found.strays if each[1].run_id in unended or not each[1].names_run)
    ring_for_strays(left, found, places=places, note=note)
    unknown = {
        f"the store of run {each.run_id}" if each.url else f"run {each.run_id}": each.why
        for each in found.elsewhere
        if each.machine is None
    }
    others = (*left_alone, *outside, *held)
    return Ended(
        teardowns=tuple(teardowns),
        unseen=found.unseen | unknown,
        limits=limit_sentences(found),
        others=others,
        nothing=_nothing_words(run, others, found),
        costs=_costs(tuple(teardowns), found, places),
        spent={each.run_id: _spent(each, found) for each in teardowns},
        learned=_learned(teardowns, places),
    )


def _spent(teardown: Teardown, found: Orphans) -> Spent | None:
    """Of machines in no ledger, since their providers made them."""
    providers = {(each.kind, each.id): provider for provider, each in found.strays}
    machines = [end.resource for end in teardown.resources if end.resource.kind == MACHINE]
    rules = [found.rule(providers.get((each.kind, each.id), ""), each) for each in machines]
    return spent_together(spent(each, rule, now_s=found.seen_at_s) for each, rule in zip(machines, rules, strict=True))


def _learned(teardowns: Iterable[Teardown], places: Places) -> dict[str, Learned]:
    """Of runs of this home whose checkpoint is at home: it goes with the result, where one has come."""
    folders = {each.run_id: places.run(each.run_id) for each in teardowns if is_run_id(each.run_id)}
    return {
        run_id: Learned(checkpoint, str(folder.go_on) if folder.go_on.exists() else None)
        for run_id, folder in folders.items()
        if (checkpoint := last_checkpoint(folder)) is not None
    }


def learned_sentences(run: EndedRun) -> tuple[str, ...]:
    """Where its last checkpoint is, and what goes on from it."""
    if run.checkpoint_folder is None:
        return ()
    said = f"Its last checkpoint is at home: {run.checkpoint_folder}."
    if run.go_on is None:
        return (said,)
    return (f"{said} Another run goes on with its weights, for what was left: rentune run {shlex.quote(run.go_on)}",)


def _costs(teardowns: tuple[Teardown, ...], found: Orphans, places: Places) -> dict[str, Upkeep]:
    """Of runs of this ledger at the prices that were agreed to; of what is in none at those of today's price list."""
    runs, costs = Ledger(places.ledger).runs(), dict[str, Upkeep]()
    providers = {(each.kind, each.id): provider for provider, each in found.strays}
    for teardown in teardowns:
        if teardown.run_id in runs:
            costs |= costs_on(runs[teardown.run_id])
        else:
            left = (each.resource for each in teardown.resources if each.gone is not Answer.YES)
            rules = ((each, found.rule(providers.get((each.kind, each.id), ""), each)) for each in (*left, *teardown.kept))
            costs |= {each.id: upkeep(each, rule) for each, rule in rules if is_billed(each)}
    return costs


def cost_sentences(run: EndedRun) -> tuple[str, ...]:
    """What it has cost, where anybody was paid."""
    if run.spent is None or not run.spent.usd:
        return ()
    dollars = spent_usd_words(run.spent.usd, assumed=run.assumed)
    return (f"It has cost {BOUND_WORDS[run.spent.bound]}{dollars}.",)


def _nothing_words(run: str | None, others: tuple[str, ...], found: Orphans) -> tuple[str, ...]:
    if run is not None:
        return (f"Nothing that could be seen carries the tag of {run}.",)
    if others:
        return ()
    if nobody_asked(found):
        return ("Nothing of ours is left on this machine; no cloud was asked.",)
    where = "where it was asked" if found.regions else "anywhere that could be seen"
    return (f"Nothing of ours is left {where}.",)


def open_books(places: Places, teardowns: tuple[Teardown, ...]) -> tuple[Problem, ...]:
    """Runs that were ended and have no receipt: nothing of them bills, and nobody can say what they cost."""
    runs = Ledger(places.ledger).runs()
    ended = (runs[teardown.run_id] for teardown in teardowns if teardown.clean and teardown.run_id in runs)
    return tuple(
        Problem(
            message=f"The books of run {state.run_id} are open.",
            hint=None if lost_papers(places.run(state.run_id)) else f"rentune resume {state.run_id} closes them.",
        )
        for state in ended
        if state.billed is None
    )


def _is_stray(places: Places, run: str) -> bool:
    """Whether what carries the tag of a run that the ledger does not know is the user's to end."""
    if fitting(run, Ledger(places.ledger).runs()):
        return False
    return any(run == run_id for run_id, _ in stray_runs(look_for_orphans(places, CLOCKS)))


def _said() -> LineDisplay:
    """Where what is beside the verdicts is told."""
    return LineDisplay(sys.stderr, columns=columns_of(sys.stderr))


def _end_stray(run_id: str, provider: str, edges: Edges) -> RunEnd:
    """Of a run that this ledger knows also told to whom that run tells."""
    act = partial(end_of, run_id, partial(end_stray, run_id, provider, edges))
    return act() if run_id not in Ledger(edges.places.ledger).runs() else ended_and_told(run_id, act, edges)


def _end_run(run: str, places: Places, *, discard: bool, meant: bool = True) -> RunEnd:
    ledger = Ledger(places.ledger)
    run_id = find_run(ledger, run, least_letters=LEAST_LETTERS).run_id
    edges = Edges(places, _said())
    act = partial(end, run_id, edges, discard=discard, meant=meant)
    return ended_and_told(run_id, partial(end_of, run_id, act, ledger=ledger), edges)
