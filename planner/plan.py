"""The values between a question and a run: estimates, a `Plan`, a `Rejection`. Each is whole when it exists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from catalogs.hardware import Billing, Gpu, Offer
from planner.asking.request import Changes, Request
from planner.choice.goals import MEASURES, Goal
from planner.choice.recipes import Choice
from remote.contract import MAX_CHECKPOINTS, Strategy

PLAN_VERSION: Final = 2  # 2: how rows are read stands together, in `request.data.reading`

# The words by which a plan's table, and what explains it, call five states.
PRICE_ONLY: Final = "price only"
NOT_YET: Final = "not yet runnable"
NOT_READY: Final = "not ready here"
YOURS: Final = "yours"
UNTOLD: Final = "unknown"  # behind what nobody states of a machine: its RAM, or its cores

ObstacleKind = Literal["price only", "not yet runnable", "yours", "unknown"]
SAID_AS: Final[dict[str, ObstacleKind]] = {PRICE_ONLY: PRICE_ONLY, NOT_YET: NOT_YET, YOURS: YOURS}  # else UNTOLD


class Obstacle(msgspec.Struct, frozen=True):
    """Why this version can't run a plan: of which kind that is, and the sentence, whose first words a table shows."""

    kind: ObstacleKind
    words: str  # those of the state, a colon, the reason: "price only: this version cannot rent from X"

    @classmethod
    def read(cls, words: str) -> Obstacle:
        """What a plan's JSON says, which holds the sentence alone."""
        return cls(SAID_AS.get(words.partition(":")[0], UNTOLD), words)

    @property
    def reason(self) -> str:
        """The sentence without the state's words."""
        return self.words.partition(": ")[2]


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that nobody knows exactly: one time in ten below p10, one in ten above p90."""

    p10: float
    p50: float
    p90: float


NOTHING: Final = Range(p10=0.0, p50=0.0, p90=0.0)
P90_SIGMAS: Final = 1.2816  # derived: of a normal distribution, below which nine in ten lie

ByteBasis = Literal["derived", "measured", "assumed"]
Engine = Literal["closed_form", "trace"]
Verdict = Literal["fits", "tight", "does_not_fit"]
Instant = Literal["load", "prepare", "forward", "loss", "backward", "optimizer_step", "evaluation", "save", "merge"]
Bound = Literal["compute", "memory", "host", "link", "disk"]


class VramEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """GPU memory of the fullest GPU; `components` are alive at the peak and sum to `allocated_peak_bytes`."""

    allocated_peak_bytes: int
    reserved_peak_bytes: int
    process_peak_bytes: int
    required_bytes: int  # what the GPU must have for the job to run
    evaluation_peak_bytes: int
    peak_instant: Instant
    components: dict[str, int]
    by_instant: dict[str, int]
    basis: dict[str, ByteBasis] = {}  # what each component rests on; empty in plans of earlier versions
    assumed_outside_bytes: int = 0  # of process beyond reserved, how much rests on an assumption
    evaluation_counts: bool = False  # it has a batch of its own; with training's, its forward alone needs less than a step

    @property
    def judged_instant(self) -> str:
        """When the most is allocated of all that the job does."""
        higher = self.evaluation_counts and self.evaluation_peak_bytes > self.allocated_peak_bytes
        return "evaluation" if higher else self.peak_instant

    @property
    def judged_bytes(self) -> int:
        """The most that is allocated then."""
        return max(self.allocated_peak_bytes, self.evaluation_peak_bytes if self.evaluation_counts else 0)


class HostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """RAM of one node and disk of the box."""

    ram_peak_bytes: int
    ram_components: dict[str, int]  # at the peak; they sum to it
    disk_peak_bytes: int
    disk_components: dict[str, int]
    ram_by_instant: dict[str, int] = {}  # load, step, save; empty in plans of earlier versions

    @property
    def written_bytes(self) -> int:
        """What a trainer must be able to write, or ends: checkpoints, result, blocks that RAM shall not hold; not what
        is packed there: it may lie there since an earlier run, and without room for it the base is packed while it loads.
        """
        return sum(self.disk_components.get(name, 0) for name in ("checkpoints", "result", "streamed"))

    @property
    def checkpoint_bytes(self) -> int:
        """One of those that lie there at once."""
        return self.disk_components.get("checkpoints", 0) // MAX_CHECKPOINTS


class DurationEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds by phase (keys: values of remote.contract.Phase), and the speed behind them."""

    tokens_per_s: Range  # of the whole job, padding included
    step_s: Range  # one optimizer step
    bound: Bound
    num_steps: int
    num_tokens: int  # that the GPUs compute on, over all epochs
    num_data_tokens: int | None = None  # of the data among them, without padding; None = a plan of an earlier version
    phase_s: dict[str, Range]
    wall_s: Range
    energy_kwh: Range
    interruptions: Range | None = None  # of a spot machine: the mean at p50, once at least at p90; None = it is none
    learned: float = 1.0  # the factor in `step_s` that earlier runs taught
    learned_from: int = 0  # so many of them
    lost_s: float = 0.0  # by each interruption: until another one computes, and what it has to compute again
    scaling: float | None = None  # of so many times one GPU's speed, the share that several reach; None = one GPU computes

    @property
    def unlearned_s(self) -> float:
        """Seconds of the whole job (p50) without what earlier runs taught of its steps."""
        return self.wall_s.p50 - self.phase_s["train"].p50 * (1 - 1 / self.learned)


