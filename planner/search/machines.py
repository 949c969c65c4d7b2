"""Several machines of one kind, where no single one does the job or is as quick: what they would hold, take and cost together.

They are rows of the answer like others, in the order of their dollars, but never recommended: this version rents one machine
for a run. Where one does the job they are looked at for a goal alone that dollars are paid for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.asking.policy import refusal
from planner.asking.request import OWN_MACHINES
from planner.estimators.cost import estimate_cost, of_several
from planner.estimators.time.interruptions import sent_bytes
from planner.plan import NOT_YET, Obstacle, Rejection
from planner.refusals import CaseRefused
from planner.search.boxes import lack_of
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.ranking import Found, Question, box_of, over_of
from planner.search.told.notebook import Notebook
from planner.search.ways.fit import Fit
from planner.search.ways.fitting import fitting

MACHINES: Final = (2, 4, 8)  # assumed: whoever has more of them asks no planner of single machines
MOST_ROWS: Final = 3  # assumed: as many as are weighed against one another
NUM_LOOKED_AT: Final = 3  # assumed: of what one machine does, as many of the quickest, and of the cheapest, several times over
PAYS_OFF: Final = 0.9  # assumed: nobody pays twice for less than a tenth of the time
MAX_GPUS: Final = 64  # assumed: with one sequence on each a step has as many, beyond which large batches count


def machines_that_do(question: Question, kinds: Iterable[Kind], figures: Figures, notebook: Notebook) -> tuple[Found, ...]:
    """Where no single machine holds the job: the cheapest jobs on several of the admitted ones, in this order. None where none
    holds it, and where one machine, or a number of GPUs, was asked for. Those that a limit or a rule forbids are written down.
    """
    return tuple(sorted(_together(question, kinds, figures, notebook), key=lambda each: each.order)[:MOST_ROWS])


def machines_that_are_quicker(question: Question, found: Iterable[Found], figures: Figures) -> tuple[Found, ...]:
    """Where one machine does the job: the quickest jobs on several of those that are quickest alone, or cheapest, as far as
    they pay off, and of these the cheapest: who may spend more is not to lose sight of it.
    """
    alone = tuple(found)
    quickest = sorted(alone, key=lambda each: each.duration.wall_s.p50)[:NUM_LOOKED_AT]
    most_s = PAYS_OFF * quickest[0].duration.wall_s.p50
    looked_at = (*quickest, *sorted(alone, key=lambda each: each.order)[:NUM_LOOKED_AT])
    kinds = list({id(each.kind): each.kind for each in looked_at}.values())
    quicker = [each for each in _together(question, kinds, figures, Notebook()) if each.duration.wall_s.p50 <= most_s]
    cheapest = min(quicker, key=lambda each: each.order, default=None)
    by_time = sorted(quicker, key=lambda each: (each is not cheapest, each.duration.wall_s.p50, each.order))[:MOST_ROWS]
    return tuple(sorted(by_time, key=lambda each: (each.duration.wall_s.p50, each.order)))


def _together(question: Question, kinds: Iterable[Kind], figures: Figures, notebook: Notebook) -> list[Found]:
    where = question.request.where
    if where.num_gpus is not None or where.host is not None:
        return []
    return [found for kind in kinds if kind.gpu is not None for found in _on(kind, question, figures, notebook)]


def _on(kind: Kind, question: Question, figures: Figures, notebook: Notebook) -> Iterator[Found]:
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
        fits = fitting(
            kind,
            num_gpus,
            figures,
            Notebook(),
            offer=offers[0],
            doable=lambda _: True,
            beside=lambda _: "all",
            only_doable=False,
        )
        sure = [fit for fit in fits if fit.verdict == "fits" and fit.strategy.offload == "none"]
        allowed = [offer for offer in offers if _forbidden(offer, number, question) is None]
        if sure and not allowed:
            notebook.forbidden += filter(None, (_forbidden(offers[0], number, question),))
            return  # more of them cost more by the hour
        of_each = (_priced(fit, kind, allowed, number, question, figures) for fit in sure)
        priced = sorted((each for each in of_each if each is not None), key=lambda each: each.order)
        overs = [over_of(each, question) for each in priced]
        held = next((each for each, over in zip(priced, overs, strict=True) if over is None), None)
        if held is not None:
            yield held
            return
        notebook.over += [msgspec.structs.replace(over, num_machines=number) for over in overs[:1] if over is not None]


def _forbidden(offer: Offer, number: int, question: Question) -> Rejection | None:
    """What rule refuses so many of a machine that it allows one of: all of them are paid for, hour by hour."""
    together = msgspec.structs.replace(offer, usd_per_hour=number * offer.usd_per_hour)
    refused = ((refusal(rule, together), rule) for rule in question.rules)
    said = ((reason, rule) for reason, rule in refused if reason is not None)
    return next((Rejection(what=f"{number} x {offer.key}", reason=reason, remedy=rule.remedy) for reason, rule in said), None)


def _priced(fit: Fit, kind: Kind, offers: list[Offer], number: int, question: Question, figures: Figures) -> Found | None:
    """On the cheapest of the offers with RAM and disk enough; None where none has."""
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
    billing = question.catalog.billing_of(offer)
    of_one = estimate_cost(
        duration, host, offer=offer, billing=billing, sent_bytes=sent, dearest=figures.dearest(question.catalog.billing)
    )
    cost = of_several(of_one, number)
    return Found(
        fit=fit,
        kind=kind,
        offer=offer,
        billing=billing,
        host=host,
        duration=duration,
        cost=cost,
        obstacle=Obstacle(NOT_YET, f"{NOT_YET}: this version rents one machine for a run"),
        ready=question.provider(offer.provider).ready(offer),
    )
