"""From the options of `run` to the plan that will be run, with everything that `run` alone can ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from catalogs.bases.models import resolve_model
from catalogs.failure import Failure
from catalogs.hardware import Offer
from planner.asked import at_its_place, read_asked
from planner.asking.earlier import continued
from planner.asking.options.command_line import plan_command, spelled
from planner.asking.policy import Rule
from planner.asking.request import LOCAL, OWN_MACHINES, Request
from planner.cli import answer, chosen_anew
from planner.edges import Edges
from planner.estimators.cost import estimate_cost
from planner.plan import Plan, SearchResult
from planner.report.words import what_would_do, why_none
from planner.search import checks
from planner.search.market.offers import on_sale
from provision.envelope import Problem
from provision.envelope.failure import problem_of
from provision.errors import BadInput, Refused, RentuneError
from provision.home.places import Places
from provision.parts import require_parts
from provision.prepare.alternatives import alternatives_of
from provision.prepare.asking import data_measure, market, offers_of_request, saying, search_edges
from provision.prepare.inputs import adapter_folder, find_base, require_hub_access, with_absolute_data, with_absolute_paths
from provision.prepare.inputs.earlier import require_earlier_whole
from provision.prepare.inputs.weights import require_base_whole
from provision.prepare.limits.deadline import require_time_to_train
from provision.prepare.limits.policy import capped, narrowed, require_allowed
from provision.prepare.unchanged import require_unchanged
from provision.providers import KINDS, Confirm
from provision.words import usd_words

if TYPE_CHECKING:
    from planner.asking.jobfile.faults import ReadThrough

Answer = TypeVar("Answer")


class KeyQuestion:
    """Whether a host's key is the right one: asked once by `ask` (None = nobody is there), and what was agreed to is kept."""

    def __init__(self, given: str | None, ask: Confirm | None) -> None:
        self.agreed = given
        self._ask = ask

    def __call__(self, fingerprint: str) -> bool:
        if self.agreed is None and self._ask is not None and self._ask(fingerprint):
            self.agreed = fingerprint
        return self.agreed == fingerprint


class Chosen(NamedTuple):
    """What will be run, and what may take its place where that offer can't be had."""

    plan: Plan
    alternatives: tuple[Plan, ...]


def choose_plan(options: Mapping[str, Any], question: KeyQuestion) -> Chosen:
    """The saved plan, or the cheapest that this version can run. Raises Refused when there is none.

    A saved plan is its own machine, which may only be rented in another region.
    """
    edges = search_edges()
    measure = data_measure(quiet=options["as_json"])
    asked = read_asked(options, folder=edges.folder, measure=measure)
    request = asked.request if isinstance(asked, Plan) else asked
    price = options["assume_price"]
    if options["host_key"] is not None and request.where.host is None:
        raise BadInput("--host-key is for a host of yours, and none is named.", hint="--host user@address")
    today = market()
    offers_of_today = today.offers
    if isinstance(asked, Plan):
        require_price_of_today(asked, offers_of_today)
        require_unchanged(asked, measure=measure)
        plan, *others = (asked,)
    else:
        with at_its_place(options, edges.folder):
            located = with_absolute_paths(asked)
            offers = _offers(located, question, assumed_price=price, quiet=options["as_json"])
            for note in edges.notes(located):
                saying(quiet=options["as_json"])(f"Note: {note}.")
            plan, *others = _found(located, edges, offers, assumed_price=price, see_why=plan_command(options))
        for note in chosen_anew(options, plan, edges):
            saying(quiet=options["as_json"])(f"Note: {note}.")
    if plan.why_not is not None:
        raise Refused(f"This plan can't be run: {plan.why_not}.", hint="Let `rentune plan` name one that can.")
    require_allowed(plan, edges.rules)
    for note in narrowed(plan.request.budget, plan, edges.rules):
        saying(quiet=options["as_json"])(f"Note: {note}.")
    chosen = _priced(plan, price)
    every = (chosen, *alternatives_of(chosen, others, offers_of_today, edges.rules, billed=today.billing_of))
    first, *alternatives = (_to_be_run(each, edges.rules, keep=options["keep_box_on_failure"]) for each in every)
    require_time_to_train(first)
    require_earlier_whole(first.request)
    require_base_whole(first.request)
    return Chosen(first, tuple(alternatives))


