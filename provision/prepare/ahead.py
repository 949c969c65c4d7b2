"""What can be known of an offer before anybody agrees to it: whether its image fits, whether the account may rent it, and
whether the clock is right by which its deadline is set.

A cloud is asked only where its credentials and packages are here. What it does not tell, or can't be asked, is said to be
unknown and stands in nobody's way: the cloud itself decides when the machine is ordered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from catalogs.hardware import Gpu, Offer
from planner.plan import Plan
from provision.clouds.orders.images import fitted
from provision.clouds.programs import CLOUDS, Cloud, load_cloud
from provision.clouds.programs.accounts.quotas import Quota, shortage
from provision.errors import ProvisionError, Refused
from provision.parts import clouds_in_reach
from provision.prepare.limits.quotas import Told
from provision.seam import SET_CLOCK, clock_trouble, seen

Needed = tuple[tuple[Quota, float], ...]  # each quota, and how much of it a machine takes


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """Of one offer. `why_not`: what would be asked in vain; `quota`: a sentence for whoever decides."""

    why_not: str | None = None
    quota: str | None = None


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that was passed over, and why."""

    offer: str
    why: str


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """The first plan that nothing speaks against, those after it, and what was passed over before it."""

    plan: Plan
    alternatives: tuple[Plan, ...]
    passed: tuple[Passed, ...]
    quota: str | None


def first_open(plans: Sequence[Plan], look: Callable[[Offer], Outlook]) -> Open:
    """The plans in their order; those after the first that is open are looked at when they are ordered.

    Raises Refused where none is.
    """
    passed: list[Passed] = []
    for number, plan in enumerate(plans):
        outlook = look(plan.offer)
        if outlook.why_not is None:
            return Open(plan=plan, alternatives=tuple(plans[number + 1 :]), passed=tuple(passed), quota=outlook.quota)
        passed.append(Passed(offer=plan.offer.key, why=outlook.why_not))
    said = "; ".join(f"{each.offer}: {each.why}" for each in passed)
    raise Refused(f"None of the offers can be had: {said}.", hint="Ask the cloud for more, or name another with --provider.")


class LookAhead:
    """`first_open`'s look at the real clouds; each quota is asked for once. `remember` is told what the offers need of them."""

    def __init__(
        self, environment: Mapping[str, str], gpus: Mapping[str, Gpu], *, remember: Callable[[Told], None] = lambda _told: None
    ) -> None:
        self._environment, self._gpus, self._remember = environment, gpus, remember
        self._in_reach = clouds_in_reach(environment)
        self._told: dict[tuple[str, str, tuple[str, ...]], tuple[Quota, ...]] = {}
        self._timed: set[str] = set()  # clouds that were asked for the time

    def __call__(self, offer: Offer) -> Outlook:
        """Raises Refused where this machine's clock is off by the cloud's own: no offer anywhere would be ordered by it."""
        if offer.provider not in CLOUDS or offer.provider not in self._in_reach:
            return Outlook()
        cloud = load_cloud(offer.provider)
        if (why := fitted(cloud, offer, cloud.IMAGE, self._gpus).misfit) is not None:
            return Outlook(why_not=why)
        try:
            needed = self._needed(cloud, offer)
        except ProvisionError as error:
            return Outlook(quota=f"could not be asked for: {error}")
        self._require_clock(cloud, offer)
        self._remember({offer.key: needed})
        why_not = next((why for quota, much in needed if (why := shortage(quota, much)) is not None), None)
        return Outlook(why_not=why_not, quota=_words(offer.provider, needed))

    def _require_clock(self, cloud: Cloud, offer: Offer) -> None:
        if offer.provider in self._timed:
            return
        self._timed.add(offer.provider)
        listed = seen(lambda: cloud.owned(offer.region, None, self._environment))
        if (trouble := clock_trouble(listed.ahead_s)) is not None:
            raise Refused(f"{trouble} Nothing is rented by it.", hint=SET_CLOCK)

    def _needed(self, cloud: Cloud, offer: Offer) -> Needed:
        needs = cloud.needs(offer)
        asked = (offer.provider, offer.region, tuple(needs))
        if needs and asked not in self._told:
            self._told[asked] = cloud.quotas(offer.region, tuple(needs), self._environment)
        return tuple(zip(self._told.get(asked, ()), needs.values(), strict=True))


def _words(provider: str, needed: Needed) -> str:
    told = [f"{quota.words}, and this machine takes {much:g}" for quota, much in needed if quota.limit is not None]
    return "; ".join(told) or f"{provider} does not tell it"
