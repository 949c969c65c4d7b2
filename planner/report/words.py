"""Figures as a person reads them: the middle, and in brackets from where to where it may lie."""

from __future__ import annotations

from typing import Final

from planner.plan import Plan, Range
from planner.search.strategies import describe
from planner.units import GIB

SECONDS_PER_DAY: Final = 86_400
SECONDS_PER_HOUR: Final = 3_600
SECONDS_PER_MINUTE: Final = 60


def usd(amount: float) -> str:
    """$0.0123 below ten cents, $1.23 below a thousand dollars, $12,345 above."""
    if 0 < amount < 0.0995:
        return f"${amount:.4f}" if amount >= 0.0001 else "<$0.0001"
    return f"${amount:,.2f}" if amount < 1_000 else f"${amount:,.0f}"


SPANS: Final = (  # up to so many seconds, the unit, how many decimals
    (2 * SECONDS_PER_MINUTE, 1, "s", 0),
    (2 * SECONDS_PER_HOUR, SECONDS_PER_MINUTE, "min", 0),
    (3 * SECONDS_PER_DAY, SECONDS_PER_HOUR, "h", 1),
    (float("inf"), SECONDS_PER_DAY, "days", 1),
)


def span(seconds: float) -> str:
    """42 s, 12 min, 3.4 h or 5.1 days."""
    _, size, unit, decimals = next(row for row in SPANS if seconds < row[0])
    return f"{seconds / size:.{decimals}f} {unit}"


def span_range(figure: Range) -> str:
    """The middle, and from where to where it may lie, in the middle's unit: 3.4 (2.9–4.4) h."""
    _, size, unit, decimals = next(row for row in SPANS if figure.p50 < row[0])
    p10, p50, p90 = (f"{value / size:.{decimals}f}" for value in (figure.p10, figure.p50, figure.p90))
    return f"{p50} ({p10}–{p90}) {unit}"


def usd_range(figure: Range) -> str:
    """The same for dollars: $1.23 (1.01–1.60)."""
    return f"{usd(figure.p50)} ({usd(figure.p10)}–{usd(figure.p90)})".replace("($", "(").replace("–$", "–")


def count(number: float) -> str:
    """1,234, 12.3 k, 1.5 M or 32.8 B."""
    for least, size, unit in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if number >= least:
            return f"{number / size:.1f} {unit}"
    return f"{number:,.0f}"


def count_range(figure: Range) -> str:
    """The same for counts."""
    return f"{count(figure.p50)} ({count(figure.p10)}–{count(figure.p90)})"


def several(number: float, thing: str) -> str:
    """1 offer, 2,043 offers; 1 strategy, 2 strategies."""
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{number:,.12g} {thing if number == 1 else plural}"


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
    verdict = plan.verdict.replace("_", " ")
    return f"{memory_gib(needed)}/{memory_gib(needed + plan.margin_bytes)}{place} {verdict}"


def machine(plan: Plan) -> str:
    """E.g. "1 of 8 x H100", "2 x L4", "2 cores, 7.8 GiB"."""
    if plan.gpu is None:
        cores = f"{plan.offer.vcpus:g} cores" if plan.offer.vcpus is not None else "CPU"
        return f"{cores}, {plan.offer.ram_gib:g} GiB RAM" if plan.offer.ram_gib is not None else cores
    used, num_gpus = plan.strategy.num_gpus, int(plan.offer.num_gpus)
    return f"{num_gpus} x {plan.gpu.name}" if used == num_gpus else f"{used} of {num_gpus} x {plan.gpu.name}"


def offer(plan: Plan) -> str:
    """Provider, place, machine type and how it is bought."""
    spot = " spot" if plan.offer.purchase == "spot" else ""
    region = "" if plan.offer.region == "*" else f" {plan.offer.region}"
    return f"{plan.offer.provider}{region} {plan.offer.instance_type}{spot}"


def age(plan: Plan) -> str:
    """How old the price is."""
    if plan.catalog_as_of is None:
        return "undated"
    days = (plan.planned_on - plan.catalog_as_of).days
    return "today" if days == 0 else f"{days} d"


def status(plan: Plan) -> str:
    """The provider's word; where this version can't run the plan, why not."""
    return plan.provider_status if plan.runnable is None else plan.runnable.partition(":")[0]


def strategy(plan: Plan) -> str:
    """The strategy in a few words."""
    return describe(plan.strategy)
