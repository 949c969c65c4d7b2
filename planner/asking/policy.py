"""What may be rented at all, whatever a job asks for: rules that files set. Pure; whoever calls has read the files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, get_args

import msgspec

from catalogs.hardware import ANYWHERE, Hosts, Offer
from planner.asking.request import OWN_MACHINES, Budget, RequestError
from planner.units import SECONDS_PER_HOUR

Key = Literal["providers", "regions", "hosts", "max_usd_per_hour", "max_usd_per_run", "lease"]
KEYS: Final[tuple[Key, ...]] = get_args(Key)
OVERRULE: Final = "--overrule-policy"
DEFAULT: Final = "the default"  # where a rule stands that no file has
TRUSTS: Final = frozenset({"providers", "regions", "hosts"})  # whom data is given to: not to be set aside on a hint's word


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One limit: the names that are allowed, the hosts that are trusted, dollars, or a lease. It holds for what is rented,
    never for a machine of one's own.
    """

    key: Key
    allows: tuple[str, ...] | Hosts | Decimal | float  # a float: hours
    said_in: str  # the file, or "the default"
    may_be_overruled: bool
    unkept_at: tuple[str, ...] = ()  # who sells what can't keep it: of a lease, where a machine that is off costs on

    @property
    def place(self) -> str:
        """Where a person finds it: "hosts in /etc/rentune/policy.toml"."""
        return f"{self.key} in {self.said_in}"

    @property
    def words(self) -> str:
        """What it allows, and where that stands: "providers aws, gcp in /etc/rentune/policy.toml"."""
        allows = ", ".join(self.allows) or "none at all" if isinstance(self.allows, tuple) else _shown(self.allows)
        return f"{self.key} {allows} in {self.said_in}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if not self.may_be_overruled:
            return f"{_MORE.get(self.key, '')}whoever keeps {self.said_in} can change it"
        aside = f"{OVERRULE} {self.key}"
        if self.key not in TRUSTS or self.said_in == DEFAULT:
            return aside
        return f"{_MORE.get(self.key, '')}a change of {self.said_in}; for one job {aside}"


# What may bring offers that a rule of places admits, before anybody thinks of setting it aside.
_MORE: Final[Mapping[str, str]] = {
    "regions": "newer and other offers: `rentune catalog refresh`, or your own by `rentune catalog import FILE`; else "
}


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a job may cost at p90, and the rule that says so; None = --max-cost."""

    usd: Decimal
    rule: Rule | None = None
    own_usd: Decimal | None = None  # of a rule's that is broken: --max-cost, where that is lower


class Broken(msgspec.Struct, frozen=True):
    """What of a job's limits does not hold: one of money, one of time, or both."""

    cap: Cap | None
    max_s: float | None


class Limits(msgspec.Struct, frozen=True):
    """What a whole job on one offer may cost and take at p90."""

    caps: tuple[Cap, ...]  # a rule's before the job's own, which is easier to lift
    max_s: float | None  # None: as long as it takes

    def broken(self, *, usd: float, seconds: float) -> Broken | None:
        """What of them so much at p90 breaks; None where all hold."""
        dear = next((each for each in self.caps if usd > each.usd), None)
        if dear is not None and dear.rule is not None:
            own_usd = next((each.usd for each in self.caps if each.rule is None and each.usd < dear.usd), None)
            dear = msgspec.structs.replace(dear, own_usd=own_usd)
        slow = self.max_s if self.max_s is not None and seconds > self.max_s else None
        return None if dear is None and slow is None else Broken(dear, slow)


def in_force(rules: Iterable[Rule], overruled: Iterable[str]) -> tuple[Rule, ...]:
    """The rules without those that the user sets aside. Raises RequestError where that is not the user's to decide."""
    aside = frozenset(overruled)
    kept = tuple(rule for rule in rules if rule.key not in aside or not rule.may_be_overruled)
    for rule in kept:
        if rule.key in aside:
            raise RequestError(f"{rule.place} can't be overruled", hint=rule.remedy)
    return kept


def refusal(rule: Rule, offer: Offer) -> str | None:
    """Why this rule refuses the offer, in words that name its file and its key; None where it does not."""
    refuses, words = _ABOUT[rule.key]
    if offer.provider in OWN_MACHINES:
        return None
    if offer.provider in rule.unkept_at:
        return f"where a lease ends no bill: a machine that is off costs on there ({rule.place})"
    if not refuses(offer, rule.allows):
        return None
    said = "in no region that its seller names" if rule.key == "regions" and offer.region == ANYWHERE else words(rule.allows)
    return f"{said} ({rule.place})"


