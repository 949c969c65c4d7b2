"""Several machines of one kind, where no single one does the job or is as quick: what they would hold, take and cost together.

This version rents one machine for a run, so it is told as what would do, and is no plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.asking.request import OWN_MACHINES
from planner.choice.goals import Goal
from planner.estimators.cost import estimate_cost
from planner.estimators.time.interruptions import sent_bytes
from planner.estimators.time.phases import scaled
from planner.plan import NOT_YET, Range, Rejection
from planner.refusals import CaseRefused
from planner.search.boxes import lack_of
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.ranking import Found, Question, box_of, limits_on
from planner.search.told.notebook import Notebook
from planner.search.ways.capacity import capacity_bytes
from planner.search.ways.fit import Fit
from planner.search.ways.fitting import fitting
from planner.strategy.words import describe
from planner.units import GIB, SECONDS_PER_HOUR
from remote.contract import Strategy

MACHINES: Final = (2, 4, 8)  # assumed: whoever has more of them asks no planner of single machines
MOST_ROWS: Final = 3  # assumed: as many as are weighed against one another
NUM_QUICKEST: Final = 3  # assumed: of what one machine does, as many are looked at several times over
PAID_BY: Final[frozenset[Goal]] = frozenset({"fastest"})  # whose goal dollars are paid for, where one machine does the job
PAYS_OFF: Final = 0.9  # assumed: nobody pays twice for less than a tenth of the time
MAX_GPUS: Final = 64  # assumed: with one sequence on each a step has as many, beyond which large batches count


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """So many machines, and the whole job on them."""

    kind: Kind
    offer: Offer
    number: int
    fit: Fit
    usd: Range
    wall_s: Range
    scaling: float  # of so many times one GPU's speed


def machines_that_do(question: Question, kinds: Iterable[Kind], figures: Figures) -> Iterator[Rejection]:
    """Where no single machine holds the job: the cheapest jobs on several of the admitted ones, in this order, as rows of what
    was refused. None where none holds it, and where one machine, or a number of GPUs, was asked for.
    """
    cheapest = sorted(_together(question, kinds, figures), key=lambda each: (each.usd.p50, each.wall_s.p50))
    yield from (_told(each) for each in cheapest[:MOST_ROWS])


def machines_that_are_quicker(question: Question, found: Iterable[Found], figures: Figures) -> Iterator[Rejection]:
    """Where one machine does the job: the quickest jobs on several of those that are quickest alone, as far as they pay off."""
    quickest = sorted(found, key=lambda each: each.duration.wall_s.p50)[:NUM_QUICKEST]
    most_s = PAYS_OFF * quickest[0].duration.wall_s.p50
    kinds = [each.kind for place, each in enumerate(quickest) if all(each.kind is not other.kind for other in quickest[:place])]
    quicker = [each for each in _together(question, kinds, figures) if each.wall_s.p50 <= most_s]
    quicker.sort(key=lambda each: (each.wall_s.p50, each.usd.p50))
    yield from (_told(each) for each in quicker[:MOST_ROWS])


def _together(question: Question, kinds: Iterable[Kind], figures: Figures) -> list[Together]:
    where = question.request.where
    if where.num_gpus is not None or where.host is not None:
        return []
    return [found for kind in kinds if kind.gpu is not None for found in _on(kind, question, figures)]


def _told(each: Together) -> Rejection:
    """What they would hold, take and cost."""
    strategy, offer = each.fit.strategy, each.offer
    has_gib = capacity_bytes(each.kind) / GIB
    needed_gib = has_gib - each.fit.margin_bytes / GIB
    hours = scaled(each.wall_s, 1 / SECONDS_PER_HOUR)
    return Rejection(
        what=f"{each.number} x {offer.provider} {offer.instance_type} together ({each.kind.name} each)",
        reason=f"would do it ({describe(strategy)}: {needed_gib:.1f} of {has_gib:.1f} GiB on each GPU), in "
        f"{hours.p50:,.1f} ({hours.p10:,.1f}–{hours.p90:,.1f}) h for "
        f"${each.usd.p50:,.2f} ({each.usd.p10:,.2f}–{each.usd.p90:,.2f}), at {each.scaling:.0%} of "
        f"{strategy.num_gpus} times one GPU's speed; {NOT_YET}: this version rents one machine",
        needed={
            "p50_usd": each.usd.p50,
            "p90_usd": each.usd.p90,
            "p50_hours": hours.p50,
            "p90_hours": hours.p90,
            "num_machines": each.number,
            "scaling": each.scaling,
        },
        num_offers=len(each.kind.offers),
    )


def _on(kind: Kind, question: Question, figures: Figures) -> Iterator[Together]:
    """The fewest machines of a kind that hold the job: more of them cost more, for the link between them is slow. On demand,
    for all have to be there at once; of untold RAM none, for each loads the whole base.
    """
    offers = [each for each in kind.offers if each.purchase == "on_demand" and each.provider not in OWN_MACHINES]
    offers = [each for each in offers if each.ram_gib is not None]
    if not offers:
        return
    for number in MACHINES:
        num_gpus = number * kind.num_gpus
        if num_gpus > MAX_GPUS or not question.advice.spreads_over(num_gpus):
            return
        fits = fitting(kind, num_gpus, figures, Notebook(), doable=lambda _: True, beside=lambda _: "all", only_doable=False)
        sure = [fit for fit in fits if fit.verdict == "fits" and fit.strategy.offload == "none"]
        of_each = (_priced(fit, kind, offers, number, question, figures) for fit in sure)
        found = [each for each in of_each if each is not None]
        if found:
            yield min(found, key=lambda each: each.usd.p50)
            return


def _priced(fit: Fit, kind: Kind, offers: list[Offer], number: int, question: Question, figures: Figures) -> Together | None:
    """On the cheapest of the offers with RAM and disk enough; None where none has, or a limit breaks at p90."""
    strategy: Strategy = msgspec.structs.replace(fit.strategy, num_nodes=number)
    try:
        duration, host = figures.apart(strategy, kind.gpu, offers[0])
    except CaseRefused:
        return None
    offer = next((each for each in offers if lack_of(strategy, host, box_of(each, question), kind) is None), None)
    if offer is None:
        return None
    sent = sent_bytes(
        duration, offer, adapter_bytes=figures.adapter_bytes(strategy), checkpoint_bytes=0, every_s=duration.wall_s.p90
    )
    billing = question.catalog.rule(offer)
    cost = estimate_cost(
        duration, host, offer=offer, billing=billing, sent_bytes=sent, dearest=figures.dearest(question.catalog.billing)
    ).held_usd
    if limits_on(kind, offer, question).broken(usd=number * cost.p90, seconds=duration.wall_s.p90) is not None:
        return None
    scaling = figures.scaling(strategy, kind.gpu, offer, tokens_per_s=duration.tokens_per_s.p50)
    return Together(
        kind=kind,
        offer=offer,
        number=number,
        fit=fit,
        usd=scaled(cost, number),
        wall_s=duration.wall_s,
        scaling=1.0 if scaling is None else scaling,
    )
