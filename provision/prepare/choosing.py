"""From the options of `run` to the plan that will be run, with everything that `run` alone can ask for."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import click
import msgspec

from catalogs.catalog import read_catalog
from planner.cli import answer, read_asked
from planner.cost import estimate_cost
from planner.options import plan_command
from planner.plan import Plan
from planner.request import HOST, LOCAL, Request
from provision.errors import BadInput, Refused
from provision.prepare.asking import data_measure, offers_of_request, search_edges
from provision.prepare.inputs import with_absolute_paths
from provision.prepare.opening import require_time_to_train


class KeyQuestion:
    """Asks a person whether a host's key is the right one, once, and keeps what was agreed to."""

    def __init__(self, given: str | None, *, somebody_is_there: bool) -> None:
        self.agreed = given
        self._somebody_is_there = somebody_is_there

    def __call__(self, fingerprint: str) -> bool:
        if self.agreed == fingerprint:
            return True
        if self.agreed is not None or not self._somebody_is_there:
            return False
        if click.confirm(f"The host shows the key {fingerprint}. Is it the right one?", err=True):
            self.agreed = fingerprint
        return self.agreed is not None


def choose_plan(options: Mapping[str, Any], question: KeyQuestion) -> Plan:
    """The saved plan, or the cheapest that this version can run. Raises Refused when there is none."""
    edges = search_edges()
    asked = read_asked(options, folder=edges["folder"], measure=data_measure(quiet=options["as_json"]))
    request = asked.request if isinstance(asked, Plan) else asked
    if options["host_key"] is not None and request.where.host is None:
        raise BadInput("--host-key is for a host of yours, and none is named.", hint="--host user@address")
    plan = asked if isinstance(asked, Plan) else _cheapest(with_absolute_paths(asked), options, question, edges)
    if plan.runnable is not None:
        raise Refused(f"This plan can't be run: {plan.runnable}.", hint="Let `rentune plan` name one that can.")
    chosen = _priced(_kept(plan, on_failure=options["keep_box_on_failure"]), options["assume_price"])
    require_time_to_train(chosen)
    return chosen


def _cheapest(request: Request, options: Mapping[str, Any], question: KeyQuestion, edges: dict[str, Any]) -> Plan:
    price = options["assume_price"] or Decimal(0)
    offers = offers_of_request(request, usd_per_hour=price, host_key=question.agreed, confirm=question)
    result = answer(request, catalog=read_catalog(), offers=offers, **edges)
    if result.recommended is None:
        reason = result.plans[0].runnable if result.plans else "nothing on offer does this job"
        raise Refused(f"No plan can be run as asked: {reason}.", hint=f"See why: {plan_command(options)}")
    return result.recommended


def _kept(plan: Plan, *, on_failure: bool) -> Plan:
    """Paths that hold for a process elsewhere, and the box's fate."""
    request = with_absolute_paths(plan.request)
    keep = msgspec.structs.replace(request.keep, box_on_failure=request.keep.box_on_failure or on_failure)
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(request, keep=keep))


def _priced(plan: Plan, usd_per_hour: Decimal | None) -> Plan:
    """The plan at a made-up price, where the machine has none of its own."""
    if usd_per_hour is None or plan.offer.usd_per_hour == usd_per_hour:
        return plan
    if plan.offer.provider not in (LOCAL, HOST):
        raise BadInput(
            f"{plan.offer.provider} has a price of its own.", hint="--assume-price is for --provider local and --host"
        )
    offer = msgspec.structs.replace(plan.offer, usd_per_hour=usd_per_hour)
    cost = estimate_cost(plan.duration, plan.host, offer=offer, billing=plan.billing, adapter_bytes=0)
    return msgspec.structs.replace(plan, offer=offer, cost=cost)