Unpriced = Literal["disk", "volume", "egress"]


class CostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars by line. `total` sums them; every line is there, also at zero. What has no price that anybody states is
    `unknown`, and no part of the total, which is the least then.
    """

    compute_usd: Range
    disk_usd: Range
    egress_usd: Range
    total_usd: Range
    billed_s: Range  # rework included
    usd_per_million_tokens: float
    rework_usd: Range = NOTHING  # what is paid again after a spot machine was taken away
    address_usd: Range = NOTHING  # of its public address, where the machine's price does not hold it
    setup_usd: Range = NOTHING  # once for each machine, whatever it runs
    unknown: tuple[Unpriced, ...] = ()  # what has no price that anybody states
    unknown_usd: Range = NOTHING  # what that comes to at the dearest price of its kind that anybody states

    @property
    def held_usd(self) -> Range:
        """The most that is known to be possible: by it plans are ranked, and limits of money held."""
        total, more = self.total_usd, self.unknown_usd
        return Range(p10=total.p10 + more.p10, p50=total.p50 + more.p50, p90=total.p90 + more.p90)


class QuotaShort(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of an account that does not admit a machine, as its cloud told it, or refused an order for it."""

    name: str  # as the cloud calls it; of a refusal the sentence
    where: str  # a region, or the whole account
    unit: str  # vCPUs, GPUs, machines
    have: float | None  # what is left of it; None = an order was refused, which tells no figures
    need: float | None
    asked_on: dt.date

    @property
    def words(self) -> str:
        """E.g. "quota 0/4 vCPUs of Running On-Demand G and VT instances in us-east-1, asked on 2026-11-24"."""
        if self.have is None or self.need is None:
            return f"quota, as an order on {self.asked_on} was refused: {self.name}"
        return f"{self.figures} {self.unit} of {self.name} in {self.where}, asked on {self.asked_on}"

    @property
    def figures(self) -> str:
        """E.g. "quota 0/4"."""
        return "quota" if self.have is None or self.need is None else f"quota {self.have:g}/{self.need:g}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One way to do the job that was asked for: this strategy on this offer, and what it will take."""

    request: Request
    strategy: Strategy
    offer: Offer
    gpu: Gpu | None  # None on a CPU box
    billing: Billing
    vram: VramEstimate
    host: HostEstimate
    duration: DurationEstimate
    cost: CostEstimate
    verdict: Verdict
    margin_bytes: int
    why_not: str | None = msgspec.field(name="runnable")  # None = this version can run it; else why not, in one sentence
    provider_status: str  # e.g. "double only", "price only", "run for real on 2026-12-01"
    assumptions: tuple[str, ...]
    catalog_as_of: dt.date | None  # the price's date
    planned_on: dt.date
    versions: dict[str, str]
    choices: tuple[Choice, ...] = ()  # what the planner filled in, and why; in plans of earlier versions among `assumptions`
    missing: tuple[str, ...] = ()  # what its provider lacks on this machine, e.g. "SDK", "credentials"
    quota: QuotaShort | None = None  # the limit of the account that does not admit its machine, where that is known
    asks_ram: bool = False  # nobody states its machine's RAM: the order asks for what the job needs, and takes no less
    schema_version: int = PLAN_VERSION

    @property
    def name(self) -> tuple[str, Strategy]:
        """What tells it from every other plan of the same answer."""
        return self.offer.key, self.strategy

    @property
    def obstacle(self) -> Obstacle | None:
        """What keeps this version from running it; None = nothing does."""
        return Obstacle.read(self.why_not) if self.why_not is not None else None

    def is_kept_by(self, kind: ObstacleKind) -> bool:
        """Whether it can't be run, and of which kind what stands in the way is."""
        return self.obstacle is not None and self.obstacle.kind == kind

    @property
    def doubts(self) -> Doubts:
        """What speaks against recommending it."""
        return Doubts(not self.ready, self.verdict == "tight")

    @property
    def ready(self) -> bool:
        """Whether nothing is known to be missing here for renting its machine."""
        return not self.missing and self.quota is None


