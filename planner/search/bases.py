"""Which bases a card trains: of each family of the catalog the largest that one such card holds whole, with its best plan."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import ModelRow, registry, resolve_model
from catalogs.catalog import Catalog, attributions
from catalogs.failure import Failure
from catalogs.hardware import Offer
from planner.advise import advise
from planner.asking.policy import Rule, in_force
from planner.asking.request import Request
from planner.asking.sent import NOTHING, Sent
from planner.estimators.time.learned import Seen
from planner.methods import total_params
from planner.plan import Plan, Provider, Rejection
from planner.search import checks, plan_of
from planner.search.best import AIMS, best
from planner.search.figures import Figures
from planner.search.floors import Floors
from planner.search.market.offers import Kind, Market, Place, admit
from planner.search.ranking import Found, Question, rank
from planner.search.told.notebook import Notebook, Over, beyond, nearest_of
from planner.search.ways.strategies import seq_len_of
from remote.contract import Capabilities

WHOLE: Final = {"offload": "none"}  # what waits in RAM is measured by the host and its link, and no longer by the card
Family = list[tuple[int, ModelRow, Architecture]]  # parameters, row and shape of each base


class BaseHeld(msgspec.Struct, frozen=True, kw_only=True):
    """A base that the card holds whole while it is trained, and its best plan there."""

    name: str  # in the catalog
    hub: tuple[str, ...]
    family: str  # transformers' `model_type`
    num_params: int
    num_smaller: int  # bases of the same family below it, which the catalog knows
    plan: Plan


class BasesHeld(msgspec.Struct, frozen=True, kw_only=True):
    """One base a family, the largest first."""

    bases: tuple[BaseHeld, ...]
    num_offers: int  # that meet every wish: 0 = nobody rents out such a card
    beyond: Rejection | None = None  # where there is none: the base that money or time alone refuse, and that needs least
    warnings: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()  # sources whose licence asks to be named

    @property
    def is_of_use(self) -> bool:
        """Whether there is one."""
        return bool(self.bases)


def largest_held(
    request: Request,
    *,
    catalog: Catalog,
    providers: Mapping[str, Provider],
    capabilities: Capabilities,
    today: dt.date,
    offers: tuple[Offer, ...],
    versions: Mapping[str, str],
    rules: Collection[Rule] = (),
    seen: tuple[Seen, ...] = (),
    sent: Sent = NOTHING,
    kept_at: tuple[Place, ...] = (),
) -> BasesHeld:
    """The request's job with each base of the catalog in the place of its own, as `search` would plan it; only what surely fits
    one card, unless the request says how many. A base that can't be trained so is passed over.

    Raises RequestError or CatalogError where the request names what does not exist.
    """
    short = frozenset(key for provider in providers.values() for key in provider.short)
    market = Market(catalog, offers, short=short, seen_on=frozenset(each.machine for each in seen))
    where = msgspec.structs.replace(request.where, num_gpus=request.where.num_gpus or 1)
    request = msgspec.structs.replace(request, where=where, training=WHOLE | request.training)
    for check in checks(request, None, catalog, offers, runnable=providers):
        check()
    policy = in_force(tuple(rules), request.overruled)
    over: list[tuple[str, Over]] = []  # with the base
    asked = admit(request, market, policy, kept_at=kept_at)

    def plan_with(row: ModelRow, shape: Architecture) -> Plan | None:
        of_row = msgspec.structs.replace(request, model=row.name)
        for check in checks(of_row, shape, catalog, offers, runnable=providers):
            check()
        question = Question(
            request=of_row,
            advice=advise(of_row, shape),
            seq_len=seq_len_of(of_row, shape),
            catalog=catalog,
            providers=providers,
            capabilities=capabilities,
            rules=policy,
            kept_at=kept_at,
        )
        figures = Figures(shape, of_row, question.advice, seq_len=question.seq_len, seen=seen, sent=sent)
        notebook = Notebook()
        found = _surely_held(question, asked.kinds, Floors(figures, catalog.billing), notebook)
        over.extend((row.name, each) for each in notebook.over if each.fits)
        return None if found is None else plan_of(found, question, figures, today=today, versions=dict(versions))

    largest = (_largest(family, plan_with) for family in _families(request))
    held = sorted((base for base in largest if base is not None), key=lambda base: base.num_params, reverse=True)
    named = attributions(catalog, [base.plan.offer for base in held])
    return BasesHeld(
        bases=tuple(held),
        num_offers=sum(kind.num_sold for kind in asked.kinds),
        beyond=None if held else _beyond(over),
        warnings=asked.warnings,
        attributions=named,
    )


def _largest(family: Family, plan_with: Callable[[ModelRow, Architecture], Plan | None]) -> BaseHeld | None:
    for num_smaller, (num_params, row, shape) in zip(range(len(family) - 1, -1, -1), family, strict=True):
        with suppress(Failure):  # of this base: an encoder asked to go on with a text, a context that is too short
            if (plan := plan_with(row, shape)) is not None:
                return BaseHeld(
                    name=row.name,
                    hub=row.hub,
                    family=shape.model_type,
                    num_params=num_params,
                    num_smaller=num_smaller,
                    plan=plan,
                )
    return None


def _surely_held(question: Question, kinds: tuple[Kind, ...], floors: Floors, notebook: Notebook) -> Found | None:
    """What is recommended, else the cheapest that nobody can rent here yet; what is tight is neither. Where nothing is
    recommended, the notebook has what a limit refused.
    """
    found = best(question, kinds, floors, AIMS[question.request.budget.goal]).found
    every = (found,) if found is not None else rank(question, kinds, floors, notebook).found
    return next((each for each in every if each.fit.verdict == "fits"), None)


def _beyond(over: list[tuple[str, Over]]) -> Rejection | None:
    """Of what a limit alone refuses, the base that needs least."""
    nearest = nearest_of((each for _, each in over), lambda each: each.needed_usd)
    if nearest is None:
        return None
    name = next(name for name, each in over if each is nearest)
    return msgspec.structs.replace(beyond(nearest), what=name)


def _families(request: Request) -> tuple[Family, ...]:
    """The catalog's bases by transformers' type, the largest of each first: those whose weights a hub has."""
    families: dict[str, Family] = {}
    for row in filter(lambda each: each.hub, registry()):
        shape = resolve_model(row.name)
        families.setdefault(shape.model_type, []).append((total_params(shape, request.task), row, shape))
    return tuple(sorted(family, key=lambda each: each[0], reverse=True) for family in families.values())
