"""Why this version can't run a plan: the trainer, the card, the machine, its seller; the first that stands in the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from catalogs.hardware import Gpu, Offer
from catalogs.sellers import by_contract
from planner.asking.policy import Rule, lease_hours
from planner.asking.request import Request
from planner.notices.cards import BOX_CPU, STACK, unfit
from planner.plan import NOT_YET, PRICE_ONLY, UNTOLD, YOURS, Provider
from planner.search.market.own import is_stated
from remote.contract import Capabilities, Strategy

STATE_IT: Final = "state vcpus and ram_gib in a list of your own (rentune catalog import), or rent it yourself and use --host"


def obstacle(
    strategy: Strategy,
    gpu: Gpu | None,
    offer: Offer,
    request: Request,
    provider: Provider,
    capabilities: Capabilities,
    *,
    rules: Iterable[Rule] = (),
) -> str | None:
    """In one sentence; None = it can be run. That the machine can't be rented comes last: whoever rents it by himself still
    needs a trainer that can do the rest.
    """
    missing = capabilities.missing(strategy, request.task, packing=request.data.reading.packing)
    wrong_card = unfit(gpu) if gpu is not None else None
    reasons: tuple[tuple[bool, str], ...] = (
        (
            request.keep.volume_name is not None and not provider.keeps_volumes,
            f"{NOT_YET}: at {provider.name} no disk can be kept",
        ),
        (
            lease_hours(request.budget, rules, offer) is not None and not provider.keeps_lease,
            f"{NOT_YET}: a lease ends no bill at {provider.name} before the deadline: a machine that is off costs on there",
        ),
        (
            bool(request.where.allow_from) and not provider.has_firewall,
            f"{NOT_YET}: {provider.name} has no firewall, so SSH is open to everybody there, whatever allow_from says",
        ),
        (bool(missing), f"{NOT_YET}: the trainer cannot do {', '.join(missing)}"),
        (wrong_card is not None, f"{NOT_YET}: {wrong_card}"),
        (offer.cpu_architecture != BOX_CPU, f"{NOT_YET}: {STACK} {BOX_CPU}"),
        (is_stated(offer, request.where), f"{YOURS}: run it there with --gpu here, or from another machine with --host"),
        (
            not provider.runnable,
            f"{PRICE_ONLY}: this version cannot rent from {provider.name}; rent it yourself and use --host",
        ),
        (by_contract(offer), f"{PRICE_ONLY}: {provider.name} sells it by contract alone; rent it yourself and use --host"),
        (
            not provider.is_told(offer),
            f"{offer.unstated} {UNTOLD}: nobody states it, and no order at {provider.name} asks for it; {STATE_IT}",
        ),
    )
    return next((sentence for wrong, sentence in reasons if wrong), None)