class Doubts(msgspec.Struct, frozen=True, order=True):
    """What speaks against recommending a plan, which comes after all without it. What can't be begun weighs more than what may
    fail.
    """

    unready: bool  # its provider lacks something here
    tight: bool  # its memory is


Rank = tuple[Doubts, float]


def rank_of(doubts: Doubts, least: float) -> Rank:
    """By what plans that can be run are compared, the lowest first, where so much is to be the least. What is tight, say, comes
    after everything that fits: the cheapest hour is none that ends out of memory.
    """
    return doubts, least


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy or an offer that was looked at and refused, and what would change that."""

    what: str  # "lora r16 bf16, micro-batch 1" or "aws/us-east-1/g6.xlarge/spot"
    reason: str  # one sentence with the figures
    remedy: str | None = None  # the nearest change that would fit, in words
    changes: Changes = {}  # the same as fields of the Request and values; one of the two at most
    wish: str | None = None  # the field of the Request that refuses
    needed: dict[str, Any] = {}  # figures behind the reason, with units in the keys
    num_offers: int = 1  # how many offers share this reason


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller knows about renting from a provider; handed to the search as a value."""

    name: str
    runnable: bool
    status: str
    missing: tuple[str, ...] = ()  # what it lacks on this machine, e.g. "SDK", "credentials"
    keeps_volumes: bool = False  # whether a disk may outlive its box there
    keeps_lease: bool = False  # whether a box there that ends itself before its deadline ends its bill, or has none
    has_firewall: bool = True  # whether `where.allow_from` can be kept there
    asks_ram: bool = False  # whether an order there says how much RAM is needed, and gets no machine with less
    may_install_driver: bool = False  # whether a GPU machine's first boot there may have to put NVIDIA's driver in
    caution: str | None = None  # what whoever rents there must know, in one sentence
    short: Mapping[str, QuotaShort] = {}  # by an offer's key: what the account lacks for it, where that is known

    def quota_of(self, offer: Offer) -> QuotaShort | None:
        """What the account lacks for renting this very offer, where that is known."""
        return self.short.get(offer.key) if self.short else None

    def ready(self, offer: Offer) -> bool:
        """Whether nothing is known to be missing here for renting it."""
        return not self.missing and self.quota_of(offer) is None

    def is_told(self, offer: Offer) -> bool:
        """Whether its RAM and its cores are stated, or are made sure of by the order."""
        return offer.is_stated or self.asks_ram


Place = tuple[str, str]  # provider and region


class WayOut(msgspec.Struct, frozen=True, kw_only=True):
    """The best plan for the goal that this version can run once one wish, or some of what is advised, is given up."""

    change: str  # one sentence: which wish, from what to what
    changes: Changes  # the same as fields of the Request
    plan: Plan
    given_up: str | None = None  # where that is none of the person's wishes but something advised: what, and what it means


LayoutKind = Literal["whole", "copies", "states", "turns", "parts", "three_bits", "two_bits", "streamed"]


class Cards(msgspec.Struct, frozen=True):
    """Cards that somebody has."""

    number: int
    memory_gib: float  # of each, as sold
    gpu: str | None = None  # which of the catalog's; None: nothing but the memory is told
    ram_gib: float | None = None  # of their machine; None: not told


