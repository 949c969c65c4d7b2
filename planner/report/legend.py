"""The words and marks of the plan tables, explained below them: only those that stand there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from catalogs.catalog import STALE_AFTER_DAYS
from catalogs.sellers import by_contract
from planner.asking.request import OWN_MACHINES
from planner.estimators.host import least_ram_gib, vcpus_of
from planner.estimators.time.interruptions import TAKEN_PER_HOUR
from planner.notices.machine import electricity_words
from planner.plan import NOT_YET, PRICE_ONLY, UNTOLD, YOURS, Plan
from planner.report import tables, words

TIGHT: Final = "it needs more than is surely there and may run out of memory"

Explained = Callable[[Sequence[Plan]], str | None]  # the sentence, or None where the word does not stand there


def legend(plans: Sequence[Plan], *, width: int) -> Iterator[str]:
    """One line for each word that needs one; how old the prices are, where the table has no column for it."""
    rows = WORDS if width >= tables.PRICE_WIDTH else (*WORDS, _prices)
    sentences = [sentence for explained in rows if (sentence := explained(plans)) is not None]
    if sentences:
        yield ""
    yield from sentences


def _memory(plans: Sequence[Plan]) -> str | None:
    if all(plan.gpu is None for plan in plans):
        return None
    return "need/has: GiB of one GPU's memory that the job takes, with a margin (--explain), and that torch finds there."


def _between(plans: Sequence[Plan]) -> str | None:
    """What stands in brackets behind hours and dollars."""
    ranged = any(plan.duration.wall_s.p10 < plan.duration.wall_s.p90 for plan in plans)
    return "In brackets from where to where it may lie: one job in ten is below, one above." if ranged else None


def _ram(plans: Sequence[Plan]) -> str | None:
    on_cpu = any(plan.gpu is None for plan in plans)
    return "RAM: the machine's own cores train, so need/has is of its memory." if on_cpu else None


def _scaling(plans: Sequence[Plan]) -> str | None:
    """What several GPUs are worth, where a job is cut or copied over them."""
    told = (
        f"{words.machine(plan)} {plan.strategy.sharding} {plan.duration.scaling:.0%}"
        for plan in plans
        if plan.duration.scaling is not None
    )
    lists = ", ".join(dict.fromkeys(told))
    return f"Several GPUs, of so many times one GPU's speed: {lists}." if lists else None


def _spot(plans: Sequence[Plan]) -> str | None:
    """What a spot machine is, where nobody asked for one."""
    spot = [plan for plan in plans if plan.offer.purchase == "spot" and plan.obstacle is None]
    if not spot or spot[0].request.where.spot is not None:
        return None
    taken = f"the seller may take the machine away (once in {1 / TAKEN_PER_HOUR:g} hours, assumed)"
    return f"spot: {taken}; what is done again then is in its time and dollars. --on-demand plans without."


def _tight(plans: Sequence[Plan]) -> str | None:
    return f"tight: {TIGHT}." if any(plan.verdict == "tight" for plan in plans) else None


def _price_only(plans: Sequence[Plan]) -> str | None:
    seen = [plan for plan in plans if plan.is_kept_by(PRICE_ONLY)]
    sellers = ", ".join(dict.fromkeys(plan.offer.provider for plan in seen if by_contract(plan.offer)))
    contract = f", or it is sold by contract alone ({sellers})" if sellers else ""
    told = f"this version knows the price and cannot rent there{contract}; rent it yourself and use --host"
    return f"{PRICE_ONLY}: {told}." if seen else None


def _not_yet(plans: Sequence[Plan]) -> str | None:
    reasons = [plan.obstacle.reason for plan in plans if plan.obstacle is not None and plan.obstacle.kind == NOT_YET]
    return f"{NOT_YET}: {'; '.join(dict.fromkeys(reasons))}." if reasons else None


def _met(plans: Sequence[Plan]) -> str | None:
    rented = [plan for plan in plans if plan.obstacle is None and plan.offer.provider not in OWN_MACHINES]
    by_word: dict[str, list[str]] = {}
    for plan in rented:
        by_word.setdefault(words.tried(plan), []).append(plan.offer.provider)
    lists = "; ".join(f"{word} ({', '.join(dict.fromkeys(names))})" for word, names in by_word.items())
    return f"Renting was tried with: {lists}." if lists else None


def _not_ready(plans: Sequence[Plan]) -> str | None:
    lacking = [plan for plan in plans if plan.obstacle is None and words.missing(plan)]
    lists = "; ".join(dict.fromkeys(f"{plan.offer.provider} lacks {words.missing(plan)}" for plan in lacking))
    return f"{_first_words(lacking)}: {lists}; `rentune doctor` says how to get it." if lists else None


def _first_words(plans: Iterable[Plan]) -> str:
    """The words of the status column that the line explains."""
    return ", ".join(dict.fromkeys(words.readiness(plan) for plan in plans))


def _unknown(plans: Sequence[Plan]) -> str | None:
    unknown = [plan for plan in plans if words.unknown_words(plan)]
    if not unknown:
        return None
    ram_bytes, cores = max(plan.host.ram_peak_bytes for plan in unknown), max(vcpus_of(plan.strategy) for plan in unknown)
    advice = ""
    if any(words.is_untold(plan) for plan in unknown):
        advice = " State it in a list of your own (rentune catalog import), or rent the machine yourself and use --host."
    return (
        f"{UNTOLD}: the seller does not state it, and the job needs up to {words.memory_gib(ram_bytes)} GiB of RAM and "
        f"{cores} cores; never recommended.{advice}"
    )


def _asked(plans: Sequence[Plan]) -> str | None:
    """Whose list states no RAM, and what an order there asks for."""
    most_gib: dict[str, int] = {}
    for plan in plans:
        if plan.asks_ram:
            needed_gib = least_ram_gib(plan.host.ram_peak_bytes)
            most_gib[plan.offer.provider] = max(needed_gib, most_gib.get(plan.offer.provider, 0))
    lists = " and ".join(f"{provider} (up to {gib} GiB)" for provider, gib in most_gib.items())
    asked = "the order asks for what the job needs, and gets no machine with less"
    return f"RAM is not stated by {lists}: {asked}." if lists else None


def _prices(plans: Sequence[Plan]) -> str | None:
    priced = [plan for plan in plans if plan.offer.usd_per_hour]
    days = sorted(age for plan in priced if (age := words.age_days(plan)) is not None)
    undated = "; undated ones are among them" if any(plan.catalog_as_of is None for plan in priced) else ""
    if not days:
        return "Prices: undated." if undated else None
    span = words.ago(days[-1]) if days[0] == days[-1] else f"{days[0]} to {days[-1]} days ago"
    stale = sum(age > STALE_AFTER_DAYS for age in days)
    moved = (
        f"; {stale} of {len(days)} over {STALE_AFTER_DAYS} days ago: stale, and may have moved (rentune catalog refresh)"
        if stale
        else ""
    )
    return f"Prices were seen {span}{undated}{moved}. d: so many days ago."


def _ahead(plans: Sequence[Plan]) -> str | None:
    """That the clock is behind, at any width: nothing that goes by it can be right."""
    days = [plan.catalog_as_of for plan in plans if plan.catalog_as_of is not None and words.age(plan) == words.AHEAD]
    if not days:
        return None
    return f"{words.AHEAD}: a price was seen on {max(days)}, and this machine's clock says {plans[0].planned_on}: it is behind."


def _least(plans: Sequence[Plan]) -> str | None:
    """What no seller states a price for; the plans below have how much it may be."""
    lacking = [plan for plan in plans if plan.cost.unknown]
    lists = "; ".join(dict.fromkeys(f"{' and '.join(plan.cost.unknown)} at {plan.offer.provider}" for plan in lacking))
    return f"{words.AT_LEAST}: no price is known for {lists}; ranked as if it were the dearest known." if lists else None


def _free(plans: Sequence[Plan]) -> str | None:
    """What costs nothing on a card of one's own only because nobody said a price."""
    own = next((plan for plan in plans if _is_ours(plan) and not plan.offer.usd_per_hour), None)
    return None if own is None else f"{words.FREE}: {electricity_words(own.request.where)}."


def _is_ours(plan: Plan) -> bool:
    return plan.offer.gpu_free_mib is not None or plan.is_kept_by(YOURS)


def _yours(plans: Sequence[Plan]) -> str | None:
    """What a card that was named as one's own is taken for."""
    own = next((plan for plan in plans if plan.is_kept_by(YOURS)), None)
    if own is None or own.why_not is None:
        return None
    ram = "" if own.offer.ram_gib is not None else "; --ram says how much its machine has, for what would wait there"
    return f"{own.why_not}; what its desktop holds of its memory is not taken off{ram}."


WORDS: Final[tuple[Explained, ...]] = (
    _memory,
    _ram,
    _between,
    _scaling,
    _spot,
    _tight,
    _yours,
    _price_only,
    _not_yet,
    _not_ready,
    _unknown,
    _asked,
    _ahead,
    _least,
    _free,
    _met,
)
