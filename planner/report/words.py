"""Figures as a person reads them: the middle, and in brackets from where to where it may lie."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Final

from msgspec.structs import astuple

from catalogs.bases.models import hub_id_of
from catalogs.catalog import STALE_AFTER_DAYS, is_to_come
from catalogs.failure import ended_once
from catalogs.hardware import ANYWHERE, Offer
from planner.plan import NOT_READY, UNTOLD, YOURS, Plan, Range, Rejection, SearchResult
from planner.strategy.words import SHORT_DTYPES, describe
from planner.units import GIB, SECONDS_PER_HOUR, SECONDS_PER_MINUTE
from remote.contract import Strategy

SECONDS_PER_DAY: Final = 86_400
MANY_DAYS: Final = 1_000  # assumed: more are told in years
DAYS_PER_YEAR: Final = 365.25  # derived: of the Julian year

READY: Final = "ready"
NO_CREDENTIALS: Final = "no credentials"
CREDENTIALS: Final = "credentials"  # so ends the name of that part of a provider
FREE: Final = "free"
FOUR_DIGITS: Final = 1_000  # derived: the least that has them
CENTS: Final = ((0.00995, 4), (0.0995, 3), (1_000, 2), (float("inf"), 0))  # dollars below, decimals that tell enough


def note(words: str) -> str:
    """As a line of its own, ended once."""
    return ended_once(f"Note: {words}" if words.endswith((".", "?", "!")) else f"Note: {words}.")


def usd(amount: float) -> str:
    """$0.0042 below a cent, $0.042 below ten, $1.23 below a thousand dollars, $12,345 above; "free" for nothing."""
    if amount == 0:
        return FREE
    return f"${amount:,.{_decimals(amount)}f}" if amount >= 0.0001 else "<$0.0001"


def _decimals(amount: float) -> int:
    return next(decimals for below, decimals in CENTS if amount < below)


SPANS: Final = (  # up to so many seconds, the unit, how many decimals
    (10, 1, "s", 1),
    (2 * SECONDS_PER_MINUTE, 1, "s", 0),
    (2 * SECONDS_PER_HOUR, SECONDS_PER_MINUTE, "min", 0),
    (3 * SECONDS_PER_DAY, SECONDS_PER_HOUR, "h", 1),
    (MANY_DAYS * SECONDS_PER_DAY, SECONDS_PER_DAY, "days", 1),
    (float("inf"), DAYS_PER_YEAR * SECONDS_PER_DAY, "years", 1),
)


def span(seconds: float) -> str:
    """0.4 s, 42 s, 12 min, 3.4 h, 5.1 days or 5,115.0 years."""
    _, size, unit, decimals = next(row for row in SPANS if seconds < row[0])
    return f"{seconds / size:,.{decimals}f} {unit}"


def span_range(figure: Range) -> str:
    """The middle, and from where to where it may lie, in the middle's unit: 3.4 (2.9–4.4) h."""
    _, size, unit, decimals = next(row for row in SPANS if figure.p50 < row[0])
    p10, p50, p90 = (f"{value / size:,.{decimals}f}" for value in (figure.p10, figure.p50, figure.p90))
    return f"{p50} ({p10}–{p90}) {unit}"


def usd_range(figure: Range) -> str:
    """Dollars and from where to where they may lie, with the middle's decimals: $1.23 (1.01–1.60)."""
    if figure.p90 == 0:
        return FREE
    p10, p50, p90 = (f"{amount:,.{_decimals(figure.p50)}f}" for amount in (figure.p10, figure.p50, figure.p90))
    return f"${p50} ({p10}–{p90})"


AT_LEAST: Final = "≥"  # before dollars that leave something out


def total(plan: Plan) -> str:
    """The whole job's dollars: $1.23 (1.01–1.60); ≥ where something of it has no price that anybody states."""
    return f"{_least(plan)}{usd_range(plan.cost.total_usd)}"


def total_at_p50(plan: Plan) -> str:
    """The middle of them."""
    return f"{_least(plan)}{usd(plan.cost.total_usd.p50)}"


def per_million(plan: Plan) -> str:
    """Dollars of a million tokens."""
    return f"{_least(plan)}{usd(plan.cost.usd_per_million_tokens)}"


def _least(plan: Plan) -> str:
    return AT_LEAST if plan.cost.unknown else ""


def billed_hours(figure: Range) -> str:
    """Hours of a bill, with digits enough to multiply them by a price: 1.01 (0.853–1.432) h."""
    p10, p50, p90 = (f"{_significant(value / SECONDS_PER_HOUR)}" for value in (figure.p10, figure.p50, figure.p90))
    return f"{p50} ({p10}–{p90}) h"


def _significant(number: float) -> str:
    """To four digits, whatever its size, and never in powers of ten."""
    return f"{number:,.0f}" if number >= FOUR_DIGITS else f"{number:.4g}"


def hourly(plan: Plan) -> str:
    """The price of the machine's hour, or of the machines'."""
    return f"{_machines(plan)}${plan.offer.usd_per_hour}/h" if plan.offer.usd_per_hour else "no price an hour"


