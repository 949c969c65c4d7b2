"""Which bases a card trains: of each family of the catalog the largest that one such card holds whole, with its best plan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import ModelRow, registry, resolve_model
from catalogs.catalog import attributions
from catalogs.failure import Failure
from catalogs.hardware import Gpu
from planner.asking.policy import in_force
from planner.asking.request import Request
from planner.edges import Edges
from planner.methods import total_params
from planner.notices.cards import BOX_VENDOR
from planner.plan import Plan, Rejection
from planner.search import checks, figures_for, plan_of, question_of
from planner.search.best import AIMS, best
from planner.search.floors import Floors
from planner.search.market.offers import Kind, Market, admit
from planner.search.ranking import Found, Question, rank
from planner.search.told.notebook import Notebook, Over, beyond, nearest_of

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
    instead: str | None = None  # what there is to type where nobody rents out the card that was named
    warnings: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()  # sources whose licence asks to be named

    @property
    def is_of_use(self) -> bool:
        """Whether there is one."""
        return bool(self.bases)


def largest_held(request: Request, edges: Edges, market: Market) -> BasesHeld:
    """The request's job with each base of the catalog in the place of its own, as `search` would plan it; only what surely fits
    one card, unless the request says how many. A base that can't be trained so is passed over.

    Raises RequestError or CatalogError where the request names what does not exist.
    """
    catalog, sent, kept_at = market.catalog, edges.sent(request), edges.volume_at(request)
    where = msgspec.structs.replace(request.where, num_gpus=request.where.num_gpus or 1)
    request = msgspec.structs.replace(request, where=where, training=WHOLE | request.training)
    for check in checks(request, None, catalog, market.offers, runnable=edges.providers):
        check()
    over: list[tuple[str, Over]] = []  # with the base
    asked = admit(request, market, in_force(edges.rules, request.overruled), kept_at=kept_at)

    def plan_with(row: ModelRow, shape: Architecture) -> Plan | None:
        of_row = msgspec.structs.replace(request, model=row.name)
        for check in checks(of_row, shape, catalog, market.offers, runnable=edges.providers):
            check()
        question = question_of(of_row, shape, catalog, edges, kept_at=kept_at)
        figures = figures_for(question, shape, edges, sent)
        notebook = Notebook()
        found = _surely_held(question, asked.kinds, Floors(figures, catalog.billing), notebook)
        over.extend((row.name, each) for each in notebook.over if each.fits)
        return None if found is None else plan_of(found, question, figures, edges)

    largest = (_largest(family, plan_with) for family in _families(request))
    held = sorted((base for base in largest if base is not None), key=lambda base: base.num_params, reverse=True)
    named = attributions(catalog, [base.plan.offer for base in held])
    return BasesHeld(
        bases=tuple(held),
        num_offers=sum(kind.num_sold for kind in asked.kinds),
        beyond=None if held else _beyond(over),
        instead=None if asked.kinds or not where.cards else _instead(catalog.gpu(where.cards[0]).gpu),
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


def _instead(gpu: Gpu) -> str:
    listed = f"`rentune plan --which-model --gpu-budget {gpu.memory_gib:g}GB` lists what cards of at most that memory hold"
    if gpu.vendor != BOX_VENDOR:
        return f"{listed}."
    return f'{listed}; in which ways yours holds one of them is said by `rentune plan --model 7b --gpus "{gpu.name}"`.'