def require_price_of_today(plan: Plan, offers: Iterable[Offer]) -> None:
    """Raises Refused where a saved plan is cheaper than what is on offer: its price bounds the deadline and the budget."""
    today = next((each for each in offers if each.key == plan.offer.key), None)
    if today is not None and today.usd_per_hour > plan.offer.usd_per_hour:
        raise Refused(
            f"The plan was saved at {usd_words(plan.offer.usd_per_hour)} an hour; {plan.offer.key} is listed at "
            f"{usd_words(today.usd_per_hour)} now.",
            hint="Plan it again: rentune plan with the same options, and --save",
        )


def _to_be_run(plan: Plan, rules: tuple[Rule, ...], *, keep: bool) -> Plan:
    driven = _to_be_driven(plan, spare_on_failure=keep)
    return msgspec.structs.replace(driven, request=capped(driven, rules))


class Looked(NamedTuple):
    """What is refused of a job, and what would be run of it as far as that is known."""

    refused: tuple[Problem, ...]
    plan: Plan | None


def look_at_job(read: ReadThrough, job: str, question: KeyQuestion) -> Looked:
    """All that `plan` and `run` refuse of a job file, where they stop at the first. What this machine lacks to rent
    is no matter of the job (`lacking_here`). Where values were refused as they were read, nothing is searched without them.
    """
    told = Told(job, *map(problem_of, read.faults))
    asked = read.request
    if asked is None:
        return Looked(told.all(), None)
    refused_keys = {fault.path[:1] for fault in read.faults}
    goes_on = told.met(lambda: continued(asked))
    if (request := goes_on or asked) is goes_on:
        told.met(lambda: require_earlier_whole(request))
    if ("data",) not in refused_keys:
        told.met(lambda: with_absolute_data(request.data))
    told.met(lambda: adapter_folder(request.keep))
    architecture = None
    if ("model",) not in refused_keys and () not in refused_keys:
        architecture = told.met(lambda: resolve_model(request.model, base=Path.cwd()))
    if architecture is not None and told.met(lambda: find_base(request.model)) is not None:
        told.met(lambda: require_base_whole(request))
    offers = told.met(lambda: _offers(request, question, assumed_price=None))
    all_offers = (*market().offers, *(offers or ()))
    for check in checks(_judgeable(request, offers), architecture, market(), all_offers, runnable=KINDS):
        told.met(check)
    plan = None
    if architecture is not None and offers is not None and not read.faults:
        see_why = plan_command({"job": job})
        plan = told.met(lambda: _found(request, search_edges(), offers, assumed_price=None, see_why=see_why)[0])
    if plan is not None:
        told.met(lambda: require_time_to_train(plan))
    return Looked(told.all(), plan)


def lacking_here(plan: Plan, places: Places, environment: Mapping[str, str]) -> Iterator[str]:
    """What this machine lacks to run the plan, as sentences. Nobody is asked for it."""
    offer, model = plan.offer, plan.request.model
    asks: tuple[Callable[[], None], ...] = (
        lambda: require_parts(offer.provider, places, environment),
        lambda: require_hub_access(find_base(model), environment),
    )
    for ask in asks:
        try:
            ask()
        except RentuneError as error:
            yield f"{error.message.removesuffix('.')}; {error.hint}" if error.hint else error.message.removesuffix(".")


