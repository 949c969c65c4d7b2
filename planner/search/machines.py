"""Several machines of one kind, where no single one does the job or is as quick: what they would hold, take and cost together.

They are rows of the answer like others, in the order of their dollars, but never recommended: this version rents one machine
for a run. Where one does the job they are looked at for a goal alone that dollars are paid for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.asking.request import OWN_MACHINES
from planner.estimators.cost import estimate_cost, of_several
from planner.estimators.time.interruptions import sent_bytes
from planner.plan import NOT_YET
from planner.refusals import CaseRefused
from planner.search.boxes import lack_of
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.ranking import Found, Question, box_of, limits_on
from planner.search.told.notebook import Notebook
from planner.search.ways.fit import Fit
from planner.search.ways.fitting import fitting

MACHINES: Final = (2, 4, 8)  # assumed: whoever has more of them asks no planner of single machines
MOST_ROWS: Final = 3  # assumed: as many as are weighed against one another
NUM_QUICKEST: Final = 3  # assumed: of what one machine does, as many are looked at several times over
PAYS_OFF: Final = 0.9  # assumed: nobody pays twice for less than a tenth of the time
MAX_GPUS: Final = 64  # assumed: with one sequence on each a step has as many, beyond which large batches count


def machines_that_do(question: Question, kinds: Iterable[Kind], figures: Figures) -> tuple[Found, ...]:
    """Where no single machine holds the job: the cheapest jobs on several of the admitted ones, in this order. None where none
    holds it, and where one machine, or a number of GPUs, was asked for.
    """
    return tuple(sorted(_together(question, kinds, figures), key=lambda each: each.order)[:MOST_ROWS])


def machines_that_are_quicker(question: Question, found: Iterable[Found], figures: Figures) -> tuple[Found, ...]:
    """Where one machine does the job: the quickest jobs on several of those that are quickest alone, as far as they pay off."""
    quickest = sorted(found, key=lambda each: each.duration.wall_s.p50)[:NUM_QUICKEST]
    most_s = PAYS_OFF * quickest[0].duration.wall_s.p50
    kinds = [each.kind for place, each in enumerate(quickest) if all(each.kind is not other.kind for other in quickest[:place])]
    quicker = [each for each in _together(question, kinds, figures) if each.duration.wall_s.p50 <= most_s]
    return tuple(sorted(quicker, key=lambda each: (each.duration.wall_s.p50, each.order))[:MOST_ROWS])


def _together(question: Question, kinds: Iterable[Kind], figures: Figures) -> list[Found]:
    where = question.request.where
    if where.num_gpus is not None or where.host is not None:
        return []
    return [found for kind in kinds if kind.gpu is not None for found in _on(kind, question, figures)]


def _on(kind: Kind, question: Question, figures: Figures) -> Iterator[Found]:
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
            yield min(found, key=lambda each: each.order)
            return


def _priced(fit: Fit, kind: Kind, offers: list[Offer], number: int, question: Question, figures: Figures) -> Found | None:
    """On the cheapest of the offers with RAM and disk enough; None where none has, or a limit breaks at p90."""
    fit = msgspec.structs.replace(fit, strategy=msgspec.structs.replace(fit.strategy, num_nodes=number))
    strategy = fit.strategy
    try:
        duration, host = figures.uncached(strategy, kind.gpu, offers[0])
    except CaseRefused:
        return None
    offer = next((each for each in offers if lack_of(strategy, host, box_of(each, question), kind) is None), None)
    if offer is None:
        return None
    sent = sent_bytes(
        duration, offer, adapter_bytes=figures.adapter_bytes(strategy), checkpoint_bytes=0, every_s=duration.wall_s.p90
    )
    billing = question.catalog.rule(offer)
    of_one = estimate_cost(
        duration, host, offer=offer, billing=billing, sent_bytes=sent, dearest=figures.dearest(question.catalog.billing)
    )
    cost = of_several(of_one, number)
    if limits_on(kind, offer, question).broken(usd=cost.held_usd.p90, seconds=duration.wall_s.p90) is not None:
        return None
    return Found(
        fit=fit,
        kind=kind,
        offer=offer,
        billing=billing,
        host=host,
        duration=duration,
        cost=cost,
        runnable=f"{NOT_YET}: this version rents one machine for a run",
        ready=question.provider(offer.provider).ready(offer),
    )
