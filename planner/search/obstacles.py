"""Why this version can't run a plan: the trainer, the card, the machine, its seller; the first that stands in the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from catalogs.hardware import Gpu, Offer
from catalogs.sellers import by_contract
from planner.asking.policy import Rule, lease_hours
from planner.asking.request import Request
from planner.notices.cards import BOX_CPU, STACK, unfit
from planner.plan import NOT_YET, PRICE_ONLY, UNTOLD, YOURS, Obstacle, ObstacleKind, Provider
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
) -> Obstacle | None:
    """What keeps this version from running it; None = nothing does. That the machine can't be rented comes last: whoever rents
    it by himself still needs a trainer that can do the rest.
    """
    missing = capabilities.missing(strategy, request.task, packing=request.data.reading.packing)
    wrong_card = unfit(gpu) if gpu is not None else None
    reasons: tuple[tuple[bool, ObstacleKind, str], ...] = (
        (
            request.keep.volume_name is not None and not provider.keeps_volumes,
            NOT_YET,
            f"at {provider.name} no disk can be kept",
        ),
        (
            lease_hours(request.budget, rules, offer) is not None and not provider.keeps_lease,
            NOT_YET,
            f"a lease ends no bill at {provider.name} before the deadline: a machine that is off costs on there",
        ),
        (
            bool(request.where.allow_from) and not provider.has_firewall,
            NOT_YET,
            f"{provider.name} has no firewall, so SSH is open to everybody there, whatever allow_from says",
        ),
        (bool(missing), NOT_YET, f"the trainer cannot do {', '.join(missing)}"),
        (wrong_card is not None, NOT_YET, f"{wrong_card}"),
        (offer.cpu_architecture != BOX_CPU, NOT_YET, f"{STACK} {BOX_CPU}"),
        (is_stated(offer, request.where), YOURS, "run it there with --gpu here, or from another machine with --host"),
        (
            not provider.runnable,
            PRICE_ONLY,
            f"this version cannot rent from {provider.name}; rent it yourself and use --host",
        ),
        (by_contract(offer), PRICE_ONLY, f"{provider.name} sells it by contract alone; rent it yourself and use --host"),
        (
            not provider.is_told(offer),
            UNTOLD,
            f"nobody states it, and no order at {provider.name} asks for it; {STATE_IT}",
        ),
    )
    found = next(((kind, reason) for wrong, kind, reason in reasons if wrong), None)
    if found is None:
        return None
    kind, reason = found
    return Obstacle(kind, f"{offer.unstated} {kind}: {reason}" if kind == UNTOLD else f"{kind}: {reason}")