def count(number: float) -> str:
    """1,234, 12.3 k, 1.5 M, 32.8 B or 1.5 T."""
    for least, size, unit in ((1e12, 1e12, "T"), (1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if number >= least:
            return f"{number / size:,.1f} {unit}"
    return f"{number:,.0f}"


def count_range(figure: Range) -> str:
    """A count, and from where to where it may lie."""
    return f"{count(figure.p50)} ({count(figure.p10)}–{count(figure.p90)})"


def several(number: float, thing: str) -> str:
    """1 offer, 2,043 offers; 1 strategy, 2 strategies; 2 days."""
    plural = thing[:-1] + "ies" if thing.endswith("y") and thing[-2] not in "aeiou" else thing + "s"
    return f"{number:,.16g} {thing if number == 1 else plural}"


def memory_gib(num_bytes: float) -> str:
    """Bytes as GiB with one decimal."""
    return f"{num_bytes / GIB:.1f}"


def needed_bytes(plan: Plan) -> int:
    """What the memory that decides must hold: VRAM of one GPU, RAM of a CPU box."""
    return plan.vram.required_bytes if plan.gpu is not None else plan.host.ram_peak_bytes


def fit(plan: Plan) -> str:
    """E.g. "20.9/22.5 fits": GiB needed and usable, and the verdict."""
    needed = needed_bytes(plan)
    place = "" if plan.gpu is not None else " RAM"
    return f"{memory_gib(needed)}/{memory_gib(needed + plan.margin_bytes)}{place} {verdict(plan)}"


def memory(plan: Plan) -> str:
    """Memory needed and usable, and the verdict, as a sentence: "needs 20.9 of 22.5 GiB on the GPU: fits"."""
    needed = needed_bytes(plan)
    place = "on the GPU" if plan.gpu is not None else "of RAM"
    return f"needs {memory_gib(needed)} of {memory_gib(needed + plan.margin_bytes)} GiB {place}: {verdict(plan)}"


def verdict(plan: Plan) -> str:
    """The verdict, without its underscores."""
    return plan.verdict.replace("_", " ")


def machine(plan: Plan) -> str:
    """E.g. "1 of 8 x H100", "2 x L4", on two machines "2 x 8 x H100"; "2 cores, 7.8 GiB"."""
    if plan.gpu is None:
        cores = f"{plan.offer.vcpus:g} cores" if plan.offer.vcpus is not None else "CPU"
        return f"{cores}, {plan.offer.ram_gib:g} GiB RAM" if plan.offer.ram_gib is not None else cores
    used, num_gpus, machines = plan.strategy.num_gpus, int(plan.offer.num_gpus), plan.strategy.num_nodes
    of_each = f"{num_gpus} x {plan.gpu.name}" if used == num_gpus * machines else f"{used} of {num_gpus} x {plan.gpu.name}"
    return f"{_machines(plan)}{of_each}"


def offer(plan: Plan) -> str:
    """What is rented for the plan."""
    return f"{_machines(plan)}{sold(plan.offer)}"


def _machines(plan: Plan) -> str:
    """How many of them, where that is not one."""
    return f"{plan.strategy.num_nodes} x " if plan.strategy.num_nodes > 1 else ""


def sold(offer: Offer) -> str:
    """Provider, place, machine type and how it is bought."""
    spot = " spot" if offer.purchase == "spot" else ""
    region = "" if offer.region == ANYWHERE else f" {offer.region}"
    return f"{offer.provider}{region} {offer.instance_type}{spot}"


def age(plan: Plan) -> str:
    """How old the price is."""
    days = age_days(plan)
    if days is not None:
        return f"{ago(days)}, stale" if days > STALE_AFTER_DAYS else ago(days)
    return "undated" if plan.catalog_as_of is None else AHEAD


def age_in_short(plan: Plan) -> str:
    """How old the price is, in a table without room: 3 d."""
    days = age_days(plan)
    if days is not None:
        return f"{days} d"
    return "undated" if plan.catalog_as_of is None else AHEAD


def age_in_full(plan: Plan) -> str:
    """How old the price is, where there is room for a reason."""
    known = age(plan)
    return seen(plan.catalog_as_of, plan.planned_on) if known == AHEAD and plan.catalog_as_of is not None else known


AHEAD: Final = "ahead"  # of a price that was seen on a day to come


def seen(day: dt.date, today: dt.date) -> str:
    """How long ago that day was; of one that is still to come that the clock is behind."""
    if is_to_come(day, today):
        return f"on {day}, a day to come: this machine's clock is behind"
    return ago(max(0, (today - day).days))


def ago(days: int) -> str:
    """Today, or 3 days ago."""
    return f"{several(days, 'day')} ago" if days else "today"


def age_days(plan: Plan) -> int | None:
    """Days since the price was seen; None where nobody wrote down when, or a day that is still to come."""
    day = plan.catalog_as_of
    return None if day is None or is_to_come(day, plan.planned_on) else max(0, (plan.planned_on - day).days)


def learned_words(plan: Plan) -> str | None:
    """That earlier runs here moved a plan's time by a good deal, as a sentence; None where they did not."""
    factor, number = plan.duration.learned, plan.duration.learned_from
    if 1 / MUCH_LEARNED <= factor <= MUCH_LEARNED:
        return None
    return f"{several(number, 'earlier run')} here took {factor:.2g} x what was reckoned a step, and the time counts that in"


MUCH_LEARNED: Final = 1.5  # assumed: less lies within the range that is shown beside a time anyway


def status(plan: Plan) -> str:
    """Whether it can be begun now, or what is missing first (the legend has all), and what is not known of the machine."""
    ready, unknown = readiness(plan), unknown_words(plan)
    return ready if unknown in ("", ready) else f"{ready}, {unknown}"


def readiness(plan: Plan) -> str:
    """Whether it can be begun now, or what is missing first, without what is not known of the machine."""
    if plan.obstacle is not None:
        return unknown_words(plan) if plan.obstacle.kind == UNTOLD else plan.obstacle.kind
    if any(part.endswith(CREDENTIALS) for part in plan.missing):
        return NO_CREDENTIALS
    if plan.missing:
        return NOT_READY
    return READY if plan.quota is None else f"needs {plan.quota.figures}"  # the legend has the rest


def unknown_words(plan: Plan) -> str:
    """What of the machine nobody states and no order makes sure of, as "RAM unknown"; empty where there is nothing."""
    ours = plan.is_kept_by(YOURS) and plan.offer.ram_gib is not None  # nobody is asked how many cores his machine has
    return f"{plan.offer.unstated} {UNTOLD}" if plan.offer.unstated and not plan.asks_ram and not ours else ""


def is_untold(plan: Plan) -> bool:
    """Whether that alone keeps it from being run."""
    return plan.is_kept_by(UNTOLD)


def doubt(plan: Plan, beside: Plan) -> str:
    """What speaks against a plan, and not against the one beside it."""
    sayings = (readiness(plan), "tight")
    pairs = zip(astuple(plan.doubts), astuple(beside.doubts), sayings, strict=True)
    return next((saying for here, there, saying in pairs if here and not there), readiness(plan))


def tried(plan: Plan) -> str:
    """What renting at the plan's provider has been tried with so far."""
    return plan.provider_status


def missing(plan: Plan) -> str:
    """What the provider lacks on this machine; empty where nothing is known to be missing."""
    return ", ".join((*plan.missing, *((plan.quota.words,) if plan.quota else ())))


def standing(plan: Plan) -> str:
    """Both in one."""
    return tried(plan) if plan.ready else f"{tried(plan)}; {NOT_READY}: {missing(plan)}"


def base(model: str) -> str:
    """A size word with the base that it stands for."""
    said, base = PurePath(model).name, hub_id_of(model)
    named = PurePath(base).name if base is not None else said
    return said if named.lower() == said.lower() else f"{said} ({named})"


def held_in(strategy: Strategy) -> str:
    """How the frozen weights are held: the quantization, or the dtype."""
    return strategy.quant if strategy.quant != "none" else SHORT_DTYPES[strategy.param_dtype]


def strategy(plan: Plan) -> str:
    """The strategy in a few words."""
    return describe(plan.strategy)


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────

Spelling = Callable[[str, Any], str]  # how a field of the Request and its value are said; a value of None: the field alone


def reason(rejection: Rejection, spelled: Spelling) -> str:
    """Why, and by which wish: "not from aws (--provider)"."""
    return rejection.reason if rejection.wish is None else f"{rejection.reason} ({spelled(rejection.wish, None)})"


def why_none(result: SearchResult) -> str:
    """Why nothing can be run as asked, in one sentence. Of what is refused two reasons: what refused the last offers that were
    left, where none was, and what most were refused for; before these what a machine lacks that was not ruled out, and before
    all others that money or time are too short for what could do it.
    """
    if result.plans:
        return f"No plan can be run as asked: {(result.plans[0].why_not or '').removesuffix('.')}."
    nothing_left = result.considered is not None and not result.considered.num_offers_admitted
    last = result.rejections[-1] if nothing_left and result.rejections else None  # each is counted after those before it
    most = sorted(
        result.rejections,
        key=lambda each: (_is_of_budget(each), bool(each.needed), each is last, each.num_offers),
        reverse=True,
    )[:2]
    refused = "".join(f"{'; ' if number else ': '}{each.what} {each.reason}" for number, each in enumerate(most))
    what = "no single machine" if result.several else "nothing"
    return f"No plan can be run as asked: {what} on offer does this job{refused}."


def _is_of_budget(rejection: Rejection) -> bool:
    return any(field.startswith("budget.") for field in rejection.changes)


def what_would_do(rejection: Rejection, spelled: Spelling) -> str:
    """The remedy, or what to change: "--max-cost 5.00"; nothing where neither is known."""
    return rejection.remedy or ", ".join(spelled(field, value) for field, value in rejection.changes.items())