def compiler_words(plan: Plan, environment: Mapping[str, str]) -> str | None:
    """That this machine has no compiler for kernels that a job makes here; None where it has, and of any other machine."""
    if plan.offer.provider != LOCAL or plan.strategy.kernels != "compiled":
        return None
    names = (environment.get("CC"), "gcc", "clang", "g++", "clang++")
    if any(which(name, path=environment.get("PATH")) for name in names if name):
        return None
    return "this machine has no C compiler, so that blocks are computed eagerly, as kernels eager says; install gcc"


def _judgeable(request: Request, offers: tuple[Offer, ...] | None) -> Request:
    """The request without names that only a machine of the user's has, where that could not be asked (None)."""
    if offers is not None:
        return request
    return msgspec.structs.replace(
        request, where=msgspec.structs.replace(request.where, providers=(), regions=(), instance_types=())
    )


class Told:
    """What was refused so far of this job file."""

    def __init__(self, job: str, *problems: Problem) -> None:
        self._job = job
        self._problems = list(problems)

    def all(self) -> tuple[Problem, ...]:
        """Each once."""
        return tuple(dict.fromkeys(self._problems))

    def met(self, ask: Callable[[], Answer]) -> Answer | None:
        """Its answer; None where it is refused, which is kept."""
        try:
            with at_its_place({"job": self._job}, Path.cwd()):
                return ask()
        except Failure as error:
            self._problems.append(problem_of(error))
            return None


def _offers(request: Request, question: KeyQuestion, *, assumed_price: Decimal | None, quiet: bool = True) -> tuple[Offer, ...]:
    """Our own machine and the user's host, where they are asked for."""
    price = assumed_price or Decimal(0)
    return offers_of_request(request, usd_per_hour=price, host_key=question.agreed, confirm=question, quiet=quiet)


def _found(
    request: Request, edges: Edges, offers: tuple[Offer, ...], *, assumed_price: Decimal | None, see_why: str
) -> tuple[Plan, ...]:
    """The recommended plan, then the others. Raises Refused where none can be run; `see_why` shows what was refused."""
    result = answer(request, edges, on_sale(market(), edges, beside=offers))
    if result.recommended is None:
        raise _none_can_be_run(result, assumed_price, see_why)
    return (result.recommended, *(plan for plan in result.plans if plan is not result.recommended))


def _none_can_be_run(result: SearchResult, assumed_price: Decimal | None, see_why: str) -> Refused:
    """Why not. `plan` shows it, but for what an assumed price makes too dear: that price is known to `run` alone."""
    too_dear = next((each for each in result.rejections if "p90_usd" in each.needed), None)
    if assumed_price and too_dear is not None:
        reason = f"at ${assumed_price} an hour it is {too_dear.reason}"
        return Refused(f"No plan can be run as asked: {reason}.", hint=what_would_do(too_dear, spelled))
    return Refused(why_none(result), hint=f"See why: {see_why}")


def _to_be_driven(plan: Plan, *, spare_on_failure: bool) -> Plan:
    """Paths that hold for a process elsewhere, and the box's fate."""
    request = with_absolute_paths(plan.request)
    keep = msgspec.structs.replace(request.keep, box_on_failure=request.keep.box_on_failure or spare_on_failure)
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(request, keep=keep))


def _priced(plan: Plan, usd_per_hour: Decimal | None) -> Plan:
    """The plan at a made-up price, where the machine has none of its own."""
    if usd_per_hour is None or plan.offer.usd_per_hour == usd_per_hour:
        return plan
    if plan.offer.provider not in OWN_MACHINES:
        raise BadInput(
            f"{plan.offer.provider} has a price of its own.", hint="--assume-price is for --provider local and --host"
        )
    offer = msgspec.structs.replace(plan.offer, usd_per_hour=usd_per_hour)
    cost = estimate_cost(plan.duration, plan.host, offer=offer, billing=plan.billing, sent_bytes=0)
    return msgspec.structs.replace(plan, offer=offer, cost=cost)