def cap(budget: Budget, rules: Iterable[Rule], offer: Offer) -> Cap | None:
    """The lowest of all limits in dollars on a whole job on this offer; None where there is none."""
    caps = [Cap(usd=budget.max_usd)] if budget.max_usd is not None else []
    if offer.provider not in OWN_MACHINES:
        caps += [Cap(usd=rule.allows, rule=rule) for rule in rules if isinstance(rule.allows, Decimal) and rule.key == PER_RUN]
    return min(caps, key=lambda each: each.usd, default=None)


def lease_hours(budget: Budget, rules: Iterable[Rule], offer: Offer) -> float | None:
    """The shortest of all leases that a job on this offer is to have; None where nobody wants one."""
    leases = [budget.lease_hours] if budget.lease_hours is not None else []
    if offer.provider not in OWN_MACHINES:
        leases += [rule.allows for rule in rules if isinstance(rule.allows, float) and rule.key == LEASE]
    return min(leases, default=None)


def limits_of(budget: Budget, rules: Iterable[Rule], offer: Offer, *, usual_max_s: float | None = None) -> Limits:
    """Of a job on this offer; `usual_max_s` where nobody said how long it may take."""
    ruled, own = cap(Budget(), rules, offer), cap(budget, (), offer)
    max_s = usual_max_s if budget.max_hours is None else budget.max_hours * SECONDS_PER_HOUR
    return Limits(tuple(each for each in (ruled, own) if each is not None), max_s)


def matches(region: str, patterns: Iterable[str]) -> bool:
    """Whether a region is one of those that names and patterns ("us-*") mean, whatever their case."""
    return any(fnmatchcase(region.lower(), pattern.lower()) for pattern in patterns)


def unmatched(
    rules: Iterable[Rule], known: Mapping[str, Collection[str]], close: Callable[[str, Collection[str]], list[str]]
) -> tuple[str, ...]:
    """A sentence for each name or pattern that means none of the known ones (by key): a slip of the pen forbids everything.
    `close`: which of the known may have been meant.
    """
    return tuple(
        f"{rule.place}: no {rule.key[:-1]} of the catalog is called {name!r}{_meant(rule.key, name, known[rule.key], close)}"
        for rule in rules
        if isinstance(rule.allows, tuple)
        for name in rule.allows
        if not any(matches(each, (name,)) for each in known[rule.key])
    )


def alike_patterns(name: str, regions: Iterable[str]) -> list[str]:
    """For a word or a pattern in the place of a region those patterns of regions that begin alike: 'europe-*' for europe."""
    word = name.lower().rstrip("-*")
    first_words = {each.partition("-")[0] for each in regions if "-" in each}
    return [f"'{first}-*'" for first in sorted(first_words) if first.startswith(word)] if len(word) >= LEAST_LETTERS else []


def _shown(allows: Hosts | Decimal | float) -> str:
    return f"{allows:g}h" if isinstance(allows, float) else str(allows)


def _meant(key: Key, name: str, known: Collection[str], close: Callable[[str, Collection[str]], list[str]]) -> str:
    alike = alike_patterns(name, known) if key == "regions" else close(name, known)
    return f"; did you mean {' or '.join(alike)}?" if alike else ""


LEAST_LETTERS: Final = 2  # derived: "eu", "us", "as" open the regions of AWS, Google and their like
LEASE: Final = "lease"  # of the run, not of an offer: see `lease_hours`
PER_RUN: Final = "max_usd_per_run"  # a limit on a plan, not on an offer: see `cap`
_About = tuple[Callable[[Offer, Any], bool], Callable[[Any], str]]  # refuses?, the reason
_ABOUT: Final[Mapping[str, _About]] = {
    "providers": (
        lambda offer, names: offer.provider not in names,
        lambda names: f"not from {' or '.join(names)}" if names else "from anybody: nobody is allowed",
    ),
    "regions": (
        lambda offer, names: not matches(offer.region, names),
        lambda names: f"not in {' or '.join(names)}" if names else "anywhere: no region is allowed",
    ),
    "hosts": (
        lambda offer, hosts: hosts == "data centre" and offer.hosts != hosts,
        lambda _: "not on a host in a data centre",
    ),
    "max_usd_per_hour": (lambda offer, usd: offer.usd_per_hour > usd, lambda usd: f"over ${usd} an hour"),
    PER_RUN: (lambda _offer, _usd: False, str),
    LEASE: (lambda _offer, _hours: False, str),
}
