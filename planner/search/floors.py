"""What a job costs at least on each kind of machine: a ranking passes over what cannot come below what it has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from catalogs.hardware import Billing, Offer
from planner.advise import Advice
from planner.asking.request import Request
from planner.estimators.cost import billed_range
from planner.plan import DurationEstimate
from planner.refusals import CaseRefused
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.units import SECONDS_PER_HOUR


class Floor:
    """On so many GPUs of one kind of machine with the quickest strategies: fitting or not, without padding or disk, with the
    least of what earlier runs taught. Nothing where no time is known: the search will say why.
    """

    def __init__(self, kind: Kind, num_gpus: int, figures: Figures, billing: Mapping[str, Billing]) -> None:
        self._kind, self._num_gpus, self._figures, self._billing = kind, num_gpus, figures, billing
        self._hours: dict[str, float] = {}  # by provider: each bills in its own way

    @cached_property
    def wall_s(self) -> float:
        """Seconds of the whole job."""
        return 0.0 if self._duration is None else self._duration.wall_s.p50

    def usd(self, offer: Offer) -> float:
        """Billed time × the price."""
        if offer.provider not in self._hours:
            self._hours[offer.provider] = self._billed_hours(self._billing[offer.provider])
        return self._hours[offer.provider] * float(offer.usd_per_hour)

    def _billed_hours(self, billing: Billing) -> float:
        return 0.0 if self._duration is None else billed_range(self._duration, billing).p50 / SECONDS_PER_HOUR

    @cached_property
    def _duration(self) -> DurationEstimate | None:
        """Before earlier runs are asked, of which the least is taken that they say."""
        figures, kind = self._figures, self._kind
        quickest = figures.ladders(self._num_gpus, computes_in=kind.computes_in).quickest
        try:
            durations = [figures.least_duration(each, kind.gpu, kind.soonest(figures.may_install_driver)) for each in quickest]
        except CaseRefused:
            return None
        return min(durations, key=lambda each: each.wall_s.p50)


class Floors:
    """Of one job, counted once however many goals and wishes ask: machines on which it takes the same time have one."""

    def __init__(self, figures: Figures, billing: Mapping[str, Billing]) -> None:
        self.figures, self._billing = figures, billing
        self._floors: dict[tuple[object, ...], Floor] = {}
        self._within: dict[int, Floors] = {}

    def of(self, kind: Kind, num_gpus: int) -> Floor:
        """Of a job on so many GPUs of each of these machines; 1 where its own cores train."""
        key = (self.figures.pace(kind.gpu, kind.soonest(self.figures.may_install_driver), num_gpus=num_gpus), num_gpus)
        if key not in self._floors:
            self._floors[key] = Floor(kind, num_gpus, self.figures, self._billing)
        return self._floors[key]

    def within(self, seq_len: int) -> Floors:
        """Of the same job with sequences of that length."""
        if seq_len not in self._within:
            self._within[seq_len] = Floors(self.figures.within(seq_len), self._billing)
        return self._within[seq_len]

    def asking(self, request: Request, advice: Advice) -> Floors:
        """Of the same base and data, trained in another way."""
        return Floors(self.figures.asking(request, advice), self._billing)