class Streamed(msgspec.Struct, frozen=True, kw_only=True):
    """What it costs to bring frozen blocks over the link in every pass."""

    ram_bytes: int  # of the node, all that the job needs there
    link_gb_per_s: float  # effective, in one direction: assumed of the card's PCIe generation and lanes
    tokens: int  # of one micro-step, as planned
    hiding_tokens: int  # a micro-step of so many computes as long as the link needs
    slow_down: float  # of a micro-step, against the same card with room for all weights
    slow_down_half: float  # the same where the link gives half of that: x8, or slow RAM


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The job laid on cards in one way: what each of them must hold."""

    kind: LayoutKind
    strategy: Strategy
    card: str | None  # None: any of that memory
    required_bytes: int  # of each card
    available_bytes: int  # on each card, as torch totals it
    verdict: Verdict
    missing: tuple[str, ...]  # what the trainer cannot do of it, and why not on that card; empty where it can be run
    unfit: str | None = None  # of `missing`, why it runs on no such card; None: it does
    ram_bytes: int | None = None  # of the node, all that the job needs there, where blocks wait in it
    streamed: Streamed | None = None  # only of what is streamed through a card that is known
    train_s: Range | None = None  # of the training, over PCIe; None: of cards that nobody named, and of what has no closed form


class Considered(msgspec.Struct, frozen=True, kw_only=True):
    """On how much a search has decided. A candidate is a strategy on an offer that was admitted and has as many GPUs."""

    num_offers_sold: int  # with those of one's own machines
    num_offers_admitted: int  # of these, by every wish and every rule
    num_strategies_asked: int  # ways to train as asked, on as many GPUs as the admitted machines have
    num_strategies: int  # and each of them with every concession that was within reach
    num_candidates: int
    num_pruned: int  # not told in dollars: more memory than there is, or too dear by what the quickest way would cost there


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a person needs to decide: the ranked plans, the refused, what was not known."""

    request: Request
    plans: tuple[Plan, ...]  # on one machine, cheapest job first; runnable and not, each marked
    rejections: tuple[Rejection, ...]
    warnings: tuple[str, ...]
    several: tuple[Plan, ...] = ()  # on several machines at once, cheapest job first; this version rents one machine for a run
    ways_out: tuple[WayOut, ...] = ()  # where no plan can be run as asked, or none by the card alone
    attributions: tuple[str, ...] = ()  # sources whose licence asks to be named
    cards: Cards | None = None  # the cards that were asked about
    layouts: tuple[Layout, ...] = ()  # on those; else on cards of the budget's size, where it holds the job on none
    best_of: dict[Goal, int] = {}  # goal -> place of its best among the plans, from 0; told in --json
    pareto: tuple[int, ...] = ()  # of those that nothing beats in dollars, hours and risk : --json --explain
    by_the_hour: Plan | None = None  # what choosing by the price of an hour would have led to, of what can be run
    considered: Considered | None = None  # None: nothing was searched
    # what becomes of a run of the recommended one that takes longer; None = nothing is paid for
    if_it_takes_longer: str | None = msgspec.field(default=None, name="overdue")
    rehearsal: bool = False  # whether the base has no weights, so that random ones are trained

    @property
    def recommended(self) -> Plan | None:
        """The best plan for the goal that was asked for; the only one that a command is printed for."""
        return self.best(self.request.budget.goal)

    @property
    def rows(self) -> tuple[Plan, ...]:
        """Of a table: the plans, and among them by their dollars those on several machines."""
        if not self.several:
            return self.plans
        return tuple(sorted((*self.plans, *self.several), key=lambda plan: (plan.cost.held_usd.p50, plan.duration.wall_s.p50)))

    @property
    def rented_by_hand(self) -> Plan | None:
        """Where nothing can be run as asked and sellers are named: the best of what does the job there and nothing but renting
        keeps from it. Whoever rents it himself runs it with --host.
        """
        if self.recommended is not None or not self.request.where.providers:
            return None
        priced = (plan for plan in self.plans if plan.verdict == "fits" and plan.is_kept_by(PRICE_ONLY))
        return self._best_of(priced, self.request.budget.goal)

    @property
    def is_of_use(self) -> bool:
        """Whether something does the job as asked, and this version can run that or what comes near it."""
        return bool(self.plans) and (self.recommended is not None or bool(self.ways_out))

    def best(self, goal: Goal) -> Plan | None:
        """Of the plans that this version can run as asked the best for the goal; see `rank_of`."""
        return self._best_of((plan for plan in self.plans if plan.why_not is None), goal)

    @staticmethod
    def _best_of(plans: Iterable[Plan], goal: Goal) -> Plan | None:
        return min(
            plans,
            key=lambda plan: rank_of(plan.doubts, MEASURES[goal](plan.cost.held_usd.p50, plan.duration.wall_s.p50)),
            default=None,
        )
